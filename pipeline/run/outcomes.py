"""Recorded answers on the way out and in: what other models said on the same rows, and a run kept for replay."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalogue import Catalogue, cost_pusd, price_at
from pipeline.files import whole_file
from pipeline.ledger import Attempt, all_answers
from pipeline.plan import Plan, read_rows
from pipeline.recorded import RECORDING_SCHEMA, Recordings
from pipeline.records import PICO_USD, Status, Usage
from pipeline.run.routes import RECORDED
from pipeline.write import Answers

Schema = dict[str, pl.DataType | type[pl.DataType]]
ANSWERED: Schema = {
    "row": pl.Int64,
    "model": pl.String,
    "answer": pl.String,
    "cost_usd": pl.Decimal(18, 12),
    "input_tokens": pl.Int64,
    "output_tokens": pl.Int64,
    "latency_s": pl.Float64,
}
_OUTCOMES: Schema = {**ANSWERED, "score": pl.Float64, "score_kind": pl.String}


def said(attempt: Attempt) -> str:
    """Return what came of a request: its answer, which may be cut short, and nothing where it failed."""
    return (attempt.answer or "") if attempt.status in (Status.OK, Status.TRUNCATED) else ""


def answered(row: int, model: str, attempt: Attempt) -> tuple[Any, ...]:
    """Return the values of `ANSWERED`. A model that failed has said nothing, and is billed what it cost."""
    sizes = (attempt.input_tokens, attempt.output_tokens, attempt.latency_s)
    return (row, model, said(attempt), attempt.total_cost_pusd * PICO_USD, *sizes)


def recorded_outcomes(catalogue: Catalogue, rows_path: Path, at: datetime | None = None) -> pl.DataFrame | None:
    """Return what the recorded models in the catalogue answered on the rows of the plan, None where there are none.

    Their costs are at the prices of *at*, of today without it.
    """
    paths = {
        provider.path
        for provider in catalogue.providers.values()
        if provider.adapter == RECORDED and provider.path is not None
    }
    if not paths:
        return None
    rows = pl.concat([pl.Series("row_id", batch["row_id"]).to_frame() for batch in read_rows(rows_path)])
    numbered = rows.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    at = at or datetime.now(UTC)
    frames = [_priced(Recordings(Path(path)).table, numbered, catalogue, at) for path in sorted(paths)]
    return pl.concat(frames)


def _priced(recorded: pl.DataFrame, numbered: pl.DataFrame, catalogue: Catalogue, at: datetime) -> pl.DataFrame:
    """Return the recordings of the numbered rows, at the catalogue's prices of *at*."""
    known = recorded.filter(pl.col("model").is_in(list(catalogue.models)))
    prices = {name: price_at(catalogue.models[name], at) for name in known["model"].unique()}
    joined = numbered.join(known, left_on="row_id", right_on="prompt_id", how="inner", maintain_order="left")
    missing = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in _OUTCOMES.items() if name not in joined.columns]
    frame = joined.with_columns(missing)
    # A recording may not say how much of the input was cached; then all of it counts as fresh.
    cached = pl.col("cached_input_tokens") if "cached_input_tokens" in frame.columns else pl.lit(None)
    counts = frame.select("model", "input_tokens", "output_tokens", cached.fill_null(0).cast(pl.Int64))
    costs = [
        None if None in (tokens, output) else cost_pusd(Usage(tokens - hits, output, hits), prices[model]) * PICO_USD
        for model, tokens, output, hits in counts.iter_rows()
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
