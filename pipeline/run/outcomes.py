"""Recorded answers on the way out and in: what other models said on the same rows, and a run kept for replay."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalogue import Catalogue, cost_pusd, price_at
from pipeline.files import whole_file
from pipeline.ledger import all_answers
from pipeline.plan import Plan, read_rows
from pipeline.recorded import RECORDING_SCHEMA, Recordings
from pipeline.records import PICO_USD, Usage
from pipeline.run.routes import RECORDED
from pipeline.write import Answers

_OUTCOMES: dict[str, pl.DataType | type[pl.DataType]] = {
    "row": pl.Int64,
    "model": pl.String,
    "answer": pl.String,
    "cost_usd": pl.Decimal(18, 12),
    "input_tokens": pl.Int64,
    "output_tokens": pl.Int64,
    "latency_s": pl.Float64,
    "score": pl.Float64,
    "score_kind": pl.String,
}


def recorded_outcomes(catalogue: Catalogue, rows_path: Path) -> pl.DataFrame | None:
    """Return what the recorded models in the catalogue answered on the rows of the plan, None where there are none."""
    paths = {
        provider.path
        for provider in catalogue.providers.values()
        if provider.adapter == RECORDED and provider.path is not None
    }
    if not paths:
        return None
    rows = pl.concat([pl.Series("row_id", batch["row_id"]).to_frame() for batch in read_rows(rows_path)])
    numbered = rows.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    frames = [_priced(Recordings(Path(path)).table, numbered, catalogue) for path in sorted(paths)]
    return pl.concat(frames)


def _priced(recorded: pl.DataFrame, numbered: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Return the recordings of the numbered rows, at the catalogue's prices of today."""
    known = recorded.filter(pl.col("model").is_in(list(catalogue.models)))
    joined = numbered.join(known, left_on="row_id", right_on="prompt_id", how="inner", maintain_order="left")
    missing = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in _OUTCOMES.items() if name not in joined.columns]
    frame = joined.with_columns(missing)
    now = datetime.now(UTC)
    prices = {name: price_at(model, now) for name, model in catalogue.models.items()}
    costs = [
        None if None in tokens else cost_pusd(Usage(*tokens), prices[model]) * PICO_USD
        for model, *tokens in frame.select("model", "input_tokens", "output_tokens").iter_rows()
    ]
    cost = pl.Series("cost_usd", costs, dtype=_OUTCOMES["cost_usd"])
    return frame.with_columns(cost).select(pl.col(name).cast(dtype) for name, dtype in _OUTCOMES.items())


def write_recordings(path: Path, plan: Plan, answers: Answers) -> None:
    """Write every answer of the plan's requests, weak ones too, as a file for the adapter `recorded`."""
    wanted = {
        request_id
        for batch in read_rows(plan.rows_path)
        for request_id in batch["request_id"].to_pylist()
        if request_id
    }
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for attempt in all_answers(answers.connection, answers.path):
        if attempt.request_id in wanted:
            latest[attempt.row_id, attempt.model] = {
                "prompt_id": attempt.row_id,
                "model": attempt.model,
                "answer": attempt.answer,
                "finish": attempt.finish,
                "input_tokens": attempt.input_tokens,
                "cached_input_tokens": attempt.cached_tokens,
                "output_tokens": attempt.output_tokens,
                "latency_s": attempt.latency_s,
            }
    with whole_file(path) as partial:
        table = pa.Table.from_pylist(list(latest.values()), schema=RECORDING_SCHEMA)
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)
