"""I6 and I7: what was billed is what is reported, and the cap holds."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from .checks_rows import FINISHED
from .evidence import OUTPUTS, SPENT, SUMMARY, Evidence
from .ledger_rows import Attempt

_PUSD: Final = 10**12  # in a USD
_RELATIVE: Final = Decimal("1e-9")


def costs_agree(evidence: Evidence) -> Iterator[str]:
    """I6: every attempt is priced by what the server billed, and the sums of ledger, outputs and summary agree."""
    yield from _priced_attempts(evidence)
    if evidence.case.exit_code not in FINISHED:
        return
    if evidence.summary is None or evidence.summary.get(SPENT) is None:
        yield f"{SUMMARY} has no {SPENT}"
    else:
        night = evidence.summary.get("night")
        ledger = sum(attempt.cost_pusd for attempt in evidence.ledger.attempts if attempt.night == night)
        if not _close(Decimal(ledger), Decimal(evidence.summary[SPENT]) * _PUSD):
            yield f"{SUMMARY} reports {evidence.summary[SPENT]} USD for night {night}, the ledger {_usd(ledger)}"
    yield from _row_costs(evidence)


def _row_costs(evidence: Evidence) -> Iterator[str]:
    """Compare the cost of each request in the outputs with all its attempts."""
    billed = Counter[str]()
    for attempt in evidence.ledger.attempts:
        billed[attempt.request_id] += attempt.cost_pusd
    reported: dict[str, Decimal] = defaultdict(Decimal)
    rows: dict[str, str | None] = {}
    columns = (evidence.output_ids, evidence.answers("request_id"), evidence.answers("cost_usd"), evidence.statuses)
    for row_id, request_id, cost, status in zip(*columns, strict=True):
        if request_id is not None and status != "pending":
            rows.setdefault(request_id, row_id)
            reported[request_id] += (cost or Decimal(0)) * _PUSD
    for request_id, cost in reported.items():
        if not _close(Decimal(billed[request_id]), cost):
            yield (
                f"row {rows[request_id]}: {OUTPUTS} has {_usd(cost)} USD for its request, the ledger "
                f"{_usd(billed[request_id])} over all attempts"
            )


def _priced_attempts(evidence: Evidence) -> Iterator[str]:
    """Compare each answered attempt with what the server said it bills."""
    sent: dict[str, set[tuple[int, int, int]]] = defaultdict(set)
    for exchange in evidence.exchanges:
        if exchange.completion is not None and exchange.completion.usage is not None:
            sent[exchange.arrival.mark].add(exchange.completion.usage)
    for attempt in evidence.ledger.attempts:
        if attempt.repeats and attempt.cost_pusd:
            yield f"row {attempt.row_id}: attempt {attempt.id} costs again what attempt {attempt.repeats} has cost"
        if attempt.usage_status is None or attempt.repeats:
            continue
        tokens = (attempt.input_tokens, attempt.cached_tokens, attempt.output_tokens)
        if attempt.usage_status == "measured" and tokens not in sent[evidence.marks.get(attempt.row_id, "")]:
            yield f"row {attempt.row_id}: attempt {attempt.id} has usage {tokens}, which the server never sent for it"
        yield from _price_problems(evidence, attempt, tokens)


def _price_problems(evidence: Evidence, attempt: Attempt, tokens: tuple[int, int, int]) -> Iterator[str]:
    prices = evidence.case.prices
    # A gateway may answer with another model than the one asked; the one that answered is billed, where we know it.
    price = prices.get(attempt.model_echo) or prices.get(attempt.model)
    if price is None:
        return
    wanted = price.pusd(*tokens)
    if abs(attempt.cost_pusd - wanted) > 1:
        yield f"row {attempt.row_id}: attempt {attempt.id} cost {attempt.cost_pusd} pico-USD, its tokens {wanted:f}"
    if attempt.usage_status != "measured" and attempt.cost_pusd == 0 and price.output:
        yield f"row {attempt.row_id}: attempt {attempt.id} cost nothing, though its usage is {attempt.usage_status}"


def within_cap(evidence: Evidence) -> Iterator[str]:
    """I7: no night spent more than the cap; what a kill lost may come on top, at the worst price a request."""
    case = evidence.case
    if case.cap_usd is None:
        return
    cap = case.cap_usd * _PUSD
    spent = Counter[int]()
    for attempt in evidence.ledger.attempts:
        spent[attempt.night] += attempt.cost_pusd
    for night, pusd in spent.items():
        if pusd > cap:
            yield f"night {night} spent {_usd(pusd)} USD, above the cap of {case.cap_usd}"
    billed = sum(
        (
            case.prices[exchange.arrival.model].pusd(*exchange.completion.usage)
            for exchange in evidence.exchanges
            if exchange.completion is not None
            and exchange.completion.outcome == "whole"
            and exchange.completion.usage is not None
            and exchange.arrival.model in case.prices
        ),
        Decimal(0),
    )
    allowed = cap * max(1, len(spent)) + case.kills * case.concurrency * case.worst_request_usd * _PUSD
    if billed > allowed:
        yield f"the server billed {_usd(billed)} USD, above the cap and what kills may lose ({_usd(allowed)})"


def _close(one: Decimal, other: Decimal) -> bool:
    return abs(one - other) <= _RELATIVE * max(abs(one), abs(other))


def _usd(pusd: Decimal | int) -> str:
    return f"{Decimal(pusd) / _PUSD:f}"
