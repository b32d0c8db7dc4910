"""The judge of `[judge]`: once rows and sample are answered, it compares the two answers of each sampled row."""

import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa

from pipeline.catalogue import Catalogue
from pipeline.dispatch import Dispatched
from pipeline.errors import JobError
from pipeline.files import whole_file
from pipeline.identity import IdMap, as_ids, request_hasher
from pipeline.lanes import Counters, StopSignal
from pipeline.ledger import Run
from pipeline.plan import SPOOL_SCHEMA, Group, Plan, Spool, read_rows, select_rows, take_rows
from pipeline.records import PICO_USD, Parameters, Request
from pipeline.render import Renderer
from pipeline.run.asking import ask_here
from pipeline.run.batching import begun_for
from pipeline.run.night import Night
from pipeline.run.outcomes import said
from pipeline.run.shadow import SAMPLED, Shadow, shadow_outcomes
from pipeline.scorers.judge import SYSTEM, Case, Verdict, message, score_of
from pipeline.spec import JUDGE, Job
from pipeline.tokens import estimate_tokens
from pipeline.write import Answers

JUDGED = "judged"
_CASES: dict[str, Any] = {"row": pl.Int64, "ours_first": pl.Boolean, "request_id": pl.Binary, "score": pl.Float64}


def judge_models(job: Job, catalogue: Catalogue) -> set[str]:
    """Return the judge's model, if a row may be scored by it.

    Raises:
        JobError: when there is no such model.
    """
    if not uses_judge(job):
        return set()
    assert job.judge is not None
    if job.judge.model not in catalogue.models:
        raise JobError(f"judge.model: no model {job.judge.model!r}; known: {', '.join(sorted(catalogue.models))}")
    return {job.judge.model}


def uses_judge(job: Job) -> bool:
    """Tell whether a rule of `[[score]]` asks for the judge."""
    return any(rule.scorer == JUDGE for rule in job.score_rules)


class _Pair(NamedTuple):
    row: int
    task: str
    ours: str
    theirs: str


async def ask_judge(
    night: Night,
    planned: tuple[Plan, Shadow],
    credentials: Any,
    ledger_of: tuple[sqlite3.Connection, Run],
    came: tuple[tuple[Dispatched, IdMap], Counters],
) -> tuple[Dispatched, IdMap]:
    """Ask the judge what is not settled yet, for what rows and sample left of the budget; return how the run ended."""
    connection, run = ledger_of
    plan, _ = planned
    (dispatched, records), counters = came
    # Rows in a provider's batch have no answers yet: the run that fetches them has them judged.
    if not uses_judge(night.job) or dispatched.stopped or begun_for(connection, night.ledger_path, night.catalogue):
        return dispatched, records
    answers = Answers(connection, night.ledger_path, records, night.kept)
    parameters, groups = _plan_cases(night, planned, answers)
    if not groups:
        return dispatched, records
    later = night._replace(done=night.done._replace(records=records))
    spent = run._replace(spent_pusd=run.spent_pusd + counters.spent_pusd)
    # As a sample they are asked one by one, and that the money ends there is no fault of the run.
    nothing = plan._replace(groups=(), parameters=parameters, summary=plan.summary._replace(groups=()))
    cases = Shadow([], {JUDGED: nothing._replace(groups=groups)})
    told = (StopSignal(), counters)
    judged, records = await ask_here(later, (nothing, cases), credentials, (connection, spent), told)
    return Dispatched({**dispatched.halted, **judged.halted}, judged.stopped), records


def judged_outcomes(state: Path, job: Job, answers: Answers) -> pl.DataFrame | None:
    """Return the judge's scores of the sampled rows and what they cost, as outcomes of kind "judged"; None without.

    The cost is of both orders and all attempts, verdict or not; a request shared by rows counts on the first.
    """
    path = state / "judge" / "cases.parquet"
    if not uses_judge(job) or not path.exists():
        return None
    cases = pl.read_parquet(path)
    asked = cases.drop_nulls("request_id")
    found = answers.settled(asked["request_id"].to_list())
    verdicts: dict[tuple[int, bool], str | None] = {}
    billed = dict.fromkeys(cases["row"], 0)
    paid: set[bytes] = set()
    for (row, ours_first, request_id, _), attempt in zip(asked.iter_rows(), found, strict=True):
        verdicts[row, ours_first] = attempt and attempt.answer
        if attempt is not None and request_id not in paid:
            billed[row] += attempt.total_cost_pusd
            paid.add(request_id)
    scores: dict[int, float] = dict(cases.drop_nulls("score").select("row", "score").iter_rows())
    scores |= {
        row: score
        for row in asked["row"].unique()
        if (score := score_of(verdicts.get((row, True)), verdicts.get((row, False)))) is not None
    }
    lines = [(row, JUDGED, scores.get(row), JUDGED, cost * PICO_USD) for row, cost in sorted(billed.items())]
    kinds: dict[str, Any] = {
        "row": pl.Int64,
        "model": pl.String,
        "score": pl.Float64,
        "kind": pl.String,
        "cost_usd": pl.Decimal(18, 12),
    }
    return pl.DataFrame(lines, schema=kinds, orient="row")


def _plan_cases(night: Night, planned: tuple[Plan, Shadow], answers: Answers) -> tuple[Parameters, tuple[Group, ...]]:
    """Write down what the judge is to see, and spool what it has not seen yet."""
    judge = night.job.judge
    assert judge is not None
    parameters = Parameters(judge.max_output_tokens, 0.0, None, tuple(Verdict))
    address = request_hasher(judge.model, parameters)
    folder = night.state / "judge"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    key = _key(night.state / "judge.key")
    lines: list[tuple[Any, ...]] = []
    requests: dict[bytes, Request] = {}
    for pair in _pairs(night, planned, answers):
        decided = _decided(pair)
        if decided is not None:
            lines.append((pair.row, True, None, decided))
            continue
        for ours_first in (True, False):
            texts = (pair.ours, pair.theirs) if ours_first else (pair.theirs, pair.ours)
            user = message(Case(pair.task, *texts), judge.criteria, key)
            request_id = address(user.encode("utf-8", "replace"), SYSTEM, None, None)
            lines.append((pair.row, ours_first, request_id, None))
            requests[request_id] = Request(request_id, f"judge {pair.row}", user, SYSTEM)
    with whole_file(folder / "cases.parquet") as partial:
        pl.DataFrame(lines, schema=_CASES, orient="row").write_parquet(partial)
    return parameters, _spooled(folder, judge.model, requests, answers.records)


def _decided(pair: _Pair) -> float | None:
    """Return the score where no judge is needed: one answer is missing, or both say the same."""
    if pair.ours.strip() == pair.theirs.strip():
        return 0.5
    return None if pair.ours.strip() and pair.theirs.strip() else float(bool(pair.ours.strip()))


def _pairs(night: Night, planned: tuple[Plan, Shadow], answers: Answers) -> Iterator[_Pair]:
    """Yield the sampled rows whose baseline has been asked, with both answers."""
    plan, shadow = planned
    outcomes = shadow_outcomes(shadow, answers)
    if outcomes is None:
        return
    theirs = dict(outcomes.filter(pl.col("kind") == SAMPLED).select("row", "answer").iter_rows())
    ours = _routed(plan, shadow.rows, answers)
    renderer = Renderer(night.job.prompt)
    rows = iter(shadow.rows)
    for batch in take_rows(select_rows(night.source, renderer.columns, plan.selection), shadow.rows):
        table = pl.from_arrow(batch.table)
        assert isinstance(table, pl.DataFrame)
        for user, messages in renderer.render(table).select("user", "messages").iter_rows():
            row = next(rows)
            if row in theirs and row in ours:
                yield _Pair(row, messages or user or "", ours[row], theirs[row])


def _routed(plan: Plan, rows: list[int], answers: Answers) -> dict[int, str]:
    """Return what was answered to *rows*, the empty text where that came to nothing."""
    found: dict[int, str] = {}
    wanted, start = set(rows), 0
    for batch in read_rows(plan.rows_path):
        numbers = [row for row in range(start, start + batch.num_rows) if row in wanted]
        attempts = answers.settled([batch["request_id"][row - start].as_py() for row in numbers])
        found |= {row: said(attempt) for row, attempt in zip(numbers, attempts, strict=True) if attempt is not None}
        start += batch.num_rows
    return found


def _spooled(folder: Path, model: str, requests: dict[bytes, Request], records: IdMap) -> tuple[Group, ...]:
    known = records.find(as_ids(b"".join(requests)))
    new = [request for request, number in zip(requests.values(), known, strict=True) if number < 0]
    if not new:
        return ()
    tokens = estimate_tokens(pl.Series([f"{request.system}{request.user}" for request in new])).to_list()
    lines = [request._replace(input_tokens=count)._asdict() for request, count in zip(new, tokens, strict=True)]
    spool = Spool(folder)
    spool.write(model, pa.Table.from_pylist(lines, schema=SPOOL_SCHEMA))
    return spool.close()


def _key(path: Path) -> bytes:
    """Return the secret that marks are made of, drawn once and read by nobody else."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
    return path.read_bytes()
