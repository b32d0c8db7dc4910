"""Build data/outcomes: what several models made of the same prompts, for `python -m benchmarks.evaluation`.

    python data/build_outcomes.py --source DIR [--output DIR]

DIR holds the source sets as data/outcomes/README.md lists them. Texts are left out where no figure needs them.
"""

import argparse
from pathlib import Path

import polars as pl

OUTCOMES = Path(__file__).parent / "outcomes"
PROMPTS = ["prompt_id", "prompt"]
OUTCOME = ["prompt_id", "model", "score"]
SETS = {  # folder -> file -> columns
    "mmlupro": {"prompts": PROMPTS, "outcomes": [*OUTCOME, "cost", "m_pred"]},
    "routellm_mmlu": {"prompts": [*PROMPTS, "x_contaminated"], "outcomes": [*OUTCOME, "cost"]},
    "routellm_gsm8k": {"prompts": [*PROMPTS, "x_contaminated"], "outcomes": [*OUTCOME, "cost", "response"]},
    "replay/general_simpleqa": {"prompts": [*PROMPTS, "topic"], "answers": [*OUTCOME, "cost_usd"]},
}


def main() -> None:
    """Write every file and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the source sets")
    parser.add_argument("--output", type=Path, default=OUTCOMES, help="where to write (default: data/outcomes)")
    options = parser.parse_args()
    for name, files in SETS.items():
        folder = options.output / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, columns in files.items():
            table = pl.read_parquet(options.source / name / f"{file}.parquet").select(columns)
            path = folder / f"{file}.parquet"
            table.write_parquet(path, compression="zstd", compression_level=19, statistics=False)
            print(f"{name}/{file}.parquet: {table.height} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
