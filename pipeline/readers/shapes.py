"""The Arrow type that holds every value of a JSON column, found by looking at all of them."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from types import NoneType
from typing import Any

import pyarrow as pa

_MAX_FIELDS = 2000  # an object of more keys is a map with data for keys, no struct
_MAX_DEPTH = 16
_MAX_INT64 = 2**63 - 1
_MAX_EXACT_FLOAT = 2**53  # from here on a float64 skips integers

Render = Callable[[Any], Any]


class Shape:
    """What kinds of values stand in one place of the data: a column, a field of a struct, the items of a list."""

    def __init__(self, depth: int = 0) -> None:
        self.fields: dict[str, Shape] = {}  # in the order in which they appeared
        self._depth = depth
        self._kinds: set[type] = set()
        self._largest = 0  # integer n, or ~n below zero
        self._items: Shape | None = None
        self._opaque = False  # too deep or too many keys: kept as JSON text

    def see(self, values: Sequence[Any]) -> None:
        """Take in *values*, of a column or of a part of it."""
        kinds = set(map(type, values))
        self._kinds |= kinds
        if int in kinds:
            integers = [value for value in values if type(value) is int]
            low, high = min(integers), max(integers)
            # ~n is -n - 1: an int64 reaches one further below zero than above.
            self._largest = max(self._largest, high, ~low)
        if list in kinds and self._may_nest():
            self._items = self._items or Shape(self._depth + 1)
            self._items.see(list(chain.from_iterable(value for value in values if type(value) is list)))
        if dict in kinds and self._may_nest():
            self._see_objects([value for value in values if type(value) is dict])

    def _see_objects(self, objects: Sequence[Mapping[str, Any]]) -> None:
        for key in dict.fromkeys(chain.from_iterable(objects)):
            self._field(key).see([value[key] for value in objects if key in value])
            if self._opaque:
                return

    def _field(self, key: str) -> "Shape":
        if key not in self.fields:
            self._opaque = len(self.fields) == _MAX_FIELDS
            self.fields[key] = Shape(self._depth + 1)
        return self.fields[key]

    def _may_nest(self) -> bool:
        self._opaque |= self._depth == _MAX_DEPTH
        return not self._opaque

    def merge(self, other: "Shape") -> None:
        """Take in all that *other* has seen."""
        self._kinds |= other._kinds
        self._largest = max(self._largest, other._largest)
        self._opaque |= other._opaque
        if other._items:
            self._items = self._items or Shape(self._depth + 1)
            self._items.merge(other._items)
        for key, field in other.fields.items():
            self._field(key).merge(field)

    @property
    def has_too_many_fields(self) -> bool:
        """Tell whether there were more keys than a struct or a table should have."""
        return self._opaque

    def arrow_type(self) -> pa.DataType:
        """Return the type that holds all that was seen; text where no other does, and where all is null."""
        if self._is_text():
            return pa.string()
        if list in self._kinds:
            assert self._items is not None
            return pa.list_(self._items.arrow_type())
        if dict in self._kinds:
            return pa.struct([pa.field(key, field.arrow_type()) for key, field in self.fields.items()])
        if float in self._kinds:
            return pa.float64()
        return pa.int64() if int in self._kinds else pa.bool_()

    def _is_text(self) -> bool:
        kinds = self._kinds - {NoneType}
        if kinds == {int}:
            return self._largest > _MAX_INT64
        if kinds == {int, float}:
            return self._largest > _MAX_EXACT_FLOAT
        if kinds == {dict}:
            return self._opaque or not self.fields  # Parquet has no struct without fields
        if kinds == {list}:
            return self._opaque
        return kinds not in ({bool}, {float})

    def renderer(self) -> Render | None:
        """Return what makes a value fit `arrow_type`; None where every value does already.

        Where the type is text, strings stay as they are and other values become their JSON text.
        """
        if self._is_text():
            return None if self._kinds <= {str, NoneType} else _as_text
        if self._items and (item := self._items.renderer()):
            return lambda value: value and [item(each) for each in value]
        renders = {key: render for key, field in self.fields.items() if (render := field.renderer())}
        if renders:
            return lambda value: (
                value and {key: renders[key](each) if key in renders else each for key, each in value.items()}
            )
        return None


def _as_text(value: Any) -> str | None:
    if value is None or type(value) is str:
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def to_arrow(values: Iterable[Any], type_: pa.DataType, render: Render | None) -> pa.Array:
    """Return *values* as an array. Raises pa.ArrowException or RecursionError when they do not fit."""
    return pa.array(values if render is None else list(map(render, values)), type_)
