"""Cascades in a night: real calls to a loopback server, every one charged, and none paid twice after a kill."""

import json
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from pipeline.learn.commands import FitOptions, fit_policy
from pipeline.policy import Arm, save_policy
from pipeline.run import ExitCode, RunOptions, plan_job, run_job
from tests.chaos.batch_api import serve_batches
from tests.chaos.batch_dialects import DIALECTS
from tests.e2e import children
from tests.e2e.command import CANARY, Job, command, environment, make_job, run
from tests.outcomes import written

ROWS, CONCURRENCY = 60, 4
PRICES = {"small": "1", "middle": "2", "big": "20"}
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
COST = {name: Decimal(price) * 110 / 1_000_000 for name, price in PRICES.items()}


def said(model: str, row: int) -> str:
    """Return what *model* says of a row: middle agrees with small but for every third row, and big with neither."""
    return {"small": "A", "middle": "A" if row % 3 else "B", "big": "C"}[model]


class Server(ThreadingHTTPServer):
    """Answers by model and row, and counts what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls: Counter[tuple[str, int]] = Counter()
        self.broken: set[str] = set()
        self.wait_s = 0.0

    @property
    def base_url(self) -> str:
        """Return where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model, row = asked["model"], int(asked["messages"][-1]["content"].split("row-")[1][:6])
        self.server.calls[model, row] += 1
        time.sleep(self.server.wait_s)
        if model in self.server.broken:
            self._reply(404, {"error": {"message": "no such model", "code": "model_not_found"}})
            return
        message = {"role": "assistant", "content": said(model, row)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._reply(200, {"id": "x", "model": model, "choices": [choice], "usage": USAGE})

    def _reply(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        with suppress(OSError):  # whoever asked may have been killed
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve until the test is over."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a policy that sends every row through one cascade."""
    folder = tmp_path_factory.mktemp("policy")
    tables = written(folder, 200, 1)
    fitted = fit_policy(FitOptions(*tables, "big", 0.9, folder / "fitted.npz", "pick"))
    cascade = Arm(("small", "middle", "big"))
    provenance = fitted.provenance | {"asked": {cascade.name: [1.0, 1.0, 0.25]}}
    save_policy(
        fitted._replace(arms=(cascade, *fitted.arms[1:]), fixed=cascade.name, provenance=provenance),
        folder / "cascade.npz",
    )
    return folder / "cascade.npz"


@pytest.fixture
def job(tmp_path: Path, server: Server, policy: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Return a job of labels whose rows all go through the cascade."""
    monkeypatch.setenv("CHAOS_API_KEY", CANARY)
    job = make_job(tmp_path, server.base_url, rows=ROWS)
    text = job.file.read_text().replace("escalate = false", f'escalate = false\npolicy = "{policy}"\nbaseline = "big"')
    text = text.replace("concurrency = 64", f"concurrency = {CONCURRENCY}")
    text = text.replace("report = false", 'report = false\nchoices = ["A", "B", "C"]')
    for name, price in PRICES.items():
        text += f'\n[models.{name}]\nprovider = "chaos"\ncontext_tokens = 10000\n'
        text += f'input_usd_per_mtok = "{price}"\noutput_usd_per_mtok = "{price}"\n'
    job.file.write_text(text)
    return job


def expected_calls() -> set[tuple[str, int]]:
    """Return every call that the rows need."""
    cheap = {(model, row) for row in range(ROWS) for model in ("small", "middle")}
    return cheap | {("big", row) for row in range(0, ROWS, 3)}


def check_answers(job: Job) -> pl.DataFrame:
    """Check that each row has the answer of its cascade, and return the outputs."""
    outputs = pl.read_parquet(job.output / "outputs.parquet")
    for row, answer, model in outputs.select("n", "llm_answer", "llm_model").iter_rows():
        assert (answer, model) == (("A", "small") if row % 3 else ("C", "big"))
    return outputs


def test_a_night_asks_up_only_where_two_cheap_models_differ(job: Job, server: Server) -> None:
    """Each call is made once and is in the cost of its row, the discarded ones too, and a second run asks nothing."""
    assert run_job(RunOptions(job.file)).exit_code == 0
    assert server.calls == Counter(dict.fromkeys(expected_calls(), 1))
    outputs = check_answers(job)
    cheap = COST["small"] + COST["middle"]
    for row, cost in outputs.select("n", "llm_cost_usd").iter_rows():
        assert cost == cheap + (0 if row % 3 else COST["big"])
    told = job.summary()
    assert told["cascades"]["kept"] == 40
    assert told["cascades"]["asked_up"] == 20
    assert Decimal(told["cascades"]["discarded_usd"]) == 40 * COST["middle"] + 20 * cheap
    assert Decimal(told["spent_usd"]) == 60 * cheap + 20 * COST["big"]
    assert run_job(RunOptions(job.file)).exit_code == 0
    assert sum(server.calls.values()) == len(expected_calls())


def test_the_plan_counts_the_calls_to_expect(job: Job, server: Server) -> None:
    """The estimate has the further calls in it, in the share that was learned, and its band holds all of them."""
    plan = plan_job(RunOptions(job.file)).summary["plan"]
    (group,) = plan["groups"]
    (note,) = plan["notes"]
    assert note == (
        "small: 60 of its requests begin a cascade; expected are also 60 requests to middle, 15 requests to big, "
        "which are in its cost"
    )
    alone = Decimal(group["alone_cost_usd"])
    assert Decimal(group["cost_usd"]) == pytest.approx(alone * (1 + 2 + 20 * Decimal("0.25")), rel=Decimal("0.01"))
    assert Decimal(group["cost_high_usd"]) > alone * 23
    assert not server.calls


def test_a_killed_night_pays_no_answer_twice(job: Job, server: Server) -> None:
    """After kill -9 only what was under way is asked again, whichever model of the cascade was being asked."""
    server.wait_s = 0.02
    for goal in (30, 80):
        with subprocess.Popen(command(job), env=environment(), stdout=-3, stderr=-3) as process:
            deadline = time.monotonic() + 60
            while sum(server.calls.values()) < goal and time.monotonic() < deadline:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
    assert run(job).returncode == 0
    check_answers(job)
    assert set(server.calls) == expected_calls()
    assert 80 < sum(server.calls.values()) <= len(expected_calls()) + 2 * CONCURRENCY


def test_while_a_model_cannot_be_asked_its_rows_wait(job: Job, server: Server) -> None:
    """No row is asked up, and paid for, because a cheap model is down; the next run goes on with what was said."""
    server.broken = {"middle"}
    options = RunOptions(job.file, ledger_text="hash")
    assert run_job(options).exit_code == ExitCode.STOPPED
    assert not any(model == "big" for model, _ in server.calls)
    assert job.summary()["statuses"]["pending"] == ROWS
    assert {row for model, row in server.calls if model == "small"} == set(range(ROWS))
    server.broken = set()
    assert run_job(options).exit_code == 0
    check_answers(job)
    assert all(count == 1 for (model, _), count in server.calls.items() if model != "middle")
    with closing(sqlite3.connect(job.output / "state" / "ledger.sqlite")) as ledger:
        # Texts that are to be compared stay until then, and no longer.
        assert ledger.execute("SELECT count(answer) FROM attempts").fetchone() == (0,)


def test_only_the_first_call_goes_into_a_batch(job: Job, server: Server) -> None:
    """The first model answers at half price; after a kill while the second is asked, no batch is made again."""
    with serve_batches(DIALECTS["openai"]) as api:
        for old, new in {
            "[route]\n": '[route]\nbatch = "always"\nagree = "normalised"\n',
            'choices = ["A", "B", "C"]': "",
            "concurrency = 4": 'concurrency = 4\nbatch = "openai"\nbatch_poll_s = 0.05',
            'output_usd_per_mtok = "1"\n': 'output_usd_per_mtok = "1"\nbatch_price = "0.5"\n',
            server.base_url: api.base_url,
        }.items():
            job.file.write_text(job.file.read_text().replace(old, new))
        process = children.start(job.file, wait=True)
        while len(api.asked) < 10 and process.is_alive():
            time.sleep(0.002)
        process.kill()
        children.finish(process)
        assert children.run(job.file, wait=True) == 0
        assert len(api.batches) == 1
        assert {body["model"] for body in api.asked} == {"middle"}
        assert ROWS <= len(api.asked) <= ROWS + CONCURRENCY
    outputs = pl.read_parquet(job.output / "outputs.parquet")
    assert outputs["llm_model"].unique().to_list() == ["small"]
    assert set(outputs["llm_cost_usd"]) == {Decimal("0.000015") + Decimal("0.00006")}
