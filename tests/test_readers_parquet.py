"""Parquet: exact types, damage told by its row group, memory bounded by bytes."""

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import JobError
from pipeline.readers import Source
from tests.test_readers import a_source, growth_mb, problems_of, rows_of, written

VALUES: list[tuple[pa.DataType, list[Any]]] = [
    (pa.string(), ["a", "", None, "日本\0"]),
    (pa.large_string(), ["a", None]),
    (pa.binary(), [b"\xff", None]),
    (pa.binary(2), [b"ab", None]),
    (pa.int8(), [-128, None]),
    (pa.uint64(), [2**64 - 1, None]),
    (pa.float16(), [np.float16(1.5), None]),
    (pa.float32(), [1.5, None]),
    (pa.float64(), [float("inf"), -0.0, None]),
    (pa.bool_(), [True, None]),
    (pa.decimal128(18, 12), [Decimal("0.000000000001"), None]),
    (pa.date32(), [date(2026, 11, 1), None]),
    (pa.timestamp("us", "UTC"), [datetime(2026, 11, 1, tzinfo=UTC), None]),
    (pa.timestamp("ns", "Europe/Berlin"), [1, None]),
    (pa.time64("us"), [1, None]),
    (pa.duration("s"), [timedelta(seconds=1), None]),
    (pa.dictionary(pa.int8(), pa.string()), ["red", "red", None]),
    (
        pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
        [[{"role": "user", "content": "x"}], [], None],
    ),
    (pa.struct([("k", pa.list_(pa.int16()))]), [{"k": [1]}, None]),
    (pa.map_(pa.string(), pa.int64()), [[("k", 1)], None]),
    (pa.list_(pa.float32(), 2), [[1.0, 2.0], None]),
    (pa.string_view(), ["a view of a long text", None]),
    (pa.uuid(), [b"0123456789abcdef", None]),
    (pa.null(), [None]),
]


def a_parquet(path: Path, table: pa.Table, **options: Any) -> Source:
    """Write *table* to *path* and open it."""
    pq.write_table(table, path, **options)
    return a_source(path)


def table_read(source: Source, **options: Any) -> pa.Table:
    """Return all that *source* reads."""
    return pa.Table.from_batches([batch.table for batch in source.batches(**options)], source.schema)


def spelled_out(table: pa.Table) -> pa.Table:
    """Return *table* without dictionaries, which may differ from chunk to chunk where the values are equal."""
    plain = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    return pa.table(plain, table.column_names)


@given(
    picks=st.lists(st.lists(st.integers(0, 9), min_size=len(VALUES), max_size=len(VALUES)), max_size=20),
    max_rows=st.integers(1, 25),
    row_group_size=st.integers(1, 25),
    dictionary=st.booleans(),
    compression=st.sampled_from(["none", "snappy", "zstd"]),
)
def test_any_table_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    picks: list[list[int]],
    max_rows: int,
    row_group_size: int,
    dictionary: bool,
    compression: str,
) -> None:
    """Every type is read as it was written, whatever the row groups, the encoding and the size of batches."""
    columns = {
        f"{number} {kind}": pa.array([values[row[number] % len(values)] for row in picks], kind)
        for number, (kind, values) in enumerate(VALUES)
    }
    table = pa.table(columns)
    path = tmp_path_factory.mktemp("parquet") / "x.parquet"
    source = a_parquet(path, table, row_group_size=row_group_size, use_dictionary=dictionary, compression=compression)
    assert source.schema == table.schema
    read = table_read(source, max_rows=max_rows)
    read.validate(full=True)
    assert read.schema == table.schema
    assert spelled_out(read).equals(spelled_out(table))


def test_names_with_dots_are_columns(tmp_path: Path) -> None:
    """A column whose name looks like a path is not taken for a part of another."""
    table = pa.table({"a": [{"b": 1}], "a.b": ["x"], "a.b.c": ["y"]})
    source = a_parquet(tmp_path / "x.parquet", table)
    for names in (["a"], ["a.b"], ["a.b.c", "a"]):
        assert [batch.table.to_pydict() for batch in source.batches(names)] == [table.select(names).to_pydict()]


def test_metadata_and_not_null_are_kept(tmp_path: Path) -> None:
    """The schema keeps what the file says beside the types."""
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False)], metadata={"origin": "here"})
    source = a_parquet(tmp_path / "x.parquet", pa.table([pa.array([1])], schema=schema))
    assert source.schema.equals(schema, check_metadata=True)
    assert table_read(source).schema == schema


def test_an_empty_table_has_its_schema(tmp_path: Path) -> None:
    """D12: a table without rows has its columns and no batch, with row groups and without."""
    table = pa.table({"a": pa.array([], pa.string())})
    source = a_parquet(tmp_path / "x.parquet", table)
    assert (source.schema, list(source.batches())) == (table.schema, [])
    pq.ParquetWriter(tmp_path / "y.parquet", table.schema).close()
    assert list(a_source(tmp_path / "y.parquet").batches()) == []


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_torn_file_is_refused(tmp_path: Path, keep: int) -> None:
    """D1: a file of no bytes or without its end is refused by name before a row is read."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": ["x"] * 100}), path)
    written(path, path.read_bytes()[:keep])
    assert problems_of(path).startswith(f"{path}: is no whole Parquet file: ")


@pytest.mark.parametrize("checksum", [True, False])
def test_a_damaged_page_is_told_by_its_row_group(tmp_path: Path, checksum: bool) -> None:
    """D2: a flipped bit is told with its row group, by the checksum or because the text is no text any more."""
    path = tmp_path / "x.parquet"
    texts = [f"text {number}" for number in range(4000)]
    pq.write_table(
        pa.table({"a": texts}),
        path,
        row_group_size=1000,
        use_dictionary=False,
        compression="none",
        write_page_checksum=checksum,
        write_statistics=False,
    )
    content = bytearray(path.read_bytes())
    content[content.index(b"text 2500")] ^= 0x80
    written(path, bytes(content))
    source = a_source(path)
    said = problems_of(path)
    assert said.startswith(f"{path}: row group 2 (of 4, from 0) is damaged: ")
    assert next(source.batches(max_rows=100)).table.num_rows == 100


@given(place=st.integers(0, 10**9), bit=st.integers(0, 7))
@example(place=4440, bit=0)  # in the header of a page, which no checksum covers: all rows of the column are gone
def test_no_flipped_bit_changes_a_row(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    """D2: with checksums, a flipped bit in the pages is refused or does no harm."""
    path = tmp_path_factory.mktemp("flip") / "x.parquet"
    table = pa.table({"a": [f"text {number}" for number in range(300)], "b": range(300)})
    pq.write_table(table, path, write_page_checksum=True, compression="zstd")
    content = bytearray(path.read_bytes())
    pages = len(content) - pq.read_metadata(path).serialized_size - 8
    content[place % pages] ^= 1 << bit
    written(path, bytes(content))
    with suppress(JobError):
        assert table_read(a_source(path)).equals(table)


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """Two columns of one name can't be told apart."""
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), tmp_path / "x.parquet")
    assert "has several columns named 'a'" in problems_of(tmp_path / "x.parquet")


def test_files_with_another_schema_are_refused(tmp_path: Path) -> None:
    """D16: a file with a retyped, a missing or a new column is named, with the difference."""
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": ["1"], "c": ["x"]}), tmp_path / "2.parquet")
    assert problems_of(tmp_path / "*.parquet") == (
        f"{tmp_path}/2.parquet: has other columns than {tmp_path}/1.parquet: missing b; added c; a is string, not int64"
    )


def test_small_row_groups_are_read_together(tmp_path: Path) -> None:
    """Many tiny row groups do not make as many tiny batches."""
    source = a_parquet(tmp_path / "x.parquet", pa.table({"a": range(10_000)}), row_group_size=10)
    assert len(list(source.batches(max_rows=1000))) <= 20


def test_hidden_texts_are_spelled_out(tmp_path: Path) -> None:
    """A long text that is stored once for many rows comes back in every row, nulls and all, in small batches."""
    texts = [None if number % 7 == 0 else str(number % 3) * 100_000 for number in range(400)]
    table = pa.table({"n": range(400), "a": texts, "b": pa.array(texts, pa.large_string())})
    source = a_parquet(tmp_path / "x.parquet", table, row_group_size=300)
    batches = list(source.batches())
    assert max(batch.table.nbytes for batch in batches) <= 20 << 20
    assert table_read(source).equals(table)
    assert rows_of(source.batches(["a"])) == table.select(["a"]).to_pylist()


def test_a_packed_bomb_is_streamed(tmp_path: Path) -> None:
    """D18: 1 GB of text out of 100 kB takes little memory."""
    path = tmp_path / "x.parquet"
    with pq.ParquetWriter(path, pa.schema([("a", pa.string())])) as writer:
        for _ in range(10):
            writer.write_table(pa.table({"a": ["x" * 1_000_000] * 100}))
    assert path.stat().st_size < 600_000
    assert growth_mb(tmp_path, path) < 110


def test_a_big_row_group_is_streamed(tmp_path: Path) -> None:
    """A row group of 200 MB is read piece by piece."""
    path = tmp_path / "x.parquet"
    letters = np.random.default_rng(1).integers(97, 123, 2_000_000, dtype=np.uint8).tobytes().decode()
    texts = [letters[start : start + 1000] for start in range(0, 2_000_000, 10)]
    pq.write_table(pa.table({"a": texts}), path, compression="none", row_group_size=len(texts))
    assert path.stat().st_size > 150 << 20
    assert growth_mb(tmp_path, path) < 80
