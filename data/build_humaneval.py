"""Build data/humaneval/problems.parquet: the 164 problems of HumanEval with their tests and canonical solutions.

    python data/build_humaneval.py --source DIR [--output FILE]

DIR holds bulk/humaneval/data.parquet. Rows and order are those of the source.
"""

import argparse
from pathlib import Path

import pyarrow.parquet as pq

PROBLEMS = Path(__file__).parent / "humaneval" / "problems.parquet"
COLUMNS = ["id", "prompt", "entry_point", "test", "canonical_solution"]


def main() -> None:
    """Build the file and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the source sets")
    parser.add_argument("--output", type=Path, default=PROBLEMS, help="where to write (default: data/humaneval)")
    options = parser.parse_args()
    problems = pq.read_table(options.source / "bulk" / "humaneval" / "data.parquet", columns=COLUMNS)
    pq.write_table(problems.replace_schema_metadata(), options.output, compression="zstd", compression_level=19)
    print(f"{problems.num_rows} problems in {options.output}")


if __name__ == "__main__":
    main()
