"""The files in data/ are what their README says, and the jobs in jobs/ fit them."""

import hashlib
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from pipeline.catalogue import load_catalogue
from pipeline.readers import open_source
from pipeline.records import Difficulty, Task, Tier
from pipeline.render import Renderer
from pipeline.route import route
from pipeline.scorers import find_scorer
from pipeline.spec import Input, load_job, load_models

ROOT = Path(__file__).parent.parent
DATA = ROOT / "data"
NIGHT = DATA / "night"
JOBS = sorted((ROOT / "jobs").glob("*.toml"))
GOLD = {"label": "gold_label", "number": "gold_number", "choice": "gold_choice", "chrf": "references"}


@pytest.fixture(scope="module")
def prompts() -> pl.DataFrame:
    return pl.read_parquet(NIGHT / "prompts.parquet")


@pytest.fixture(scope="module")
def answers() -> pl.DataFrame:
    return pl.read_parquet(NIGHT / "answers.parquet")


def test_files_are_those_of_the_readme() -> None:
    """Every data file has its row count and its SHA-256 in data/README.md."""
    lines = re.findall(r"^\| (\S+) \| ([\d,]+) \| .* \| ([0-9a-f]{64}) \|$", (DATA / "README.md").read_text(), re.M)
    told = {name: digest for name, _, digest in lines}
    files = [path for ending in ("parquet", "csv", "jsonl") for path in DATA.rglob(f"*.{ending}")]
    assert told == {str(path.relative_to(DATA)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    for name, rows, _ in lines:
        source = open_source(Input(path=[str(DATA / name)]))
        assert sum(batch.table.num_rows for batch in source.batches([])) == int(rows.replace(",", "")), name


def test_files_are_small() -> None:
    """The night stays under 8 MB and every sample under 64 KB, so that a clone stays quick."""
    assert sum(path.stat().st_size for path in NIGHT.iterdir()) < 8_000_000
    assert all(path.stat().st_size < 64_000 for path in (DATA / "samples").iterdir())


def test_answers_have_the_types_of_recordings() -> None:
    """The adapter `recorded` gets whole numbers for tokens and a number for the latency."""
    types = {field.name: str(field.type) for field in pq.read_schema(NIGHT / "answers.parquet")}
    assert types == {
        "prompt_id": "string",
        "model": "string",
        "answer": "string",
        "finish": "string",
        "input_tokens": "int64",
        "cached_input_tokens": "int64",
        "output_tokens": "int64",
        "latency_s": "double",
        "score": "double",
        "score_kind": "string",
    }


def test_no_prompt_stands_there_twice(prompts: pl.DataFrame) -> None:
    """Neither an id nor a question is repeated."""
    assert prompts["prompt_id"].is_unique().all()
    assert prompts.select("system", "prompt").is_unique().all()


def test_each_prompt_is_scored_in_one_way(prompts: pl.DataFrame) -> None:
    """A prompt has one kind of reference, or a recorded grade instead."""
    given = prompts.select(pl.sum_horizontal(pl.col(*GOLD.values(), "recorded_kind").is_not_null()).alias("given"))
    assert given["given"].unique().to_list() == [1]


def test_every_prompt_has_one_answer_of_every_model_of_its_set(prompts: pl.DataFrame, answers: pl.DataFrame) -> None:
    """A model was asked the whole set or nothing of it, so that models can be compared on the same rows."""
    assert answers.select("prompt_id", "model").is_unique().all()
    sets = prompts.select("prompt_id", "set")
    asked = answers.join(sets, on="prompt_id", how="left")
    assert asked["set"].null_count() == 0
    per_model = asked.group_by("set", "model").len()
    whole = sets.group_by("set").len(name="rows")
    assert per_model.join(whole, on="set").filter(pl.col("len") != pl.col("rows")).is_empty()
    baselines = prompts.select("set", model="baseline_model").unique()
    assert baselines.join(per_model, on=["set", "model"], how="anti").is_empty()


def test_models_toml_names_the_sets_of_every_model(prompts: pl.DataFrame, answers: pl.DataFrame) -> None:
    """Every recorded model has a price, and `only` are the sets it was recorded on."""
    recorded = answers.join(prompts.select("prompt_id", "set"), on="prompt_id").group_by("model").agg("set")
    sets = {model: set(names) for model, names in recorded.iter_rows()}
    models = load_models(NIGHT / "models.toml").models
    assert {name: set(model.only["set"]) for name, model in models.items()} == sets
    assert all(model.provider == "recorded" and "source" in model.model_fields_set for model in models.values())
    assert all(model.input_usd_per_mtok > 0 and model.output_usd_per_mtok > 0 for model in models.values())


def test_scores_and_tokens_are_possible(answers: pl.DataFrame) -> None:
    """Scores lie between 0 and 1, a set has one kind of them, and only an empty answer has no tokens and no finish."""
    assert answers["score"].drop_nulls().is_between(0, 1).all()
    assert (answers["input_tokens"] > 0).all()
    assert ((answers["output_tokens"] == 0) == (answers["answer"] == "")).all()
    assert ((answers["finish"] == "stop") == (answers["answer"].str.strip_chars() != "")).all()


@pytest.mark.parametrize(
    ("name", "least"), [("banking77", 1.0), ("llmbar", 1.0), ("wmt24", 1.0), ("gsm8k", 0.98), ("mmlupro", 0.98)]
)
def test_scorers_agree_with_the_recorded_grades(
    prompts: pl.DataFrame, answers: pl.DataFrame, name: str, least: float
) -> None:
    """Our scorers grade the recorded answers as their authors did, but for what the authors' parsers missed."""
    rows = prompts.filter(pl.col("set") == name).join(answers, on="prompt_id")
    [kind] = rows["score_kind"].unique()
    if kind == "chrf":
        rows = rows.filter(pl.col("model") == "gemini-1.5-pro")  # the dearest scorer, and a model with empty answers
    scorer = find_scorer(kind)
    pairs = rows.select("answer", GOLD[kind], "score").iter_rows()
    same = [abs(scorer(answer, gold).value - score) < 1e-9 for answer, gold, score in pairs]
    assert sum(same) / len(same) >= least


def test_nobody_can_be_written_to(prompts: pl.DataFrame, answers: pl.DataFrame) -> None:
    """No text of the night holds an e-mail address."""
    texts = pl.concat(
        [
            prompts["prompt"],
            prompts["references"].explode(empty_as_null=True, keep_nulls=True),
            answers["answer"],
        ]
    )
    assert texts.str.contains(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}").sum() == 0


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_jobs_load(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every job is right, every model it may use has a known price, and every scorer exists."""
    monkeypatch.chdir(ROOT)
    job = load_job(path)
    assert job.name == path.stem
    load_catalogue(job)
    for scorer in job.compare.references.keys() - {"recorded"}:
        find_scorer(scorer)


@pytest.mark.parametrize("tier", Tier)
def test_night_has_a_recorded_model_for_every_row(
    prompts: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, tier: Tier
) -> None:
    """Whatever task and difficulty a row is taken for, its model was recorded on its set."""
    monkeypatch.chdir(ROOT)
    job = load_job(ROOT / "jobs" / "night.toml", [f"route.tier={tier}"])
    catalogue = load_catalogue(job)
    sets = prompts.select("set", "baseline_model").unique(maintain_order=True).iter_rows()
    labels = product(sets, set(Task) - {Task.VISION}, Difficulty)
    rows = pl.DataFrame(
        [(*row, task, difficulty, False, 1300) for row, task, difficulty in labels],
        ["set", "baseline_model", "task", "difficulty", "has_image", "input_tokens"],
        orient="row",
    )
    routed = route(rows, spec=job.route, catalogue=catalogue, max_output_tokens=job.prompt.max_output_tokens)
    assert routed["model"].null_count() == 0
    pairs = zip(rows["set"], routed["model"], strict=True)
    assert all(name in catalogue.models[model].only["set"] for name, model in pairs)


def test_night_renders_a_system_message_only_where_there_is_one(prompts: pl.DataFrame) -> None:
    """The system template of the night gives llmbar its message and no other set an empty one."""
    renderer = Renderer(load_job(ROOT / "jobs" / "night.toml").prompt)
    rendered = renderer.render(prompts.select(renderer.columns))
    assert rendered["problem"].null_count() == rendered.height
    assert rendered["system"].equals(prompts["system"], null_equal=True, check_names=False)


def test_tickets_have_the_labels_of_their_job() -> None:
    """The labels of the tickets are the choices of the job, as many of each, and the examples name each as often."""
    job = load_job(ROOT / "jobs" / "tickets_local.toml")
    counts = pl.read_parquet(DATA / "banking77" / "tickets.parquet")["gold_label"].value_counts()
    assert set(counts["gold_label"]) == set(job.output.choices)
    assert counts["count"].to_list() == [8] * 5
    examples = re.findall(r'^"(.+)"$', job.prompt.system or "", re.M)
    assert sorted(examples) == sorted(job.output.choices * 2)


def test_samples_are_what_their_script_writes(tmp_path: Path) -> None:
    """Running the script again gives the same rows in all three formats."""
    script = DATA / "build_samples.py"
    subprocess.run([sys.executable, script, "--output", tmp_path], check=True, capture_output=True)
    for ending in ("csv", "jsonl"):
        assert (tmp_path / f"mixed.{ending}").read_bytes() == (DATA / "samples" / f"mixed.{ending}").read_bytes()
    built, kept = (pq.read_table(folder / "mixed.parquet") for folder in (tmp_path, DATA / "samples"))
    assert built.schema == kept.schema
    # NaN is no value that equals itself, so the rows are compared as text.
    assert repr(built.to_pylist()) == repr(kept.to_pylist())


def test_samples_are_the_same_rows_in_every_format() -> None:
    """Readers give the same ids and the same prompts, but that CSV has no null."""
    read = {}
    for ending in ("parquet", "csv", "jsonl"):
        source = open_source(Input(path=[str(DATA / "samples" / f"mixed.{ending}")], id="id"))
        rows = [row for batch in source.batches(["id", "prompt"]) for row in batch.table.to_pylist()]
        read[ending] = [(row["id"], row["prompt"] or "") for row in rows]
    assert read["parquet"] == read["csv"] == read["jsonl"]
