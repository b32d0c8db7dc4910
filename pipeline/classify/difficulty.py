"""How hard a text is expected to be, from signals that cost little to count."""

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.classify.rules import Rules
from pipeline.records import Difficulty


def difficulties(texts: pl.Series, chars: pl.Series, task: npt.NDArray[np.intp], rules: Rules) -> pl.Series:
    """Return the difficulty of each text: *chars* is its length before any cut, *task* its place in `rules.order`."""
    scale = rules.difficulty
    points = np.array([scale.start[name] for name in rules.order])[task]
    for signal in scale.signal:
        rows = np.flatnonzero(np.isin(rules.order, signal.tasks)[task])
        counts = (
            chars.gather(rows) if signal.pattern is None else _count(texts.gather(rows), signal.pattern, signal.reach)
        )
        for threshold in signal.reach:
            points[rows[(counts >= threshold).to_numpy()]] += signal.points
    least = [scale.levels[level] for level in Difficulty]
    return pl.Series(list(Difficulty), dtype=pl.String).gather(np.searchsorted(least[1:], points, side="right"))


def _count(texts: pl.Series, pattern: str, reach: list[int]) -> pl.Series:
    if reach == [1]:  # the search may stop at the first match
        return texts.str.contains(pattern).cast(pl.UInt32)
    return texts.str.count_matches(pattern)
