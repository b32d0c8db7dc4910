"""The compare stage: what was answered, recorded and sampled becomes comparison.parquet."""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalogue import Catalogue
from pipeline.compare import compare
from pipeline.files import whole_file
from pipeline.plan import Plan
from pipeline.run.outcomes import recorded_outcomes
from pipeline.run.shadow import Shadow, shadow_outcomes
from pipeline.spec import Job
from pipeline.write import Answers


def compare_night(
    folder: Path, job: Job, catalogue: Catalogue, planned: tuple[Plan, Shadow], answers: Answers
) -> pa.Table:
    """Write comparison.parquet from what lies in *folder*, and return it."""
    plan, shadow = planned
    known = [
        frame
        for frame in (recorded_outcomes(catalogue, plan.rows_path), shadow_outcomes(shadow, answers))
        if frame is not None
    ]
    outcomes = pl.concat(known, how="diagonal") if known else None
    table = compare(folder / "outputs.parquet", outcomes=outcomes, job=job)
    with whole_file(folder / "comparison.parquet") as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)
    return table
