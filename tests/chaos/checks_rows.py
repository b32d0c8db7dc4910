"""I1 to I3: every input row once, in order, with the answer to its own prompt."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from pipeline.identity import request_hasher

from .evidence import OUTPUTS, QUARANTINE, Evidence, mark_of
from .ledger_rows import Attempt
from .log import digest

FINISHED: Final = (0, 1, 3, 4)  # exit codes of runs that write their outputs
BAD: Final = ("failed", "blocked", "truncated")

# Output column -> field of the ledger line it comes from.
_TRACED: Final = {
    "answer": "answer",
    "status": "status",
    "reason": "reason",
    "model": "model",
    "usage": "usage_status",
    "latency_s": "latency_s",
}
_COUNTED: Final = {
    "input_tokens": "input_tokens",
    "cached_input_tokens": "cached_tokens",
    "output_tokens": "output_tokens",
    "reasoning_tokens": "reasoning_tokens",
}


def each_row_once(evidence: Evidence) -> Iterator[str]:
    """I1: every input row is in the output exactly once, and the bad ones exactly once in the quarantine."""
    if evidence.outputs is None:
        if evidence.case.exit_code in FINISHED:
            yield f"{OUTPUTS} {evidence.outputs_problem}, though the run ended with {evidence.case.exit_code}"
        return
    wanted, found = Counter(evidence.ids), Counter(evidence.output_ids)
    for row_id in wanted.keys() | found.keys():
        if wanted[row_id] != found[row_id]:
            yield f"row {row_id} is {wanted[row_id]} times in the input and {found[row_id]} times in {OUTPUTS}"
    yield from _quarantined(evidence)


def _quarantined(evidence: Evidence) -> Iterator[str]:
    bad = {(row, status) for row, status in enumerate(evidence.statuses) if status in BAD}
    if evidence.quarantine is None:
        yield f"{QUARANTINE} {evidence.quarantine_problem}, and {len(bad)} rows are bad"
        return
    listed = Counter(zip(evidence.quarantine.column("row"), evidence.quarantine.column("status"), strict=True))
    for row, status in sorted(bad - listed.keys()):
        yield f"row {evidence.output_ids[row]} is {status}, but {QUARANTINE} does not list it so"
    for (row, status), times in listed.items():
        if (row, status) not in bad:
            yield f"{QUARANTINE} lists output row {row} as {status}, which it is not"
        elif times > 1:
            yield f"{QUARANTINE} lists output row {row} {times} times"
    for row, row_id in zip(evidence.quarantine.column("row"), evidence.quarantine.column("row_id"), strict=True):
        known = evidence.output_ids[row] if row < len(evidence.output_ids) else None
        if known is not None and row_id != known:
            yield f"{QUARANTINE} calls output row {row} {row_id}, but it is {known}"


def same_order(evidence: Evidence) -> Iterator[str]:
    """I2: the output has the input's rows in the input's order, with the input's columns unchanged."""
    if evidence.outputs is None:
        return
    for place, (wanted, found) in enumerate(zip(evidence.ids, evidence.output_ids, strict=False)):
        if wanted != found:
            yield f"row {place} of the input is {wanted}, row {place} of {OUTPUTS} is {found}"
            return
    before, after = evidence.input.arrow, evidence.outputs.arrow
    if before is None or after is None or len(evidence.ids) != len(evidence.output_ids):
        return
    for field in before.schema:
        if field.name not in after.column_names:
            yield f"column {field.name} of the input is not in {OUTPUTS}"
        elif after.schema.field(field.name).type != field.type:
            yield f"column {field.name} was {field.type} and is {after.schema.field(field.name).type} in {OUTPUTS}"
        elif not after[field.name].equals(before[field.name]):
            yield from _first_change(evidence, field.name)


def _first_change(evidence: Evidence, column: str) -> Iterator[str]:
    assert evidence.outputs is not None
    # NaN differs from itself, its text does not.
    pairs = zip(evidence.input.column(column), evidence.outputs.column(column), strict=True)
    for place, (before, after) in enumerate(pairs):
        if repr(before) != repr(after):
            yield f"row {evidence.ids[place]}: column {column} was {before!r:.80} and is {after!r:.80}"
            return


def answers_trace_back(evidence: Evidence) -> Iterator[str]:
    """I3: every answer comes from one settled request of the row's own prompt, as the server sent it."""
    yield from _settled_once(evidence)
    if evidence.outputs is None or evidence.case.exit_code not in FINISHED:
        return  # a run that was cut off leaves the outputs of an earlier one
    by_request: dict[str, list[Attempt]] = {}
    for attempt in evidence.ledger.attempts:
        by_request.setdefault(attempt.request_id, []).append(attempt)
    sent = {
        (exchange.arrival.mark, exchange.completion.answer)
        for exchange in evidence.exchanges
        if exchange.completion is not None and exchange.completion.status == 200
    }
    columns = {name: evidence.answers(name) for name in (*_TRACED, *_COUNTED, "attempts", "request_id")}
    expected_id = _hasher(evidence)
    for place, row_id in enumerate(evidence.output_ids):
        row = {name: values[place] for name, values in columns.items()}
        attempts = by_request.get(row["request_id"], [])
        prompt = evidence.prompts[place] if place < len(evidence.prompts) else None
        if row["status"] != "pending":
            yield from (f"row {row_id} {problem}" for problem in _row_problems(row, attempts))
        if row["status"] == "ok":
            yield from (f"row {row_id} {problem}" for problem in _answer_problems(row["answer"], prompt, sent))
        if attempts and expected_id(attempts[0].model, prompt) not in (None, row["request_id"]):
            yield f"row {row_id} names request {row['request_id']}, but its prompt hashes to another"


def _settled_once(evidence: Evidence) -> Iterator[str]:
    settled = Counter(
        (attempt.request_id, attempt.night) for attempt in evidence.ledger.attempts if attempt.status == "ok"
    )
    for (request_id, night), times in settled.items():
        if times > 1:
            yield f"request {request_id} was settled as ok {times} times in night {night}"


def _row_problems(row: dict[str, Any], attempts: list[Attempt]) -> Iterator[str]:
    """Compare a row with the ledger."""
    finals = [attempt for attempt in attempts if attempt.final]
    if not finals:
        # A row that can't be asked fails without a request.
        if row["status"] != "failed" or row["request_id"] is not None:
            yield f"is {row['status']}, but the ledger has no final attempt of its request {row['request_id']}"
        return
    final = finals[-1]
    for name, source in _TRACED.items():
        if row[name] != getattr(final, source):
            yield f"has {name} {row[name]!r:.80}, the ledger {getattr(final, source)!r:.80} (attempt {final.id})"
    for name, source in _COUNTED.items():
        wanted = getattr(final, source) if final.usage_status else None
        if row[name] != wanted:
            yield f"has {row[name]} {name}, the ledger {wanted} (attempt {final.id})"
    sent = [attempt for attempt in attempts if not attempt.repeats]
    if row["attempts"] != len(sent):
        yield f"says {row['attempts']} attempts, the ledger has {len(sent)}"
    if final.repeats and not any(_same(attempt, final) for attempt in sent):
        yield f"is settled by attempt {final.repeats} once more, but there was no such attempt"


def _same(attempt: Attempt, again: Attempt) -> bool:
    told = (attempt.attempt, attempt.model, attempt.started_at, attempt.answer)
    return told == (again.repeats, again.model, again.started_at, again.answer)


def _answer_problems(answer: str | None, prompt: str | None, sent: set[tuple[str, str | None]]) -> Iterator[str]:
    """Compare a good row's answer with its prompt and with what the server sent."""
    mark, named = mark_of(prompt), mark_of(answer)
    if not (answer or "").strip():
        yield "is ok with an empty answer"
    elif named and named != mark:
        yield f"(mark {mark}) carries the answer of mark {named}"
    elif (mark, digest(answer or "")) not in sent:
        yield f"carries an answer that the server never sent for mark {mark!r}: {answer!r:.80}"


def _hasher(evidence: Evidence) -> Callable[[str, str | None], str | None]:
    """Return a function that recomputes the request id of a prompt, None where that can't be done."""
    parameters = evidence.case.parameters

    def expected_id(model: str, prompt: str | None) -> str | None:
        if parameters is None or prompt is None:
            return None
        return request_hasher(model, parameters)(prompt.encode(), None, None, None).hex()

    return expected_id
