"""What can be told without sending anything: is the job right, which models are there, how are rows labelled."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalogue import load_catalogue, price_at, warnings
from pipeline.classify import classify
from pipeline.errors import JobError
from pipeline.files import whole_file
from pipeline.plan import Learned, check_columns
from pipeline.readers import open_source
from pipeline.render import Renderer
from pipeline.route import only_columns
from pipeline.run.fit import check_fit
from pipeline.run.judging import judge_models
from pipeline.run.options import RunOptions, load
from pipeline.run.routes import preflight
from pipeline.spec import Input


def check_job(options: RunOptions) -> list[str]:
    """Look the job over, keys included, and return warnings.

    Raises:
        JobError: with everything that would stop a run.
    """
    job = load(options)
    catalogue = load_catalogue(job)
    source = open_source(job.input)
    check_fit(job, source)
    learned = Learned(job, catalogue)
    columns = only_columns(catalogue, job.route, learned.models)
    wanted = [*Renderer(job.prompt).columns, *columns, *filter(None, [job.input.id])]
    check_columns(str(options.job_file), wanted, source)
    pinned = job.route.task
    cells = catalogue.table[job.route.tier]
    asked = {model for cell, models in cells.items() if pinned in (None, cell.split(".")[0]) for model in models}
    asked |= set(learned.models)
    preflight(catalogue, asked | judge_models(job, catalogue))
    return warnings(catalogue, asked, datetime.now(UTC).date())


def list_models(job_file: Path | None) -> list[dict[str, Any]]:
    """Return every model known, of a job or of the built-in catalogue, with its price of today."""
    job = None if job_file is None else load(RunOptions(job_file))
    now = datetime.now(UTC)
    listed = []
    for name, model in sorted(load_catalogue(job, listed=True).models.items()):
        price = price_at(model, now)
        listed.append(
            {
                "model": name,
                "provider": model.provider,
                "context_tokens": model.context_tokens,
                "vision": model.vision,
                "input_usd_per_mtok": price.input,
                "cached_input_usd_per_mtok": price.cached_input,
                "output_usd_per_mtok": price.output,
                "since": price.since,
                "checked": price.checked,
                "source": price.source,
                "retires": model.retires,
            }
        )
    return listed


def classify_file(input_: str, *, column: str, image_column: str | None, output: Path) -> int:
    """Write the input's labels (task, difficulty, confidence, rule), a row a row; return how many.

    Raises:
        JobError: when the input can't be read or lacks the column.
    """
    source = open_source(Input(path=[input_]))
    wanted = [name for name in (column, image_column) if name is not None]
    check_columns(input_, wanted, source)
    rows, writer = 0, None
    with whole_file(output) as partial:
        try:
            for batch in source.batches(wanted):
                labels = _labels(batch.table, column, image_column).to_arrow()
                writer = writer or pq.ParquetWriter(partial, labels.schema, write_page_checksum=True)
                writer.write_table(labels)
                rows += labels.num_rows
            if writer is None:
                pq.write_table(_labels(source.schema.empty_table(), column, image_column).to_arrow(), partial)
        finally:
            if writer is not None:
                writer.close()
    return rows


def _labels(table: pa.Table | pa.RecordBatch, column: str, image_column: str | None) -> pl.DataFrame:
    rows = pl.from_arrow(table)
    assert isinstance(rows, pl.DataFrame)
    image = rows[image_column].is_not_null() if image_column is not None else None
    return classify(rows[column].cast(pl.String), image)


def read_comparison(folder: Path) -> pa.Table:
    """Return the comparison in *folder*.

    Raises:
        JobError: when no finished run left one there.
    """
    path = folder / "comparison.parquet"
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise JobError(f"{path}: no comparison to read: {error}") from error
