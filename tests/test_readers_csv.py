"""CSV: cells as they stand, and no line silently lost, joined or filled up."""

import csv
import gzip
import io
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import JobError
from tests.test_readers import a_source, faults_of, growth_mb, problems_of, rows_of, written


def cells_of(path: Path, text: str | bytes, **options: object) -> list[list[str | None]]:
    """Write *text* to *path* and return the cells that are read."""
    return [list(row.values()) for row in rows_of(a_source(written(path, text), **options).batches())]


@given(
    cells=st.lists(st.lists(st.text(max_size=8), min_size=3, max_size=3), max_size=8),
    header=st.lists(
        st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5), unique=True, min_size=3, max_size=3
    ),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_any_text_comes_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]], header: list[str], newline: str
) -> None:
    """Whatever text the cells and the header hold, and however lines end, the same text is read."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=newline, quoting=csv.QUOTE_ALL).writerows([header, *cells])
    source = a_source(written(tmp_path_factory.mktemp("csv") / "x.csv", text.getvalue()))
    assert source.schema.names == header
    assert rows_of(source.batches()) == [dict(zip(header, row, strict=True)) for row in cells]


@given(cells=st.lists(st.text(max_size=8), min_size=1, max_size=8))
def test_what_polars_writes_comes_back(tmp_path_factory: pytest.TempPathFactory, cells: list[str]) -> None:
    """A file of another writer, which quotes as little as it must, is read as it was meant."""
    frame = pl.DataFrame({"number": range(len(cells)), "text": cells})
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    frame.write_csv(path)
    assert [row["text"] for row in rows_of(a_source(path).batches())] == cells


@given(cells=st.lists(st.text("ab ", min_size=1, max_size=5), min_size=2, max_size=8), data=st.data())
def test_a_lost_quote_swallows_no_row(
    tmp_path_factory: pytest.TempPathFactory, cells: list[str], data: st.DataObject
) -> None:
    """D7: when any one quote is gone, the job stops with a line, or no row is missing."""
    body = "".join(f'"{number}","{cell}"\n' for number, cell in enumerate(cells))
    place = data.draw(st.sampled_from([place for place, letter in enumerate(body) if letter == '"']))
    path = written(tmp_path_factory.mktemp("csv") / "x.csv", f"number,text\n{body[:place]}{body[place + 1 :]}")
    try:
        rows = rows_of(a_source(path).batches())
    except JobError as error:
        said = str(error)
    else:
        said = f"{len(rows)} rows"
    assert said == f"{len(cells)} rows" or f"{path}: line " in said


def test_the_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    """D3: a UTF-8 byte order mark is dropped, also before a quoted name."""
    for text in ("\ufeffid,b\n1,2\n", '\ufeff"id",b\n1,2\n'):
        assert a_source(written(tmp_path / "x.csv", text)).schema.names == ["id", "b"]


def test_nul_is_kept(tmp_path: Path) -> None:
    """D4: a NUL in a cell is text like any other."""
    assert cells_of(tmp_path / "x.csv", "a,b\nx\0y,\0\n") == [["x\0y", "\0"]]


def test_ragged_rows_are_bad_in_their_place(tmp_path: Path) -> None:
    """D5, D6: a line with too many or too few cells is one bad row with its line number; empty lines are none."""
    path = written(tmp_path / "x.csv", 'a,b\n1,2\n\n1,2,3\n"x\ny",2\n1\n\n1,\n')
    source = a_source(path)
    assert [row["a"] for row in rows_of(source.batches())] == ["1", None, "x\ny", None, "1"]
    assert faults_of(source.batches()) == {
        1: "x.csv, line 4: the number of cells is 3, in the header 2",
        3: "x.csv, line 7: the number of cells is 1, in the header 2",
    }


def test_text_behind_a_quote_is_one_bad_row(tmp_path: Path) -> None:
    """A quote that is not doubled inside one line spoils that line only."""
    path = written(tmp_path / "x.csv", 'a,b\n1,"x"y,\n2,"say "hi""\n3,4\n5" tall,"6"\n')
    source = a_source(path)
    assert [row["a"] for row in rows_of(source.batches())] == [None, None, "3", '5" tall']
    assert [fault.split(";")[0] for fault in faults_of(source.batches()).values()] == [
        f"x.csv, line {line}: text behind the closing quote of a cell" for line in (2, 3)
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a,b\n1,2\n3,"open\n5,6\n7,8\n', 3),
        ('a,b\n1,2\n3,"open\n5,"6"\n7,8\n', 3),
        ('a,b\n1,"two\nlines"\n\n3,"so "c"alled\nquotes"\n', 5),
        ('"a,b\n1,2\n', 1),
    ],
)
def test_an_open_quote_stops_the_job(tmp_path: Path, text: str, line: int) -> None:
    """D7: a quoted cell that is not closed properly stops the job and names the line where it begins."""
    said = problems_of(written(tmp_path / "x.csv", text))
    assert f"x.csv: line {line}: a quoted cell begins here and is not closed properly" in said


def test_a_torn_last_line_is_one_bad_row(tmp_path: Path) -> None:
    """Where the file ends inside a quoted cell of its last line, only that line is bad."""
    source = a_source(written(tmp_path / "x.csv", 'a,b\n1,2\n3,"tor'))
    assert rows_of(source.batches()) == [{"a": "1", "b": "2"}, {"a": None, "b": None}]
    assert faults_of(source.batches()) == {1: "x.csv, line 3: the file ends inside a quoted cell"}


def test_a_long_row_of_several_lines_is_one_bad_row(tmp_path: Path) -> None:
    """A quoted cell that grows too long over several lines is passed over to its end."""
    cell = '"' + "1234567890\n" * 20 + '""quoted""\n"'
    text = f"a,b\n1,{cell}\n2,3\n{'x' * 150},{cell}\n4,5\n"
    source = a_source(written(tmp_path / "x.csv", text), max_row_bytes=100)
    assert [row["a"] for row in rows_of(source.batches())] == [None, "2", None, "4"]
    assert [fault[:24] for fault in faults_of(source.batches()).values()] == [
        "x.csv, lines 2 to 23: lo",
        "x.csv, lines 25 to 46: l",
    ]
    never = written(tmp_path / "y.csv", 'a,b\n1,2\n3,"' + "z\n" * 99)
    assert "line 3: a quoted cell begins here" in problems_of(never, max_row_bytes=100)


def test_another_encoding_is_named(tmp_path: Path) -> None:
    """D8: Latin-1 bytes are refused with file, line and option; with the option they are read."""
    path = written(tmp_path / "x.csv", "a,b\n1,2\n3,café\n".encode("latin-1"))
    said = problems_of(path)
    assert f"{path}: line 3 is not UTF-8 (byte 0xe9)" in said
    assert "input.encoding" in said
    assert rows_of(a_source(path, encoding="latin-1").batches())[1] == {"a": "3", "b": "café"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "shift_jis", "utf-8-sig"])
def test_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    """D8: a file in the encoding that the job names is read, over many blocks too."""
    text = "a,b\n" + "日本,語\n" * 100_000
    rows = cells_of(tmp_path / "x.csv", text.encode(encoding), encoding=encoding)
    assert rows == [["日本", "語"]] * 100_000


def test_utf_16_is_noticed(tmp_path: Path) -> None:
    """D8: UTF-16 without `input.encoding` is refused, with a byte order mark and without one."""
    path = tmp_path / "x.csv"
    assert 'set input.encoding = "utf-16"' in problems_of(written(path, "a,b\n1,2\n".encode("utf-16")))
    assert 'set input.encoding = "utf-16-le"' in problems_of(written(path, "a,b\n1,2\n".encode("utf-16-le")))
    torn = written(path, "a,b\n1,2\n".encode("utf-16")[:-1])
    assert "is not utf-16 near line 2" in problems_of(torn, encoding="utf-16")


def test_nothing_is_taken_for_a_number(tmp_path: Path) -> None:
    """D9: `007`, `1e5`, `NaN` and a late change of kind stay the text they are."""
    values = ["007", "1e5", "NaN", "", "true", "2026-01-01", "x"]
    assert cells_of(tmp_path / "x.csv", "a,b\n" + "".join(f"{value},\n" for value in values)) == [
        [value, ""] for value in values
    ]


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_row_of_10_mb_is_read(tmp_path: Path, quote: str) -> None:
    """D10: a row of 10 MB is read like any other."""
    long = "word\n" * 2_000_000 if quote else "word " * 2_000_000
    assert cells_of(tmp_path / "x.csv", f"a,b\n1,{quote}{long}{quote}\n2,3\n") == [["1", long], ["2", "3"]]


def test_a_header_alone_is_a_schema(tmp_path: Path) -> None:
    """D12: a file with a header only has its columns and no rows."""
    source = a_source(written(tmp_path / "x.csv", "a,b"))
    assert (source.schema.names, list(source.batches())) == (["a", "b"], [])


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    """Two columns of one name can't be told apart."""
    assert "names 'a' more than once" in problems_of(written(tmp_path / "x.csv", "a,b,a\n"))


def test_a_header_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """A fault in the header stops the job: without it no cell has a name."""
    said = problems_of(written(tmp_path / "x.csv", f"a,{'b' * 100}\n1,2\n"), max_row_bytes=50)
    assert "the header can't be read: line 1: longer than 50 bytes" in said


def test_a_packed_bomb_is_streamed(tmp_path: Path) -> None:
    """D18: 200 MB of rows take little memory, and so does one endless line."""
    rows = written(tmp_path / "rows.csv.gz", gzip.compress(b"a,b\n" + (b"x" * 99_997 + b",y\n") * 2000, 1))
    assert growth_mb(tmp_path, rows) < 150
    line = written(tmp_path / "line.csv.gz", gzip.compress(b"a,b\n" + b"x" * 100_000_000 + b",y\n", 1))
    assert growth_mb(tmp_path, line, max_row_bytes=1 << 20) < 40
