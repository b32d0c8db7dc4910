"""Scores of a whole set, which are no means: macro-F1 with its confusion table, corpus BLEU and chrF."""

from collections import Counter
from typing import Any

import polars as pl

from pipeline.scorers import find_whole

OTHER = "(no label)"  # said what is no label of any reference
_MOST_PAIRS = 1_000


def score_whole(scored: pl.DataFrame, metric: str) -> dict[str, Any]:
    """Return the corpus columns of the comparison for rows *scored* by one *metric*, nothing where it has none."""
    whole = find_whole(metric)
    if whole is None:
        return {}
    if scored.get_column("said").null_count() < scored.height:
        pairs = _pairs(scored)
        return {"corpus_metric": whole.metric, "corpus_score": whole.score(pairs), "confusion": _confusion(pairs)}
    counts = scored.get_column("counts").drop_nulls()
    if not len(counts):
        return {}
    width = len(counts[0])
    sums = counts.explode().to_numpy().reshape(-1, width).sum(axis=0, dtype="int64").tolist()
    return {"corpus_metric": whole.metric, "corpus_score": whole.score(sums)}


def _pairs(scored: pl.DataFrame) -> Counter[tuple[str, str]]:
    said = scored.select(pl.col("gold", "said").cast(pl.String)).drop_nulls("gold")
    labels = set(said.get_column("gold"))
    pairs = Counter[tuple[str, str]]()
    for gold, answer, rows in said.group_by("gold", "said").len().iter_rows():
        pairs[gold, answer if answer in labels else OTHER] += rows
    return pairs


def _confusion(pairs: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
    return [{"label": label, "answer": answer, "rows": rows} for (label, answer), rows in ordered[:_MOST_PAIRS]]
