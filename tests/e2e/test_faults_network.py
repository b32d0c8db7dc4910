"""Faults of the network and of providers, N1 to N24 of docs/faults.md, against the whole command."""

import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.chaos.invariants import Price
from tests.chaos.ledger_rows import Attempt, read_ledger
from tests.chaos.process import server_process
from tests.chaos.scenarios import rules
from tests.e2e.checking import PRICES, ended, own_answers, started, statuses, violations
from tests.e2e.command import Job, command, environment, make_job, marked_rows, run

ATTEMPTS = 3
TINY = """
[models.tiny-chat-1b]
provider = "chaos"
context_tokens = 1000
input_usd_per_mtok = "0.07"
output_usd_per_mtok = "0.09"
"""
TINY_PRICE = Price(Decimal("0.07"), Decimal("0.07"), Decimal("0.09"))
GOOD_BETWEEN = 14  # good rows to each odd one, so that the retry budget of a tenth is kept


class Odd(NamedTuple):
    """A row to which something happens."""

    name: str
    do: Mapping[str, Any]
    sends: int  # that it takes
    status: str = "ok"
    kind: str = ""  # error kind of the first attempt
    first: bool = False  # only the first attempt is odd


def passing(name: str, kind: str, **do: Any) -> Odd:
    """Return a row whose first attempt fails in the way of *do*, and whose second one is good."""
    return Odd(name, do, 2, kind=kind, first=True)


def lasting(name: str, end: str, kind: str = "", *, sends: int = 1, **do: Any) -> Odd:
    """Return a row to which *do* happens at every attempt."""
    return Odd(name, do, sends, end, kind)


_BROKEN = ("reset", "close", "cut_head", "reset_body", "cut_body", "cut_chunk", "bad_status_line")
_SLOW = ("hang", "hang_head", "hang_body", "slow_head", "slow_body")
_RUBBISH = ("html", "empty", "null", "list", "string", "truncated_json", "bad_utf8")
_NOTHING_SAID = ("no_choices", "content_null", "content_empty", "content_blank", "reasoning_only")
_BROKEN_OFF = ("finish_null", "finish_error", "insufficient_system_resource", "network_error")
_STATUSES = ((408, "timeout"), (409, "timeout"), (500, "server"), (502, "server"), (504, "server"),
             (503, "overload"), (529, "overload"))  # fmt: skip
_WAITS = (
    "seconds",
    "ms",
    "both",
    "date",
    "skewed_date",
    "past_date",
    "negative",
    "garbage",
    "nan",
    "infinite",
    "empty",
)
PASSING = [
    *(passing(fault, "transport", fault=fault) for fault in _BROKEN),
    *(passing(fault, "timeout", fault=fault) for fault in _SLOW),
    *(passing(body, "bad_body", body=body) for body in _RUBBISH),
    passing("bad_gzip", "bad_body", fault="bad_gzip"),
    passing("error_object", "server", body="error_object"),
    *(passing(body, "", body=body) for body in (*_NOTHING_SAID, *_BROKEN_OFF)),
    *(passing(f"status-{status}", kind, status=status) for status, kind in _STATUSES),
    *(passing(f"wait-{form}", "rate", status=429, retry_after={"form": form, "wait_s": 0.05}) for form in _WAITS),
]
_ODD_USAGES = ("missing", "null", "negative", "nan", "infinite", "string", "bool", "float",
               "cached_over_prompt")  # fmt: skip
_GOOD_BODIES = ("wrong_type", "usage_cached", "alias_model", "other_family", "shuffled_choices", "duplicate_keys",
                "surrogate")  # fmt: skip
LASTING = [
    lasting("resets", "failed", "transport", sends=ATTEMPTS, fault="reset_body"),
    lasting("html", "failed", "bad_body", sends=ATTEMPTS, body="html"),
    lasting("poison", "failed", "server", sends=ATTEMPTS, status=500),
    lasting("empty", "failed", sends=2, body="content_null"),
    lasting("huge", "failed", "bad_body", sends=ATTEMPTS, body="huge_body"),
    lasting("bomb", "failed", "bad_body", sends=ATTEMPTS, body="gzip_bomb"),
    lasting("deep_nesting", "failed", "bad_body", sends=ATTEMPTS, body="deep_nesting"),
    lasting("huge_int", "failed", "bad_body", sends=ATTEMPTS, body="usage_huge_int"),
    lasting("extra_bytes", "failed", "transport", sends=ATTEMPTS, fault="extra_bytes"),
    lasting("bad-request", "failed", "bad_request", status=400),
    lasting("too-long", "failed", "bad_request", body="context_length"),
    lasting("policy", "blocked", "blocked", body="content_policy"),
    lasting("unknown-finish", "failed", body="finish_unknown"),
    lasting("tool", "failed", body="tool_call"),
    lasting("filtered", "blocked", body="content_filter"),
    lasting("refused", "blocked", body="refusal"),
    lasting("sensitive", "blocked", body="sensitive"),
    lasting("cut-short", "truncated", body="cut_short"),
    *(lasting(f"usage_{usage}", "ok", body=f"usage_{usage}") for usage in _ODD_USAGES),
    *(lasting(body, "ok", body=body) for body in _GOOD_BODIES),
    *(lasting(fault, "ok", fault=fault) for fault in ("chunked", "no_length", "gzip")),
    lasting("blank-lines", "ok", fault="keep_alive", step_s=0.1, duration_s=0.6),
]


def spread(odd: list[Odd]) -> pa.Table:
    """Return rows of which every so many is an odd one; its mark is its name."""
    rows = marked_rows(len(odd) * (GOOD_BETWEEN + 1)).to_pydict()
    for number, one in enumerate(odd):
        place = number * (GOOD_BETWEEN + 1) + GOOD_BETWEEN
        rows["id"][place] = one.name
        rows["prompt"][place] = f"mark={one.name}; Say it back."
    return pa.table(rows)


def script(odd: list[Odd]) -> dict[str, Any]:
    """Return a script that makes each of *odd* as it is to be."""
    return rules(*(({"mark": one.name} | ({"attempt": [1]} if one.first else {}), dict(one.do)) for one in odd))


class Night(NamedTuple):
    """A job that was run once, with what it left behind."""

    job: Job
    exit_code: int
    peak_bytes: int  # of memory
    violations: list[str]
    rows: dict[str, dict[str, Any]]  # of the output, by id
    attempts: dict[str, list[Attempt]]  # of the ledger, by id
    sends: dict[str, int]  # that the server saw, by mark


def a_night(folder: Path, odd: list[Odd], *, timeout_s: float) -> Night:
    """Run a job with *odd* rows."""
    with server_process(folder, script(odd)) as server:
        provider = f"timeout_s = {timeout_s}\nmax_attempts = {ATTEMPTS}"
        job = make_job(folder, server.base_url, rows=spread(odd), provider=provider, more=TINY)
        with started(job, "--quiet") as process:
            exit_code, peak_bytes = ended(process)
        found = violations(job, server, exit_code, prices=PRICES | {"tiny-chat-1b": TINY_PRICE})
        sends: dict[str, int] = {}
        for exchange in server.exchanges():
            sends[exchange.arrival.mark] = sends.get(exchange.arrival.mark, 0) + 1
    attempts: dict[str, list[Attempt]] = {}
    for attempt in read_ledger(job.output / "state" / "ledger.sqlite").attempts:
        attempts.setdefault(attempt.row_id, []).append(attempt)
    return Night(
        job, exit_code, peak_bytes, found, {row["id"]: row for row in job.outputs().to_pylist()}, attempts, sends
    )


@pytest.fixture(scope="module")
def passing_night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return a night of faults that pass."""
    return a_night(tmp_path_factory.mktemp("passing"), PASSING, timeout_s=2)


@pytest.fixture(scope="module")
def lasting_night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return a night of faults that stay."""
    return a_night(tmp_path_factory.mktemp("lasting"), LASTING, timeout_s=30)


def test_a_night_of_passing_faults_ends_well(passing_night: Night) -> None:
    """When every fault is over at the second attempt every row comes out right, and nothing else is asked twice."""
    assert passing_night.exit_code == 0
    assert passing_night.violations == []
    assert own_answers(passing_night.job)
    assert sum(passing_night.sends.values()) == len(passing_night.rows) + len(PASSING)


@pytest.mark.parametrize("odd", PASSING, ids=lambda odd: odd.name)
def test_a_passing_fault_is_asked_again(passing_night: Night, odd: Odd) -> None:
    """A row whose first attempt fails is asked once more; the ledger says why, and what was billed is paid."""
    first, second = passing_night.attempts[odd.name]
    assert first.error_kind == odd.kind
    assert (second.final, second.status) == (True, "ok")
    assert passing_night.rows[odd.name]["llm_status"] == "ok"
    assert (first.cost_pusd > 0) == (odd.kind == "")


def test_a_night_of_lasting_faults_ends_with_a_quarantine(lasting_night: Night) -> None:
    """Rows whose fault stays fail in their place, all others come out right, and the run says so with exit code 1."""
    assert lasting_night.exit_code == 1
    assert lasting_night.violations == []
    bad = {odd.name for odd in LASTING if odd.status != "ok"}
    assert {row_id for row_id, row in lasting_night.rows.items() if row["llm_status"] != "ok"} == bad


@pytest.mark.parametrize("odd", LASTING, ids=lambda odd: odd.name)
def test_a_lasting_fault_has_one_end(lasting_night: Night, odd: Odd) -> None:
    """Each odd reply leads to its status, after as many requests as its class allows."""
    attempts = lasting_night.attempts[odd.name]
    assert lasting_night.rows[odd.name]["llm_status"] == odd.status
    assert len(attempts) == lasting_night.sends[odd.name] == odd.sends
    assert {attempt.error_kind for attempt in attempts} == {odd.kind}


def test_a_bomb_does_not_fill_the_memory(passing_night: Night, lasting_night: Night) -> None:
    """Bodies of 50 MB and of 256 MB unpacked take less than 64 MB more than a night without them."""
    assert lasting_night.peak_bytes - passing_night.peak_bytes < 64 << 20


def test_odd_usage_is_told_and_never_free(lasting_night: Night) -> None:
    """Where the bill can't be read the row is ok, its usage says so, and it is charged by an estimate that is finite."""
    for usage in _ODD_USAGES:
        row = lasting_night.rows[f"usage_{usage}"]
        assert row["llm_usage"] == ("missing" if usage in ("missing", "null") else "invalid")
        assert 0 < row["llm_cost_usd"] < 1
    assert 0 < float(lasting_night.job.summary()["spent_usd"]) < 1


def test_only_the_choice_of_index_0_counts(lasting_night: Night) -> None:
    """Of shuffled choices and of doubled keys the row gets what is its own."""
    for name in ("shuffled_choices", "duplicate_keys"):
        assert f"mark={name};" in lasting_night.rows[name]["llm_answer"]


def test_another_model_than_asked_is_told(lasting_night: Night) -> None:
    """A version of the model asked is fine; another model is told on the row and in the summary, and priced as itself."""
    assert lasting_night.rows["alias_model"]["llm_reason"] is None
    assert lasting_night.rows["other_family"]["llm_reason"] == "answered by another model: tiny-chat-1b"
    (attempt,) = lasting_night.attempts["other_family"]
    price = TINY_PRICE.pusd(attempt.input_tokens, 0, attempt.output_tokens)
    assert attempt.cost_pusd == price < lasting_night.attempts["alias_model"][0].cost_pusd
    assert lasting_night.job.summary()["other_models"] == {"tiny-chat-1b": 1}


def test_a_surrogate_in_an_answer_is_replaced(lasting_night: Night) -> None:
    """A lone surrogate, which no file can hold, comes out as U+FFFD."""
    assert "Answer \ufffd for mark=surrogate;" in lasting_night.rows["surrogate"]["llm_answer"]


@pytest.mark.parametrize("odd", [odd for odd in LASTING if odd.status != "ok"], ids=lambda odd: odd.name)
def test_the_quarantine_says_why(lasting_night: Night, odd: Odd) -> None:
    """A row that did not come out ok is listed with its class and a message."""
    lines = pq.read_table(lasting_night.job.output / "quarantine.parquet").to_pylist()
    (line,) = [line for line in lines if line["row_id"] == odd.name]
    assert line["status"] == odd.status
    assert line["kind"] == odd.kind or not odd.kind
    assert line["message"]


def two_lanes(job: Job, base_url: str, provider: str = "") -> None:
    """Give *job* a second model `other` of a provider of its own, for the rows whose column `lane` says so."""
    text = job.file.read_text().replace(' = "m"\n', ' = ["other", "m"]\n')
    text += f"""
[providers.second]
adapter = "openai"
base_url = "{base_url}"
concurrency = 64
{provider}
[models.other]
provider = "second"
context_tokens = 100000
vision = true
input_usd_per_mtok = "0.15"
output_usd_per_mtok = "0.60"
only = {{ lane = ["other"] }}
"""
    job.file.write_text(text)


def in_lanes(rows: int, *, other: int) -> pa.Table:
    """Return rows of which every *other*-th goes to the second lane."""
    lanes = ["m" if number % other else "other" for number in range(rows)]
    return marked_rows(rows).append_column("lane", pa.array(lanes))


def test_a_spent_quota_stops_its_lane_only(tmp_path: Path) -> None:
    """When money runs out at one provider it is asked no more, its rows are pending, and the other lane goes on."""
    spent = rules(({"model": "other", "after": 200}, {"body": "insufficient_quota"}))
    with server_process(tmp_path, spent) as server:
        job = make_job(tmp_path, server.base_url, rows=in_lanes(1200, other=2))
        two_lanes(job, server.base_url)
        done = run(job)
        assert done.returncode == 3
        assert violations(job, server, 3) == []
        refused = [one for one in server.exchanges() if one.completion is not None and one.completion.status == 429]
        assert 1 <= len(refused) <= 64
        assert len({one.arrival.mark for one in refused}) == len(refused)  # none is asked again
    assert "stopped: other: quota" in done.stderr
    out = job.outputs().to_pylist()
    assert {row["llm_status"] for row in out if row["lane"] == "m"} == {"ok"}
    assert {row["llm_status"] for row in out if row["lane"] == "other"} == {"ok", "pending"}


def test_a_slow_lane_does_not_hold_up_a_fast_one(tmp_path: Path) -> None:
    """While one model takes a second for each answer, the other one is asked without a pause."""
    slow = rules(({"model": "other"}, {"latency_s": 1.0}))
    with server_process(tmp_path, slow) as server:
        job = make_job(tmp_path, server.base_url, rows=in_lanes(1000, other=10))
        two_lanes(job, server.base_url)
        assert run(job, "--set", "providers.second.concurrency=64").returncode == 0
        exchanges = server.exchanges()
    began = exchanges[0].arrival.t
    ends = {
        lane: max(one.completion.t - began for one in exchanges if one.completion and one.arrival.model == lane)
        for lane in ("m", "other")
    }
    assert ends["other"] >= 2.0  # 100 rows, 64 at a time
    assert ends["m"] < ends["other"]


def test_too_long_a_retry_after_stops_the_lane(tmp_path: Path) -> None:
    """A provider that wants an hour of patience is asked no more; the run ends at once and says how long."""
    wait = rules(({"after": 50}, {"status": 429, "retry_after": 3600}))
    with server_process(tmp_path, wait) as server:
        job = make_job(tmp_path, server.base_url, rows=500)
        done = run(job)
        assert violations(job, server, 3) == []
        assert len(server.exchanges()) <= 50 + 64
    assert done.returncode == 3
    assert "asks to wait 3600 s; its rows are pending" in done.stderr


def test_a_redirect_is_a_mistake_of_the_job(tmp_path: Path) -> None:
    """A 307 to another host stops the lane; nothing goes to that host."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        there = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/v1/chat/completions"
        moved = rules(({}, {"status": 307, "headers": {"location": there}}))
        with server_process(tmp_path, moved) as server:
            job = make_job(tmp_path, server.base_url, rows=100)
            done = run(job)
            assert violations(job, server, 3) == []
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert done.returncode == 3
    assert "stopped: m: config (HTTP 307)" in done.stderr


def test_poison_rows_do_not_stop_their_lane(tmp_path: Path) -> None:
    """More rows that always fail than would mean an outage each end as failed, soon, and all others are answered."""
    with server_process(tmp_path, rules(({"mark": "row-0003[0-9]5"}, {"status": 500}))) as server:
        job = make_job(tmp_path, server.base_url, rows=400)
        assert run(job, timeout_s=60).returncode == 1
        assert violations(job, server, 1, max_attempts=5) == []
    assert statuses(job) == {"ok": 390, "failed": 10}


def test_the_same_refusal_from_the_start_stops_the_lane(tmp_path: Path) -> None:
    """When the first answers of all are one and the same 400, one after the other, the rest is not sent."""
    with server_process(tmp_path, rules(({}, {"body": "bad_request"}))) as server:
        job = make_job(tmp_path, server.base_url, rows=1000)
        done = run(job)
        assert violations(job, server, 3) == []
        assert len(server.exchanges()) == 20
    assert done.returncode == 3
    assert "the first answers were all the same refusal (400 invalid_request_error)" in done.stderr
    assert float(job.summary()["spent_usd"]) == 0


@pytest.mark.parametrize("body", ["unsupported_parameter", "model_not_found", "unauthorized"])
def test_what_is_wrong_with_every_row_costs_one_request(tmp_path: Path, body: str) -> None:
    """A wrong parameter, model or key is told by the first answer, before the second request goes out."""
    with server_process(tmp_path, rules(({}, {"body": body}))) as server:
        job = make_job(tmp_path, server.base_url, rows=1000)
        done = run(job)
        assert violations(job, server, 3) == []
        assert len(server.exchanges()) == 1
    assert done.returncode == 3
    assert job.summary()["statuses"]["pending"] == 1000


def test_a_provider_that_was_never_there_is_given_up_soon(tmp_path: Path) -> None:
    """Nobody at the port and no TLS at the other: both lanes end within 30 s, and every row is pending."""
    with server_process(tmp_path, {}) as server, socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        closed.close()
        job = make_job(tmp_path, nobody, rows=in_lanes(200, other=2))
        two_lanes(job, server.base_url.replace("http:", "https:"))
        began = time.monotonic()
        done = run(job)
        took_s = time.monotonic() - began
        assert violations(job, server, 3) == []
        assert server.exchanges() == []
    assert done.returncode == 3
    assert "stopped: m: chaos does not answer" in done.stderr
    assert "stopped: other: second does not answer" in done.stderr
    assert statuses(job) == {"pending": 200}
    assert took_s < 30


def test_a_few_rows_do_not_fail_for_a_provider_that_is_away(tmp_path: Path) -> None:
    """Two rows are too few to tell an outage by, but when nobody ever answered they are pending, not failed."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    job = make_job(tmp_path, nobody, rows=2)
    done = run(job)
    assert done.returncode == 3
    assert "stopped: m: chaos does not answer: transport: no connection" in done.stderr
    assert statuses(job) == {"pending": 2}


def test_every_row_gets_its_own_answer_under_a_file_limit(tmp_path: Path) -> None:
    """2,000 requests at a time with 256 file descriptors: fewer go at once, with a word, and no answer is swapped."""
    with server_process(tmp_path, rules(({}, {"latency_s": [0.0, 0.2]}))) as server:
        job = make_job(tmp_path, server.base_url, rows=4000)
        line = ["--set", "providers.chaos.concurrency=2000"]
        program = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); os.execv(sys.argv[1], sys.argv[1:])"
        done = subprocess.run(
            [sys.executable, "-c", program, *command(job, *line)],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0
        assert violations(job, server, 0, concurrency=2000) == []
        assert len({one.arrival.connection for one in server.exchanges()}) <= 256
    assert own_answers(job)
    assert "156 of the 2000 requests at a time" in done.stderr
