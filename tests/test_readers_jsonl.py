"""JSONL: a type that holds every value, and one bad row a bad line."""

import gzip
import json
import math
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.errors import JobError
from pipeline.readers import Source
from tests.test_readers import a_source, faults_of, growth_mb, problems_of, rows_of, written


def a_jsonl(path: Path, *values: Any, **options: Any) -> Source:
    """Write *values* to *path*, one a line, and open it; bytes are written as they are."""
    lines = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    return a_source(written(path, b"".join(line + b"\n" for line in lines)), **options)


def column_of(path: Path, *values: Any) -> tuple[pa.DataType, list[Any]]:
    """Return the type and the values of a column that is written as *values*."""
    source = a_jsonl(path, *({"a": value} for value in values))
    return source.schema.field("a").type, [row["a"] for row in rows_of(source.batches())]


int64 = st.integers(-(2**63), 2**63 - 1)
leaves = st.sampled_from([int64, st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5), st.booleans()])
kinds = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(lambda kind: st.lists(kind, max_size=3)),
        st.dictionaries(st.text(max_size=3), inner, min_size=1, max_size=3).map(st.fixed_dictionaries),
    ),
    max_leaves=5,
)


@given(data=st.data(), columns=st.dictionaries(st.text(max_size=4), kinds, min_size=1, max_size=3))
def test_typed_values_come_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, columns: dict[str, st.SearchStrategy[Any]]
) -> None:
    """Values of one kind a column, nested ones too, are read as they were written; missing ones are null."""
    row = st.fixed_dictionaries({}, optional={name: st.none() | kind for name, kind in columns.items()})
    rows = data.draw(st.lists(row, min_size=1, max_size=8))
    assume(any(rows))
    source = a_jsonl(tmp_path_factory.mktemp("jsonl") / "x.jsonl", *rows)
    names = source.schema.names
    assert set(names) == {name for row in rows for name in row}
    assert rows_of(source.batches()) == [{name: row.get(name) for name in names} for row in rows]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(rows=st.lists(st.dictionaries(st.text(max_size=2), anything, max_size=3), min_size=1, max_size=6))
def test_any_mixture_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    """However kinds mix, no line is bad, every type can be written to Parquet, and no value is lost."""
    assume(any(rows))
    source = a_jsonl(tmp_path_factory.mktemp("jsonl") / "x.jsonl", *rows)
    batches = list(source.batches())
    assert not faults_of(iter(batches))
    table = pa.Table.from_batches([batch.table for batch in batches], source.schema)
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    assert pa.parquet.read_table(pa.BufferReader(sink.getvalue())).equals(table)
    for name in source.schema.names:
        for read, row in zip(table[name].to_pylist(), rows, strict=True):
            assert (read is None) == (row.get(name) is None)


@given(line=st.binary(max_size=30).filter(lambda line: b"\n" not in line and line.strip()), place=st.integers(1, 3))
def test_a_bad_line_is_one_bad_row(tmp_path_factory: pytest.TempPathFactory, line: bytes, place: int) -> None:
    """D11: whatever one line holds but the first, which may tell another format, the others are read."""
    lines: list[Any] = [{"a": number} for number in range(4)]
    lines[place] = line
    source = a_jsonl(tmp_path_factory.mktemp("jsonl") / "x.jsonl", *lines)
    faults = faults_of(source.batches())
    assert [row["a"] for row in rows_of(source.batches())] == [None if at == place else at for at in range(4)]
    assert list(faults) == [place]
    assert faults[place].startswith(f"x.jsonl, line {place + 1}: ")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"a": "tor', "not JSON: Unterminated string"),
        (b'{"a": 1}{"a": 2}', "not JSON: Extra data"),
        (b"[1]", "JSON, but not an object"),
        (b"null", "JSON, but not an object"),
        (b'{"a": "caf\xe9"}', "byte 11 (0xe9) is not UTF-8"),
        (b'{"a": ' + b"[" * 9999, "nested too deeply"),
        (b'{"a": ' + b"9" * 9999 + b"}", "a number has too many digits"),
    ],
)
def test_a_fault_is_told(tmp_path: Path, line: bytes, fault: str) -> None:
    """D11: a bad row says what is wrong with its line and which line it is; empty lines count as lines."""
    source = a_jsonl(tmp_path / "x.jsonl", {"a": 1}, b"", line, b"  \r", {"a": 2})
    assert [row["a"] for row in rows_of(source.batches())] == [1, None, 2]
    assert faults_of(source.batches())[1].startswith(f"x.jsonl, line 3: {fault}")


def test_a_torn_last_line_is_one_bad_row(tmp_path: Path) -> None:
    """D11: a file cut anywhere in its last line loses that line only."""
    whole = b'{"a": 1}\n{"a": 2, "b": "x"}'
    for end in range(10, len(whole)):
        source = a_source(written(tmp_path / "x.jsonl", whole[:end]))
        assert [row["a"] for row in rows_of(source.batches())] == [1, None]


def test_a_late_column_is_not_lost(tmp_path: Path) -> None:
    """A column that appears in the last of many lines is there, and null before."""
    source = a_jsonl(tmp_path / "x.jsonl", *[{"a": 1}] * 50_000, {"b": "late"})
    assert source.schema == pa.schema([("a", pa.int64()), ("b", pa.string())])
    rows = rows_of(source.batches())
    assert (rows[0], rows[-1]) == ({"a": 1, "b": None}, {"a": None, "b": "late"})


@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        ([1, None, -(2**63)], pa.int64(), [1, None, -(2**63)]),
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([2**53 + 1, 2.5], pa.string(), ["9007199254740993", "2.5"]),
        ([2**63, 1], pa.string(), ["9223372036854775808", "1"]),
        ([True, False], pa.bool_(), [True, False]),
        ([True, 1], pa.string(), ["true", "1"]),
        (["007", 7, None], pa.string(), ["007", "7", None]),
        ([[1], "x", {"k": "é"}], pa.string(), ["[1]", "x", '{"k":"é"}']),
        ([[1, 2], [], None], pa.list_(pa.int64()), [[1, 2], [], None]),
        ([[1, "x"], None], pa.list_(pa.string()), [["1", "x"], None]),
        ([[], []], pa.list_(pa.string()), [[], []]),
        ([None, None], pa.string(), [None, None]),
        ([{}, {}], pa.string(), ["{}", "{}"]),
        (
            [{"k": 1}, {"m": [True]}, {"m": ["x"]}],
            pa.struct([("k", pa.int64()), ("m", pa.list_(pa.string()))]),
            [{"k": 1, "m": None}, {"k": None, "m": ["true"]}, {"k": None, "m": ["x"]}],
        ),
    ],
)
def test_a_column_has_the_type_that_holds_it(
    tmp_path: Path, values: list[Any], kind: pa.DataType, read: list[Any]
) -> None:
    """The type is the narrowest that holds all values; where kinds mix it is text, strings as they are."""
    assert column_of(tmp_path / "x.jsonl", *values) == (kind, read)


def test_python_numbers_that_are_no_json_are_read(tmp_path: Path) -> None:
    """D14: NaN and Infinity, as Python writes them, are floats."""
    kind, (nan, infinity) = column_of(tmp_path / "x.jsonl", math.nan, -math.inf)
    assert (kind, math.isnan(nan), infinity) == (pa.float64(), True, -math.inf)


@pytest.mark.parametrize(
    ("written_as", "read"),
    [
        (rb"\ud800", "\ufffd"),
        (rb"x\uDfffy", "x\ufffdy"),
        (rb"\ud83d\ude00", "😀"),
        (rb"\ud83d\ud83d\ude00\ude00", "\ufffd😀\ufffd"),
        (rb"\\ud800", r"\ud800"),
        (rb"\\\ud800\"", '\\\ufffd"'),
    ],
)
def test_a_lone_surrogate_is_replaced(tmp_path: Path, written_as: bytes, read: str) -> None:
    """D15: half a character becomes U+FFFD, in values and in names; pairs and escaped backslashes stay."""
    source = a_jsonl(tmp_path / "x.jsonl", b'{"a": "' + written_as + b'"}', b'{"\\ud800": "' + written_as + b'"}')
    assert rows_of(source.batches()) == [{"a": read, "\ufffd": None}, {"a": None, "\ufffd": read}]


def test_a_line_of_10_mb_is_read(tmp_path: Path) -> None:
    """D10: a line of 10 MB is read like any other."""
    long = "word\n" * 2_000_000
    source = a_jsonl(tmp_path / "x.jsonl", {"a": "x"}, {"a": long}, {"a": "y"})
    assert [row["a"] for row in rows_of(source.batches())] == ["x", long, "y"]


def test_types_hold_over_several_files(tmp_path: Path) -> None:
    """The type of a column holds the values of every file, in nested places too."""
    a_jsonl(tmp_path / "1.jsonl", {"a": 1, "b": [{"k": 1}]})
    a_jsonl(tmp_path / "2.jsonl", {"b": [{"m": "x"}], "a": 2.5})
    written(tmp_path / "3.jsonl", "")
    source = a_source(tmp_path / "*.jsonl")
    assert rows_of(source.batches()) == [
        {"a": 1.0, "b": [{"k": 1, "m": None}]},
        {"a": 2.5, "b": [{"k": None, "m": "x"}]},
    ]


def test_a_value_that_does_not_fit_any_more_stops_the_job(tmp_path: Path) -> None:
    """A file that was changed behind the reader's back is refused when a value is of another kind than before."""
    path = tmp_path / "x.jsonl"
    source = a_jsonl(path, {"a": 100})
    status = path.stat()
    written(path, '{"a": "x"}\n')
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(JobError, match="column a: a value is not int64"):
        list(source.batches())


def test_files_with_other_keys_are_refused(tmp_path: Path) -> None:
    """D16: each file whose keys are not those of the first is named, with the difference."""
    for name, row in (("1", {"a": 1, "b": 2}), ("2", {"a": 1, "c": 3}), ("3", {"a": 1})):
        a_jsonl(tmp_path / f"{name}.jsonl", row)
    assert problems_of(tmp_path / "*.jsonl").splitlines() == [
        f"{tmp_path}/2.jsonl: has other columns than {tmp_path}/1.jsonl: missing b; added c",
        f"{tmp_path}/3.jsonl: has other columns than {tmp_path}/1.jsonl: missing b",
    ]


def test_a_file_without_objects_is_refused(tmp_path: Path) -> None:
    """A JSON array under the name of JSONL is refused with the fault of its first line."""
    said = problems_of(written(tmp_path / "x.jsonl", '[{"a": 1},\n{"a": 2}]\n'))
    assert "no line is a JSON object with keys; x.jsonl, line 1: not JSON" in said


def test_keys_that_are_data_make_text(tmp_path: Path) -> None:
    """An object with thousands of different keys is kept as JSON text; a table of them is refused."""
    maps = [{f"key {number}": 1} for number in range(3000)]
    kind, values = column_of(tmp_path / "x.jsonl", *maps)
    assert (kind, [json.loads(value) for value in values]) == (pa.string(), maps)
    written(tmp_path / "y.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in maps))
    assert "has more than 2000 columns" in problems_of(tmp_path / "y.jsonl")


def test_deep_values_are_kept_as_text(tmp_path: Path) -> None:
    """What is nested deeper than a schema should be is JSON text from there on."""
    deep: Any = "core"
    for _ in range(100):
        deep = [deep]
    kind, (value,) = column_of(tmp_path / "x.jsonl", deep)
    for _ in range(15):
        kind, (value,) = kind.value_type, value
    assert kind == pa.string()
    assert json.loads(value) == json.loads("[" * 85 + '"core"' + "]" * 85)


def test_utf_16_is_noticed(tmp_path: Path) -> None:
    """D8: UTF-16 is refused, and read where `input.encoding` says so."""
    path = written(tmp_path / "x.jsonl", '{"a": "é"}\n'.encode("utf-16"))
    assert 'set input.encoding = "utf-16"' in problems_of(path)
    assert rows_of(a_source(path, encoding="utf-16").batches()) == [{"a": "é"}]


def test_a_packed_bomb_is_streamed(tmp_path: Path) -> None:
    """D18: 200 MB of lines take little memory in both passes."""
    line = b'{"a": "' + b"x" * 99_989 + b'"}\n'
    path = written(tmp_path / "x.jsonl.gz", gzip.compress(line * 2000, 1))
    assert growth_mb(tmp_path, path) < 150
