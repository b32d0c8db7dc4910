"""Scorers: how good an answer is, measured against a reference. One contract, found by name or by dotted path."""

import pkgutil

from pipeline.errors import JobError
from pipeline.scorers.contract import Score, Scorer

__all__ = ["BUILT_IN", "Score", "Scorer", "find_scorer"]

BUILT_IN = {
    "exact": "pipeline.scorers.exact:score",
    "label": "pipeline.scorers.label:score",
    "number": "pipeline.scorers.number:score",
    "choice": "pipeline.scorers.choice:score",
    "json": "pipeline.scorers.json_fields:score",
    "chrf": "pipeline.scorers.overlap:chrf",
    "chrfpp": "pipeline.scorers.overlap:chrfpp",
    "bleu": "pipeline.scorers.overlap:bleu",
}
"""Name to dotted path, so that a scorer's libraries are imported only where it is used."""


def find_scorer(name: str) -> Scorer:
    """Return the scorer called *name*: a built-in one, or `package.module:function` of the user's.

    Raises:
        JobError: when there is none, with the names there are.
    """
    target = BUILT_IN.get(name, name)
    known = f"built in: {', '.join(BUILT_IN)}; or write package.module:function"
    if ":" not in target:
        raise JobError(f"no scorer {name!r}; {known}")
    try:
        scorer: Scorer = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise JobError(f"no scorer {name!r}: {error}; {known}") from error
    if not callable(scorer):
        raise JobError(f"scorer {name!r} is not a function; it is called as score(answer, reference)")
    return scorer
