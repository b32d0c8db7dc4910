"""Opening an input: which files, which format, which schema, and what is refused before anything is spent."""

import gzip
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import JobError
from pipeline.readers import Batch, Source, open_source
from pipeline.spec import Input


def a_source(*paths: Path | str, **options: Any) -> Source:
    """Open *paths* as a job would."""
    return open_source(Input(path=[str(path) for path in paths], **options))


def rows_of(batches: Iterator[Batch]) -> list[dict[str, Any]]:
    """Return all rows."""
    return [row for batch in batches for row in batch.table.to_pylist()]


def faults_of(batches: Iterator[Batch]) -> dict[int, str]:
    """Return row number -> fault of every bad row."""
    return {batch.first_row + offset: why for batch in batches for offset, why in batch.bad.items()}


def problems_of(*paths: Path | str, **options: Any) -> str:
    """Return what the job says when it refuses *paths*, at once or while it reads."""
    with pytest.raises(JobError) as caught:
        rows_of(a_source(*paths, **options).batches())
    return str(caught.value)


def growth_mb(folder: Path, path: Path, **options: Any) -> float:
    """Return how far reading *path* raises the peak memory of a process of its own, in MB."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    script = folder / "measure.py"
    script.write_text(
        textwrap.dedent("""
        import re, sys
        from pathlib import Path
        from pipeline.readers import open_source
        from pipeline.spec import Input
        def peak():
            return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
        before = peak()
        source = open_source(Input.model_validate_json(sys.argv[1]))
        rows = sum(batch.table.num_rows for batch in source.batches())
        print(peak() - before)
        """)
    )
    spec = Input(path=[str(path)], **options)
    command = [sys.executable, str(script), spec.model_dump_json()]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def written(path: Path, text: str | bytes) -> Path:
    """Write *text* to *path*."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_files_come_in_the_order_of_the_patterns(tmp_path: Path) -> None:
    """Patterns keep their order, the files of one come by name, and none comes twice."""
    for name in ("b2", "b1", "a"):
        written(tmp_path / f"{name}.csv", f"x\n{name}\n")
    source = a_source(tmp_path / "b*.csv", tmp_path / "*.csv")
    assert [path.name for path in source.files] == ["b1.csv", "b2.csv", "a.csv"]
    assert [row["x"] for row in rows_of(source.batches())] == ["b1", "b2", "a"]
    assert [batch.first_row for batch in source.batches()] == [0, 1, 2]


def test_a_file_may_look_like_a_pattern(tmp_path: Path) -> None:
    """A file whose name holds brackets is found by its name."""
    path = written(tmp_path / "part[1].csv", "x\n1\n")
    assert rows_of(a_source(path).batches()) == [{"x": "1"}]


def test_every_pattern_without_files_is_named(tmp_path: Path) -> None:
    """D17: a glob without a match, a missing file, a folder and an address are refused together."""
    said = problems_of(tmp_path / "*.csv", tmp_path / "no.csv", tmp_path, "s3://bucket/x.parquet")
    assert [line.split(": ", 1)[1] for line in said.splitlines()] == [
        f"{tmp_path}/*.csv: matches no file",
        f"{tmp_path}/no.csv: no such file",
        f"{tmp_path} is a folder; name its files, as in {tmp_path}/*.parquet",
        "s3://bucket/x.parquet: only files are read; copy it to this machine first",
    ]


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """What can be read only once is no input."""
    os.mkfifo(tmp_path / "p.csv")
    assert "is no regular file" in problems_of(tmp_path / "p.csv")


@pytest.mark.parametrize("name", ["x.txt", "x", "x.json", "x.parquet.gz", "x.gz"])
def test_an_unknown_format_is_refused(tmp_path: Path, name: str) -> None:
    """A file whose name tells no format is refused with the names that do, or with what to do."""
    said = problems_of(written(tmp_path / name, ""))
    assert ".jsonl" in said or "unpack it" in said


def test_formats_do_not_mix(tmp_path: Path) -> None:
    """Files of several formats are refused; the case of an extension does not matter."""
    paths = [written(tmp_path / "x.CSV", "a\n"), written(tmp_path / "x.jsonl", "{}\n")]
    assert "several formats (.csv, .jsonl)" in problems_of(*paths)
    assert a_source(paths[0]).schema.names == ["a"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", gzip.compress(b"a\n1\n", mtime=0), "is gzip data; name it .gz"),
        ("x.jsonl", pa.compress(b"{}\n", "zstd", asbytes=True), "is zstd data; name it .zst"),
        ("x.csv", b"PAR1\x15\x04..PAR1", "is a Parquet file"),
        ("x.csv", b"PK\x03\x04....", "a workbook"),
        ("x.csv.gz", b"a\n1\n", "cannot be read to its end"),
        ("x.csv.zst", b"a\n1\n", "cannot be read to its end"),
        ("x.csv.gz", b"", "cannot be read to its end"),
    ],
)
def test_a_wrong_name_is_told(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    """Packed or foreign data under a plain name, and plain data under a packed one, are refused."""
    assert said in problems_of(written(tmp_path / name, content))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_torn_archive_is_refused(tmp_path: Path, suffix: str, kind: str) -> None:
    """D11: packed data that end too early stop the job and name the file."""
    text = b'{"a": 1}\n' * 9999
    packed = gzip.compress(text) if kind == "gz" else pa.compress(text, "zstd", asbytes=True)
    path = written(tmp_path / f"x{suffix}.{kind}", packed[:-9])
    assert f"{path}: cannot be read to its end" in problems_of(path)


def test_gzip_members_follow_each_other(tmp_path: Path) -> None:
    """Archives joined by `cat`, an empty one among them, are read to the end."""
    members = gzip.compress(b"a\n1\n") + gzip.compress(b"") + gzip.compress(b"2\n")
    assert rows_of(a_source(written(tmp_path / "x.csv.gz", members)).batches()) == [{"a": "1"}, {"a": "2"}]


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    """A wrong `input.encoding` is told, with ones that are right."""
    path = written(tmp_path / "x.csv", "a\n")
    assert "input.encoding: utf-9 is no known encoding" in problems_of(path, encoding="utf-9")
    assert "no known encoding" in problems_of(path, encoding="base64")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("change", ["grow", "touch", "replace", "delete"])
def test_a_file_that_changes_stops_the_job(tmp_path: Path, suffix: str, change: str) -> None:
    """D17: after any change of a file the next pass is refused, and so is the end of one under way."""
    path = tmp_path / f"x.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"a": ["1", "2"]}), path)
    else:
        written(path, "a\n1\n2\n" if suffix == "csv" else '{"a": 1}\n{"a": 2}\n')
    source = a_source(path)
    source.check_unchanged()
    under_way = source.batches(max_rows=1)
    next(under_way)
    match change:
        case "grow":
            path.write_bytes(path.read_bytes() + b"x")
        case "touch":
            os.utime(path, ns=(1, 1))
        case "replace":
            status = path.stat()
            written(tmp_path / "new", path.read_bytes())
            os.utime(tmp_path / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
            (tmp_path / "new").replace(path)
        case _:
            path.unlink()
    said = "changed while|No such file"
    with pytest.raises(JobError, match=said):
        source.check_unchanged()
    with pytest.raises(JobError, match=said):
        next(source.batches())
    with pytest.raises(JobError, match=said):
        list(under_way)


def test_files_with_other_columns_are_refused(tmp_path: Path) -> None:
    """D16: each CSV file that is not like the first is named, with the difference."""
    texts = {"1": "a,b\n", "2": "a,c\n", "3": "b,a\n", "4": "", "5": "a,b\n"}
    paths = [written(tmp_path / f"{name}.csv", text) for name, text in texts.items()]
    assert problems_of(*paths).splitlines() == [
        f"{paths[1]}: has other columns than {paths[0]}: missing b; added c",
        f"{paths[2]}: has other columns than {paths[0]}: their order is b, a, not a, b",
    ]


def test_a_missing_column_names_those_there_are(tmp_path: Path) -> None:
    """A column that is not there is refused with the ones that are."""
    source = a_source(written(tmp_path / "x.csv", "a,b\n1,2\n"))
    with pytest.raises(JobError, match="no column c; the input has: a, b"):
        next(source.batches(["a", "c"]))


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.tsv"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str) -> None:
    """D12: zero bytes, or nothing but empty lines, are no rows and no columns."""
    for text in ("", "\n\r\n", "\ufeff"):
        source = a_source(written(tmp_path / name, text))
        assert (source.schema.names, list(source.batches())) == ([], [])


@given(content=st.binary(max_size=200), suffix=st.sampled_from(["csv", "tsv", "jsonl"]))
def test_any_bytes_are_read_alike_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    """Whatever is in a file, it is refused, or every pass gives the same rows and the same bad ones."""
    path = written(tmp_path_factory.mktemp("any") / f"x.{suffix}", content)
    try:
        source = a_source(path, max_row_bytes=50)
        whole = list(source.batches())
    except JobError:
        return
    again = list(source.batches(max_rows=1))
    assert repr(rows_of(iter(whole))) == repr(rows_of(iter(again)))  # NaN is not equal to itself
    assert faults_of(iter(whole)) == faults_of(iter(again)) == faults_of(source.batches([]))
