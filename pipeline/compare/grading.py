"""Which scorer scores a row, and what it says of an answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from pipeline.errors import JobError
from pipeline.scorers import Score, Scorer, find_scorer

RECORDED = "recorded"  # not a scorer: the score that came with the recorded answer counts


class Grader:
    """The scorers of a job, *references* being scorer name = column of references.

    A frame to grade holds the columns `answer`, `metric` and, under the names in `columns`, the references.
    """

    def __init__(self, references: Mapping[str, str]) -> None:
        self.columns = {f"reference {name}": column for name, column in references.items()}
        self._scorers = {name: find_scorer(name) for name in references if name != RECORDED}

    @property
    def reads_answers(self) -> bool:
        """Whether the texts of the answers are needed at all."""
        return bool(self.columns)

    def metric(self) -> pl.Expr:
        """Return the name of a row's scorer: the first whose reference is not null; null where there is none."""
        names = [name.removeprefix("reference ") for name in self.columns]
        cases = [pl.when(pl.col(f"reference {name}").is_not_null()).then(pl.lit(name)) for name in names]
        return pl.coalesce(*cases, pl.lit(None, dtype=pl.String))

    def grade(self, frame: pl.DataFrame) -> pl.Series:
        """Return the score of each answer; null without answer, scorer or usable reference."""
        scores: list[float | None] = [None] * frame.height
        for name, scorer in self._scorers.items():
            mine = frame.select(place=pl.int_range(pl.len()), use=pl.col("metric") == name, said="answer").filter("use")
            references = frame.get_column(f"reference {name}").gather(mine.get_column("place"))
            for place, answer, reference in zip(mine["place"], mine["said"], references.to_list(), strict=True):
                if answer is not None:
                    scores[place] = _value(name, scorer, answer, reference)
        return pl.Series("quality", scores, dtype=pl.Float64)


def _value(name: str, scorer: Scorer, answer: str, reference: Any) -> float | None:
    try:
        score: object = scorer(answer, reference)  # of a user's function, anything
    except ValueError:
        return None
    if not isinstance(score, Score) or not 0 <= score.value <= 1:
        raise JobError(f"scorer {name!r} returned {score!r}; it must return a Score with a value from 0 to 1")
    return float(score.value)
