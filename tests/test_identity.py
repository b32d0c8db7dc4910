"""Content addresses and the map over them."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.identity import IdMap, as_ids, request_hasher
from pipeline.records import Parameters

ids_of_bytes = st.lists(st.binary(min_size=16, max_size=16), max_size=40)
# Few distinct halves, so that equal upper halves with different lower ones come up.
crowded = st.lists(st.sampled_from([bytes([a]) * 8 + bytes([b]) * 8 for a in range(3) for b in range(4)]), max_size=40)


def test_an_address_never_changes() -> None:
    """The address of a request is the same on every version of Python and of any library."""
    ask = request_hasher("gpt-4o", Parameters(1024, 0.0, None, ("yes", "no")))
    assert ask(b"Is it?", None, None, None).hex() == "07b38f819cb069f43fa6962712eed219"
    assert ask(b"Is it?", "Be brief.", None, None).hex() == "9941cbdb4b223859bb56b09561734a17"


@pytest.mark.parametrize(
    ("model", "parameters", "question"),
    [
        ("b", Parameters(10), (b"x", None, None, None)),
        ("a", Parameters(11), (b"x", None, None, None)),
        ("a", Parameters(10, 0.5), (b"x", None, None, None)),
        ("a", Parameters(10, None, "{}"), (b"x", None, None, None)),
        ("a", Parameters(10), (b"y", None, None, None)),
        ("a", Parameters(10), (b"x", "", None, None)),
        ("a", Parameters(10), (b"x", None, "i", None)),
        ("a", Parameters(10), (b"x", None, None, "[]")),
    ],
    ids=["model", "max tokens", "temperature", "schema", "user", "system", "image", "messages"],
)
def test_each_part_of_a_request_counts(
    model: str, parameters: Parameters, question: tuple[bytes, str | None, str | None, str | None]
) -> None:
    """Requests that differ in one part have different addresses."""
    assert request_hasher(model, parameters)(*question) != request_hasher("a", Parameters(10))(b"x", None, None, None)


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_parts_never_run_together(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Text moved from one part to the next changes the address."""
    ask = request_hasher("m", Parameters(1))
    same = ask(one[0].encode(), one[1], None, None) == ask(other[0].encode(), other[1], None, None)
    assert same == (one == other)


def test_a_lone_surrogate_has_an_address() -> None:
    """Text that is no valid Unicode is addressed as it is sent."""
    ask = request_hasher("m", Parameters(1))
    assert ask(b"", "a\ud800", None, None) == ask(b"", "a?", None, None)


@given(st.lists(st.one_of(ids_of_bytes, crowded), max_size=6))
def test_the_map_is_a_dictionary_that_keeps_the_first_value(batches: Sequence[list[bytes]]) -> None:
    """Whatever is added in whatever batches, each id has the first value given for it, and others have none."""
    found, plain, number = IdMap(), dict[bytes, int](), 0
    for batch in batches:
        values = np.arange(number, number + len(batch), dtype=np.int64)
        number += len(batch)
        added = found.add(as_ids(b"".join(batch)), values)
        for one, value, was_added in zip(batch, values.tolist(), added.tolist(), strict=True):
            assert was_added == (one not in plain)
            plain.setdefault(one, value)
    assert len(found) == len(plain)
    asked = [*plain, b"\xff" * 16]
    assert found.find(as_ids(b"".join(asked))).tolist() == [plain.get(one, -1) for one in asked]
    listed = {bytes(ids.astype(">u8").tobytes()[i * 16 : i * 16 + 16]): int(value)
              for ids, values in found.items() for i, value in enumerate(values)}  # fmt: skip
    assert listed == plain
