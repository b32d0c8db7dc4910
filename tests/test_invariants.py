"""The checker finds nothing in what a good night left behind, and each way in which it can be broken."""

import dataclasses
import gzip
import hashlib
import json
import signal
import time
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.files import whole_file
from pipeline.identity import request_hasher
from pipeline.ledger import Attempt, connect, pack, start_run
from pipeline.ledger.attempts import COLUMNS
from pipeline.records import Parameters
from tests.chaos.checks_sends import within_rates
from tests.chaos.evidence import Evidence, read_input
from tests.chaos.invariants import INVARIANTS, Case, Price, Rate, Sighting, check, snapshot, watch_output
from tests.chaos.log import Arrival, Completion, digest, open_log

PARAMETERS = Parameters(max_output_tokens=64, temperature=0.0)
MODEL = "small"
PRICE = Price(Decimal("0.15"), Decimal("0.075"), Decimal("0.60"))
PUSD = Decimal("1e-12")
INPUT = pa.schema([("id", pa.string()), ("prompt", pa.string()), ("weight", pa.float32())])
ANSWERS = pa.schema(
    [
        ("llm_answer", pa.string()),
        ("llm_status", pa.string()),
        ("llm_reason", pa.string()),
        ("llm_model", pa.string()),
        ("llm_input_tokens", pa.int64()),
        ("llm_cached_input_tokens", pa.int64()),
        ("llm_output_tokens", pa.int64()),
        ("llm_reasoning_tokens", pa.int64()),
        ("llm_usage", pa.string()),
        ("llm_cost_usd", pa.decimal128(18, 12)),
        ("llm_latency_s", pa.float64()),
        ("llm_attempts", pa.int32()),
        ("llm_request_id", pa.string()),
    ]
)
QUARANTINE = pa.schema([("row", pa.int64()), ("row_id", pa.string()), ("status", pa.string())])
_NO_ANSWER = dict.fromkeys(ANSWERS.names)
_SECRET = "sk-CANARY-0123456789"


def answer_of(mark: str) -> str:
    return f"Answer for mark={mark};"


class Night:
    """What one good run of six rows leaves behind, as data; a test breaks it and writes it down.

    Row 0 is answered at once, row 1 after a 429, rows 2 and 3 share a request, row 4 fails, row 5 can't be asked.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started_at = time.time()
        self.rows: list[dict[str, Any]] = []
        self.log: list[Arrival | Completion] = []
        self.attempts: list[Attempt] = []
        self.exit_code = 1
        self._answered(0, "row-0")
        self._refused("row-1")
        self._answered(1, "row-1")
        self._answered(2, "row-2")
        self.rows.append(self.rows[2] | {"id": "r3", "llm_cost_usd": Decimal(0)})
        self._failed(4, "row-4")
        self.rows.append({"id": "r5", "prompt": None, "weight": 0.5} | _NO_ANSWER | {"llm_status": "failed"})
        self.input = [{name: row[name] for name in ("id", "prompt", "weight")} for row in self.rows]
        self.quarantine = [
            {"row": 4, "row_id": "r4", "status": "failed"},
            {"row": 5, "row_id": "r5", "status": "failed"},
        ]
        self.summary = {
            "night": 1,
            "spent_tonight_usd": str(sum(attempt.cost_pusd for attempt in self.attempts) * PUSD),
            "statuses": {"ok": 4, "failed": 2, "pending": 0},
        }

    def _answered(self, row: int, mark: str) -> None:
        attempt = self.add_attempt(row, mark, status="ok", answer=answer_of(mark))
        self.exchange(mark, answer=answer_of(mark), usage=(20, 0, 10))
        self._row(row, mark, attempt)

    def _refused(self, mark: str) -> None:
        self.add_attempt(1, mark, status=None, error_kind="rate", http_status=429)
        self.exchange(mark, status=429)

    def _failed(self, row: int, mark: str) -> None:
        attempt = self.add_attempt(
            row, mark, status="failed", reason="server: broken", error_kind="server", http_status=500
        )
        self.exchange(mark, status=500)
        self._row(row, mark, attempt)

    def _row(self, row: int, mark: str, attempt: Attempt) -> None:
        tries = [each for each in self.attempts if each.request_id == attempt.request_id]
        counts = dict.fromkeys(("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens"))
        if attempt.usage_status:
            counts |= {"input_tokens": 20, "output_tokens": 10, "cached_input_tokens": 0, "reasoning_tokens": 0}
        told = {
            "answer": attempt.answer,
            "status": attempt.status,
            "reason": attempt.reason,
            "model": attempt.model,
            "usage": attempt.usage_status,
            "cost_usd": sum(each.cost_pusd for each in tries) * PUSD,
            "latency_s": attempt.latency_s,
            "attempts": len(tries),
            "request_id": attempt.request_id.hex(),
            **counts,
        }
        columns = {f"llm_{name}": value for name, value in told.items()}
        self.rows.append({"id": f"r{row}", "prompt": prompt_of(mark), "weight": 0.5} | _NO_ANSWER | columns)

    def add_attempt(self, row: int, mark: str, *, status: str | None, **more: Any) -> Attempt:
        """Write a line into the ledger; an answered one used 20 and 10 tokens."""
        request_id = request_hasher(MODEL, PARAMETERS)(prompt_of(mark).encode(), None, None, None)
        before = [attempt for attempt in self.attempts if attempt.request_id == request_id]
        answered = "answer" in more
        cost = int(PRICE.pusd(20, 0, 10)) if answered else 0
        values: dict[str, Any] = {
            "request_id": request_id,
            "row_id": f"r{row}",
            "night": 1,
            "run": 1,
            "attempt": len(before) + 1,
            "model": MODEL,
            "final": status is not None,
            "status": status,
            "reason": None,
            "started_at": self.started_at + 0.1,
            "latency_s": 0.25,
            "input_tokens": 20 if answered else 0,
            "cached_tokens": 0,
            "output_tokens": 10 if answered else 0,
            "reasoning_tokens": 0,
            "cache_write_5m_tokens": 0,
            "cache_write_1h_tokens": 0,
            "usage_status": "measured" if answered else None,
            "cost_pusd": cost,
            "total_cost_pusd": cost + sum(attempt.cost_pusd for attempt in before),
            "provider_request_id": "",
            "finish": "stop" if answered else "",
            "http_status": 200,
            "error_kind": "",
            "error_code": "",
            "model_echo": MODEL if answered else "",
            "repeats": 0,
            "batch": "",
            "shared_by": 1,
            "answer": None,
        }
        self.attempts.append(Attempt(**(values | more)))
        return self.attempts[-1]

    def exchange(self, mark: str, *, status: int = 200, at: float = 0.1, **more: Any) -> None:
        """Write a request and its reply into the server's log, *at* seconds after the start."""
        n = len(self.log) // 2 + 1
        arrival = Arrival(
            n=n, t=at, at=self.started_at + at, connection=1, method="POST", path="/", model=MODEL, mark=mark
        )
        answer = more.pop("answer", None)
        done = Completion(n=n, t=at, at=arrival.at, status=status, rule=-1, answer=answer and digest(answer), **more)
        self.log += [arrival, done]

    def row(self, place: int, **changes: Any) -> None:
        """Change an output row."""
        self.rows[place] |= changes

    def attempt(self, place: int, **changes: Any) -> None:
        """Change a line of the ledger."""
        self.attempts[place] = self.attempts[place]._replace(**changes)

    def write(self, **changes: Any) -> Case:
        """Write everything down, and return it as a case with some values changed."""
        output = self.folder / "out"
        (output / "state").mkdir(parents=True)
        self.write_input_and_log()
        answers = pa.Table.from_pylist(self.rows, pa.schema([*INPUT, *ANSWERS]))
        pq.write_table(answers, output / "outputs.parquet", write_page_checksum=True, compression="none")
        pq.write_table(pa.Table.from_pylist(self.quarantine, QUARANTINE), output / "quarantine.parquet")
        (output / "summary.json").write_text(json.dumps(self.summary))
        self.write_ledger(output / "state" / "ledger.sqlite")
        return self.case(**changes)

    def write_input_and_log(self) -> None:
        pq.write_table(pa.Table.from_pylist(self.input, INPUT), self.folder / "in.parquet")
        with open_log(self.folder / "server.jsonl") as log:
            for line in self.log:
                log.write(line)

    def case(self, **changes: Any) -> Case:
        values: dict[str, Any] = {
            "input": self.folder / "in.parquet",
            "id_column": "id",
            "prompt_column": "prompt",
            "output": self.folder / "out",
            "server_log": self.folder / "server.jsonl",
            "exit_code": self.exit_code,
            "concurrency": 4,
            "max_attempts": 3,
            "prices": {MODEL: PRICE},
            "parameters": PARAMETERS,
            "cap_usd": Decimal(1),
            "secrets": [_SECRET],
        }
        return Case(**(values | changes))

    def write_ledger(self, path: Path) -> None:
        with closing(connect(path, "test")) as connection:
            for run in sorted({attempt.run for attempt in self.attempts}):
                start_run(connection)
                connection.execute("UPDATE runs SET started_at = ? WHERE id = ?", (self.started_at + run - 1, run))
            places = ", ".join("?" * len(COLUMNS))
            insert = f"INSERT INTO attempts ({', '.join(COLUMNS)}) VALUES ({places})"
            connection.executemany(insert, map(pack, self.attempts))


def prompt_of(mark: str) -> str:
    return f"mark={mark}; What is it?"


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


def violations(case: Case) -> dict[str, list[str]]:
    """Return what the checker finds, by invariant."""
    found: dict[str, list[str]] = {}
    for violation in check(case):
        found.setdefault(violation.partition(":")[0], []).append(violation)
    return found


def caught(case: Case, invariant: str, says: str) -> bool:
    """Tell whether the *invariant* is found broken, in words that contain *says*."""
    return any(says in violation for violation in violations(case).get(invariant, []))


def test_a_good_night_has_no_violation(night: Night):
    """Nothing is found where nothing is wrong."""
    assert check(night.write()) == []


def test_a_night_that_was_killed_and_resumed_has_no_violation(night: Night):
    """Requests in flight at a kill may be sent again: one a row and a kill."""
    night.exchange("row-0", at=0.05, usage=(20, 0, 10), outcome="gone")
    night.exchange("row-2", at=0.05, usage=(20, 0, 10), outcome="gone")
    assert check(night.write(kills=1)) == []


def test_a_cut_off_run_is_not_held_to_its_outputs(night: Night):
    """After a kill or a signal the outputs of an earlier run, or none, are right."""
    case = night.write(exit_code=-signal.SIGKILL)
    for name in ("outputs.parquet", "quarantine.parquet", "summary.json"):
        (case.output / name).unlink()
    assert check(case) == []


# What a test breaks: invariant, words of the violation, and the change that causes it.
Breakage = tuple[str, str, Callable[[Night], object]]


_IN_THE_ROWS: dict[str, Breakage] = {
    "row lost": ("I1", "row r2 is 1 times in the input and 0 times", lambda night: night.rows.pop(2)),
    "row twice": (
        "I1",
        "row r0 is 1 times in the input and 2 times",
        lambda night: night.rows.insert(1, night.rows[0]),
    ),
    "row from nowhere": (
        "I1",
        "row r9 is 0 times in the input",
        lambda night: night.rows.append(night.rows[0] | {"id": "r9"}),
    ),
    "failed row not listed": ("I1", "row r4 is failed, but", lambda night: night.quarantine.pop(0)),
    "listed twice": ("I1", "lists output row 4 2 times", lambda night: night.quarantine.append(night.quarantine[0])),
    "good row listed": (
        "I1",
        "lists output row 0 as failed, which it is not",
        lambda night: night.quarantine.append({"row": 0, "row_id": "r0", "status": "failed"}),
    ),
    "listed by a wrong name": ("I1", "calls output row 4 r9", lambda night: night.quarantine[0].update(row_id="r9")),
    "rows swapped": (
        "I2",
        "row 0 of the input is r0, row 0 of outputs.parquet is r1",
        lambda night: night.rows.insert(0, night.rows.pop(1)),
    ),
    "input changed": ("I2", "row r2: column weight was 0.5 and is 0.25", lambda night: night.row(2, weight=0.25)),
    "answer of another row": (
        "I3",
        "row r0 (mark row-0) carries the answer of mark row-2",
        lambda night: night.row(0, llm_answer=answer_of("row-2")),
    ),
    "answer made up": ("I3", "the server never sent", lambda night: night.row(0, llm_answer="It is a bird.")),
    "answer empty": ("I3", "is ok with an empty answer", lambda night: night.row(0, llm_answer=" ")),
    "answer differs from ledger": ("I3", "row r0 has answer", lambda night: night.attempt(0, answer="other")),
    "status differs": (
        "I3",
        "row r4 has status 'ok', the ledger 'failed'",
        lambda night: night.row(4, llm_status="ok"),
    ),
    "reason differs": ("I3", "row r4 has reason", lambda night: night.row(4, llm_reason="because")),
    "model differs": ("I3", "row r0 has model 'large'", lambda night: night.row(0, llm_model="large")),
    "tokens differ": (
        "I3",
        "row r0 has 99 output_tokens, the ledger 10",
        lambda night: night.row(0, llm_output_tokens=99),
    ),
    "attempts differ": ("I3", "row r1 says 1 attempts, the ledger has 2", lambda night: night.row(1, llm_attempts=1)),
    "request never settled": (
        "I3",
        "no final attempt of its request",
        lambda night: night.attempt(0, final=False, status=None),
    ),
    "answer without a request": (
        "I3",
        "row r5 is ok, but the ledger has no",
        lambda night: night.row(5, llm_status="ok"),
    ),
    "hash of another prompt": (
        "I3",
        "row r0 names request",
        lambda night: night.input[0].update(prompt="mark=row-0; Why?"),
    ),
    "settled twice": (
        "I3",
        "was settled as ok 2 times in night 1",
        lambda night: night.attempts.append(night.attempts[0]),
    ),
}

_IN_THE_SENDS: dict[str, Breakage] = {
    "sent twice": (
        "I4",
        "mark row-0: the server saw 2 requests, the ledger has 1",
        lambda night: night.exchange("row-0"),
    ),
    "unknown row sent": ("I4", "mark row-77, which no input row has", lambda night: night.exchange("row-77")),
    "too many attempts": (
        "I4",
        "row r1 took 4 attempts in night 1",
        lambda night: [night.add_attempt(1, "row-1", status=None) for _ in range(2)],
    ),
    "sent and not recorded": (
        "I5",
        "1 requests were sent and not recorded: more than 0 kills x 4",
        lambda night: night.exchange("row-0"),
    ),
}

_IN_THE_MONEY: dict[str, Breakage] = {
    "summary too low": (
        "I6",
        "reports 0.000001 USD for night 1",
        lambda night: night.summary.update(spent_tonight_usd="0.000001"),
    ),
    "summary silent": (
        "I6",
        "summary.json has no spent_tonight_usd",
        lambda night: night.summary.pop("spent_tonight_usd"),
    ),
    "row too cheap": ("I6", "row r0: outputs.parquet has 0", lambda night: night.row(0, llm_cost_usd=Decimal(0))),
    "shared request charged twice": (
        "I6",
        "row r2: outputs.parquet has",
        lambda night: night.row(3, llm_cost_usd=night.rows[2]["llm_cost_usd"]),
    ),
    "billed attempt left out": (
        "I6",
        "row r1: outputs.parquet has",
        lambda night: night.attempt(1, cost_pusd=5, usage_status="missing"),
    ),
    "usage never sent": (
        "I6",
        "has usage (20, 0, 11), which the server never sent",
        lambda night: night.attempt(0, output_tokens=11),
    ),
    "price wrong": ("I6", "attempt 1 cost 7 pico-USD, its tokens 9000000", lambda night: night.attempt(0, cost_pusd=7)),
    "odd usage for nothing": (
        "I6",
        "cost nothing, though its usage is invalid",
        lambda night: night.attempt(0, cost_pusd=0, usage_status="invalid"),
    ),
}

_BREAKAGES = _IN_THE_ROWS | _IN_THE_SENDS | _IN_THE_MONEY


@pytest.mark.parametrize(("invariant", "says", "break_it"), _BREAKAGES.values(), ids=_BREAKAGES)
def test_a_broken_artefact_is_caught(night: Night, invariant: str, says: str, break_it: Callable[[Night], object]):
    """A change to one artefact is found by the invariant it breaks, and named."""
    break_it(night)
    case = night.write()
    assert caught(case, invariant, says), violations(case)


@pytest.mark.parametrize("name", ["outputs.parquet", "quarantine.parquet"])
def test_a_missing_file_is_caught(night: Night, name: str):
    """I1: a run that says it finished has both its files."""
    case = night.write()
    (case.output / name).unlink()
    assert caught(case, "I1", f"{name} there is none")


def test_an_input_column_of_another_type_is_caught(night: Night):
    """I2: the input's types are kept exactly."""
    case = night.write()
    path = case.output / "outputs.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(2, "weight", table["weight"].cast(pa.float64())), path)
    assert caught(case, "I2", "column weight was float and is double")


def test_an_input_column_that_is_gone_is_caught(night: Night):
    """I2: every input column is in the output."""
    case = night.write()
    path = case.output / "outputs.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["weight"]), path)
    assert caught(case, "I2", "column weight of the input is not in outputs.parquet")


def test_a_nan_is_no_change(night: Night):
    """I2: NaN in an input column equals itself."""
    for row in (*night.input, *night.rows):
        row["weight"] = float("nan")
    assert check(night.write()) == []


def test_only_one_loss_a_kill_and_row_is_allowed(night: Night):
    """I4: with one kill a row may have been sent once more than recorded, not twice."""
    night.exchange("row-0")
    night.exchange("row-0")
    assert caught(
        night.write(kills=1), "I4", "mark row-0: the server saw 3 requests, the ledger has 1 and there were 1"
    )


def test_a_kill_may_not_lose_more_than_was_in_flight(night: Night):
    """I5: many kills do not excuse one of them losing more than the concurrency."""
    for row in range(3):
        night.exchange(f"row-{row}", at=0.5)
    night.attempt(4, run=2, started_at=night.started_at + 1.5)
    case = night.write(kills=3, concurrency=2)
    assert violations(case).keys() == {"I5"}
    assert caught(case, "I5", "run 1 lost 4 requests, more than the 2")


def test_spending_above_the_cap_is_caught(night: Night):
    """I7: what the ledger holds of a night is not above the cap."""
    case = night.write(cap_usd=Decimal("0.00002"))
    assert caught(case, "I7", "night 1 spent 0.000027")


def test_billing_above_the_cap_is_caught(night: Night):
    """I7: what the server billed is not above the cap either, but for what kills may lose."""
    night.exchange("row-0", usage=(1_000_000, 0, 1_000_000))
    case = night.write(cap_usd=Decimal("0.5"), kills=1, worst_request_usd=Decimal("0.01"))
    assert caught(case, "I7", "the server billed 0.750027")
    assert not caught(dataclasses.replace(case, worst_request_usd=Decimal("0.1")), "I7", "the server billed")


def test_a_burst_is_caught(night: Night):
    """I8: more requests in a second than the rate allows are found."""
    for number in range(20):
        night.exchange("row-0", at=10 + number * 0.01)
    case = night.write(rates=[Rate(requests_per_min=600)])
    assert caught(case, "I8", "requests to all models: 13 in 1 s")


def test_a_minute_above_its_rate_is_caught(night: Night):
    """I8: a sender that keeps below the rate of a second on average but not of a minute is found."""
    for number in range(70):
        night.exchange("row-0", at=10 + number * 0.8)
    case = night.write(rates=[Rate(requests_per_min=60)])
    assert caught(case, "I8", "in 60 s")


def test_tokens_above_their_rate_are_caught(night: Night):
    """I8: billed tokens of a minute are held to tokens per minute, of the models that share the limit."""
    for number in range(10):
        night.exchange("row-0", at=10 + number, usage=(900, 0, 100))
    rate = Rate(requests_per_min=6000, tokens_per_min=5000)
    case = night.write(rates=[rate])
    assert caught(case, "I8", "tokens of all models: 6090 in 60 s")
    assert not caught(dataclasses.replace(case, rates=[rate._replace(models=("large",))]), "I8", "")


@given(per_min=st.sampled_from([30, 600, 6000]), jitter=st.lists(st.floats(0, 0.04), min_size=2, max_size=300))
def test_an_even_sender_is_never_blamed(tmp_path_factory: pytest.TempPathFactory, per_min: int, jitter: list[float]):
    """I8: requests sent at the rate, each up to 40 ms late, are within it."""
    night = Night(tmp_path_factory.mktemp("even"))
    night.log = []
    for at in sorted(number * 60 / per_min + late for number, late in enumerate(jitter)):
        night.exchange("row-0", at=at)
    night.write_input_and_log()
    case = night.case(rates=[Rate(requests_per_min=per_min)])
    assert list(within_rates(Evidence(case))) == []


def _in_a_log(case: Case) -> None:
    (case.output / "run.log").write_text(f"retry with {_SECRET} now")


def _in_a_gzip(case: Case) -> None:
    (case.output / "run.log.gz").write_bytes(gzip.compress(f"x{_SECRET}".encode()))


def _in_a_zstd(case: Case) -> None:
    (case.output / "run.log.zst").write_bytes(pa.Codec("zstd").compress(f"{_SECRET} ".encode() * 9, asbytes=True))


def _in_a_parquet(case: Case) -> None:
    (case.output / "state" / "plan").mkdir()
    table = pa.table({"user": ["a" * 2000, f"{'b' * 500}{_SECRET}"] * 50})
    pq.write_table(table, case.output / "state" / "plan" / "part.parquet", compression="zstd")


def _in_the_metadata(case: Case) -> None:
    path = case.output / "outputs.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({"key": _SECRET}), path, compression="zstd")


def _in_a_packed_answer(case: Case) -> None:
    night = Night(case.output)
    night.attempt(0, answer=f"{_SECRET}{'y' * 4000}")
    (case.output / "state" / "ledger.sqlite").unlink()
    night.write_ledger(case.output / "state" / "ledger.sqlite")


def _in_a_name(case: Case) -> None:
    (case.output / f"{_SECRET}.txt").touch()


@pytest.mark.parametrize(
    "leak", [_in_a_log, _in_a_gzip, _in_a_zstd, _in_a_parquet, _in_the_metadata, _in_a_packed_answer, _in_a_name]
)
def test_a_secret_is_caught(night: Night, leak: Callable[[Case], None]):
    """I9: a secret is found in plain and packed files, and the violation does not repeat it."""
    case = night.write()
    leak(case)
    found = violations(case)
    assert any("secret 1 is in" in violation for violation in found["I9"])
    assert _SECRET not in str(found["I9"])


def test_a_secret_in_another_artefact_is_caught(night: Night):
    """I9: the artefacts a case names, such as a stderr, are searched as well."""
    stderr = night.folder / "stderr.txt"
    stderr.write_text(_SECRET)
    assert caught(night.write(artefacts=[stderr]), "I9", "secret 1 is in stderr.txt")


def test_a_second_run_that_does_nothing_is_good(night: Night):
    """I10: nothing sent and not a byte changed is no violation."""
    case = night.write()
    assert check(dataclasses.replace(case, before=snapshot(case))) == []


def test_a_second_run_that_asks_again_is_caught(night: Night):
    """I10: a request of a run that had nothing to ask is found."""
    case = night.write()
    before = snapshot(case)
    night.exchange("row-2")
    with open_log(case.server_log) as log:
        for line in night.log[-2:]:
            log.write(line)
    assert caught(dataclasses.replace(case, before=before), "I10", "sent 1 requests, the first for mark row-2")


def test_a_second_run_that_changes_the_output_is_caught(night: Night):
    """I10: an output that is no longer the same, byte for byte, is found."""
    case = night.write()
    before = snapshot(case)
    path = case.output / "outputs.parquet"
    pq.write_table(pq.read_table(path), path, compression="gzip")
    assert caught(dataclasses.replace(case, before=before), "I10", "changed outputs.parquet")


def _wait_for(sightings: list[Sighting], more_than: int) -> None:
    deadline = time.monotonic() + 5
    while len(sightings) <= more_than and time.monotonic() < deadline:
        time.sleep(0.002)


def test_a_file_that_is_replaced_whole_is_good(night: Night):
    """I11: while new outputs take the place of old ones by rename, a reader sees whole files only."""
    case = night.write()
    path = case.output / "outputs.parquet"
    table = pq.read_table(path)
    with watch_output(case.output) as sightings:
        for number in range(5):
            seen = len(sightings)
            with whole_file(path) as partial:
                pq.write_table(table.replace_schema_metadata({"n": str(number)}), partial, write_page_checksum=True)
            _wait_for(sightings, seen)
    assert len(sightings) >= 5
    assert check(dataclasses.replace(case, sightings=sightings)) == []


def test_a_file_that_is_written_in_place_is_caught(night: Night):
    """I11: half a file that a reader could see is found."""
    case = night.write()
    path = case.output / "outputs.parquet"
    data = path.read_bytes()
    with watch_output(case.output) as sightings:
        _wait_for(sightings, 0)
        path.write_bytes(data[: len(data) // 2])
        _wait_for(sightings, 1)
        path.write_bytes(data)
    assert caught(dataclasses.replace(case, sightings=sightings), "I11", "no whole file")


def test_a_file_that_is_gone_for_a_while_is_caught(night: Night):
    """I11: a moment without an output, after there was one, is found."""
    case = night.write()
    path = case.output / "outputs.parquet"
    data = path.read_bytes()
    with watch_output(case.output) as sightings:
        _wait_for(sightings, 0)
        path.unlink()
        _wait_for(sightings, 1)
        path.write_bytes(data)
    assert caught(dataclasses.replace(case, sightings=sightings), "I11", "sighting 1 of outputs.parquet: it was gone")


def test_a_whole_file_with_rows_missing_is_caught(night: Night):
    """I11: an output that was seen with fewer rows than the input is not the old nor the new one."""
    case = night.write()
    sightings = [Sighting("0" * 64, 3), Sighting(snapshot(case).outputs_sha256 or "", 6)]
    assert caught(
        dataclasses.replace(case, sightings=sightings), "I11", "sighting 0 of outputs.parquet had 3 of 6 rows"
    )
    assert caught(dataclasses.replace(case, sightings=sightings[:1]), "I11", "is not what was seen last")


def test_what_is_left_behind_is_caught(night: Night):
    """I11: a temporary file may be left by a killed run only."""
    case = night.write()
    (case.output / "outputs.parquet.partial").touch()
    assert caught(case, "I11", "outputs.parquet.partial was left behind")
    assert not caught(dataclasses.replace(case, exit_code=-signal.SIGKILL), "I11", "")


def test_a_flipped_bit_is_caught(night: Night):
    """I11: a page that differs from its checksum is found."""
    case = night.write()
    path = case.output / "outputs.parquet"
    data = bytearray(path.read_bytes())
    data[data.index(b"mark=row-0")] ^= 1
    path.write_bytes(data)
    assert caught(case, "I11", "outputs.parquet can't be read")


@pytest.mark.parametrize(
    ("exit_code", "changes", "says"),
    [
        (0, {}, "exit code 0, but of 6 rows 2 are bad and 0 pending"),
        (1, {"tolerate": 2}, "exit code 1"),
        (3, {}, "exit code 3"),
        (4, {}, "exit code 4"),
        (7, {}, "exit code 7 means nothing"),
    ],
    ids=str,
)
def test_an_exit_code_that_does_not_fit_is_caught(night: Night, exit_code: int, changes: dict[str, Any], says: str):
    """I12: an exit code that the rows contradict is found."""
    assert caught(night.write(exit_code=exit_code, **changes), "I12", says)


@pytest.mark.parametrize("exit_code", [0, 1])
def test_pending_rows_are_no_finished_run(night: Night, exit_code: int):
    """I12: neither 0 nor 1 may be said while rows are pending."""
    _make_pending(night)
    assert caught(night.write(exit_code=exit_code, tolerate=9 * (1 - exit_code)), "I12", f"exit code {exit_code}")


def _make_pending(night: Night) -> None:
    """Let row 0 be pending, refused once."""
    night.attempt(
        0, final=False, status=None, answer=None, usage_status=None, cost_pusd=0, error_kind="auth", http_status=401
    )
    night.log[1] = Completion(n=1, t=0.1, at=night.started_at + 0.1, status=401, rule=0)
    keep = {name: night.rows[0][name] for name in ("id", "prompt", "weight", "llm_model", "llm_request_id")}
    night.rows[0] = _NO_ANSWER | keep | {"llm_status": "pending"}
    night.summary["statuses"] = {"ok": 3, "failed": 2, "pending": 1}
    night.summary["spent_tonight_usd"] = str(sum(attempt.cost_pusd for attempt in night.attempts) * PUSD)


@pytest.mark.parametrize("exit_code", [3, 4, 130, 143, -9])
def test_pending_rows_fit_a_stop(night: Night, exit_code: int):
    """I12: a run that stopped before its end may leave rows pending."""
    _make_pending(night)
    assert check(night.write(exit_code=exit_code)) == []


def test_a_stop_without_a_reason_is_caught(night: Night):
    """I12: exit code 3 needs an error in the ledger, exit code 4 a cap."""
    _make_pending(night)
    for place, attempt in enumerate(night.attempts):
        night.attempts[place] = attempt._replace(error_kind="")
    assert caught(night.write(exit_code=3), "I12", "no error in the ledger explains a stop")


def test_a_cap_that_was_not_given_is_caught(night: Night):
    """I12: exit code 4 without a cap is found."""
    _make_pending(night)
    assert caught(night.write(exit_code=4, cap_usd=None), "I12", "with cap None")


@pytest.mark.parametrize("exit_code", [2, 75])
def test_a_run_that_can_not_start_changes_nothing(night: Night, exit_code: int):
    """I12: with exit code 2 or 75 nothing is sent or written."""
    case = night.write(exit_code=exit_code)
    before = snapshot(case)
    assert check(dataclasses.replace(case, before=before)) == []
    changed = dataclasses.replace(case, before=before._replace(outputs_sha256="0"))
    assert caught(changed, "I12", "something was sent or written")


def test_a_summary_that_counts_otherwise_is_caught(night: Night):
    """I12: the summary's counts are those of the rows."""
    night.summary["statuses"] = {"ok": 6}
    assert caught(night.write(), "I12", "summary.json counts {'ok': 6}")


def test_the_evidence_is_not_changed(night: Night):
    """Checking leaves every byte as it was, the ledger's write-ahead log included."""
    case = night.write()
    with closing(connect(case.output / "state" / "ledger.sqlite", "test")) as connection:
        start_run(connection)
        before = _bytes_of(case.output)
        check(case)
        assert _bytes_of(case.output) == before
        assert any(name.endswith("-wal") for name in before)


def _bytes_of(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-shm"))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_invariant_has_its_check():
    """The checker knows I1 to I12, in order."""
    assert list(INVARIANTS) == [f"I{number}" for number in range(1, 13)]


def test_csv_and_json_lines_are_read_as_they_stand(tmp_path: Path):
    """Texts of a CSV stay texts, and a bad JSON line is an empty row in its place."""
    (tmp_path / "in.csv").write_bytes(b"\xef\xbb\xbfid,prompt\n007,a\n8,\n")
    assert read_input(tmp_path / "in.csv").column("id") == ["007", "8"]
    (tmp_path / "in.jsonl").write_text('{"id": 1}\n{"id": 2, "late": "x"}\n{"id"\n[1]\n')
    table = read_input(tmp_path / "in.jsonl")
    assert table.column("id") == [1, 2, None, None]
    assert table.column("late") == [None, "x", None, None]
