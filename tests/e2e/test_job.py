"""The command from end to end, against a server on loopback."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.chaos.process import server_process
from tests.chaos.scenarios import rules
from tests.e2e.checking import wait_until
from tests.e2e.command import CANARY, command, environment, escalating, make_job, marked_rows, run


def test_every_row_comes_back_in_order_with_its_own_answer(tmp_path: Path) -> None:
    """Input columns keep their types and order, each row has the answer to its own prompt, and the exit code is 0."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=300)
        done = run(job)
    assert (done.returncode, done.stderr) == (0, "") or "rows" in done.stderr
    out = job.outputs()
    assert out.select(["id", "prompt", "n"]).equals(pq.read_table(job.input))
    assert all(
        mark in answer for mark, answer in zip(out["id"].to_pylist(), out["llm_answer"].to_pylist(), strict=True)
    )
    assert pc.all(pc.equal(out["llm_status"], "ok")).as_py()
    assert "300 ok; 300 requests sent, 0 reused, 0 requests paid twice" in done.stdout


def test_a_second_run_sends_nothing_and_writes_the_same_bytes(tmp_path: Path) -> None:
    """Running a finished job again costs nothing and gives a byte-identical output."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=200)
        assert run(job).returncode == 0
        before, sent = (job.output / "outputs.parquet").read_bytes(), len(server.exchanges())
        assert run(job).returncode == 0
        assert len(server.exchanges()) == sent == 200
    assert (job.output / "outputs.parquet").read_bytes() == before
    assert job.summary()["reused"] == 200


def test_only_new_and_changed_rows_cost_money_the_next_night(tmp_path: Path) -> None:
    """Rows inserted, deleted, reordered or changed between nights: old ones keep their answers, new ones are asked."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=100)
        assert run(job).returncode == 0
        rows = marked_rows(120).slice(5)
        changed = rows.set_column(
            1, "prompt", pa.array([p + "!" if i % 50 == 0 else p for i, p in enumerate(rows["prompt"].to_pylist())])
        )
        pq.write_table(changed.take(list(range(114, -1, -1))), job.input)
        plan = run(job, "--dry-run", "--json")
        counts = json.loads(plan.stdout)["plan"]
        assert (counts["reused"], counts["new"]) == (93, 22)
        assert run(job).returncode == 0
        assert len(server.exchanges()) == 100 + 22
    out = job.outputs()
    assert out["id"].to_pylist() == changed["id"].to_pylist()[::-1]
    assert all(
        mark in answer for mark, answer in zip(out["id"].to_pylist(), out["llm_answer"].to_pylist(), strict=True)
    )


def test_identical_rows_share_a_request_and_its_cost(tmp_path: Path) -> None:
    """Ten equal prompts are asked once; the first row carries the cost, the others nothing."""
    rows = marked_rows(10).set_column(1, "prompt", pa.array(["mark=row-000000; same"] * 10))
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=rows)
        assert run(job).returncode == 0
        assert len(server.exchanges()) == 1
    out = job.outputs()
    assert set(out["llm_answer"].to_pylist()) == {out["llm_answer"][0].as_py()}
    assert [cost > 0 for cost in out["llm_cost_usd"].to_pylist()] == [True] + [False] * 9


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('column = "prompt"', 'column = "promt"'), "no column promt; the input has: id, prompt, n"),
        (("CHAOS_API_KEY", "NO_SUCH_KEY"), "no key: variable NO_SUCH_KEY is not set"),
        (('classification = "m"', 'classification = "mm"'), "mm"),
        (('input_usd_per_mtok = "0.15"\n', ""), "give input_usd_per_mtok and output_usd_per_mtok"),
        (("in.parquet", "gone.parquet"), "gone.parquet"),
        (('adapter = "openai"', 'adapter = "opnai"'), "openai"),
        (("http://127.0.0.1", "http://198.51.100.7"), "in the clear"),
    ],
    ids=["column", "key", "model", "price", "file", "adapter", "plain http"],
)
def test_a_job_that_can_not_run_spends_nothing(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    """What is wrong is said with what would be right, the exit code is 2, and nothing is sent."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=10)
        job.file.write_text(job.file.read_text().replace(*change))
        done = run(job)
        assert server.exchanges() == []
    assert done.returncode == 2
    assert told in done.stderr
    assert CANARY not in done.stderr + done.stdout


def test_a_cost_cap_stops_before_it_is_passed_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    """At the cap the run stops with exit code 4 and what was paid written; a higher cap resumes without paying twice."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=200, more="[budget]\nmax_usd = 0.0008")
        first = run(job)
        sent = len(server.exchanges())
        assert first.returncode == 4
        assert float(job.summary()["spent_usd"]) <= 0.0008
        statuses = job.outputs()["llm_status"].to_pylist()
        assert statuses.count("ok") == sent
        assert statuses.count("pending") == 200 - sent > 0
        assert run(job).returncode == 4
        assert len(server.exchanges()) == sent
        assert run(job, "--set", "budget.max_usd=1").returncode == 0
        assert len(server.exchanges()) == 200


def test_a_refused_key_leaves_the_rows_pending(tmp_path: Path) -> None:
    """A key that dies in mid-run stops its lane within the concurrency, exit code 3; a good key completes the rest."""
    dead = rules(({"after": 100}, {"status": 401}))
    with server_process(tmp_path, dead) as server:
        job = make_job(tmp_path, server.base_url, rows=1000)
        done = run(job)
        assert done.returncode == 3
        assert "its rows are pending" in done.stderr
        assert len(server.exchanges()) <= 100 + 64 * 2
    assert set(job.outputs()["llm_status"].to_pylist()) == {"ok", "pending"}
    with server_process(tmp_path, {}) as server:
        job.file.write_text(make_job(tmp_path, server.base_url, rows=1000).file.read_text())
        assert run(job).returncode == 0
    assert set(job.outputs()["llm_status"].to_pylist()) == {"ok"}


def test_a_poison_row_fails_in_its_place(tmp_path: Path) -> None:
    """A row that always fails is quarantined with its reason, exit code 1; --retry-failed asks it alone."""
    with server_process(tmp_path, rules(({"mark": "row-000007"}, {"status": 500}))) as server:
        job = make_job(tmp_path, server.base_url, rows=50)
        assert run(job).returncode == 1
        assert run(job, "--tolerate", "1").returncode == 0
        sent = len(server.exchanges())
    assert sent == 49 + 5
    assert job.outputs()["llm_status"].to_pylist().index("failed") == 7
    (line,) = pq.read_table(job.output / "quarantine.parquet").to_pylist()
    assert (line["row"], line["row_id"], line["kind"], line["status"]) == (7, "row-000007", "server", "failed")
    (tmp_path / "second").mkdir()
    with server_process(tmp_path / "second", {}) as server:
        make_job(tmp_path, server.base_url, rows=50)
        assert run(job, "--retry-failed").returncode == 0
        assert [exchange.arrival.mark for exchange in server.exchanges()] == ["row-000007"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_signal_lets_what_is_under_way_finish(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """After a signal no request starts, those under way are kept, and the same command completes without paying twice."""
    with server_process(tmp_path, rules(({}, {"latency_s": 0.3}))) as server:
        job = make_job(tmp_path, server.base_url, rows=400)
        with subprocess.Popen(
            command(job), env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            while len(server.exchanges()) < 64:
                time.sleep(0.02)
            process.send_signal(number)
            told_at = time.monotonic()
            process.communicate(timeout=20)
            assert process.returncode == code
        late = [one for one in server.exchanges() if one.arrival.t > told_at + 0.1]
        assert late == []
        assert run(job).returncode == 0
        assert len(server.exchanges()) == 400


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    """A second signal ends the run within a second, and it can be resumed."""
    with server_process(tmp_path, rules(({"first": 64}, {"fault": "hang"}))) as server:
        job = make_job(tmp_path, server.base_url, rows=100)
        with subprocess.Popen(
            command(job), env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            while len(server.exchanges()) < 64:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            process.communicate(timeout=20)
            assert time.monotonic() - began < 1.0
            assert process.returncode == 130
        assert run(job).returncode == 0


def test_a_second_run_at_the_same_time_is_refused(tmp_path: Path) -> None:
    """While a run holds the job, another exits 75 naming it, sends nothing and changes nothing."""
    with server_process(tmp_path, rules(({}, {"latency_s": 4.0}))) as server:
        job = make_job(tmp_path, server.base_url, rows=100)
        with subprocess.Popen(
            command(job), env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            while not server.exchanges():
                time.sleep(0.02)
            other = run(job)
            assert other.returncode == 75
            assert f"process {process.pid} on " in other.stderr
            process.communicate(timeout=60)
            assert process.returncode == 0
        assert len(server.exchanges()) == 100


def test_another_job_may_not_take_the_output(tmp_path: Path) -> None:
    """A job with another name is refused the folder, exit code 2, unless told to overwrite."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=5)
        assert run(job).returncode == 0
        before = (job.output / "outputs.parquet").read_bytes()
        refused = run(job, "--set", "name=other")
        assert refused.returncode == 2
        assert "belongs to job 'chaos'" in refused.stderr
        assert (job.output / "outputs.parquet").read_bytes() == before
        assert run(job, "--set", "name=other", "--overwrite").returncode == 0


def test_a_run_can_be_kept_for_replay(tmp_path: Path) -> None:
    """--record keeps the answers; a job on those recordings gives the same answers without a server."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=20)
        assert run(job, "--record", str(tmp_path / "kept.parquet")).returncode == 0
    answers = job.outputs()["llm_answer"].to_pylist()
    text = job.file.read_text().replace(
        'adapter = "openai"', f'adapter = "recorded"\npath = "{tmp_path / "kept.parquet"}"'
    )
    job.file.write_text(text.replace('key_env = "CHAOS_API_KEY"\n', ""))
    replay = run(job, "--output", str(tmp_path / "replayed"))
    assert replay.returncode == 0
    assert pq.read_table(tmp_path / "replayed" / "outputs.parquet")["llm_answer"].to_pylist() == answers


def test_a_ledger_without_texts_still_saves_money(tmp_path: Path) -> None:
    """With --ledger-text=hash no prompt and no answer stays in the state, and a second run still sends nothing."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=30)
        assert run(job, "--ledger-text=hash").returncode == 0
        before = (job.output / "outputs.parquet").read_bytes()
        answer = job.outputs()["llm_answer"][0].as_py()
        for path in (job.output / "state").rglob("*"):
            assert not path.is_file() or (
                answer.encode() not in path.read_bytes() and b"Say it back" not in path.read_bytes()
            )
        assert run(job, "--ledger-text=hash").returncode == 0
        assert len(server.exchanges()) == 30
        assert (job.output / "outputs.parquet").read_bytes() == before
        (job.output / "outputs.parquet").unlink()
        assert run(job, "--ledger-text=hash").returncode == 0
        assert len(server.exchanges()) == 60


def test_the_ledger_can_be_looked_after(tmp_path: Path) -> None:
    """stats counts, verify finds a forged record, export writes every attempt, prune deletes what is not used."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=10)
        assert run(job).returncode == 0
        pq.write_table(marked_rows(10, first=5), job.input)
        assert run(job).returncode == 0

    def ledger(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "pipeline", "ledger", *words]
        return subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)

    (stats,) = json.loads(ledger("stats", str(job.output), "--json").stdout)
    assert (stats["model"], stats["status"], stats["attempts"]) == ("m", "ok", 15)
    assert ledger("verify", str(job.output)).returncode == 0
    assert "15 attempts" in ledger("export", str(job.output), "--to", str(tmp_path / "all.parquet")).stderr
    # Answers are written in the order they come, which is not that of the rows.
    assert pq.read_table(tmp_path / "all.parquet")["row_id"].combine_chunks().sort().to_pylist() == [
        f"row-{n:06}" for n in range(15)
    ]
    assert "5 attempts deleted" in ledger("prune", str(job.output), "--keep-nights", "1").stderr
    with closing(sqlite3.connect(job.output / "state" / "ledger.sqlite")) as connection:
        connection.execute("UPDATE attempts SET answer = CAST('forged' AS BLOB) WHERE id = 15")
        connection.commit()
    forged = ledger("verify", str(job.output))
    assert (forged.returncode, "record 15 is not what was written" in forged.stderr) == (1, True)
    assert ledger("stats", str(tmp_path)).returncode == 2


def test_a_quota_of_the_day_leaves_the_rest_for_tomorrow(tmp_path: Path) -> None:
    """No more requests go out than are left of today, counting earlier runs; the others stay pending, exit code 3."""
    today = datetime.now(UTC).date()
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=50)
        quota = '[providers.chaos.quotas.small]\nmodels = "m*"\nrequests_per_day = 20\n'
        job.file.write_text(job.file.read_text().replace("[models.m]", f"{quota}[models.m]"))
        first = run(job)
        statuses = job.outputs()["llm_status"].to_pylist()
        again = run(job)
        days = 1 + (datetime.now(UTC).date() - today).days
        assert 20 <= len(server.exchanges()) <= 20 * days
    assert (first.returncode, again.returncode) == (3, 3)
    assert "requests_per_day of quota small: the 20 of today are used up until 00:00 UTC" in first.stderr + first.stdout
    assert statuses.count("ok") + statuses.count("pending") == 50


def test_a_signal_does_not_wait_for_a_pause(tmp_path: Path) -> None:
    """When all requests wait for a pause of a minute to end, a signal ends the run at once, not after its grace."""
    paused = rules(({"after": 10}, {"status": 429, "retry_after": 60}))
    with server_process(tmp_path, paused) as server:
        job = make_job(tmp_path, server.base_url, rows=200)
        with subprocess.Popen(command(job, "--grace", "50"), env=environment(), stderr=subprocess.PIPE) as process:
            assert wait_until(lambda: len(server.exchanges()) > 10)
            time.sleep(1)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=40)
        assert process.returncode == 143
        assert time.monotonic() - began < 20


def test_rows_that_wait_for_a_slow_model_hold_up_no_other(tmp_path: Path) -> None:
    """As many rows as there are workers escalate to a model that takes seconds: the rest is asked meanwhile."""
    faults = rules(
        ({"mark": "row-0000[0-6].", "model": "m"}, {"body": "cut_short"}),
        ({"model": "big"}, {"latency_s": 3.0}),
    )
    with server_process(tmp_path, faults) as server:
        job = make_job(tmp_path, server.base_url, rows=300)
        escalating(job)
        text = job.file.read_text()
        text = text.replace('[models.big]\nprovider = "chaos"', '[models.big]\nprovider = "slow"')
        text += f'[providers.slow]\nadapter = "openai"\nbase_url = "{server.base_url}"\nkey_env = "CHAOS_API_KEY"\n'
        job.file.write_text(text)
        assert run(job).returncode == 0
        exchanges = server.exchanges()
    assert job.outputs()["llm_model"].to_pylist() == ["big"] * 70 + ["m"] * 230
    slow = [one.completion.t for one in exchanges if one.arrival.model == "big" and one.completion]
    fast = [one.arrival.t for one in exchanges if one.arrival.model == "m"]
    assert max(fast) < min(slow)


def test_an_interrupt_is_one_whatever_comes_of_it(tmp_path: Path) -> None:
    """Code that makes another error of Ctrl-C, as modules do on import, still ends the run as interrupted, exit code 130."""
    (tmp_path / "odd_adapter.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    [None for _ in range(10**6)]\n"
        "except KeyboardInterrupt:\n    raise ImportError('not loaded') from None\n"
    )
    job = make_job(tmp_path, "http://127.0.0.1:1/v1", rows=5)
    job.file.write_text(job.file.read_text().replace('adapter = "openai"', 'adapter = "odd_adapter:Adapter"'))
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    done = subprocess.run(command(job), env=environment(PYTHONPATH=path), capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
