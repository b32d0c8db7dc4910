"""I4, I5 and I8: how often, how often again, and how fast the server was asked."""

import bisect
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from .evidence import Evidence
from .log import Exchange

_JITTER_S: Final = 0.1  # how much a request may be late or early on its way, or wait in a busy process


def bounded_sends(evidence: Evidence) -> Iterator[str]:
    """I4: the server saw no request more often than it was recorded, but for one a kill."""
    case, known = evidence.case, set(evidence.marks.values())
    seen, recorded = _seen(evidence), _recorded(evidence)
    for mark, times in seen.items():
        if mark and mark not in known:
            yield f"the server was asked {times} times with mark {mark}, which no input row has"
        elif times > recorded[mark] + case.kills:
            yield (
                f"mark {mark}: the server saw {times} requests, the ledger has {recorded[mark]} "
                f"and there were {case.kills} kills"
            )
    if case.max_attempts is None:
        return
    tries = Counter((attempt.row_id, attempt.request_id, attempt.night) for attempt in evidence.ledger.sent)
    for (row_id, _, night), times in tries.items():
        if times > case.max_attempts:
            yield f"row {row_id} took {times} attempts in night {night}, more than {case.max_attempts}"


def bounded_losses(evidence: Evidence) -> Iterator[str]:
    """I5: a kill costs at most the requests in flight, and nothing is sent twice without one."""
    case = evidence.case
    seen, recorded = _seen(evidence), _recorded(evidence)
    lost = _lost(seen, recorded)
    if lost > case.kills * case.concurrency:
        yield f"{lost} requests were sent and not recorded: more than {case.kills} kills x {case.concurrency} in flight"
    for run, (run_seen, run_recorded) in _by_run(evidence).items():
        lost = _lost(run_seen, run_recorded)
        if lost > case.concurrency:
            yield f"run {run} lost {lost} requests, more than the {case.concurrency} it may have had in flight"


def within_rates(evidence: Evidence) -> Iterator[str]:
    """I8: in no 1 s and no 60 s did the server see more than the configured rate."""
    for rate in evidence.case.rates:
        exchanges = [
            exchange for exchange in evidence.exchanges if not rate.models or exchange.arrival.model in rate.models
        ]
        times = [exchange.arrival.t for exchange in exchanges]
        who = ", ".join(rate.models) or "all models"
        yield from _too_fast(f"requests to {who}", rate.requests_per_min, times, [1] * len(times))
        if rate.tokens_per_min is not None:
            # Tokens are reserved by estimate, so only a minute can be held to what was billed.
            tokens = list(map(_billed_tokens, exchanges))
            yield from _too_fast(f"tokens of {who}", rate.tokens_per_min, times, tokens, windows_s=(60,))


def _too_fast(
    who: str, per_min: float, times: list[float], amounts: list[int], windows_s: tuple[int, ...] = (1, 60)
) -> Iterator[str]:
    """Yield the first window of each length that holds more than *per_min* allows."""
    totals = [0, *accumulate(amounts)]
    largest = max(amounts, default=0)
    for window_s in windows_s:
        allowed = per_min / 60 * (window_s + _JITTER_S) + largest
        for last, at in enumerate(times):
            amount = totals[last + 1] - totals[bisect.bisect_right(times, at - window_s)]
            if amount > allowed:
                yield f"{who}: {amount} in {window_s} s up to t={at:.3f}, but {per_min:g} a minute allow {allowed:.1f}"
                break


def _seen(evidence: Evidence) -> Counter[str]:
    return Counter(exchange.arrival.mark for exchange in evidence.exchanges)


def _recorded(evidence: Evidence) -> Counter[str]:
    return Counter(evidence.marks.get(attempt.row_id, "") for attempt in evidence.ledger.sent)


def _lost(seen: Counter[str], recorded: Counter[str]) -> int:
    return (seen - recorded).total()


def _by_run(evidence: Evidence) -> dict[int, tuple[Counter[str], Counter[str]]]:
    """Return what was seen and recorded of each run; a request belongs to the run that had begun last when it came."""
    starts = evidence.ledger.run_starts
    runs, began = list(starts), list(starts.values())
    result = {run: (Counter[str](), Counter[str]()) for run in runs}
    for exchange in evidence.exchanges:
        place = bisect.bisect_right(began, exchange.arrival.at) - 1
        if place >= 0:
            result[runs[place]][0][exchange.arrival.mark] += 1
    for attempt in evidence.ledger.sent:
        if attempt.run in result:
            result[attempt.run][1][evidence.marks.get(attempt.row_id, "")] += 1
    return result


def _billed_tokens(exchange: Exchange) -> int:
    usage = exchange.completion.usage if exchange.completion is not None else None
    return 0 if usage is None else usage[0] + usage[2]
