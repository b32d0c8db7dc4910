"""Recorded outcomes made up for tests: two subjects told by their words, and models that are good at one or both."""

from pathlib import Path

import numpy as np
import polars as pl

_WORDS = {"law": "court judge statute plea verdict appeal", "sums": "add number total minus equals digit"}


def made_up(rows: int, seed: int, *, gap: float = 0.0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return prompts and outcomes. `small` is as good as `big` at sums and *gap* worse overall; `big` costs 20 times."""
    rng = np.random.default_rng(seed)
    subjects = rng.choice(list(_WORDS), rows)
    prompts = [
        " ".join(rng.choice(_WORDS[subject].split(), 6)) + f" case {rng.integers(10**6)}" for subject in subjects
    ]
    is_law = subjects == "law"
    chances = {
        "small": np.where(is_law, 0.45, 0.9) - gap,
        "middle": np.where(is_law, 0.6, 0.85) - gap,
        "big": np.full(rows, 0.9),
    }
    ids = [f"p{at}" for at in range(rows)]
    outcomes = [
        pl.DataFrame(
            {
                "prompt_id": ids,
                "model": name,
                "score": (right := rng.random(rows) < chance).astype(float),
                "cost_usd": rng.uniform(0.9, 1.1, rows) * {"small": 1e-4, "middle": 3e-4, "big": 2e-3}[name],
                "pick": np.where(right, "A", rng.choice(list("BCDEF"), rows)),
            }
        )
        for name, chance in chances.items()
    ]
    return pl.DataFrame({"prompt_id": ids, "prompt": prompts, "subject": subjects}), pl.concat(outcomes)


def written(folder: Path, rows: int, seed: int, *, gap: float = 0.0) -> tuple[str, str]:
    """Write prompts and outcomes into *folder* and return the two paths."""
    paths = folder / f"prompts{seed}.parquet", folder / f"outcomes{seed}.parquet"
    for frame, path in zip(made_up(rows, seed, gap=gap), paths, strict=True):
        frame.write_parquet(path)
    return str(paths[0]), str(paths[1])
