"""Prices kept up to date and told: the list beside ours, new dated entries, provenance, an old run priced again."""

import json
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pipeline.catalogue import load_catalogue, price_at
from pipeline.cli import main
from pipeline.errors import JobError
from pipeline.money import read_hours
from pipeline.recorded import RECORDING_SCHEMA
from pipeline.records import Model, Price
from pipeline.run import RunOptions, repriced, run_job
from pipeline.run.pricelist import differences, load_models, stale_models
from pipeline.spec import load_job
from tests.builders import a_job_file
from tests.e2e.command import MODELS
from tests.e2e.test_faults_lane import bench

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
OWN_PRICES = {
    'models."gpt-4o"': 'provider = "openai"\ncontext_tokens = 128000\nvision = true\n'
    'prices = [{ since = 2026-01-01, input = "3", output = "10", batch = "0.5" }]',
    "models.mine": 'provider = "deepseek"\napi_name = "deepseek-flash"\ncontext_tokens = 1000\n'
    'prices = [{ since = 2026-01-01, input = "9", output = "9", source = "offer" }]',
}


def test_differences_are_told_amount_by_amount(tmp_path: Path) -> None:
    """Each amount that is not the listed one is told, whatever our name for the model; equal and unlisted ones are not."""
    found = differences(load_models(a_job_file(tmp_path, **OWN_PRICES), listed=False), NOW)
    assert [(line.model, line.amount, line.ours, line.listed) for line in found] == [
        ("gpt-4o", "input", Decimal(3), Decimal("2.5")),
        ("gpt-4o", "cached_input", None, Decimal("1.25")),
        ("mine", "input", Decimal(9), Decimal("0.15")),
        ("mine", "output", Decimal(9), Decimal("0.6")),
        ("mine", "cached_input", None, Decimal("0.003")),
    ]


def test_refresh_writes_only_when_told_and_keeps_what_was(tmp_path: Path) -> None:
    """Without --yes there is no file; with it the listed prices hold from today on, the old ones before, hours included."""
    job, file = a_job_file(tmp_path, **OWN_PRICES), tmp_path / "prices.toml"
    refresh = ["prices", "refresh", str(file), "--job", str(job)]
    shown = CliRunner().invoke(main, refresh)
    assert shown.exit_code == 0
    assert "nothing is written" in shown.output
    assert not file.exists()
    assert CliRunner().invoke(main, [*refresh, "--yes"]).exit_code == 0
    catalogue = load_catalogue(load_job(a_job_file(tmp_path)).model_copy(update={"catalogue": [str(file)]}))
    today = datetime.now(UTC).replace(hour=12)
    assert differences(catalogue, today) == []
    mine = catalogue.models["mine"]
    assert price_at(mine, NOW - timedelta(days=300)).input == Decimal(9)
    days = [today + timedelta(days=number) for number in range(7)]
    at_two = {day.weekday(): price_at(mine, day.replace(hour=2)).output for day in days}
    assert at_two == {day: Decimal("1.2") if day < 5 else Decimal("0.6") for day in range(7)}


def test_refresh_overwrites_no_file_of_another_hand(tmp_path: Path) -> None:
    """A file that the command did not write is left as it is."""
    file = tmp_path / "mine.toml"
    file.write_text("# mine\n")
    done = CliRunner().invoke(
        main, ["prices", "refresh", str(file), "--yes", "--job", str(a_job_file(tmp_path, **OWN_PRICES))]
    )
    assert "was not written by this command" in done.output
    assert file.read_text() == "# mine\n"


def test_what_is_old_is_told(tmp_path: Path) -> None:
    """Retired models, prices checked long ago and prices never checked are told, the others are not."""
    catalogue = load_models(a_job_file(tmp_path, **OWN_PRICES), listed=False)
    today = stale_models(catalogue, date(2026, 11, 25))
    assert today["deepseek-chat"] == "retired on 2026-07-24"
    assert today["mine"] == "price never checked"
    assert "deepseek-v4-pro" not in today
    later = stale_models(catalogue, date(2027, 3, 1))
    assert later["deepseek-v4-pro"] == "price checked on 2026-11-24, 97 days ago"


def a_recorded_night(folder: Path) -> Path:
    """Run a job of two rows and one repeated row on recorded answers, and return its job file."""
    pq.write_table(
        pa.table({"id": ["a", "b", "c"], "prompt": ["What is one?", "What is two?", "What is one?"]}),
        folder / "in.parquet",
    )
    answers = [
        {"prompt_id": row, "model": "m", "answer": row, "finish": "stop", "input_tokens": 1000,
         "cached_input_tokens": 400, "output_tokens": 10}
        for row in "ab"
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(answers, schema=RECORDING_SCHEMA), folder / "answers.parquet")
    prices = (
        'prices = [{ since = 2026-01-01, input = "1", cached_input = "0.5", output = "2", source = "offer" }, '
        '{ since = 2026-06-01, input = "10", output = "20", checked = 2026-06-02 }]'
    )
    job = a_job_file(
        folder,
        route='escalate = false\nbaseline = "m"',
        route__table__balanced="\n".join(f'{task} = "m"' for task in MODELS),
        providers__recorded=f'path = "{folder / "answers.parquet"}"',
        models__m=f'provider = "recorded"\ncontext_tokens = 1000000\nvision = true\n{prices}',
    )
    assert run_job(RunOptions(job)).exit_code == 0
    return job


def test_every_file_says_where_its_prices_are_from(tmp_path: Path) -> None:
    """The plan, the summary, the outputs and the comparison carry the catalogue's hash and each price's origin."""
    job = a_recorded_night(tmp_path)
    out = tmp_path / "out"
    plan, summary = (json.loads((out / name).read_text()) for name in ("plan.json", "summary.json"))
    told = [(plan["catalogue"], plan["prices"]), (summary["catalogue"], summary["prices"])]
    for name in ("outputs.parquet", "comparison.parquet"):
        metadata = pq.read_schema(out / name).metadata
        told.append((metadata[b"rowroute.catalogue"].decode(), json.loads(metadata[b"rowroute.prices"])))
    assert [each == told[0] for each in told] == [True] * 4
    assert told[0][0] == load_catalogue(load_job(job)).digest
    assert told[0][1]["m"] == {
        "source": "job file",
        "since": "2026-06-01",
        "checked": "2026-06-02",
        "input_usd_per_mtok": "10",
        "cached_input_usd_per_mtok": None,
        "output_usd_per_mtok": "20",
    }


@pytest.mark.parametrize(
    ("day", "usd"),
    [
        (date(2026, 3, 1), "0.00164"),  # twice 600 x 1 + 400 x 0.5 + 10 x 2
        (date(2026, 7, 1), "0.0204"),  # twice 1000 x 10 + 10 x 20
    ],
)
def test_an_old_run_is_priced_again(tmp_path: Path, day: date, usd: str) -> None:
    """The comparison at the prices of another day has that day's cost to the digit, and changes no file."""
    job = a_recorded_night(tmp_path)
    out = tmp_path / "out"
    before = {path: path.read_bytes() for path in out.glob("*.*")}
    table = repriced(out, job, day)
    routed = pl.DataFrame(table).filter(pl.col("scope") == "all", pl.col("arm") == "routed").row(0, named=True)
    assert routed["cost_usd"] == routed["baseline_cost_usd"] == Decimal(usd)
    assert {path: path.read_bytes() for path in out.glob("*.*")} == before
    with pytest.raises(JobError, match="no price on 2025-01-01"):
        repriced(out, job, date(2025, 1, 1))


def dear_until(start: datetime, minutes: int) -> Model:
    """Return a model that is dear from *start* on, which is not shortly before midnight."""
    first = start.hour * 60 + start.minute
    hours = read_hours(f"{first // 60:02}:{first % 60:02}-{(first + minutes) // 60:02}:{(first + minutes) % 60:02}")
    cheap = Price(Decimal(1), Decimal(1))
    return Model("m", "p", 1000, (cheap, cheap._replace(input=Decimal(2), hours=(hours,))), api_name="m")


@pytest.mark.anyio
async def test_a_lane_waits_for_the_cheap_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Off-peak, nothing is sent while the model is dear, and everything from the minute on in which it is cheap."""
    monkeypatch.setenv("CHAOS_API_KEY", "sk-x")
    noon = datetime(2026, 11, 25, 12, 0, 59, 800_000, tzinfo=UTC)
    async with bench(tmp_path, {}) as lane:
        lane.route.model = dear_until(noon, 1)
        ahead_s = noon.timestamp() - time.time()
        real = time.time
        monkeypatch.setattr("time.time", lambda: real() + ahead_s)
        lane.route.wait_for_cheap_hours()
        assert lane.route.dear_for_s(noon.timestamp()) == pytest.approx(0.2)
        await lane.ask(20)
        attempts = lane.attempts()
    assert [attempt.status for attempt in attempts] == ["ok"] * 20
    assert (
        min(attempt.started_at for attempt in attempts) >= noon.replace(minute=1, second=0, microsecond=0).timestamp()
    )
