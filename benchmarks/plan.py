"""The scenario of `rowroute plan` beside a plain copy of the same file with pyarrow.

    python -m benchmarks.plan FROM.parquet TO.parquet

is that copy: read batches, write them with zstd. It does what no plan can avoid, and nothing else.
"""

import sys

from benchmarks.harness import Contender, Place, Scenario

_BATCH_ROWS = 65_536
_JOB = """
name = "bench"
[input]
path = "{input}"
id = "prompt_id"
[prompt]
column = "prompt"
[output]
path = "{folder}/out"
"""


def _copy(place: Place) -> list[str]:
    return [sys.executable, "-m", "benchmarks.plan", str(place.input), str(place.folder / "copy.parquet")]


def _plan(place: Place) -> list[str]:
    job = place.folder / "job.toml"
    job.write_text(_JOB.format(input=place.input, folder=place.folder), encoding="utf-8")
    return [sys.executable, "-m", "pipeline", "plan", str(job)]


ROWROUTE_PLAN = Contender("rowroute plan", _plan)
_CONTENDERS = (Contender("pyarrow copy", _copy), ROWROUTE_PLAN)
PLAN_SCENARIOS = {"plan": Scenario("Plan, 500-byte prompts", 1_000_000, _CONTENDERS)}


def main() -> None:
    """Copy the first file to the second."""
    import pyarrow.parquet as pq

    source = pq.ParquetFile(sys.argv[1])
    with pq.ParquetWriter(sys.argv[2], source.schema_arrow, compression="zstd") as writer:
        for batch in source.iter_batches(_BATCH_ROWS):
            writer.write_batch(batch)


if __name__ == "__main__":
    main()
