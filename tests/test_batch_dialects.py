"""Batch APIs as data: entries and their files, states, listings and lines of results, whatever a provider sends."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from pipeline.errors import CallError, ErrorKind, JobError
from pipeline.lanes import BatchClient
from pipeline.lanes.batch_client import file_hash, is_certain
from pipeline.plan import Choice, Timing, choose_lane, next_time
from pipeline.providers import find_adapter
from pipeline.providers.batches import Line, Phase, Remote, find_batch_dialect
from pipeline.providers.batches.openai import OpenAIBatches
from pipeline.records import HttpResponse, Model, Parameters, Request
from pipeline.transport import Endpoint
from tests.builders import a_request

MODEL = Model("m", "p", 1000, ())
PARAMETERS = Parameters(max_output_tokens=9)
DIALECTS = ["openai", "anthropic"]


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
    found = find_batch_dialect(dialect).read_line(json.dumps({"custom_id": "c", **line}).encode())
    assert found is not None
    assert (found.custom_id, found.response and found.response.status, found.problem) == ("c", status, problem)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(
    status=st.integers(0, 599),
    body=st.binary(max_size=60) | st.recursive(st.none() | st.text(max_size=3) | st.integers(), lambda each: st.lists(each, max_size=2) | st.dictionaries(st.sampled_from(["id", "data", "status", "custom_id", "response", "result", "processing_status"]), each, max_size=3)).map(lambda value: json.dumps(value).encode()),
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
    with pytest.raises(JobError, match="there are: openai, anthropic"):
        find_batch_dialect("batchy")


def a_client(dialect: Any) -> BatchClient:
    """Return a client that only writes."""
    endpoint = Endpoint.__new__(Endpoint)
    return BatchClient(endpoint, dialect, find_adapter("openai"), PARAMETERS)


def files_of(client: BatchClient, requests: Iterator[Request], folder: Path) -> list[tuple[int, Path]]:
    """Write *requests* into files, and return how many are in each."""
    feed, files = client.feed(requests, MODEL), []
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
    async with aiohttp.ClientSession() as session:
        client = BatchClient(
            Endpoint(session, URL("http://127.0.0.1:1"), {}, 1), find_batch_dialect("anthropic"),
            find_adapter("openai"), PARAMETERS,
        )  # fmt: skip
        ours = Remote("b1", Phase.RUNNING, "in_progress", created_at=1001.0, requests=7)
        others = [ours._replace(requests=8), ours._replace(created_at=600.0), ours._replace(batch_id="known")]
        assert [client._may_be(each, batch, frozenset({"known"})) for each in [ours, *others]] == [True] + [False] * 3


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
