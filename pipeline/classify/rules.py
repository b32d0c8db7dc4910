"""The rules as data: `rules.toml` is checked as a whole, so that a bad rule is named before any text is looked at."""

import functools
import re
import tomllib
from importlib import resources
from typing import Annotated, Literal, Self

import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, model_validator

from pipeline.errors import JobError
from pipeline.records import Difficulty, Task
from pipeline.spec import validate

_FILE = "rules.toml"


def _pattern(pattern: str) -> str:
    r"""Return what polars is to search for.

    `\b` becomes an ASCII boundary: a Unicode one sends every text with a non-ASCII character to a far slower engine.
    """
    if re.search("[A-Z]", re.sub(r"\\.", "", pattern)):
        raise ValueError("has an upper-case letter, but texts are lower-cased before they are searched")
    with_ascii_boundaries = re.sub(r"(?<!\\)\\b", r"(?-u:\\b)", pattern)
    try:
        pl.Series([""]).str.contains(with_ascii_boundaries, strict=True)
    except pl.exceptions.ComputeError as error:
        raise ValueError(f"is not a pattern of the Rust regex crate: {error}") from error
    return with_ascii_boundaries


def _word(word: str) -> str:
    if not word or word != word.lower():
        raise ValueError("must be lower case and not empty, because texts are lower-cased before they are searched")
    return word


Pattern = Annotated[str, AfterValidator(_pattern)]
Word = Annotated[str, AfterValidator(_word)]
Look = Literal["every", "non-ascii", "undecided"]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Entry):
    """What speaks for a task: one of *words* in the text, and *pattern* found in it, where they are given."""

    id: str
    task: Task
    source: Literal["article", "ours"]
    look: Look = "every"
    votes: int = Field(1, ge=1, le=9)
    words: list[Word] = Field(default_factory=list)
    pattern: Pattern | None = None
    example: str = Field(description="a text for which the rule holds")

    @model_validator(mode="after")
    def _looks_for_something(self) -> Self:
        if not self.words and self.pattern is None:
            raise ValueError("give words, a pattern or both")
        return self


class Signal(_Entry):
    """Something that makes a text harder: the number of matches of *pattern*, or of characters where there is none.

    Each threshold in *reach* that is reached is worth *points*. Only texts of one of *tasks* are looked at.
    """

    id: str
    tasks: list[Task] = Field(default_factory=lambda: list(Task))
    pattern: Pattern | None = None
    reach: list[PositiveInt] = Field(min_length=1)
    points: int = 1


class Scale(_Entry):
    """How points become a difficulty: a task starts with points, signals add theirs, *levels* are the least points."""

    start: dict[Task, int]
    levels: dict[Difficulty, int]
    signal: list[Signal]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if set(self.start) != set(Task):
            raise ValueError(f"start must name each task: {', '.join(Task)}")
        least = [self.levels.get(level) for level in Difficulty]
        if None in least or least != sorted(set(self.levels.values())):
            raise ValueError(f"levels must rise in this order: {', '.join(Difficulty)}")
        return self


class Rules(_Entry):
    """A whole rules file; `rules.toml` says what the keys mean."""

    order: list[Task]
    head_chars: PositiveInt
    tail_chars: PositiveInt
    decisive_votes: PositiveInt
    rule: list[Rule]
    difficulty: Scale

    @model_validator(mode="after")
    def _complete(self) -> Self:
        ids = [rule.id for rule in self.rule] + [signal.id for signal in self.difficulty.signal]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(f"an id must be given once; given twice: {', '.join(twice)}")
        if sorted(self.order) != sorted(Task):
            raise ValueError(f"order must name each task once: {', '.join(Task)}")
        return self


def parse_rules(text: str, *, where: str = _FILE) -> Rules:
    """Read a rules file from its *text*.

    Raises:
        JobError: with every mistake, each beginning with *where*.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise JobError(f"{where}: is not TOML: {error}") from error
    return validate(Rules, data, where=where)


@functools.cache
def built_in_rules() -> Rules:
    """Return the rules that come with the package."""
    return parse_rules((resources.files(__package__) / _FILE).read_text(encoding="utf-8"))
