"""What the plan will cost, before a cent is spent: rows, tokens, money with an error band, time at the limits."""

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import polars as pl

from pipeline.catalogue import RECORDED, Catalogue, ProviderEntry, Quota, prices_used, tokens_usd
from pipeline.packing import ITEM_TOKENS, Estimate, pays
from pipeline.plan.further import Further, Tokens, further_cost, further_models, further_notes, most_further_cost
from pipeline.plan.timing import Choice, Lane, Timing, choose_lane
from pipeline.records import LongPrice, Price, Task

# Output tokens to expect of an answer: (fixed, per input token). Means of the recorded answers of data/night, rounded.
EXPECTED_OUTPUT: dict[str, tuple[float, float]] = {
    Task.CODE: (250, 0.2),
    Task.CLASSIFICATION: (8, 0.0),
    Task.REASONING: (180, 0.2),
    Task.TRANSLATION: (10, 1.0),
    Task.CREATIVE: (450, 0.0),
    Task.GENERAL: (150, 0.1),
    Task.VISION: (200, 0.0),
}
# The estimate of the input, where it is one, is within this share for nearly every row; see docs/cost-method.md.
_INPUT_ERROR = 0.1
_KEYS = ("model", "cascade", "baseline", "task", "step", "baseline_step")
_SUMS = ("rows", "reused", "new", "retried", "input_tokens", "output_tokens", "shared_tokens")


class GroupSummary(NamedTuple):
    """One model's share of the plan. Costs, with their band, are of what will be sent; see docs/cost-method.md.

    Where requests begin cascades, the costs are also of the further calls these are expected to lead to.
    """

    model: str
    provider: str
    rows: int
    reused: int
    new: int
    retried: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    cost_low_usd: Decimal
    cost_high_usd: Decimal
    baseline_cost_usd: Decimal
    peak_cost_usd: Decimal  # at the dearest hours of the week; `cost_usd` is at the prices of the moment
    minutes_at_limits: float | None
    baselines: tuple[str, ...]
    alone_cost_usd: Decimal  # of `cost_usd`, had each row a request of its own
    packed_cost_usd: Decimal  # in packs; the same where they can't be packed
    rows_per_request: int  # 1: each row is asked alone
    lane: Lane
    due_at: float | None  # when what a batch has not answered is asked one by one, Unix seconds
    input_exact: bool  # `input_tokens` are counted with the model's vocabulary, not estimated


class Summary(NamedTuple):
    """The whole plan. `unanswerable` counts rows that no request answers, by the code of their problem."""

    rows: int
    requests: int
    groups: tuple[GroupSummary, ...]
    unanswerable: dict[str, int]
    earlier: dict[str, int]  # settled before and not asked again, by status
    catalogue: str  # its hash
    prices: dict[str, dict[str, Any]]  # of the models asked and compared with, see `catalogue.prices_used`
    notes: tuple[str, ...] = ()  # what a person should know before it is sent
    shadow: dict[str, Any] | None = None  # what the sample that goes to the baseline comes to: rows, new, cost_usd

    def total(self, field: str) -> Any:
        """Return the sum of *field* over the groups."""
        return sum((getattr(group, field) for group in self.groups), start=Decimal(0) if field.endswith("usd") else 0)

    def as_dict(self) -> dict[str, Any]:
        """Return what plan.json holds; money as text, so that no digit is lost."""
        groups = [
            {name: str(value) if isinstance(value, Decimal) else value for name, value in group._asdict().items()}
            for group in self.groups
        ]
        totals = {name: self.total(name) for name in ("reused", "new", "retried", "input_tokens", "output_tokens")}
        money = {name: str(self.total(name)) for name in GroupSummary._fields if name.endswith("_usd")}
        return {
            "rows": self.rows,
            "requests": self.requests,
            **totals,
            **money,
            "unanswerable": self.unanswerable,
            "earlier": self.earlier,
            "catalogue": self.catalogue,
            "prices": self.prices,
            "notes": list(self.notes),
            "shadow": self.shadow,
            "groups": groups,
        }


class PlanPrices(NamedTuple):
    """Prices by model name: of the moment, and of the dearest hours."""

    timing: Timing
    now: Mapping[str, Price]
    peak: Mapping[str, Price]


class _Part(NamedTuple):
    """Sums of the rows that have one price a token here and at their baseline."""

    sums: dict[str, int]
    step: int  # of the model's price: how many of its sizes for long inputs the rows exceed
    baseline: str | None
    baseline_step: int
    cascade: str | None


class Estimates(NamedTuple):
    """How requests are reckoned: the calls that cascades go on to, and the models whose input is counted exactly."""

    further: Further
    exact: Collection[str]


class Tally:
    """Counts batch by batch, so that memory does not grow with the input. *prices* holds every model and baseline."""

    def __init__(self, max_output_tokens: int, prices: PlanPrices, rows_per_request: int, estimates: Estimates) -> None:
        self._further = estimates.further
        self._exact = estimates.exact
        self._max_output_tokens = max_output_tokens
        self._rows_per_request = rows_per_request
        self._prices = prices
        self._sums: dict[tuple[str, str | None, str | None, str, int, int], list[int]] = {}
        self.problems: dict[str, int] = {}
        self.rows = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Count a batch with columns model, baseline, task, problem, input_tokens, first and kind (reused, new...)."""
        self.rows += frame.height
        codes = frame["problem"].drop_nulls().str.split_exact(":", 0).struct.field("field_0")
        for code, count in codes.value_counts().iter_rows():
            self.problems[code] = self.problems.get(code, 0) + count
        sent = pl.col("first") & pl.col("kind").is_in(["new", "retried"])
        counted = (
            # Not the texts: a filter copies.
            frame.select(
                "model", "cascade", "baseline", "task", "problem", "input_tokens", "shared_tokens", "first", "kind"
            )
            .filter(pl.col("problem").is_null())
            .with_columns(
                expected=expected_output(self._max_output_tokens),
                step=self._step(frame, "model"),
                baseline_step=self._step(frame, "baseline"),
            )
            .group_by(_KEYS)
            .agg(
                pl.len(),
                *(
                    (pl.col("first") & (pl.col("kind") == kind)).sum().alias(kind)
                    for kind in ("reused", "new", "retried")
                ),
                pl.col("input_tokens").filter(sent).sum(),
                pl.col("expected").filter(sent).sum(),
                pl.col("shared_tokens").filter(sent).sum(),
            )
        )
        for model, cascade, baseline, task, step, baseline_step, *numbers in counted.iter_rows():
            sums = self._sums.setdefault((model, cascade, baseline, task, step, baseline_step), [0] * len(_SUMS))
            for place, number in enumerate(numbers):
                sums[place] += int(number)

    def _step(self, frame: pl.DataFrame, column: str) -> pl.Expr:
        """Return how many of the sizes for long inputs, of the model that *column* names, each row exceeds."""
        steps: pl.Expr = pl.lit(0)
        for name in frame[column].unique().drop_nulls():
            for long in self._prices.now[name].long:
                steps += (pl.col(column) == name) & (pl.col("input_tokens") > long.over_input_tokens)
        return steps.fill_null(0).cast(pl.Int64)

    def summary(self, catalogue: Catalogue, earlier: dict[str, int]) -> Summary:
        """Put prices on the counts."""
        by_model: dict[str, list[_Part]] = {}
        for (model, cascade, baseline, _task, step, baseline_step), sums in sorted(self._sums.items(), key=str):
            part = _Part(dict(zip(_SUMS, sums, strict=True)), step, baseline, baseline_step, cascade)
            by_model.setdefault(model, []).append(part)
        groups = tuple(self._group(catalogue, model, parts) for model, parts in by_model.items())
        requests = sum(group.reused + group.new + group.retried for group in groups)
        used = {name for group in groups for name in (group.model, *group.baselines)}
        begun = [_tokens(model, part) for model, parts in by_model.items() for part in parts]
        used |= further_models(begun, self._further)
        prices = prices_used(catalogue, used, self._prices.timing.at)
        return Summary(
            self.rows,
            requests,
            groups,
            self.problems,
            earlier,
            catalogue.digest,
            prices,
            further_notes(begun, self._further),
        )

    def _group(self, catalogue: Catalogue, model: str, parts: list[_Part]) -> GroupSummary:
        sums = {name: sum(part.sums[name] for part in parts) for name in _SUMS if name != "shared_tokens"}
        provider = catalogue.providers[catalogue.models[model].provider]
        now = self._prices.now
        choice, minutes = self._lane(provider, model, sums)
        price = (now[model].batch if choice.lane == "batch" else None) or now[model]
        peak = price if choice.lane == "batch" else self._prices.peak[model]
        can_pack = choice.lane == "sync" and provider.adapter != RECORDED
        alone = _total(_cost(price, *_expected(part, 1)) for part in parts)
        packed = _total(_cost(price, *_expected(part, self._rows_per_request)) for part in parts) if can_pack else alone
        rows = self._rows_per_request if can_pack and pays(alone, packed) else 1
        begun = [_tokens(model, part) for part in parts]
        further = _total(further_cost(one, self._further, now) for one in begun)
        exact = model in self._exact and rows == 1
        input_error = 0.0 if exact else _INPUT_ERROR
        return GroupSummary(
            model=model,
            provider=provider.name,
            **sums,
            cost_usd=_total(_cost(price, *_expected(part, rows)) for part in parts) + further,
            cost_low_usd=_total(_cost(price, *_least(part, rows, input_error)) for part in parts),
            cost_high_usd=_total(_cost(price, *self._most(part, rows, input_error)) for part in parts)
            + _total(most_further_cost(self._at_most(one), self._further, now) for one in begun),
            baseline_cost_usd=_total(
                _cost(now[part.baseline], *_expected(part, 1)[:2], part.baseline_step)
                for part in parts
                if part.baseline
            ),
            peak_cost_usd=_total(_cost(peak, *_expected(part, rows)) for part in parts) + further,
            minutes_at_limits=minutes,
            baselines=tuple(sorted({part.baseline for part in parts if part.baseline})),
            alone_cost_usd=alone,
            packed_cost_usd=packed,
            rows_per_request=rows,
            lane=choice.lane,
            due_at=choice.due_at,
            input_exact=exact,
        )

    def _lane(self, provider: ProviderEntry, model: str, sums: dict[str, int]) -> tuple[Choice, float | None]:
        """Return batch or one by one, and the minutes that one by one takes at the limits."""
        sent = sums["new"] + sums["retried"]
        tokens = (sums["input_tokens"], sums["output_tokens"])
        minutes = _minutes(sent, tokens, provider.quotas.values(), model)
        choice = choose_lane(
            self._prices.timing,
            can_batch=provider.can_batch and self._prices.now[model].batch is not None,
            requests=sent,
            minutes=minutes,
            at_once=provider.concurrency,
        )
        return choice, minutes

    def _at_most(self, one: Tokens) -> Tokens:
        return one._replace(input=int(one.input * (1 + _INPUT_ERROR)), output=one.requests * self._max_output_tokens)

    def _most(self, part: _Part, rows: int, input_error: float) -> tuple[int, int, int]:
        most_written = _sent(part) * (self._max_output_tokens + (ITEM_TOKENS if rows > 1 else 0))
        return int(_expected(part, rows)[0] * (1 + input_error)), most_written, part.step


def _expected(part: _Part, rows: int) -> tuple[int, int, int]:
    """Return input tokens, output tokens and step of the price, with so many *rows* a request."""
    sums = part.sums
    if rows == 1:
        return sums["input_tokens"], sums["output_tokens"], part.step
    estimate = Estimate(_sent(part), sums["input_tokens"], sums["output_tokens"], sums["shared_tokens"], rows)
    return *estimate.tokens(), part.step


def _least(part: _Part, rows: int, input_error: float) -> tuple[int, int, int]:
    least_written = _sent(part) * (1 + (ITEM_TOKENS if rows > 1 else 0))
    return int(_expected(part, rows)[0] * (1 - input_error)), least_written, part.step


def _tokens(model: str, part: _Part) -> Tokens:
    return Tokens(model, part.cascade or "", _sent(part), part.sums["input_tokens"], part.sums["output_tokens"])


def _sent(part: _Part) -> int:
    return part.sums["new"] + part.sums["retried"]


def _total(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, start=Decimal(0))


def expected_output(max_output_tokens: int) -> pl.Expr:
    """Return the expected output tokens of a row with columns task and input_tokens."""
    guesses = pl.coalesce(
        pl.when(pl.col("task") == task).then(fixed + share * pl.col("input_tokens"))
        for task, (fixed, share) in EXPECTED_OUTPUT.items()
    )
    return guesses.clip(1, max_output_tokens).cast(pl.Int64)


def _cost(price: Price, input_tokens: int, output_tokens: int, step: int) -> Decimal:
    # The rows of a part are on one side of each size, so the step says which price holds for every one of them.
    prices: Price | LongPrice = price.long[step - 1] if step else price
    return tokens_usd(prices, input_tokens, output_tokens)


def _minutes(requests: int, tokens: tuple[int, int], quotas: Iterable[Quota], model: str) -> float | None:
    needed: Iterable[float] = (
        amount / limit
        for quota in quotas
        if quota.holds_for(model)
        for amount, limit in (
            (requests, quota.requests_per_min),
            (sum(tokens), quota.tokens_per_min),
            (tokens[0], quota.input_tokens_per_min),
            (tokens[1], quota.output_tokens_per_min),
        )
        if limit
    )
    return max(needed, default=None)
