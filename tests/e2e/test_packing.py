"""Several rows in one request: whatever a model answers, no row ever gets another row's answer, and the bill adds up."""

import json
import os
import random
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from pipeline.packing import NotUsableError, pack, pack_ids, packing_of, shared, shared_usage, unpack
from pipeline.records import PICO_USD, Usage
from pipeline.run import RunOptions, run_job
from pipeline.tokens import estimate_tokens
from tests.builders import a_request
from tests.chaos.batch_api import serve_routes
from tests.e2e.command import Job, make_job

DATA = Path(__file__).parents[2] / "data" / "night"
LONG = os.environ.get("ROWROUTE_CHAOS") == "long"
Items = list[dict[str, Any]]


# ------------------------------------------------------------------------------------------------------ pure arithmetic


def test_the_frame_of_a_template_goes_once_and_only_what_differs_goes_per_row() -> None:
    """What stands before and after the variables is sent once; a row that does not fit the frame is not packed."""
    packing = packing_of(20, "Label this: {{ text }}\nLabels: a, b.\n")
    assert (packing.head, packing.tail) == ("Label this: ", "\nLabels: a, b.")
    requests = [a_request(number, user=f"Label this: row {number}\nLabels: a, b.") for number in (1, 2)]
    asked = pack(requests, packing).user
    assert asked.count("Labels: a, b.") == 1
    assert [item["input"] for item in json.loads(asked.split("\n\n")[-1])] == ["row 1", "row 2"]
    assert all(map(packing.takes, requests))
    assert not packing.takes(a_request(user="Label this: Labels: a, b."))
    assert not packing.takes(a_request(user=requests[0].user, image="https://x"))


@given(total=st.integers(0, 10**15), weights=st.lists(st.integers(0, 10**6), min_size=1, max_size=40))
def test_shares_add_up_and_are_fair(total: int, weights: list[int]) -> None:
    """Parts of a bill add up to it exactly, and none is a whole unit away from its proportion."""
    parts = shared(total, weights)
    assert sum(parts) == total
    whole = sum(weights)
    if whole:
        assert all(abs(part * whole - total * weight) < whole for part, weight in zip(parts, weights, strict=True))


@given(usage=st.builds(Usage, *[st.integers(0, 10**6)] * 6), rows=st.integers(1, 30), seed=st.integers(0, 99))
def test_tokens_add_up_in_every_class(usage: Usage, rows: int, seed: int) -> None:
    """Each class of a pack's tokens is shared among its rows without one lost or made."""
    rng = random.Random(seed)
    inputs, outputs = ([rng.randrange(500) for _ in range(rows)] for _ in range(2))
    parts = shared_usage(usage, inputs, outputs)
    assert Usage(*map(sum, zip(*parts, strict=True))) == usage


@given(texts=st.lists(st.text(max_size=30), min_size=2, max_size=12), data=st.data())
def test_any_reply_is_each_rows_own_answer_or_none(texts: list[str], data: st.DataObject) -> None:
    """A reply in any order with exactly the ids gives each row its own answer; one that was tampered with gives none."""
    requests = [a_request(number + 1, user=text) for number, text in enumerate(texts)]
    items = [{"id": key, "answer": text} for key, text in zip(pack_ids(requests), texts, strict=True)]
    order = data.draw(st.permutations(items))
    assert unpack(json.dumps(order), requests) == texts
    place = data.draw(st.integers(0, len(items) - 1))
    other = data.draw(st.sampled_from(["drop", "repeat", "rename", "extra", "no answer", "more keys"]))
    changed = {
        "drop": order[:place] + order[place + 1 :],
        "repeat": [*order, order[place]],
        "rename": [{**item, "id": str(number)} for number, item in enumerate(order)],
        "extra": [*order, {"id": "kffffff0", "answer": "x"}],
        "no answer": [*order[:place], {"id": order[place]["id"]}, *order[place + 1 :]],
        "more keys": [*order[:place], {**order[place], "why": "x"}, *order[place + 1 :]],
    }[other]
    with pytest.raises(NotUsableError):
        unpack(json.dumps(changed), requests)


@given(text=st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes reading raise anything but that it can't be used."""
    with pytest.raises(NotUsableError):
        unpack(text, [a_request(1), a_request(2)])


def test_a_surrogate_in_an_answer_can_be_stored() -> None:
    """What no UTF-8 can hold becomes U+FFFD."""
    (key,) = pack_ids([a_request(1)])
    assert unpack(json.dumps([{"id": key, "answer": "a\ud800b"}]), [a_request(1)]) == ["a\ufffdb"]


def test_ids_stay_apart() -> None:
    """Requests whose addresses begin alike get longer ids."""
    alike = [a_request()._replace(request_id=bytes([7] * 15 + [number])) for number in range(2)]
    assert len(set(pack_ids(alike))) == 2


# ---------------------------------------------------------------------------------------------------- against a server


class PackApi:
    """A model that answers packs and single prompts, and breaks its packs as told."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self.answer = answer
        self.faults: list[Callable[[Items], str]] = []  # one a pack, in turns
        self.refuses_packs = False
        self.packs = 0
        self.singles = 0
        self.largest = 0
        self.billed: list[tuple[int, int]] = []

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        text = body["messages"][-1]["content"]
        tail = text.rsplit("\n\n", 1)[-1]
        if tail.startswith('[{"id": "k'):
            items = [{"id": item["id"], "answer": self.answer(item["input"])} for item in json.loads(tail)]
            self.largest = max(self.largest, len(items))
            fault = self.faults[self.packs % len(self.faults)] if self.faults else json.dumps
            self.packs += 1
            if self.refuses_packs:
                told = {"message": "max_tokens is too large", "type": "invalid_request_error"}
                return web.json_response({"error": told}, status=400)
            said = fault(items)
        else:
            self.singles += 1
            said = self.answer(text)
        asked = "\n".join(message["content"] for message in body["messages"])
        used = tuple(int(count) for count in estimate_tokens(pl.Series([asked, said]).to_arrow()))
        self.billed.append((used[0], used[1]))
        usage = {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)}
        choice = {"index": 0, "message": {"content": said}, "finish_reason": "stop"}
        return web.json_response({"id": "c", "model": body["model"], "choices": [choice], "usage": usage})


@contextmanager
def served(answer: Callable[[str], str]) -> Iterator[tuple[PackApi, str]]:
    """Serve a model that gives *answer* to a prompt or an input."""
    api = PackApi(answer)
    with serve_routes([web.post("/v1/chat/completions", api.chat)]) as base_url:
        yield api, base_url


def brackets(items: Items) -> str:
    """Put brackets, quotes and what looks like an array into the answers: allowed, and read right."""
    return json.dumps([{**item, "answer": f'{item["answer"]} ["[{{]}}'} for item in items])


FAULTS: dict[str, Callable[[Items], str]] = {
    "brackets in an answer": brackets,
    "ids dropped": lambda items: json.dumps(items[1:]),
    "ids repeated": lambda items: json.dumps([*items[:-1], items[0]]),
    "shuffled": lambda items: json.dumps(random.Random(1).sample(items, len(items))),
    "ids that were never sent": lambda items: json.dumps([*items, {"id": "k00000f", "answer": "x"}]),
    "renumbered": lambda items: json.dumps([{**item, "id": number} for number, item in enumerate(items, 1)]),
    "words around": lambda items: f"Here you are:\n{json.dumps(items)}\nAnything else?",
    "cut short": lambda items: json.dumps(items)[:-25],
}


def a_job(
    folder: Path, base_url: str, rows: int | pa.Table, *, packed: int = 20, system: str = "Label it. " * 40
) -> Job:
    """Return a job that packs *rows* under a long system message."""
    job = make_job(folder, base_url, rows=rows)
    text = job.file.read_text()
    prompt = f'column = "prompt"\nsystem = "{system}"\nrows_per_request = {packed}\n'
    job.file.write_text(text.replace('column = "prompt"\n', prompt))
    return job


def mark_of(text: str) -> str:
    """Return the mark that every answer must repeat."""
    found = re.search(r"mark=[\w-]+;", text)
    return found[0] if found else "none"


def right_rows(job: Job) -> int:
    """Return how many rows are ok and name themselves."""
    out = job.outputs()
    columns = (out[name].to_pylist() for name in ("id", "llm_status", "llm_answer"))
    return sum(status == "ok" and f"mark={mark};" in answer for mark, status, answer in zip(*columns, strict=True))


def ledger_sum(job: Job, column: str) -> int:
    """Return the sum of *column* over the ledger."""
    with closing(sqlite3.connect(job.output / "state" / "ledger.sqlite")) as ledger:
        return int(ledger.execute(f"SELECT sum({column}) FROM attempts").fetchone()[0])


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOS_API_KEY", "sk-x")


def check_bill(job: Job, api: PackApi) -> None:
    """The rows' tokens and costs are together what the server billed, to the last pico-USD."""
    asked, said = map(sum, zip(*api.billed, strict=True))
    assert (ledger_sum(job, "input_tokens"), ledger_sum(job, "output_tokens")) == (asked, said)
    cost = asked * 150_000 + said * 600_000
    assert ledger_sum(job, "cost_pusd") == cost
    assert sum(job.outputs()["llm_cost_usd"].to_pylist()) == cost * PICO_USD


@pytest.mark.parametrize("fault", [*(FAULTS if LONG else []), "all in turns"])
def test_no_fault_of_a_reply_gives_a_wrong_row(tmp_path: Path, fault: str) -> None:
    """Each of eight faults in the reply to a pack ends in 2,000 of 2,000 right rows, and in the bill being shared."""
    with served(lambda text: f"{mark_of(text)} done") as (api, base_url):
        api.faults = [FAULTS[fault]] if fault in FAULTS else list(FAULTS.values())
        job = a_job(tmp_path, base_url, 2000)
        assert run_job(RunOptions(job.file)).exit_code == 0
        assert right_rows(job) == 2000
        assert api.packs == 100
        harmless = {"brackets in an answer", "shuffled"}
        broken = sum(list(FAULTS)[number % 8] not in harmless for number in range(100))
        assert api.singles == 20 * (broken if fault == "all in turns" else 0 if fault in harmless else 100)
        check_bill(job, api)
        sent = api.packs + api.singles
        assert run_job(RunOptions(job.file)).exit_code == 0
        assert api.packs + api.singles == sent


def test_a_part_that_fails_its_check_is_asked_alone(tmp_path: Path) -> None:
    """Of a pack whose labels are not all allowed the good ones stand, and the others are asked again alone."""
    with served(lambda text: "yes" if "[" in text or "7;" not in text else "maybe") as (api, base_url):
        job = a_job(tmp_path, base_url, 40)
        job.file.write_text(job.file.read_text() + 'choices = ["yes", "no"]\n')
        api.answer = lambda text: (
            "yes" if "7;" not in text else ("maybe" if not api.singles and api.packs < 2 else "no")
        )
        run_job(RunOptions(job.file))
        answers = Counter(job.outputs()["llm_answer"].to_pylist())
        assert (api.packs, api.singles) == (2, 4)
        assert answers["yes"] == 36
        check_bill(job, api)


def test_packing_that_would_not_pay_is_refused_in_the_plan(tmp_path: Path) -> None:
    """Without anything shared the ids cost more than they save: the rows are asked one by one, and the plan says so."""
    with served(lambda text: f"{mark_of(text)} done") as (api, base_url):
        job = a_job(tmp_path, base_url, 40, system="Hi.")
        report = run_job(RunOptions(job.file))
        assert report.plan is not None
        assert report.plan.groups[0].rows_per_request == 1
        assert "m: rows are not packed" in report.plan.notes[0]
        assert (api.packs, api.singles) == (0, 40)


def banking_job(folder: Path, base_url: str, rows: int) -> tuple[Job, dict[str, str]]:
    """Return a job over the 287 recorded questions of banking77, and what gpt-5-mini answered to each."""
    prompts = pl.read_parquet(DATA / "prompts.parquet").filter(pl.col("set") == "banking77")
    recorded = pl.read_parquet(DATA / "answers.parquet").filter(pl.col("model") == "gpt-5-mini")
    both = prompts.join(recorded, on="prompt_id").with_columns(
        query=pl.col("prompt").str.extract(r'(?s)User query:\n"(.*?)"\n\nClassify')
    )
    first = both.row(0, named=True)
    frame = first["prompt"].replace(first["query"], "{{ query }}")
    table = both.select(id="prompt_id", query="query").to_arrow()
    job = make_job(folder, base_url, rows=table)
    text = job.file.read_text()
    start, end = text.index("[prompt]"), text.index("[route]")
    section = f"[prompt]\nuser = {json.dumps(frame)}\nrows_per_request = {rows}\nmax_output_tokens = 64\n"
    pinned = text[end:].replace("[route]\n", '[route]\ntask = "classification"\n')
    job.file.write_text(text[:start] + section + pinned)
    return job, dict(both.select("query", "answer").iter_rows())


def test_banking77_costs_what_the_plan_says_when_packed(tmp_path: Path) -> None:
    """On the recorded answers of banking77 packing makes a row cheaper by what the plan says, within 15%."""
    fall = {}
    for rows in (1, 20):
        folder = tmp_path / str(rows)
        folder.mkdir()
        labels: dict[str, str] = {}

        def label(text: str, labels: dict[str, str] = labels) -> str:
            found = re.search(r'(?s)User query:\n"(.*?)"\n\nClassify', text)
            return labels[found[1] if found else text]

        with served(label) as (api, base_url):
            job, answers = banking_job(folder, base_url, rows)
            labels.update(answers)
            report = run_job(RunOptions(job.file))
            assert report.exit_code == 0
            assert report.plan is not None
            group = report.plan.groups[0]
            assert group.rows_per_request == rows
            assert (api.packs > 0) == (rows > 1)
            spent = sum(job.outputs()["llm_cost_usd"].to_pylist(), start=Decimal(0))
            fall[rows] = (spent, group.cost_usd)
            assert job.outputs()["llm_answer"].to_pylist() == [
                answers[query] for query in job.outputs()["query"].to_pylist()
            ]
    measured, planned = (1 - fall[20][place] / fall[1][place] for place in (0, 1))
    assert planned > Decimal("0.5")
    assert abs(measured - planned) <= Decimal("0.15") * planned


def test_a_pack_keeps_within_the_context(tmp_path: Path) -> None:
    """Packs hold fewer rows where more would not fit the model with its answer."""
    with served(lambda text: f"{mark_of(text)} done") as (api, base_url):
        job = a_job(tmp_path, base_url, 40)
        job.file.write_text(job.file.read_text().replace("context_tokens = 100000", "context_tokens = 2600"))
        assert run_job(RunOptions(job.file)).exit_code == 0
        assert right_rows(job) == 40
        assert 2 <= api.largest < 20
        assert api.singles == 0


def test_a_model_that_refuses_packs_is_asked_row_by_row(tmp_path: Path) -> None:
    """A refused pack stops no lane: its rows, and all others, are asked alone."""
    with served(lambda text: f"{mark_of(text)} done") as (api, base_url):
        api.refuses_packs = True
        job = a_job(tmp_path, base_url, 600)
        job.file.write_text(job.file.read_text().replace("concurrency = 64", "concurrency = 4"))
        assert run_job(RunOptions(job.file)).exit_code == 0
        assert right_rows(job) == 600
        assert api.packs <= 4
        assert api.singles == 600
