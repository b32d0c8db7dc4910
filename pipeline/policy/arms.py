"""Arms: what can be done with a row. Ask one model, or ask two cheap ones and a further one only where they differ."""

from typing import NamedTuple

import numpy as np

from pipeline.policy.features import Floats, Ints


class Arm(NamedTuple):
    """Models in the order they are asked.

    One model: its answer counts. More: the first two are asked; where their answers agree, the answer of the first
    counts, else the next model is asked, and so on. An answer agrees when it is that of any model asked before. The
    last model's answer counts in any case. Every call is paid.
    """

    models: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the models as a person reads them: `a`, or `a = b > c`, c being asked where a and b differ."""
        first, *rest = self.models
        return first if not rest else f"{first} = {' > '.join(rest)}"

    @property
    def is_cascade(self) -> bool:
        """Tell whether more than one model may be asked."""
        return len(self.models) > 1


class Recorded(NamedTuple):
    """What each model (column) made of each row: score, cost in USD, and its answer as a number, -1 for none."""

    models: tuple[str, ...]
    scores: Floats
    costs: Floats
    answers: Ints | None

    def take(self, rows: Ints) -> "Recorded":
        """Return some of the rows."""
        answers = None if self.answers is None else self.answers[rows]
        return Recorded(self.models, self.scores[rows], self.costs[rows], answers)


class Played(NamedTuple):
    """What an arm made of each row."""

    scores: Floats
    costs: Floats
    calls: Ints
    last: Ints  # position in `Arm.models` of the model that was asked last


def play(arm: Arm, recorded: Recorded) -> Played:
    """Return what *arm* would have made of the rows, every call charged."""
    columns = [recorded.models.index(model) for model in arm.models]
    rows = len(recorded.scores)
    if not arm.is_cascade:
        ones = np.ones(rows, np.int64)
        return Played(recorded.scores[:, columns[0]], recorded.costs[:, columns[0]], ones, ones * 0)
    assert recorded.answers is not None, "a cascade by agreement needs answers"
    scores = recorded.scores[:, columns[-1]].copy()
    costs = recorded.costs[:, columns[0]].copy()
    calls = np.ones(rows, np.int64)
    last = np.full(rows, len(columns) - 1)
    open_ = np.ones(rows, dtype=bool)
    for position, column in enumerate(columns[1:], 1):
        costs += np.where(open_, recorded.costs[:, column], 0.0)
        calls += open_
        answer = recorded.answers[:, column]
        agrees = np.zeros(rows, dtype=bool)
        for earlier in reversed(columns[:position]):
            same = open_ & (answer >= 0) & (answer == recorded.answers[:, earlier])
            # Where they agree the answers are one; a score may differ all the same, and the first one's counts.
            scores[same] = recorded.scores[same, earlier]
            agrees |= same
        last[agrees] = position
        open_ &= ~agrees
    return Played(scores, costs, calls, last)
