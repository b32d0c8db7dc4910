"""Build data/night/policy.npz: which model of mmlupro is good enough for which of its questions.

    python data/build_policy.py --source DIR [--output DIR]

DIR holds the source set mmlupro as data/night/README.md lists it. It is learned from the prompts that are not part of
the night, so that the night is a fair trial. Not from its answers either: a job asks one model a row.
"""

import argparse
import tempfile
from pathlib import Path

import polars as pl

from pipeline.learn import policy_text
from pipeline.learn.commands import FitOptions, fit_policy

NIGHT = Path(__file__).parent / "night"
NAMES = {  # as data/build_night.py has them
    "deepseek-chat": "deepseek-chat",
    "gemini-1.5-flash-002": "gemini-1.5-flash-002",
    "gemini-1.5-pro-002": "gemini-1.5-pro-002",
    "gpt-4o": "gpt-4o",
    "Llama-3.1-8B-Instruct": "llama-3.1-8b-instruct",
    "Llama-3.1-70B-Instruct": "llama-3.1-70b-instruct",
    "Mixtral-8x7B-Instruct-v0.1": "mixtral-8x7b-instruct",
    "Phi-3-mini-4k-instruct": "phi-3-mini-4k-instruct",
}


def main() -> None:
    """Learn the policy and say what it promises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the source sets")
    parser.add_argument("--output", type=Path, default=NIGHT, help="where to write (default: data/night)")
    options = parser.parse_args()
    prompts = pl.read_parquet(options.source / "mmlupro" / "prompts.parquet")
    outcomes = pl.read_parquet(options.source / "mmlupro" / "outcomes.parquet")
    night = pl.read_parquet(NIGHT / "prompts.parquet")
    fresh = prompts.filter(
        ~pl.col("prompt_id").is_in(night["prompt_id"].implode()), ~pl.col("prompt").is_in(night["prompt"].implode())
    )
    # Their source could not read 5% of gpt-4o's answers and counts them wrong; the night reads them itself, and better.
    unread = outcomes.filter(pl.col("model") == "gpt-4o", pl.col("m_pred").is_null())
    fresh = fresh.join(unread, on="prompt_id", how="anti")
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "prompts.parquet", Path(folder) / "outcomes.parquet"
        fresh.write_parquet(paths[0])
        outcomes.with_columns(pl.col("model").replace_strict(NAMES)).write_parquet(paths[1])
        aim = FitOptions(
            str(paths[0]), str(paths[1]), "gpt-4o", 0.95, options.output / "policy.npz", night_rows=600, cascades=False
        )
        print(policy_text(fit_policy(aim)))


if __name__ == "__main__":
    main()
