"""The learned model: a linear one over hashed n-grams and the votes of the rules. `docs/classification.md` says how."""

import functools
from importlib import resources
from typing import IO, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.classify.features import find_grams
from pipeline.records import Task

Weights = npt.NDArray[np.float32]

TASKS = list(Task)  # the order of the model's columns
VOTES_CAP = 6  # more votes than these say no more
_FILE = "learned.npz"
_SLICE_ROWS = 512  # so that what is worked on stays in the processor's cache
_WIDTH = 8  # of a row of weights, a power of two


class Model(NamedTuple):
    """Weights of n-grams (bucket, task) and of votes (task of the rule, task), and what the score begins with."""

    grams: Weights
    votes: Weights
    start: Weights
    certain: Weights
    """How often the rules alone are right by the votes of their lead, from 0 on, the last also for more."""
    certain_lead: int
    """From this lead on the rules are right as often as the model, which is then not asked."""

    @classmethod
    def load(cls, file: IO[bytes]) -> Self:
        """Read what `save` wrote."""
        with np.load(file, allow_pickle=False) as arrays:
            grams = np.zeros((len(arrays["grams"]), _WIDTH), dtype=np.float32)
            grams[:, : len(TASKS)] = arrays["grams"] * arrays["scale"]
            return cls(grams, arrays["votes"], arrays["start"], arrays["certain"], int(arrays["certain_lead"]))

    def save(self, file: IO[bytes]) -> None:
        """Write the model, its n-gram weights as whole numbers from -127 to 127 of a scale for each task."""
        weights = self.grams[:, : len(TASKS)]
        scale = np.maximum(np.abs(weights).max(axis=0), 1e-9) / np.float32(127)
        np.savez_compressed(
            file,
            grams=np.rint(weights / scale).astype(np.int8),
            scale=scale,
            votes=self.votes,
            start=self.start,
            certain=self.certain,
            certain_lead=np.int64(self.certain_lead),
        )

    def scores(self, texts: pl.Series, votes: npt.NDArray[np.int16]) -> Weights:
        """Return a row of scores per text, in the order of `TASKS`: softmax of it is the probability of each task.

        *texts* come from `features.looked_at`; *votes* are those of the rules, a row a task, a column a text.
        """
        parts = [np.zeros((0, len(TASKS)), dtype=np.float32)]
        for start in range(0, len(texts), _SLICE_ROWS):
            parts.append(self._scores(texts.slice(start, _SLICE_ROWS)))
        capped = np.minimum(votes, VOTES_CAP).T.astype(np.float32)
        return np.concatenate(parts) + capped @ self.votes + self.start

    def _scores(self, texts: pl.Series) -> Weights:
        words, kinds = find_grams(texts)
        by_token = np.zeros((len(words.rows), _WIDTH), dtype=np.float32)
        for kind in kinds:
            by_token += self.grams[kind.buckets] * kind.weights[:, None]
        scores = np.zeros((len(texts), _WIDTH), dtype=np.float32)
        first = np.flatnonzero(np.diff(words.rows, prepend=-1))
        if len(first):
            scores[words.rows[first]] = np.add.reduceat(by_token, first, axis=0)
        return scores[:, : len(TASKS)]


def probabilities(scores: Weights) -> Weights:
    """Return the softmax of each row of *scores*."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True, initial=0))
    shares: Weights = powers / powers.sum(axis=1, keepdims=True)
    return shares


@functools.cache
def built_in_model() -> Model:
    """Return the model that comes with the package."""
    with (resources.files(__package__) / _FILE).open("rb") as file:
        return Model.load(file)
