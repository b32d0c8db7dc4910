"""Faults that cost money, M1 to M5 of docs/faults.md: the cap, unknown prices, retries, escalations, crashes."""

import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.catalogue import load_catalogue
from pipeline.spec import load_job
from tests.chaos.ledger_rows import read_ledger
from tests.chaos.process import server_process
from tests.chaos.scenarios import rules
from tests.e2e.checking import CONCURRENCY, PRICES, Arrivals, sent_twice, started, statuses, violations, wait_until
from tests.e2e.command import escalating, make_job, run

CAP = Decimal("0.002")
WORST = Decimal("0.0001")  # of one request: well above 150 tokens in and 64 out


def test_the_cap_holds_through_faults_and_kills(tmp_path: Path) -> None:
    """With retries, empty answers that are billed and a kill, a night spends no more than its cap; a higher one ends it."""
    faults = rules(
        ({"share": 0.05, "attempt": [1]}, {"status": 500}),
        ({"share": 0.05, "attempt": [1]}, {"body": "no_choices"}),
        ({}, {"latency_s": [0.0, 0.02]}),
    )
    with server_process(tmp_path, faults) as server:
        job = make_job(tmp_path, server.base_url, rows=400, more=f"[budget]\nmax_usd = {CAP}")
        arrivals = Arrivals(server.log_path)
        with started(job) as process:
            assert wait_until(lambda: arrivals.count() >= 100, process)
            process.send_signal(signal.SIGKILL)
            process.wait()
        capped = run(job)
        assert capped.returncode == 4
        told: dict[str, Any] = {"kills": 1, "worst_request_usd": WORST}
        assert violations(job, server, 4, cap_usd=CAP, **told) == []
        assert statuses(job)["pending"] > 0
        spent = Decimal(job.summary()["spent_tonight_usd"])
        assert CAP / 2 < spent <= CAP
        assert run(job, "--set", "budget.max_usd=1").returncode == 0
        assert violations(job, server, 0, cap_usd=Decimal(1), **told) == []


def test_what_a_crash_may_have_cost_is_told(tmp_path: Path) -> None:
    """Requests that were answered but not written when the run died are paid again, and no more than the report says."""
    with server_process(tmp_path, rules(({}, {"latency_s": [0.0, 0.05]}))) as server:
        job = make_job(tmp_path, server.base_url, rows=300)
        arrivals = Arrivals(server.log_path)
        with started(job) as process:
            assert wait_until(lambda: arrivals.count() >= 150, process)
            process.send_signal(signal.SIGKILL)
            process.wait()
        done = run(job)
        assert done.returncode == 0
        assert 0 < sent_twice(server) <= job.summary()["paid_twice_at_most"] == CONCURRENCY
        assert f"at most {CONCURRENCY} requests paid twice" in done.stdout
        assert violations(job, server, 0, kills=1) == []


def test_every_billed_attempt_is_in_the_cost_of_its_row(tmp_path: Path) -> None:
    """Empty answers, repeats and escalations add to a row's cost; its baseline is what its tokens cost there, once."""
    faults = rules(
        ({"mark": "row-00000[0-4]", "model": "m"}, {"body": "content_null"}),  # big answers
        ({"mark": "row-000005", "model": "m"}, {"body": "cut_short"}),
        ({"mark": "row-000005", "model": "big"}, {"body": "content_filter"}),  # the short answer stands
        ({"mark": "row-000006", "model": "m"}, {"body": "content_null"}),
        ({"mark": "row-000006", "model": "big"}, {"status": 400}),  # nothing stands
    )
    with server_process(tmp_path, faults) as server:
        job = make_job(tmp_path, server.base_url, rows=100)
        escalating(job)
        assert run(job).returncode == 1
        prices = PRICES | {"big": PRICES["m"]._replace(input=Decimal(3), cached_input=Decimal(3), output=Decimal(15))}
        assert violations(job, server, 1, prices=prices) == []
    rows = job.outputs().to_pylist()
    attempts = read_ledger(job.output / "state" / "ledger.sqlite").attempts
    for row in rows:
        billed = sum(attempt.cost_pusd for attempt in attempts if attempt.row_id == row["id"])
        assert row["llm_cost_usd"] == Decimal(billed).scaleb(-12)
    assert [row["llm_model"] for row in rows[:5]] == ["big"] * 5
    assert [row["llm_status"] for row in rows[:8]] == ["ok"] * 5 + ["truncated", "failed", "ok"]
    baseline = load_catalogue(load_job(job.file)).models["gpt-4o"].prices[-1]
    one = rows[0]
    at_baseline = (one["llm_input_tokens"] * baseline.input + one["llm_output_tokens"] * baseline.output) / 10**6
    assert one["llm_baseline_cost_usd"] == at_baseline


@pytest.mark.parametrize("missing", ["input_usd_per_mtok", "output_usd_per_mtok"])
def test_an_unknown_price_is_never_zero(tmp_path: Path, missing: str) -> None:
    """A model without a price is refused before anything is read or sent."""
    job = make_job(tmp_path, "http://127.0.0.1:1/v1", rows=5)
    lines = [line for line in job.file.read_text().splitlines() if not line.startswith(missing)]
    job.file.write_text("\n".join(lines))
    done = run(job)
    assert done.returncode == 2
    assert "models.m: give input_usd_per_mtok and output_usd_per_mtok" in done.stderr
    assert not job.output.exists()
