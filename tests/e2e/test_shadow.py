"""The shadow sample from end to end: some rows go to the baseline too, for what the budget has left."""

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.cli.proposing import propose
from tests.chaos.process import server_process
from tests.e2e.command import Job, make_job, run

MORE = """
[models.big]
provider = "chaos"
context_tokens = 100000
input_usd_per_mtok = "1.50"
output_usd_per_mtok = "6.00"
[[score]]
scorer = "agreement"
[compare]
shadow = 40
"""


def a_job(folder: Path, base_url: str, more: str = "") -> Job:
    job = make_job(folder, base_url, rows=200, more=MORE + more)
    job.file.write_text(job.file.read_text().replace("escalate = false", 'escalate = false\nbaseline = "big"'))
    return job


def arms(job: Job):
    table = pq.read_table(job.output / "comparison.parquet").to_pylist()
    return {line["arm"]: line for line in table if line["scope"] == "all"}


def asked(server) -> Counter[str]:
    return Counter(exchange.arrival.model for exchange in server.exchanges())


def test_a_sample_goes_to_the_baseline_and_stands_for_all(tmp_path: Path) -> None:
    """Forty of 200 rows are asked of the baseline, twice: its cost is measured there and estimated elsewhere, how often
    it disagrees with itself is said, and a second run asks none of them again."""
    with server_process(tmp_path, {}) as server:
        job = a_job(tmp_path, server.base_url, "shadow_twice = true")
        planned = json.loads(run(job, "--dry-run", "--json").stdout)["plan"]["shadow"]
        assert (planned["rows"], planned["new"]) == (40, 80)
        assert run(job).returncode == 0
        found = arms(job)
        assert run(job).returncode == 0
        assert asked(server) == {"m": 200, "big": 80}
    assert arms(job) == found
    baseline, routed, again = found["baseline"], found["routed"], found["baseline_again"]
    assert (baseline["rows"], baseline["measured_rows"], baseline["cost_kind"]) == (200, 40, "estimated")
    assert (routed["paired"], routed["rows"], routed["cost_kind"]) == (40, 200, "measured")
    # Every answer has as many tokens, at ten times the price.
    assert baseline["cost_usd"] == 10 * routed["cost_usd"]
    assert routed["saving_low"] <= routed["saving"] <= routed["saving_high"]
    assert (again["rows"], again["paired"], again["delta"]) == (40, 40, 0)
    assert "answers that differ from the baseline's first: 0 of 40" in again["note"]
    assert found["best_single"]["rows"] == 0  # nobody recorded answers


def test_the_sample_takes_what_the_budget_has_left(tmp_path: Path) -> None:
    """Where the cap is reached in the sample, the rows are all there, the exit code is 0, and the cap holds."""
    with server_process(tmp_path, {}) as server:
        job = a_job(tmp_path, server.base_url, '[budget]\nmax_usd = "0.0035"')
        done = run(job)
    summary = job.summary()
    assert done.returncode == 0, done.stderr
    assert Decimal(summary["spent_usd"]) <= Decimal("0.0035")
    assert summary["statuses"]["ok"] == 200
    assert 0 < arms(job)["baseline"]["measured_rows"] < 40


def test_a_proposal_learns_from_the_sample_alone(tmp_path: Path) -> None:
    """Without a scorer, the sampled rows are scored by their agreement with the baseline, at what the ledger was billed."""
    with server_process(tmp_path, {}) as server:
        job = a_job(tmp_path, server.base_url)
        text = job.file.read_text().replace('[[score]]\nscorer = "agreement"\n', "")
        job.file.write_text(text.replace("shadow = 40", "shadow = 60"))
        assert run(job).returncode == 0
        told = propose(job.file, None, "big", 0.5)
        assert asked(server) == {"m": 200, "big": 60}
    assert "learned from 60 prompts" in told
    assert "which were 60 of 200" in told
    assert job.file.with_name(f"{job.file.stem}-proposed-1.npz").exists()
