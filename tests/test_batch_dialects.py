"""Batch APIs as data: entries and their files, states, listings and lines of results, whatever a provider sends."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from pipeline.errors import CallError, ErrorKind, JobError
from pipeline.lanes import BatchClient
from pipeline.lanes.batch_client import file_hash, is_certain
from pipeline.plan import Choice, Timing, choose_lane, next_time
from pipeline.providers import find_adapter
from pipeline.providers.batches import DIALECTS, Line, Page, Phase, Remote, find_batch_dialect
from pipeline.providers.batches.openai import OpenAIBatches
from pipeline.records import HttpResponse, Model, Parameters, Request
from pipeline.transport import Endpoint, open_connections
from tests.builders import a_request
from tests.chaos.batch_api import serve_batches
from tests.chaos.batch_dialects import DIALECTS as PLAYED

_ID = {"gemini": "key"}  # what a line calls its id
MODEL = Model("m", "p", 1000, ())
PARAMETERS = Parameters(max_output_tokens=9)


def golden(dialect: str, name: str) -> dict[str, Any]:
    """Return a body as the provider's reference and package have it."""
    body: dict[str, Any] = json.loads((Path(__file__).parent / "golden_batches" / f"{dialect}-{name}.json").read_text())
    return body


def reply(**body: Any) -> HttpResponse:
    """Return a JSON answer."""
    return HttpResponse(200, {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("word", "phase"),
    [
        *((word, Phase.RUNNING) for word in ("validating", "in_progress", "finalizing", "cancelling", "a new word")),
        *((word, Phase.ENDED) for word in ("completed", "expired", "cancelled")),
        ("failed", Phase.FAILED),
    ],
)
def test_every_state_of_openai_has_its_phase(word: str, phase: Phase) -> None:
    """A state is running until it is known to be an end; both files are read where there are any."""
    files = {"output_file_id": "o", "error_file_id": "e"} if phase is Phase.ENDED else {}
    remote = OpenAIBatches().read_batch(reply(id="b", status=word, metadata={"rowroute_intent": "i"}, **files))
    assert (remote.phase, remote.word, remote.intent) == (phase, word, "i")
    assert [request.path for request in remote.results] == (["/files/o/content", "/files/e/content"] if files else [])


def test_completed_with_an_error_file_only_has_results() -> None:
    """A completed batch whose output file is null still has its errors to read."""
    remote = OpenAIBatches().read_batch(reply(id="b", status="completed", output_file_id=None, error_file_id="e"))
    assert [request.path for request in remote.results] == ["/files/e/content"]


STATES = {
    Phase.RUNNING: {
        "mistral": ["QUEUED", "RUNNING", "CANCELLATION_REQUESTED", "NEWS"],
        "gemini": ["QUEUED", "PENDING", "RUNNING", "CANCELLING", "PAUSED", "UPDATING", "UNSPECIFIED", "NEWS"],
    },
    Phase.ENDED: {
        "mistral": ["SUCCESS", "TIMEOUT_EXCEEDED", "CANCELLED"],
        "gemini": ["SUCCEEDED", "PARTIALLY_SUCCEEDED", "CANCELLED", "EXPIRED"],
    },
    Phase.FAILED: {"mistral": ["FAILED"], "gemini": ["FAILED"]},
}


@pytest.mark.parametrize(
    ("dialect", "word", "phase"),
    [(dialect, word, phase) for phase in Phase for dialect, words in STATES[phase].items() for word in words],
)
def test_every_state_of_mistral_and_gemini_has_its_phase(dialect: str, word: str, phase: Phase) -> None:
    """Each documented state is running, an end or a failure, and any other word is running."""
    body = golden(dialect, "ended")
    if dialect == "mistral":
        body["status"] = word
    else:
        body.pop("done")
        body["metadata"]["state"] = f"BATCH_STATE_{word}"
    remote = find_batch_dialect(dialect).read_batch(reply(**body))
    assert (remote.phase, remote.word) == (phase, word)


@pytest.mark.parametrize(
    ("dialect", "batch_id", "results"),
    [
        ("mistral", "b1", ["/files/f-out/content", "/files/f-err/content"]),
        ("gemini", "batches/b1", ["/files/batch-b1:download?alt=media"]),
    ],
)
def test_a_recorded_batch_is_read_whole(dialect: str, batch_id: str, results: list[str]) -> None:
    """The body of an ended batch gives id, mark, time and where its answers are; that of a failed one, the reason."""
    api = find_batch_dialect(dialect)
    remote = api.read_batch(reply(**golden(dialect, "ended")))
    assert (remote.batch_id, remote.phase, remote.intent) == (batch_id, Phase.ENDED, "0123abcd")
    assert remote.created_at == pytest.approx(1795564800, abs=1)
    assert [request.path for request in remote.results] == results
    failed = api.read_batch(reply(**golden(dialect, "failed")))
    assert failed.phase is Phase.FAILED
    assert "bad file" in failed.problem


def test_requests_of_mistral_and_gemini() -> None:
    """A batch is asked for with our mark and the model, and a list of batches page by page."""
    mistral, gemini = find_batch_dialect("mistral"), find_batch_dialect("gemini")
    assert mistral.files is not None
    assert gemini.files is not None
    made = mistral.files.create("f1", "mark", "mistral-small-latest")
    assert made.path == "/batch/jobs"
    assert json.loads(made.body) == golden("mistral", "create")
    made = gemini.files.create("files/f1", "mark", "gemini-2.5-flash")
    assert made.path == "/models/gemini-2.5-flash:batchGenerateContent"
    assert json.loads(made.body) == golden("gemini", "create")
    assert mistral.listing("").path == "/batch/jobs?page=0&page_size=100&order_by=-created"
    assert mistral.listing("2").path == "/batch/jobs?page=2&page_size=100&order_by=-created"
    assert gemini.listing("a/b").path == "/batches?pageSize=100&pageToken=a%2Fb"


def test_pages_of_mistral_and_gemini() -> None:
    """A full page of Mistral's is followed by the next number, one of Gemini's by the token it names."""
    mistral, gemini = find_batch_dialect("mistral"), find_batch_dialect("gemini")
    job = golden("mistral", "ended")
    assert mistral.read_listing(reply(data=[job] * 100, total=101), "").next == "1"
    assert mistral.read_listing(reply(data=[job] * 100, total=300), "1").next == "2"
    assert mistral.read_listing(reply(data=[job], total=101), "1").next == ""
    assert mistral.read_listing(reply(total=0), "") == Page([])
    page = gemini.read_listing(reply(operations=[golden("gemini", "ended")], nextPageToken="t"), "")
    assert ([remote.intent for remote in page.batches], page.next) == (["0123abcd"], "t")
    assert gemini.read_listing(reply(), "t") == Page([])


@pytest.mark.parametrize("word", ["in_progress", "canceling", "ended"])
def test_anthropic_ends_once(word: str) -> None:
    """A message batch has results when it has ended, and the number of its requests is the sum of its counts."""
    counts = {"processing": 2, "succeeded": 1, "errored": 1, "canceled": 1, "expired": 1}
    remote = find_batch_dialect("anthropic").read_batch(
        reply(id="b", processing_status=word, request_counts=counts, created_at="2026-11-25T00:00:00Z")
    )
    assert remote.requests == 6
    assert remote.created_at == 1795564800
    assert (remote.phase, len(remote.results)) == ((Phase.ENDED, 1) if word == "ended" else (Phase.RUNNING, 0))


@pytest.mark.parametrize(
    ("dialect", "line", "status", "problem"),
    [
        ("openai", {"response": {"status_code": 200, "body": {"a": 1}}}, 200, ""),
        ("openai", {"response": {"status_code": 429, "body": {"error": {}}}, "error": None}, 429, ""),
        ("openai", {"response": None, "error": {"code": "batch_expired", "message": "x"}}, None, "batch_expired"),
        ("openai", {"response": {"status_code": 0, "body": None}}, None, "no response"),
        ("openai", {"response": {"status_code": "200"}}, None, "no response"),
        ("mistral", {"response": {"status_code": 200, "body": {"a": 1}}, "error": None}, 200, ""),
        ("mistral", {"response": {"status_code": 422, "body": {"object": "error"}}}, 422, ""),
        ("mistral", {"response": None, "error": {"message": "timeout"}}, None, "timeout"),
        ("gemini", {"response": {"candidates": []}}, 200, ""),
        ("gemini", {"error": {"code": 3, "message": "x", "status": "INVALID_ARGUMENT"}}, 400, ""),
        ("gemini", {"error": {"code": 8, "message": "x"}}, 429, ""),
        ("gemini", {"error": {"code": 503, "message": "x"}}, 503, ""),
        ("gemini", {"error": {"code": 99, "message": "x"}}, 500, ""),
        ("gemini", {"error": {"code": 1, "message": "x"}}, None, "cancelled"),
        ("gemini", {"status": {"code": 14}}, 503, ""),
        ("gemini", {}, None, "no response"),
        ("anthropic", {"result": {"type": "succeeded", "message": {"a": 1}}}, 200, ""),
        ("anthropic", {"result": {"type": "expired"}}, None, "expired"),
        ("anthropic", {"result": {"type": "canceled"}}, None, "canceled"),
        (
            "anthropic",
            {"result": {"type": "errored", "error": {"type": "error", "error": {"type": "invalid_request_error"}}}},
            400,
            "",
        ),
        ("anthropic", {"result": {"type": "errored", "error": {"error": {"type": "news"}}}}, 500, ""),
    ],
)
def test_each_kind_of_line(dialect: str, line: dict[str, Any], status: int | None, problem: str) -> None:
    """A line is a response with its status, or says why there is none."""
    found = find_batch_dialect(dialect).read_line(json.dumps({_ID.get(dialect, "custom_id"): "c", **line}).encode())
    assert found is not None
    assert (found.custom_id, found.response and found.response.status, found.problem) == ("c", status, problem)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(
    status=st.integers(0, 599),
    body=st.binary(max_size=60) | st.recursive(st.none() | st.text(max_size=3) | st.integers(), lambda each: st.lists(each, max_size=2) | st.dictionaries(st.sampled_from(["id", "data", "status", "name", "metadata", "operations", "key", "error", "file", "custom_id", "response", "result", "processing_status"]), each, max_size=3)).map(lambda value: json.dumps(value).encode()),
)  # fmt: skip
def test_any_answer_is_read_or_is_a_call_error(dialect: str, status: int, body: bytes) -> None:
    """No status and no bytes make a batch API raise anything but CallError, and no line of results raises at all."""
    api, response = find_batch_dialect(dialect), HttpResponse(status, {}, body)
    reads: list[Any] = [api.read_batch, lambda answer: api.read_listing(answer, "")]
    for read in [*reads, *([api.files.read_upload] if api.files else [])]:
        with suppress(CallError):
            read(response)
    line = api.read_line(body)
    assert line is None or isinstance(line, Line)


def test_an_unknown_batch_api_is_refused() -> None:
    """A name without a batch API is an error that names those there are."""
    with pytest.raises(JobError, match="there are: openai, anthropic, gemini, mistral"):
        find_batch_dialect("batchy")


def a_client(dialect: Any) -> BatchClient:
    """Return a client that only writes."""
    endpoint = Endpoint.__new__(Endpoint)
    return BatchClient(endpoint, dialect, find_adapter("openai"), PARAMETERS)


def files_of(client: BatchClient, requests: Iterator[Request], folder: Path) -> list[tuple[int, Path]]:
    """Write *requests* into files, and return how many are in each."""
    feed = client.feed(requests, MODEL)
    files: list[tuple[int, Path]] = []
    while not feed.is_empty:
        file = folder / f"{len(files)}.entries"
        written = client.write(feed, "intent", file)
        assert written.sha256 == file_hash(file)
        files.append((len(written.requests), file))
    return files


def lines_of(file: Path) -> list[dict[str, Any]]:
    """Return the entries of an OpenAI file, taken out of the form around them."""
    body = file.read_bytes().split(b"application/jsonl\r\n\r\n")[1].rsplit(b"\r\n--", 1)[0]
    return [json.loads(line) for line in body.split(b"\n")]


def test_fifty_thousand_and_one_requests_are_two_files(tmp_path: Path) -> None:
    """B7: a file ends at the provider's number of requests, and the next one goes on with the very next request."""
    client = a_client(OpenAIBatches())
    files = files_of(client, (a_request(number) for number in range(50_001)), tmp_path)
    assert [count for count, _ in files] == [50_000, 1]
    assert [line["custom_id"] for _, file in files for line in lines_of(file)[-1:]] == [
        a_request(number).request_id.hex() for number in (49_999, 50_000)
    ]


def test_two_hundred_and_one_megabytes_are_two_files(tmp_path: Path) -> None:
    """B7: a file ends before the provider's number of bytes, counted in UTF-8: 67 rows of a million three-byte letters."""
    client = a_client(OpenAIBatches())
    files = files_of(client, (a_request(number, user="日" * 1_000_000) for number in range(67)), tmp_path)
    assert [count for count, _ in files] == [66, 1]
    assert files[0][1].stat().st_size <= 200_000_000 < sum(file.stat().st_size for _, file in files)
    shutil.rmtree(tmp_path)


class _Small(OpenAIBatches):
    max_requests = 5
    max_bytes = 700


@given(texts=st.lists(st.text(max_size=120), min_size=1, max_size=30))
def test_files_keep_every_request_once_in_order_within_the_limits(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever the rows, the files hold each of them once, in order, within both limits; one too large stands alone."""
    folder = tmp_path_factory.mktemp("files")
    requests = [a_request(number, user=text) for number, text in enumerate(texts)]
    found = []
    for count, file in files_of(a_client(_Small()), iter(requests), folder):
        lines = lines_of(file)
        size = len(file.read_bytes()) - len(b"".join(_Small().envelope("intent")[2:5:2]))
        assert count == len(lines) <= 5
        assert size <= 700 or count == 1
        found += [line["custom_id"] for line in lines]
    assert found == [request.request_id.hex() for request in requests]


def test_what_is_certain_not_to_have_been_made() -> None:
    """A refusal and a connection that never was make nothing; a timeout, a broken answer and a 5xx may have."""
    certain = [CallError(ErrorKind.BAD_REQUEST, status=400), CallError(ErrorKind.RATE, status=429),
               CallError(ErrorKind.TRANSPORT)]  # fmt: skip
    unsure = [CallError(ErrorKind.TIMEOUT, maybe_paid=True), CallError(ErrorKind.SERVER, status=502),
              CallError(ErrorKind.TIMEOUT, status=408), CallError(ErrorKind.BAD_BODY, status=200)]  # fmt: skip
    assert [is_certain(error) for error in certain + unsure] == [True] * 3 + [False] * 4


@pytest.mark.anyio
async def test_a_batch_without_a_mark_is_known_by_time_and_size(tmp_path: Path) -> None:
    """Of Anthropic's batches only one of our size, made since we asked and not known already may be ours."""
    from pipeline.ledger import Batch, BatchState

    batch = Batch("i", "m", BatchState.ASKED, 7, "", 0, None, 1, 1000.0, asked_at=1000.0)
    async with open_connections(1) as connections:
        client = BatchClient(
            Endpoint(connections, URL("http://127.0.0.1:1"), {}, 1), find_batch_dialect("anthropic"),
            find_adapter("openai"), PARAMETERS,
        )  # fmt: skip
        ours = Remote("b1", Phase.RUNNING, "in_progress", created_at=1001.0, requests=7)
        others = [ours._replace(requests=8), ours._replace(created_at=600.0), ours._replace(batch_id="known")]
        assert [client._may_be(each, batch, frozenset({"known"})) for each in [ours, *others]] == [True] + [False] * 3


@pytest.mark.anyio
@pytest.mark.parametrize("dialect", ["gemini", "mistral"])
async def test_a_marked_batch_is_found_on_any_page(dialect: str) -> None:
    """After a crash the batch with our mark is found beside any other, and a list without an end is no proof of none."""
    from pipeline.ledger import Batch, BatchState

    batch = Batch("mine", "m", BatchState.ASKED, 1, "", 0, None, 1, time.time(), asked_at=time.time())
    with serve_batches(PLAYED[dialect]) as api:
        async with open_connections(1) as connections:
            client = BatchClient(
                Endpoint(connections, URL(api.base_url), {}, 5),
                find_batch_dialect(dialect),
                find_adapter("openai"),
                PARAMETERS,
            )
            for mark in ("a", "mine", *("others",) * 3):
                api.make([], mark)
            assert [remote.intent for remote in await client.find(batch, frozenset())] == ["mine"]
            assert await client.find(batch._replace(intent="none"), frozenset()) == []
            if dialect == "gemini":
                for _ in range(50):
                    api.make([], "others")
                with pytest.raises(CallError, match="too many batches"):
                    await client.find(batch._replace(intent="none"), frozenset())


NOW = datetime(2026, 11, 24, 23, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("mode", "deadline_h", "requests", "minutes", "lane"),
    [
        ("never", 8, 100, None, "sync"),
        ("auto", None, 100, None, "sync"),
        ("always", None, 100, None, "batch"),
        ("auto", 8, 100, None, "batch"),
        ("auto", 8, 0, None, "sync"),
        ("auto", 1.25, 100, None, "sync"),  # an hour is left when a quarter is kept back: not more
        ("auto", 1.26, 100, None, "batch"),
        ("always", 0.5, 100, None, "batch"),
        ("always", 0.2, 100, None, "sync"),
        ("auto", 8, 100, 300, "sync"),  # five hours one by one, and half as much to spare
        ("auto", 8, 100, 200, "batch"),
    ],
)
def test_lane_is_chosen_by_time(
    mode: Any, deadline_h: float | None, requests: int, minutes: float | None, lane: str
) -> None:
    """A batch is chosen where it may take its time, or where enough is left to ask everything one by one after it."""
    deadline = None if deadline_h is None else NOW + timedelta(hours=deadline_h)
    timing = Timing(mode, NOW, deadline)
    chosen = choose_lane(timing, can_batch=True, requests=requests, minutes=minutes, at_once=64)
    assert chosen.lane == lane
    assert choose_lane(timing, can_batch=False, requests=requests, minutes=minutes, at_once=64) == Choice("sync")


def test_next_deadline_is_today_or_tomorrow() -> None:
    """A time of day is the next one, in the zone of the clock."""
    assert next_time("23:30", NOW) == NOW.replace(minute=30)
    assert next_time("07:00", NOW) == NOW.replace(day=25, hour=7)
    assert next_time("23:00", NOW) == NOW + timedelta(days=1)
