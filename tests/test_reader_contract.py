"""What every format promises: the same rows in the same order, whatever is asked of them and how often."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_readers import a_source, faults_of, rows_of, written

Rows = list[dict[str, str]]

NAMES = ["id", "text", "Ünïcode ✓"]
ODD = ["007", "1e5", "", " ", "a\0b", "x\ny", "x\r\ny", 'say "hi"', ",;\t", "日本語 😀", "NaN", "null", "\u2028", "[1]"]


def as_csv(rows: Rows, delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, NAMES, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_jsonl(rows: Rows) -> bytes:
    return b"".join(json.dumps({name: row[name] for name in NAMES}).encode() + b"\n" for row in rows)


def as_parquet(rows: Rows) -> bytes:
    sink = pa.BufferOutputStream()
    schema = pa.schema([(name, pa.string()) for name in NAMES])
    pq.write_table(pa.Table.from_pylist(rows, schema), sink, row_group_size=3)
    return bytes(sink.getvalue())


FORMATS: dict[str, Callable[[Rows], bytes]] = {
    "parquet": as_parquet,
    "csv": as_csv,
    "tsv": lambda rows: as_csv(rows, "\t"),
    "jsonl": as_jsonl,
    "ndjson": as_jsonl,
    "csv.gz": lambda rows: gzip.compress(as_csv(rows)),
    "csv.zst": lambda rows: pa.compress(as_csv(rows), "zstd", asbytes=True),
    "jsonl.gz": lambda rows: gzip.compress(as_jsonl(rows)),
    "jsonl.zst": lambda rows: pa.compress(as_jsonl(rows), "zstd", asbytes=True),
}
every_format = pytest.mark.parametrize("extension", FORMATS)
tables = st.lists(
    st.fixed_dictionaries({name: st.one_of(st.sampled_from(ODD), st.text(max_size=9)) for name in NAMES}),
    min_size=1,
    max_size=12,
)


@every_format
@given(rows=tables, max_rows=st.integers(1, 15), columns=st.permutations(NAMES), width=st.integers(0, 3))
def test_rows_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    extension: str,
    rows: Rows,
    max_rows: int,
    columns: list[str],
    width: int,
) -> None:
    """What was written is read, for any subset of columns, any size of batches, and twice alike."""
    source = a_source(written(tmp_path_factory.mktemp("rows") / f"x.{extension}", FORMATS[extension](rows)))
    assert source.schema == pa.schema([(name, pa.string()) for name in NAMES])
    assert rows_of(source.batches()) == rows == rows_of(source.batches())
    batches = list(source.batches(columns[:width], max_rows=max_rows))
    assert rows_of(iter(batches)) == [{name: row[name] for name in columns[:width]} for row in rows]
    assert all(0 < batch.table.num_rows <= max_rows for batch in batches)
    assert batches[0].first_row == 0
    assert sum(batch.table.num_rows for batch in batches) == len(rows)


@every_format
def test_several_files_are_one_input(tmp_path: Path, extension: str) -> None:
    """The rows of several files are numbered through."""
    rows = [{"id": str(number), "text": "t", "Ünïcode ✓": ""} for number in range(10)]
    for start in range(0, 10, 4):
        written(tmp_path / f"{start}.{extension}", FORMATS[extension](rows[start : start + 4]))
    source = a_source(tmp_path / f"*.{extension}")
    batches = list(source.batches(max_rows=3))
    assert rows_of(iter(batches)) == rows
    assert [batch.first_row for batch in batches] == [0, 3, 4, 7, 8]


@every_format
def test_batches_are_bounded_by_bytes(tmp_path: Path, extension: str) -> None:
    """Wide rows come in small batches, and not one is lost."""
    rows = [{"id": str(number), "text": str(number) * 6_000_000, "Ünïcode ✓": ""} for number in range(7)]
    source = a_source(written(tmp_path / f"x.{extension}", FORMATS[extension](rows)))
    batches = list(source.batches())
    assert max(batch.table.nbytes for batch in batches) <= 24 << 20
    assert rows_of(iter(batches)) == rows


@pytest.mark.parametrize("extension", [name for name in FORMATS if name != "parquet"])
def test_a_long_row_is_bad_in_its_place(tmp_path: Path, extension: str) -> None:
    """A row above `input.max_row_bytes` is bad, its neighbours are not, whether it is a little too long or a lot."""
    rows = [{"id": str(number), "text": "t", "Ünïcode ✓": ""} for number in range(5)]
    rows[1]["text"], rows[3]["text"] = "é" * 100, "y" * 3_000_000
    source = a_source(written(tmp_path / f"x.{extension}", FORMATS[extension](rows)), max_row_bytes=200)
    assert [row["id"] for row in rows_of(source.batches())] == ["0", None, "2", None, "4"]
    faults = faults_of(source.batches(["id"]))
    assert list(faults) == [1, 3]
    assert all("longer than 200 bytes (input.max_row_bytes)" in fault for fault in faults.values())
