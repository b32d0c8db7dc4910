"""Faults of the input, D1 to D18 of docs/faults.md, where they concern the whole command; reading is tested alone."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.chaos.process import server_process
from tests.chaos.scenarios import rules
from tests.e2e.checking import CONCURRENCY, Arrivals, own_answers, started, statuses, wait_until
from tests.e2e.command import Job, make_job, marked_rows, run

NOBODY = "http://127.0.0.1:1/v1"


def reading(job: Job, name: str, content: bytes) -> Job:
    """Let *job* read a file of this *name* and *content* instead."""
    (job.folder / name).write_bytes(content)
    job.file.write_text(job.file.read_text().replace("in.parquet", name))
    return job


def parquet_of(folder: Path, table: pa.Table) -> bytes:
    """Return *table* as the bytes of a Parquet file."""
    pq.write_table(table, folder / "made.parquet")
    return (folder / "made.parquet").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("torn.parquet", parquet_of, "torn.parquet: is no whole Parquet file"),
        ("empty.parquet", b"", "empty.parquet: is no whole Parquet file: Parquet file size is 0 bytes"),
        ("*.jsonl", b"", "*.jsonl: matches no file"),
        ("twice.csv", b"id,prompt\na,x\nb,y\na,z\n", "column id is not unique: 1 rows repeat an id"),
        ("other.csv", b"id,text\na,x\n", "no column prompt; the input has: id, text"),
        ("utf16.csv", "id,prompt\na,x\n".encode("utf-16"), "utf16.csv: is UTF-16 by its first bytes"),
        ("latin.csv", "id,prompt\na,caf\xe9\n".encode("latin-1"), "latin.csv: line 2 is not UTF-8 (byte 0xe9)"),
        ("open.csv", b'id,prompt\na,"x\nb,y\nc,z\n', "open.csv: line 2: a quoted cell begins here"),
    ],
    ids=["torn", "no bytes", "no file", "ids twice", "column gone", "UTF-16", "Latin-1", "open quote"],
)
def test_an_input_that_can_not_be_trusted_ends_the_run(tmp_path: Path, name: str, content: object, told: str) -> None:
    """What is wrong with the file is said with its name, the exit code is 2, and nobody is asked."""
    job = make_job(tmp_path, NOBODY, rows=5)
    if callable(content):
        content = parquet_of(tmp_path, marked_rows(5))[:-100]
    if name == "*.jsonl":
        job.file.write_text(job.file.read_text().replace("in.parquet", name))
    else:
        assert isinstance(content, bytes)
        reading(job, name, content)
    done = run(job)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (job.output / "outputs.parquet").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("none.jsonl", b""), ("header.csv", b"id,prompt\n"), ("none.parquet", None)],
    ids=["JSONL", "CSV", "Parquet"],
)
def test_an_input_without_rows_is_done_at_once(tmp_path: Path, name: str, content: bytes | None) -> None:
    """No rows: exit code 0 and an output without rows that has its columns."""
    job = make_job(tmp_path, NOBODY, rows=1)
    reading(job, name, parquet_of(tmp_path, marked_rows(0)) if content is None else content)
    if name == "none.jsonl":
        job.file.write_text(
            job.file.read_text().replace('id = "id"\n', "").replace('column = "prompt"', 'user = "Say it."')
        )
    done = run(job)
    assert done.returncode == 0
    assert job.outputs().num_rows == 0
    assert "llm_answer" in job.outputs().column_names


ODD_LINES = [
    {"id": "nul", "prompt": "mark=nul; a\0b", "more": {"deep": [1, {"x": None}]}},
    {"id": "surrogate", "prompt": "mark=surrogate; a\ud800b"},
    {"id": "null", "prompt": None},
    {"id": "blank", "prompt": " \n\t"},
    {"prompt": "mark=nameless; has no id"},
    {"id": "huge", "prompt": "mark=huge; " + "word " * 2_000_000},
    {"id": "extra", "prompt": "mark=extra;", "a": {}, "b": [], "c": float("nan"), "d": 2**70},
    {"id": "script", "prompt": "mark=script; {{ 7 * 7 }} {% raw %} \x1b[31m"},
    {"id": "good", "prompt": "mark=good; Say it back."},
]


def test_odd_rows_do_not_harm_the_others(tmp_path: Path) -> None:
    """NUL, surrogates, nulls, 10 MB and bad lines: what can't be asked is quarantined with its reason, the rest is asked."""
    lines = [json.dumps(line) for line in ODD_LINES]
    lines.insert(4, '{"id": "bad", "prompt": ')
    content = "\n".join([*lines, '{"id": "torn", "pro'])
    with server_process(tmp_path, {}) as server:
        job = reading(make_job(tmp_path, server.base_url, rows=1), "odd.jsonl", content.encode())
        assert run(job).returncode == 1
        sent = [one.arrival.mark for one in server.exchanges()]
    assert sorted(sent) == ["extra", "good", "nameless", "nul", "script", "surrogate"]
    rows = job.outputs().to_pylist()
    assert [row["llm_status"] for row in rows] == [
        "ok", "ok", "failed", "failed", "failed", "ok", "failed", "ok", "ok", "ok", "failed",
    ]  # fmt: skip
    kinds = [line["kind"] for line in pq.read_table(job.output / "quarantine.parquet").to_pylist()]
    assert kinds == ["empty_input", "empty_input", "bad_line", "no_model", "bad_line"]
    assert rows[0]["prompt"] == "mark=nul; a\0b"
    assert rows[1]["prompt"] == "mark=surrogate; a\ufffdb"
    asked = [row for row in rows if row["llm_status"] == "ok"]
    assert all(f"mark={row['prompt'].split(';')[0][5:]};" in row["llm_answer"] for row in asked)


def test_an_input_that_changes_stops_the_run(tmp_path: Path) -> None:
    """When the file changes in mid-run no output is written from two versions of it; what was paid is kept."""
    slow = rules(({"first": CONCURRENCY}, {"latency_s": 1.0}))
    with server_process(tmp_path, slow) as server:
        job = make_job(tmp_path, server.base_url, rows=CONCURRENCY)
        arrivals = Arrivals(server.log_path)
        with started(job) as process:
            assert wait_until(lambda: arrivals.count() == CONCURRENCY, process)
            pq.write_table(marked_rows(CONCURRENCY + 1), job.input)
            assert process.wait(timeout=60) == 2
        assert "in.parquet: changed while the job was reading it" in (tmp_path / "stderr.log").read_text()
        assert not (job.output / "outputs.parquet").exists()
        assert run(job).returncode == 0
        assert len(server.exchanges()) == CONCURRENCY + 1
    assert own_answers(job)


def test_columns_may_come_and_go(tmp_path: Path) -> None:
    """A column that is new, gone or of another type the next night passes through; old answers are not paid again."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=30)
        assert run(job).returncode == 0
        table = marked_rows(30).drop_columns("n").append_column("new", pa.array([{"a": [1.5]}] * 30))
        pq.write_table(table.set_column(0, "id", table["id"].cast(pa.large_string())), job.input)
        assert run(job).returncode == 0
        assert len(server.exchanges()) == 30
    out = job.outputs()
    assert out.column_names[:3] == ["id", "prompt", "new"]
    assert out.schema.field("id").type == pa.large_string()
    assert statuses(job) == {"ok": 30}


def test_a_packed_bomb_is_bounded_by_its_rows(tmp_path: Path) -> None:
    """A small file that unpacks to one endless row is one bad row, and the rows before it are asked."""
    head = b"".join(json.dumps({"id": f"row-{n:06}", "prompt": f"mark=row-{n:06};"}).encode() + b"\n" for n in range(3))
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=1)
        bomb = gzip.compress(head + b'{"id": "' + b" " * (100 << 20))
        assert len(bomb) < 200_000
        assert run(reading(job, "bomb.jsonl.gz", bomb), "--set", "input.max_row_bytes=1000000").returncode == 1
        assert len(server.exchanges()) == 3
    assert statuses(job) == {"ok": 3, "failed": 1}
