"""An old run at the prices of another day: the tokens of its ledger, priced anew. Nothing on the disk changes."""

import tempfile
from collections import defaultdict
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa

from pipeline.catalogue import Catalogue, cost_pusd, load_catalogue, price_at
from pipeline.compare import compare
from pipeline.compare.reading import FirstAsked
from pipeline.errors import JobError
from pipeline.ledger import Attempt, all_attempts, connect, usage_of
from pipeline.records import PICO_USD
from pipeline.run.options import RunOptions, load
from pipeline.run.outcomes import recorded_outcomes

_MONEY = pl.Decimal(18, 12)


def repriced(folder: Path, job_file: Path, day: date) -> pa.Table:
    """Return the comparison of the run in *folder* as it would be at the prices of *day*, of the job's own models too.

    Each attempt keeps its time of day, so prices by the hour are those of *day* at that time. What its tokens were is
    known from the ledger; an attempt without tokens cost nothing and still does.

    Raises:
        JobError: when there is no such run, a model is not known any more, or has no price on *day*.
    """
    job = load(RunOptions(job_file))
    catalogue = load_catalogue(job, listed=True)
    outputs = folder / "outputs.parquet"
    if not outputs.exists():
        raise JobError(f"{outputs}: there is no finished run to price again")
    ledger = folder / "state" / "ledger.sqlite"
    with closing(connect(ledger)) as connection:
        costs = _Costs(catalogue, day, job.output.prefix)
        for attempt in all_attempts(connection, ledger):
            costs.add(attempt)
    # The comparison reads a file; this one has other costs and is gone afterwards.
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "outputs.parquet"
        costs.put_into(pl.read_parquet(outputs)).write_parquet(path)
        noon = datetime.combine(day, time(12), UTC)
        outcomes = recorded_outcomes(catalogue, folder / "state" / "plan" / "rows.parquet", noon)
        return compare(path, outcomes=outcomes, job=job)


class _Costs:
    """What each request costs by the prices of a day, and what its last answer would cost elsewhere."""

    def __init__(self, catalogue: Catalogue, day: date, prefix: str) -> None:
        self._catalogue = catalogue
        self._day = day
        self._prefix = prefix
        self._total: defaultdict[str, int] = defaultdict(int)
        self._final: dict[str, Attempt] = {}

    def add(self, attempt: Attempt) -> None:
        """Count *attempt*; one that only states another one once more costs nothing."""
        request = attempt.request_id.hex()
        if attempt.usage_status is not None and not attempt.repeats:
            answered_by = attempt.model_echo if attempt.model_echo in self._catalogue.models else attempt.model
            self._total[request] += self._cost(attempt, answered_by, batch=bool(attempt.batch))
        if attempt.final:
            self._final[request] = attempt

    def _cost(self, attempt: Attempt, name: str, *, batch: bool = False) -> int:
        model = self._catalogue.models.get(name)
        if model is None:
            raise JobError(
                f"{name}: the catalogue does not know this model any more; describe it in [models] of the job"
            )
        sent = datetime.fromtimestamp(attempt.started_at, UTC)
        price = price_at(model, datetime.combine(self._day, sent.timetz()))
        return cost_pusd(usage_of(attempt), price.batch if batch and price.batch else price)

    def put_into(self, outputs: pl.DataFrame) -> pl.DataFrame:
        """Return *outputs* with these costs in place of its own."""
        cost, baseline = f"{self._prefix}cost_usd", f"{self._prefix}baseline_cost_usd"
        requests, named = outputs[f"{self._prefix}request_id"], outputs[f"{self._prefix}baseline_model"]
        first = FirstAsked().among(requests)
        costs, baselines = [], []
        for request, is_first, model in zip(requests, first, named, strict=True):
            final = self._final.get(request)
            costs.append(None if final is None else _usd(self._total[request] if is_first else 0))
            known = final is not None and final.usage_status is not None and model is not None
            baselines.append(_usd(self._cost(final, model) if is_first else 0) if final and known else None)
        return outputs.with_columns(pl.Series(cost, costs, dtype=_MONEY), pl.Series(baseline, baselines, dtype=_MONEY))


def _usd(pusd: int) -> Decimal:
    return pusd * PICO_USD
