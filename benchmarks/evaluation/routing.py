"""How good learned routing is, on recorded outcomes: savings, the figures of RouteLLM, promises, harm, speed.

EVAL_DATA names a folder with the sets mmlupro, routellm_mmlu, routellm_gsm8k (prompts.parquet, outcomes.parquet each)
and replay/general_simpleqa (prompts.parquet and answers.parquet); sets that are not there are left out. In each of 20
seeded splits a policy is learned from one part, its operating point included, and only then is the other part read.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.evaluation.signs import signs
from pipeline.compare.intervals import of_difference
from pipeline.learn.design import Design, Ridge
from pipeline.learn.fitting import fit
from pipeline.learn.learner import Learner
from pipeline.learn.menu import candidates
from pipeline.learn.metrics import pair
from pipeline.learn.outcomes import Table, read_table
from pipeline.learn.promise import Aim
from pipeline.learn.replay import replay
from pipeline.policy import Arm, choose_arms, play
from pipeline.policy.features import Floats, Ints

SPLITS = 20
_SIGNS_SHARE = 1.0  # of the signs in the kernel, beside 1 for the words of prompt and answer each
_SEEN_STRENGTH = 10.0
STRONG, WEAK = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"


def main(folder: Path | None) -> None:
    """Print every figure, mean and worst of the splits, on the sets in *folder*."""
    if folder is None:
        print("routing: EVAL_DATA names no folder of recorded outcomes")
        return
    sets = {
        "mmlupro": _mmlupro,
        "routellm_mmlu": _mmlu,
        "routellm_gsm8k": _gsm8k,
        "replay/general_simpleqa": _simpleqa,
    }
    splits = int(os.environ.get("EVAL_SPLITS", SPLITS))
    for name, measure in sets.items():
        if (folder / name / "prompts.parquet").exists():
            for line in measure(folder / name, splits):
                print(f"{name}: {line}", flush=True)
        else:
            print(f"{name}: not in {folder}", flush=True)


def _mmlupro(folder: Path, splits: int) -> Iterator[str]:
    for column, quality in (("m_pred", 0.99), ("m_pred", 1.0), (None, 0.99)):
        table = _table(folder, "gpt-4o", column)
        results = [_split(table, "gpt-4o", quality, seed, 0.65) for seed in range(splits)]
        ratio = np.array([result["quality_ratio"] for result in results])
        saving = np.array([result["saving"] for result in results])
        mixes = [result["beside"]["single_model_mix_at_its_cost"]["quality"] for result in results]
        above = np.array([result["quality"] for result in results]) - np.array(mixes)
        how = "cascades" if column else "one model a row"
        yield (
            f"promise {quality:.0%} of gpt-4o, {how}: quality {ratio.mean():.1%} (worst {ratio.min():.1%}), saving "
            f"{saving.mean():.1%} (worst {saving.min():.1%}), above the single-model mix by {100 * above.mean():.1f} "
            f"points (worst {100 * above.min():.1f}), missed in {np.mean(ratio < quality):.0%} of {splits} splits"
        )
    yield from _speed(_table(folder, "gpt-4o", "m_pred"))


def _speed(table: Table) -> Iterator[str]:
    start, used = time.perf_counter(), time.process_time()
    policy = fit(table, Aim("gpt-4o", 0.99, 0.95, table.rows), provenance={}).policy
    yield (
        f"fitting {table.rows} prompts x {len(table.recorded.models)} models: {time.perf_counter() - start:.1f} s, "
        f"{time.process_time() - used:.1f} s of CPU"
    )
    used = time.process_time()
    choose_arms(policy, table.texts)
    yield f"applying: {table.rows / (time.process_time() - used):,.0f} rows per CPU-second"


def _mmlu(folder: Path, splits: int) -> Iterator[str]:
    table = _table(folder, STRONG, None, drop_contaminated=True)
    figures = []
    for seed in range(splits):
        result = _split(table, STRONG, 0.95, seed, 0.1)
        figures.append((result["apgr"], 100 * result["cpt50"], 100 * result["cpt80"]))
    yield "10% labels, prompt only: " + _three(figures)


def _gsm8k(folder: Path, splits: int) -> Iterator[str]:
    table = _table(folder, STRONG, None, drop_contaminated=True)
    answers = pl.read_parquet(folder / "outcomes.parquet").filter(pl.col("model") == WEAK)
    said = table.ids.to_frame().join(answers, on="prompt_id", how="left", maintain_order="left")["response"]
    weak, strong = (table.recorded.scores[:, table.recorded.models.index(name)] for name in (WEAK, STRONG))
    blind, seeing = [], []
    for seed in range(splits):
        rng = np.random.default_rng(seed)
        folds = rng.permutation(table.rows) % 5
        known = candidates(table.recorded, cascades=False)
        scores = Learner(table, folds, rng).learn(known, [0, 1]).left_out.scores
        gain = scores[:, known.arms.index(Arm((STRONG,)))] - scores[:, known.arms.index(Arm((WEAK,)))]
        blind.append(_figures(gain, weak, strong))
        seeing.append(_figures(_seen_gain(table, said, strong - weak, folds, rng), weak, strong))
    yield "5 folds, prompt only: " + _three(blind)
    yield "5 folds, the weak answer seen: " + _three(seeing)


def _simpleqa(folder: Path, splits: int) -> Iterator[str]:
    table = read_table(
        str(folder / "prompts.parquet"), str(folder / "answers.parquet"), reference="gpt-4o", answer_column=None
    )
    worse, differences = 0, []
    for seed in range(splits):
        learned, rest = _parts(table, seed, 0.65)
        policy = fit(learned, Aim("gpt-4o", 0.99, 0.95, learned.rows), seed=seed, provenance={}).policy
        result = replay(policy, rest)
        arm = choose_arms(policy, rest.texts).arm
        scores = np.stack([play(one, rest.recorded).scores for one in policy.arms], axis=1)[np.arange(rest.rows), arm]
        best = result["beside"]["best_single_at_its_cost"]["model"]
        difference = scores - rest.recorded.scores[:, rest.recorded.models.index(best)]
        worse += of_difference(difference).high < 0
        differences.append(difference.mean())
    yield (
        f"no harm: {np.mean(differences):+.3f} to the best single model at its cost (worst {min(differences):+.3f}), "
        f"worse by the paired interval in {worse} of {splits} splits"
    )


def _table(folder: Path, reference: str, answer_column: str | None, *, drop_contaminated: bool = False) -> Table:
    paths = str(folder / "prompts.parquet"), str(folder / "outcomes.parquet")
    table = read_table(*paths, reference=reference, answer_column=answer_column)
    if not drop_contaminated:
        return table
    prompts = pl.read_parquet(paths[0]).filter(~pl.col("x_contaminated"))
    return table.take(np.flatnonzero(table.ids.is_in(prompts["prompt_id"].implode()).to_numpy()))


def _parts(table: Table, seed: int, share: float) -> tuple[Table, Table]:
    order = np.random.default_rng(seed).permutation(table.rows)
    cut = int(share * table.rows)
    return table.take(np.sort(order[:cut])), table.take(np.sort(order[cut:]))


def _split(table: Table, reference: str, quality: float, seed: int, share: float) -> dict[str, Any]:
    learned, rest = _parts(table, seed, share)
    aim = Aim(reference, quality, 0.95, learned.rows)
    return replay(fit(learned, aim, seed=seed, provenance={}).policy, rest)


def _seen_gain(table: Table, said: pl.Series, gain: Floats, folds: Ints, rng: np.random.Generator) -> Floats:
    """Return what asking the strong model is expected to gain once the weak answer is known, each fold left out."""
    prompts, answers = (Design(texts, folds, rng).features for texts in (table.texts, said))
    shown = signs(table.texts, said)
    scaled = np.clip((shown - shown.mean(axis=0)) / (shown.std(axis=0) + 1e-9), -4, 4)
    features = [prompts, answers, scaled * np.sqrt(_SIGNS_SHARE / scaled.shape[1])]
    return Ridge(np.concatenate(features, axis=1), folds).left_out(gain[:, None], _SEEN_STRENGTH)[:, 0]


def _figures(gain: Floats, weak: Floats, strong: Floats) -> tuple[float, float, float]:
    found = pair(gain, weak, strong)
    assert found is not None, "the strong model is the better one"
    return found.apgr, 100 * found.cpt50, 100 * found.cpt80


def _three(figures: list[tuple[float, float, float]]) -> str:
    mean, low, high = (reduce(figures, axis=0) for reduce in (np.mean, np.min, np.max))
    return (
        f"APGR {mean[0]:.3f} (worst {low[0]:.3f}), CPT50 {mean[1]:.1f} (worst {high[1]:.1f}), "
        f"CPT80 {mean[2]:.1f} (worst {high[2]:.1f})"
    )
