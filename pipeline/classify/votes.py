"""Which rules hold for which texts, counted over a whole batch."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.classify.rules import Look, Rule, Rules

Rows = npt.NDArray[np.intp]  # row numbers, ascending, each once


class Tally:
    """The votes per task and row, and the number of the strongest rule behind them, of equal ones the first."""

    def __init__(self, rules: Rules, rows: int) -> None:
        self._places = {task: place for place, task in enumerate(rules.order)}
        shape = (len(rules.order), rows)
        self.votes = np.zeros(shape, dtype=np.int16)
        self.rule = np.zeros(shape, dtype=np.int16)
        self._strength = np.zeros(shape, dtype=np.int16)

    def add(self, number: int, rule: Rule, rows: Rows) -> None:
        """Count *rule*, the one with this *number*, for *rows*."""
        place = self._places[rule.task]
        self.votes[place][rows] += np.int16(rule.votes)
        stronger = rows[self._strength[place][rows] < rule.votes]
        self._strength[place][stronger] = rule.votes
        self.rule[place][stronger] = number

    def lead(self) -> Rows:
        """Return per row the votes by which the task with most leads the next one."""
        second, first = np.partition(self.votes, -2, axis=0)[-2:].astype(np.intp)
        lead: Rows = first - second
        return lead


def count_votes(texts: pl.Series, rules: Rules) -> Tally:
    """Count the votes of every rule for each of *texts*, which are lower case and not null."""
    tally = Tally(rules, len(texts))
    _look(texts, np.arange(len(texts)), "every", rules, tally)
    _look(texts, np.flatnonzero(texts.str.len_bytes() != texts.str.len_chars()), "non-ascii", rules, tally)
    _look(texts, np.flatnonzero(tally.votes.max(axis=0) < rules.decisive_votes), "undecided", rules, tally)
    return tally


def _look(texts: pl.Series, rows: Rows, look: Look, rules: Rules, tally: Tally) -> None:
    """Try the rules for this *look* on *rows*."""
    chosen = {number: rule for number, rule in enumerate(rules.rule) if rule.look == look}
    texts = texts.gather(rows) if len(rows) < len(texts) else texts
    everywhere = np.arange(len(texts))
    with_words = _rows_with_words(texts, {number: rule.words for number, rule in chosen.items() if rule.words})
    for number, rule in chosen.items():
        at = with_words.get(number, everywhere)
        if rule.pattern is not None and len(at):
            at = at[texts.gather(at).str.contains(rule.pattern).to_numpy()]
        tally.add(number, rule, rows[at])


def _rows_with_words(texts: pl.Series, words: Mapping[int, Sequence[str]]) -> dict[int, Rows]:
    """Return for each key of *words* the rows with one of its words, found for all keys in one Aho-Corasick pass."""
    distinct = sorted({word for group in words.values() for word in group})
    if not distinct:
        return {}
    found = texts.str.extract_many(distinct, overlapping=True)
    rows = np.repeat(np.arange(len(texts)), found.list.len().to_numpy().astype(np.intp))
    codes = found.list.explode(empty_as_null=False, keep_nulls=False).cast(pl.Enum(distinct)).to_physical().to_numpy()
    ends = np.cumsum(np.bincount(codes, minlength=len(distinct)))
    rows_of = dict(zip(distinct, np.split(rows[np.argsort(codes, kind="stable")], ends[:-1]), strict=True))
    return {key: _union([rows_of[word] for word in group], len(texts)) for key, group in words.items()}


def _union(groups: Sequence[Rows], rows: int) -> Rows:
    marked = np.zeros(rows, dtype=bool)
    for group in groups:
        marked[group] = True
    return np.flatnonzero(marked)
