"""Renew the task classifier's data and weights.

python -m benchmarks.taskclf collect FOLDER   # FOLDER/taskclf/public.parquet, FOLDER/replay ...: to data/taskclf
python -m benchmarks.taskclf train [OUT]      # data/taskclf to OUT, by default the weights of the package
"""

import sys
from importlib import resources
from pathlib import Path

from benchmarks.taskclf.collect import collect_payloads, collect_prompts
from benchmarks.taskclf.training import DATA, train


def main() -> None:
    """Do what the first argument says."""
    match sys.argv[1:]:
        case ["collect", folder]:
            prompts = collect_prompts(Path(folder))
            for name, frame in (("prompts", prompts), ("payloads", collect_payloads(Path(folder), prompts))):
                frame.write_parquet(DATA / f"{name}.parquet", compression="zstd", compression_level=19)
        case ["train", *out] if len(out) < 2:
            model, _, _ = train()
            path = Path(out[0]) if out else Path(str(resources.files("pipeline.classify") / "learned.npz"))
            with path.open("wb") as file:
                model.save(file)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
