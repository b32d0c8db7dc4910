"""Ids that come again are counted, whatever the number of rows."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.plan import unique
from pipeline.plan.unique import UniqueIds


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.one_of(st.none(), st.sampled_from("abcdefgh")), max_size=5), max_size=5), st.integers(1, 4))
def test_every_id_that_came_before_counts(tmp_path: Path, batches: list[list[str | None]], at_once: int) -> None:
    """Whatever the batches, and however many hashes fit into memory, an id counts each time it comes again."""
    ids = UniqueIds(tmp_path / "ids")
    for batch in batches:
        ids.add(pl.Series(batch, dtype=pl.String))
    there = [one for batch in batches for one in batch if one is not None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unique, "_AT_ONCE", at_once)
        assert ids.take_repeated() == len(there) - len(set(there))
    assert not (tmp_path / "ids").exists()


def test_a_column_without_ids_repeats_none(tmp_path: Path) -> None:
    """Where no id was taken, none comes again."""
    assert UniqueIds(tmp_path / "ids").take_repeated() == 0
