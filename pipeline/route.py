"""Which model gets which row: the cheapest cell whose model can take it, and why. Pure; row text is not seen.

Rows are reduced to the few facts that can matter: labels, picture or not, between which two of the models' limits the
length lies, and the columns that a model is restricted by. Each combination of them is decided once, in plain Python,
and the decisions are joined to the rows, so that the work hardly grows with the rows.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, NamedTuple

import polars as pl

from pipeline.agreement import read_cascade
from pipeline.catalogue import Catalogue, price_at
from pipeline.errors import JobError
from pipeline.records import LongPrice, Model, Price, Tier
from pipeline.spec import BaselineColumn, Route

_WISHES = ("wanted_model", "wanted_cascade")
_LABELS = ("task", "difficulty", "has_image", "input_tokens", *_WISHES)  # columns that never are those of the input
_NO_LIMIT = 2**62  # more tokens than any row has
POLICY = "policy"  # the reason of a row whose model the policy chose
_ROUTED = dict.fromkeys(("model", "reason", "escalate_to", "cascade", "baseline"), pl.String)


def only_columns(catalogue: Catalogue, spec: Route, wanted: Iterable[str] = ()) -> list[str]:
    """Return the input columns that `route` needs beside the labels, *wanted* being the models a policy may ask.

    `task` and `difficulty` always mean the label.
    """
    columns = [column for model in _routable(catalogue, spec, wanted) for column in model.only]
    if isinstance(spec.baseline, BaselineColumn):
        columns.append(spec.baseline.column)
    return [column for column in dict.fromkeys(columns) if column not in _LABELS]


def route(
    rows: pl.DataFrame, *, spec: Route, catalogue: Catalogue, max_output_tokens: int, at: datetime | None = None
) -> pl.DataFrame:
    """Return, for each of *rows* in order, model, reason, escalate_to, cascade and baseline, all text.

    *rows* has the columns task, difficulty, has_image and input_tokens and those of `only_columns`; a length of null
    counts as 0. The model is the first that fits in the cell of the row's tier ("task.difficulty" where there is one,
    else "task"), then in the cells of the tiers above. A model fits when it sees the picture if there is one, its
    context holds the input and *max_output_tokens*, and every column of its `only` has an allowed value. `model` is
    null when none fits; `reason` then says why. `escalate_to` is the first other model that fits in a higher tier.

    Where *rows* has a column `wanted_model`, the model a policy chose, that model is taken if it fits, with `POLICY` as
    the reason; `escalate_to` is then the first other model that fits in a tier above `tier`. Else the table decides.
    Where the model begins a cascade, of column `wanted_cascade`, every model of it must fit; `cascade` then has it, and
    there is no escalation beside it.

    With `max_cost_usd` the walk starts at the budget tier, whatever `tier` says, and a model must also cost no more
    than that for this input and *max_output_tokens*, at its price of *at* (default: now); when none does, the first
    that fits otherwise is taken. This is the article's `route_with_fallback`, with each row's own length.

    Raises:
        JobError: when a baseline column names an unknown model, or an `only` column can't be compared.
    """
    wanted = _wanted(rows)
    router = _Router(spec, catalogue, _routable(catalogue, spec, wanted), max_output_tokens, at or datetime.now(UTC))
    facts = router.facts(rows)
    distinct = facts.unique(maintain_order=True)
    decisions = pl.DataFrame([router.decide(row) for row in distinct.iter_rows(named=True)], _ROUTED, orient="row")
    decided = pl.concat([distinct, decisions], how="horizontal")
    routed = facts.join(decided, on=facts.columns, how="left", nulls_equal=True, maintain_order="left").select(*_ROUTED)
    if isinstance(spec.baseline, BaselineColumn):
        return routed.with_columns(baseline=_baselines(rows[spec.baseline.column], catalogue))
    return routed


class _Step(NamedTuple):
    tier: Tier
    cell: str
    model: Model


class _Router:
    """What the rows of a batch share: the tiers to walk, and the limits of each model in tokens."""

    def __init__(
        self, spec: Route, catalogue: Catalogue, models: list[Model], max_output_tokens: int, at: datetime
    ) -> None:
        self._spec = spec
        self._catalogue = catalogue
        self._holds = {model.name: model.context_tokens - max_output_tokens for model in models}
        self._affords = {model.name: _affordable(model, spec, max_output_tokens, at) for model in models}
        self._allowed = {
            model.name: {column: {_as_text(value) for value in values} for column, values in model.only.items()}
            for model in models
        }
        self._limits = sorted({*self._holds.values(), *self._affords.values(), _NO_LIMIT})

    def facts(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return what matters of each row: labels, picture, length rounded up to a limit, and restricting columns."""
        restricting: dict[str, set[str]] = {}
        for allowed in self._allowed.values():
            for column, values in allowed.items():
                restricting.setdefault(column, set()).update(values)
        limits = pl.Series(self._limits, dtype=pl.Int64)
        no_wish = pl.Series([None], dtype=pl.String).new_from_index(0, rows.height)
        wishes = {name: rows.get_column(name, default=no_wish) for name in _WISHES}
        return pl.DataFrame(
            {
                "task": rows["task"].cast(pl.String),
                "difficulty": rows["difficulty"].cast(pl.String),
                "image": rows["has_image"].fill_null(value=False),
                "tokens": limits[limits.search_sorted(rows["input_tokens"].fill_null(0), side="left")],
                **wishes,
                **{f"only {column}": _known_text(rows[column], values) for column, values in restricting.items()},
            }
        )

    def decide(self, fact: Mapping[str, Any]) -> tuple[str | None, ...]:
        """Return model, reason, escalate_to, cascade and baseline for rows of these facts."""
        baseline = self._spec.baseline
        named = baseline.get(fact["task"]) if isinstance(baseline, dict) else baseline
        return (*self._choose(fact), named if isinstance(named, str) else None)

    def _choose(self, fact: Mapping[str, Any]) -> tuple[str | None, str, str | None, str | None]:
        wanted, cascade = fact["wanted_model"], fact["wanted_cascade"]
        if wanted is None:
            return *self._choose_by_table(fact), None
        asked = (wanted,) if cascade is None else (wanted, *read_cascade(cascade).then)
        unfit = {name: why for name in asked if (why := self._too_much(self._catalogue.models[name], fact))}
        if unfit:
            model, reason, stronger = self._choose_by_table(fact)
            return model, f"{reason}; policy: not {_listing(unfit)}", stronger, None
        if cascade is not None:
            return wanted, POLICY, None, cascade
        steps = self._steps(fact["task"], fact["difficulty"])
        fitting = [step for step in steps if fact["tokens"] <= self._affords[step.model.name]]
        fitting = [step for step in fitting if not self._unfit(step.model, fact)]
        first = _Step(self._spec.tier, POLICY, self._catalogue.models[wanted])
        return wanted, POLICY, self._escalation(first, fitting), None

    def _choose_by_table(self, fact: Mapping[str, Any]) -> tuple[str | None, str, str | None]:
        steps = list(self._steps(fact["task"], fact["difficulty"]))
        if not steps:
            return None, f"the table has no cell {fact['task']}", None
        unfit = {step.model.name: self._unfit(step.model, fact) for step in steps}
        fitting = [step for step in steps if not unfit[step.model.name]]
        if not fitting:
            return None, f"no model fits: {_listing(unfit)}", None
        within = [step for step in fitting if fact["tokens"] <= self._affords[step.model.name]]
        chosen = (within or fitting)[0]
        reason = f"{chosen.tier} {chosen.cell}"
        passed = {step.model.name: unfit[step.model.name] for step in steps[: steps.index(chosen)]}
        if not within:
            reason += f"; none costs at most {self._spec.max_cost_usd} USD"
        if passed:
            too_dear = f"over {self._spec.max_cost_usd} USD"
            reason += f"; not {_listing({name: why or too_dear for name, why in passed.items()})}"
        return chosen.model.name, reason, self._escalation(chosen, within)

    def _escalation(self, chosen: _Step, candidates: list[_Step]) -> str | None:
        """Return the first other model of a higher tier; it must cost no more than allowed, as any request."""
        if not self._spec.escalate:
            return None
        tiers = list(Tier)
        higher = tiers[tiers.index(chosen.tier) + 1 :]
        others = (
            step.model.name for step in candidates if step.tier in higher and step.model.name != chosen.model.name
        )
        return next(others, None)

    def _steps(self, task: str, difficulty: str) -> Iterator[_Step]:
        """Yield the models to try in order, tier by tier."""
        for tier in _tiers(self._spec):
            cells = self._catalogue.table[tier]
            cell = f"{task}.{difficulty}" if f"{task}.{difficulty}" in cells else task
            for name in cells.get(cell, ()):
                yield _Step(tier, cell, self._catalogue.models[name])

    def _too_much(self, model: Model, fact: Mapping[str, Any]) -> str:
        """Return why *model* can't take the row or costs more than a request may, empty when neither holds."""
        too_dear = fact["tokens"] > self._affords[model.name]
        return self._unfit(model, fact) or (f"over {self._spec.max_cost_usd} USD" if too_dear else "")

    def _unfit(self, model: Model, fact: Mapping[str, Any]) -> str:
        """Return why *model* can't take the row, empty when it can."""
        if fact["image"] and not model.vision:
            return "sees no pictures"
        if fact["tokens"] > self._holds[model.name]:
            return f"holds {model.context_tokens} tokens"
        for column, allowed in self._allowed[model.name].items():
            if fact[f"only {column}"] not in allowed:
                return f"not for this {column}"
        return ""


def _wanted(rows: pl.DataFrame) -> list[str]:
    """Return the models that a policy wants for some of *rows*."""
    models, cascades = (rows[name].drop_nulls().unique().to_list() if name in rows.columns else [] for name in _WISHES)
    return [*models, *(model for cascade in cascades for model in read_cascade(cascade).then)]


def _tiers(spec: Route) -> list[Tier]:
    """Return the tiers to walk, from cheap to dear."""
    tiers = list(Tier)
    return tiers if spec.max_cost_usd is not None else tiers[tiers.index(spec.tier) :]


def _routable(catalogue: Catalogue, spec: Route, wanted: Iterable[str]) -> list[Model]:
    """Return every model that a row may get, by the table or by a policy that may ask the *wanted* ones."""
    cells = (names for tier in _tiers(spec) for names in catalogue.table[tier].values())
    named = dict.fromkeys([*(name for names in cells for name in names), *wanted])
    return [catalogue.models[name] for name in named]


def _affordable(model: Model, spec: Route, max_output_tokens: int, at: datetime) -> int:
    """Return how many input tokens *model* may get for `max_cost_usd`, -1 when the output alone costs more."""
    if spec.max_cost_usd is None:
        return _NO_LIMIT
    price = price_at(model, at)
    dearest_first: list[tuple[int, Price | LongPrice]] = [(long.over_input_tokens, long) for long in price.long[::-1]]
    most = _NO_LIMIT
    for over, prices in [*dearest_first, (-1, price)]:
        left = Fraction(spec.max_cost_usd) * 1_000_000 - max_output_tokens * Fraction(prices.output)
        tokens = -1 if left < 0 else int(left / Fraction(prices.input)) if prices.input else _NO_LIMIT
        if tokens > over:
            return min(tokens, most)
        most = over  # longer inputs have the longer price
    return -1


def _as_text(value: str | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _known_text(column: pl.Series, values: set[str]) -> pl.Series:
    """Return *column* as text, null where the value is in no list, so that few distinct values are left."""
    if not (column.dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum, pl.Null) or column.dtype.is_integer()):
        raise JobError(
            f"column {column.name}: `only` compares text, whole numbers and true or false, not {column.dtype}"
        )
    text = column.cast(pl.String)
    return text.set(~text.is_in(list(values)), None)


def _listing(why: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({reason})" for name, reason in why.items())


def _baselines(column: pl.Series, catalogue: Catalogue) -> pl.Series:
    """Return the baseline each row names."""
    names = column.cast(pl.String)
    unknown = sorted(set(names.drop_nulls().unique()) - set(catalogue.models))
    if unknown:
        raise JobError(
            f"route.baseline: column {column.name} names models without a known price: {', '.join(unknown[:5])}; "
            f"describe them in [models.NAME]"
        )
    return names
