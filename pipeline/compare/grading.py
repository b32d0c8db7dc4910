"""Which scorer scores a row, and what it says of an answer."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import polars as pl

from pipeline.errors import JobError
from pipeline.scorers import Score, Scorer, find_scorer, find_whole
from pipeline.spec import AGREEMENT, JUDGE, ScoreRule

RECORDED = "recorded"  # not a scorer: the score that came with the recorded answer counts
_BASELINE, _JUDGED = "baseline_answer", "judged"
_GRADES = {"quality": pl.Float64(), "gold": pl.String(), "said": pl.String(), "counts": pl.List(pl.Int32())}


class _Rule(NamedTuple):
    name: str
    task: str | None
    fields: dict[str, str]  # our column -> name of the reference's field
    scorer: Scorer | None  # None: the grade is recorded
    has_whole: bool  # parts of a user's scorer mean nothing to us


class Grader:
    """The scorers of a job.

    A frame to grade holds the columns `answer`, `rule` and, under the names in `columns`, the references; one to choose
    a rule for also `task`, `judged`, the judge's score, and, where `uses_baseline`, `baseline_answer`.
    """

    def __init__(self, rules: Sequence[ScoreRule]) -> None:
        self.columns: dict[str, str] = {}  # our name -> input column
        self._rules: list[_Rule] = []
        for number, rule in enumerate(rules):
            fields = {f"reference {number} {column}": column for column in rule.column or []}
            self.columns |= fields
            has_whole = find_whole(rule.scorer) is not None
            fields = fields or ({_JUDGED: _JUDGED} if rule.scorer == JUDGE else {_BASELINE: _BASELINE})
            self._rules.append(_Rule(rule.scorer, rule.task, fields, scorer_of(rule.scorer), has_whole))

    @property
    def reads_answers(self) -> bool:
        """Whether the texts of the answers are needed at all."""
        return bool(self._rules)

    @property
    def references(self) -> list[str]:
        """Return the columns with references, as a frame to grade has them."""
        return list(dict.fromkeys(column for rule in self._rules for column in rule.fields))

    @property
    def uses_baseline(self) -> bool:
        """Whether answers are compared with the baseline's."""
        return any(rule.name == AGREEMENT for rule in self._rules)

    def choose(self) -> tuple[pl.Expr, pl.Expr]:
        """Return `rule`, the number of the first rule that applies to a row, and `metric`, its scorer's name."""
        applies = [self._applies(rule) for rule in self._rules]
        numbers = [pl.when(test).then(pl.lit(number)) for number, test in enumerate(applies)]
        names = [pl.when(test).then(pl.lit(rule.name)) for rule, test in zip(self._rules, applies, strict=True)]
        return (
            pl.coalesce(*numbers, pl.lit(None, dtype=pl.Int32)).cast(pl.Int32).alias("rule"),
            pl.coalesce(*names, pl.lit(None, dtype=pl.String)).alias("metric"),
        )

    def _applies(self, rule: _Rule) -> pl.Expr:
        there = pl.col(next(iter(rule.fields))).is_not_null()
        return there if rule.task is None else there & (pl.col("task") == rule.task)

    def grade(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the score of each answer as `quality`, null without answer, scorer or usable reference.

        Its parts are `gold` and `said`, a reference label and the one said, or `counts`.
        """
        grades: list[tuple[Any, ...]] = [(None,) * len(_GRADES)] * frame.height
        for number, rule in enumerate(self._rules):
            if rule.scorer is None:
                continue
            mine = frame.with_row_index("place").filter(pl.col("rule") == number, pl.col("answer").is_not_null())
            for place, answer, reference in zip(mine["place"], mine["answer"], _references(mine, rule), strict=True):
                grades[place] = _grade(rule, answer, reference)
        return pl.DataFrame(grades, schema=_GRADES, orient="row")


def scorer_of(name: str) -> Scorer | None:
    """Return the scorer of a rule, None where the grade is recorded. Raises JobError like `find_scorer`."""
    if name in (RECORDED, JUDGE):
        return None
    return find_scorer("normalised" if name == AGREEMENT else name)


def _references(frame: pl.DataFrame, rule: _Rule) -> Iterator[Any]:
    if len(rule.fields) == 1:
        return iter(frame.get_column(next(iter(rule.fields))).to_list())
    return frame.select(pl.col(ours).alias(name) for ours, name in rule.fields.items()).iter_rows(named=True)


def _grade(rule: _Rule, answer: str, reference: Any) -> tuple[Any, ...]:
    assert rule.scorer is not None
    try:
        score: object = rule.scorer(answer, reference)  # of a user's function, anything
    except ValueError:
        return (None,) * len(_GRADES)
    if not isinstance(score, Score) or not 0 <= score.value <= 1:
        raise JobError(f"scorer {rule.name!r} returned {score!r}; it must return a Score with a value from 0 to 1")
    parts = score.parts if rule.has_whole else ()
    if parts and isinstance(parts[0], str):
        return (float(score.value), *parts, None)
    return (float(score.value), None, None, list(parts) or None)
