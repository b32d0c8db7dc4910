"""The patterns in which arms succeed and fail: rows on which the same arms are right."""

from typing import NamedTuple

import numpy as np

from pipeline.policy.features import Floats

_MOST = 24  # patterns, the most frequent; other rows count to the nearest of them
_STEP = 0.25  # scores are rounded to it before they are compared


class Patterns(NamedTuple):
    """Which pattern each row shows (row x pattern, a 1 in each row), and the mean differences of each (pattern x arm)."""

    members: Floats
    centres: Floats

    @classmethod
    def of(cls, scores: Floats) -> "Patterns":
        """Find the patterns in the *scores* of the arms (columns)."""
        rounded = np.round(scores / _STEP) * _STEP
        shapes, own, times = np.unique(rounded, axis=0, return_inverse=True, return_counts=True)
        kept = np.sort(np.argsort(-times, kind="stable")[:_MOST])
        distances = ((shapes[:, None, :] - shapes[None, kept, :]) ** 2).sum(axis=2)
        members = np.eye(len(kept))[distances.argmin(axis=1)[own.reshape(-1)]]
        differences = scores - scores.mean(axis=1, keepdims=True)
        return cls(members, (members.T @ differences) / members.sum(axis=0)[:, None])
