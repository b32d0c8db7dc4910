"""The compare stage: what was answered, recorded and sampled becomes comparison.parquet and report.html."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import __version__
from pipeline.catalogue import Catalogue
from pipeline.compare import Night, read_night, tabulate
from pipeline.files import whole_file
from pipeline.plan import Plan
from pipeline.report import Told, worse_rows, write_report
from pipeline.run.judging import judged_outcomes
from pipeline.run.outcomes import recorded_outcomes
from pipeline.run.shadow import Shadow, shadow_outcomes
from pipeline.spec import Job
from pipeline.write import Answers


class Compared(NamedTuple):
    """A comparison, and what a report needs beside it."""

    table: pa.Table
    night: Night
    outcomes: pl.DataFrame | None


def compare_night(
    folder: Path, job: Job, catalogue: Catalogue, planned: tuple[Plan, Shadow], answers: Answers
) -> Compared:
    """Write comparison.parquet from what lies in *folder*, and return what it is made of."""
    plan, shadow = planned
    known = [
        frame
        for frame in (
            recorded_outcomes(catalogue, plan.rows_path),
            shadow_outcomes(shadow, answers),
            judged_outcomes(folder / "state", job, answers),
        )
        if frame is not None
    ]
    outcomes = pl.concat(known, how="diagonal") if known else None
    night = read_night(folder / "outputs.parquet", outcomes, job)
    prices = {"rowroute.catalogue": catalogue.digest, "rowroute.prices": json.dumps(plan.summary.prices)}
    table = tabulate(night).replace_schema_metadata(prices)
    with whole_file(folder / "comparison.parquet") as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)
    return Compared(table, night, outcomes)


def report_night(folder: Path, job: Job, compared: Compared, summary: dict[str, Any]) -> None:
    """Write report.html of what lies in *folder*."""
    worse, count = worse_rows(compared.night, folder / "outputs.parquet", compared.outcomes, job)
    classes = pl.concat_str("status", pl.col("kind").replace("", "unknown").fill_null("unknown"), separator=": ")
    quarantined = pl.read_parquet(folder / "quarantine.parquet", columns=["status", "kind"]).select(classes)
    told = Told(
        comparison=compared.table.to_pylist(),
        plan=json.loads((folder / "plan.json").read_text(encoding="utf-8")),
        summary=summary,
        failures=dict(quarantined.to_series().value_counts(sort=True).iter_rows()),
        worse=worse,
        worse_count=count,
        version=__version__,
    )
    write_report(folder / "report.html", told)
