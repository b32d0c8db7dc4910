"""Fields of JSON answers as typed columns."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.columns import answer_columns, read_columns
from pipeline.errors import JobError
from pipeline.readers import open_source
from pipeline.spec import Input
from pipeline.write import check_prefix

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
KINDS: list[tuple[dict[str, Any], pa.DataType, list[tuple[Any, Any]]]] = [
    ({"type": "string"}, pa.string(), [("x", "x"), (7, None), (None, None)]),
    (
        {"type": "integer"},
        pa.int64(),
        [(7, 7), (2.0, 2), (2.5, None), (True, None), (2**63, None), (-(2**63), -(2**63))],
    ),
    ({"type": "number"}, pa.float64(), [(7, 7.0), (0.5, 0.5), (True, None), (10**400, None)]),
    ({"type": "boolean"}, pa.bool_(), [(True, True), (0, None)]),
    ({"type": ["string", "null"]}, pa.string(), [(None, None), ("x", "x")]),
    ({"type": ["integer", "number"]}, pa.float64(), [(1, 1.0)]),
    ({"enum": ["a", "b", None]}, pa.string(), [("a", "a"), (None, None)]),
    ({"const": 3}, pa.int64(), [(3, 3)]),
    ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, pa.int64(), [(3, 3), (None, None)]),
    ({"type": "array", "items": {"type": "string"}}, pa.list_(pa.string()), [(["a", 1], ["a", None]), ("a", None)]),
    ({"type": "array", "items": {"type": "integer"}}, pa.list_(pa.int64()), [([1, 2], [1, 2]), ([], [])]),
    ({"type": "array"}, pa.string(), [([1], "[1]")]),
    ({"type": "array", "items": {"type": "array", "items": {"type": "string"}}}, pa.string(), [([["é"]], '[["é"]]')]),
    ({"type": "object"}, pa.string(), [({"k": [1]}, '{"k": [1]}'), (None, None)]),
    ({"type": ["string", "integer"]}, pa.string(), [(1, "1"), ("x", '"x"')]),
    ({}, pa.string(), [(1, "1")]),
    ({"$ref": "#/$defs/a"}, pa.string(), [("x", '"x"')]),
    ({"anyOf": [{"type": "integer"}, {}]}, pa.string(), [(1, "1")]),
]


@pytest.mark.parametrize(("schema", "kind", "values"), KINDS, ids=[str(case[0]) for case in KINDS])
def test_a_property_has_a_column_of_its_type(schema: dict[str, Any], kind: pa.DataType, values: list[Any]) -> None:
    """The type follows the schema; a value that it can't hold is null, and what has no one type is JSON text."""
    columns = answer_columns({"properties": {"a": schema}}, "llm_", [])
    (array,) = read_columns(columns, [json.dumps({"a": value}) for value, _ in values])

    assert columns[0].field == pa.field("llm_a", kind)
    assert array.to_pylist() == [expected for _, expected in values]


def test_columns_are_in_the_order_of_the_schema_and_step_aside_for_ours() -> None:
    """A property that has the name of an answer column gets `answer_` before its own."""
    schema = {"properties": {"reason": {"type": "string"}, "b": {}, "a": {}}}

    names = [column.field.name for column in answer_columns(schema, "x_", ["x_reason"])]

    assert names == ["x_answer_reason", "x_b", "x_a"]
    assert answer_columns(None, "x_", []) == answer_columns({"type": "array"}, "x_", []) == []


def test_two_properties_for_one_column_are_refused(tmp_path: Path) -> None:
    """Where stepping aside meets another property, or a column of the input is in the way, the job is refused."""
    pq.write_table(pa.table({"id": ["a"], "llm_x": [1]}), tmp_path / "in.parquet")
    source = open_source(Input(path=[str(tmp_path / "in.parquet")]))

    with pytest.raises(JobError, match="two properties would be column llm_answer_reason; rename one"):
        check_prefix(source, "llm_", {"properties": {"reason": {}, "answer_reason": {}}})
    with pytest.raises(JobError, match=r"output\.prefix: the input already has llm_x"):
        check_prefix(source, "llm_", {"properties": {"x": {}}})
    check_prefix(source, "llm_", {"properties": {"y": {}}})


@pytest.mark.parametrize("answer", [None, "", "no JSON", "[1]", "7", "{}", '{"b": 1}', "[" * 5000])
def test_a_row_without_the_property_has_null(answer: str | None) -> None:
    """No answer, another kind of JSON and a missing property are all null."""
    columns = answer_columns({"properties": {"a": {"type": "string"}}}, "", [])

    assert read_columns(columns, [answer])[0].to_pylist() == [None]


@given(value=JSON_VALUES)
def test_no_value_breaks_a_column(value: Any) -> None:
    """Any value under any of the schemas gives an array of the declared type."""
    schema = {"properties": {str(number): case[0] for number, case in enumerate(KINDS)}}
    columns = answer_columns(schema, "", [])

    arrays = read_columns(columns, [json.dumps({str(number): value for number in range(len(KINDS))})])

    assert [array.type for array in arrays] == [case[1] for case in KINDS]
    assert {len(array) for array in arrays} == {1}
