"""Scorers: how good an answer is, measured against a reference. One contract, found by name or by dotted path."""

import pkgutil

from pipeline.errors import JobError
from pipeline.scorers.contract import Score, Scorer, Whole

__all__ = ["BUILT_IN", "Score", "Scorer", "Whole", "find_scorer", "find_whole"]

BUILT_IN = {
    "exact": "pipeline.scorers.exact:score",
    "normalised": "pipeline.scorers.exact:normalised_score",
    "label": "pipeline.scorers.label:score",
    "number": "pipeline.scorers.number:score",
    "choice": "pipeline.scorers.choice:score",
    "json": "pipeline.scorers.json_fields:score",
    "chrf": "pipeline.scorers.overlap:chrf",
    "chrfpp": "pipeline.scorers.overlap:chrfpp",
    "bleu": "pipeline.scorers.overlap:bleu",
    "tests": "pipeline.scorers.unit_tests:score",
}
"""Name to dotted path, so that a scorer's libraries are imported only where it is used."""

_WHOLES = {
    "label": ("macro-F1", "pipeline.scorers.label:macro_f1"),
    "chrf": ("corpus chrF", "pipeline.scorers.overlap:corpus_chrf"),
    "chrfpp": ("corpus chrF++", "pipeline.scorers.overlap:corpus_chrfpp"),
    "bleu": ("corpus BLEU", "pipeline.scorers.overlap:corpus_bleu"),
}
_NEEDS_SANDBOX = "tests"


def find_scorer(name: str) -> Scorer:
    """Return the scorer called *name*: a built-in one, or `package.module:function` of the user's.

    Raises:
        JobError: when there is none, with the names there are; or when its answers are programs and there is no
            sandbox to run them in.
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
    if name == _NEEDS_SANDBOX:
        from pipeline.scorers.sandbox import check_sandbox

        check_sandbox()
    return scorer


def find_whole(name: str) -> Whole | None:
    """Return how answers scored by *name* are scored together, None where their mean says it all."""
    if name not in _WHOLES:
        return None
    metric, target = _WHOLES[name]
    return Whole(metric, pkgutil.resolve_name(target))
