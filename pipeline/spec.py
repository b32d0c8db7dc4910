"""The job file: TOML in, a `Job` or one error that names every mistake out."""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.checks import check_schema
from pipeline.errors import JobError
from pipeline.money import PriceEntry, Share, Usd, UsdCap
from pipeline.money import Section as _Section
from pipeline.records import Difficulty, Task, Tier


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


OneOrMany = Annotated[list[str], BeforeValidator(_one_or_many), Field(min_length=1)]


# Scorers that compare with the baseline's answer and take no references: is it the same, and is it better?
AGREEMENT, JUDGE = "agreement", "judge"

AnySection = TypeVar("AnySection", bound=BaseModel)


class Input(_Section):
    """`[input]`: where the rows come from."""

    path: OneOrMany = Field(description="Parquet, CSV or JSONL file(s) or globs; .gz and .zst are read as they are")
    id: str | None = Field(None, description="column that names a row; otherwise row number and content")
    encoding: str = Field("utf-8", description="of CSV and JSONL files")
    max_row_bytes: int = Field(64 << 20, gt=0, description="a longer row is a bad row")


class Example(_Section):
    """`examples = [{ user = "...", assistant = "..." }]`: a question with its answer, as they are, not as templates."""

    user: str = Field(min_length=1)
    assistant: str = Field(min_length=1)


class Prompt(_Section):
    """`[prompt]`: how a row becomes a request."""

    column: str | None = Field(None, description="a column that holds the ready user message")
    messages: str | None = Field(None, description="a column that holds a list of {role, content}")
    system: str | None = Field(None, description="Jinja2 template of the system message; columns are variables")
    user: str | None = Field(None, description="Jinja2 template of the user message")
    examples: list[Example] = Field(default_factory=list, description="turns before each row's own")
    image: str | None = Field(None, description="column with an image URL or path: makes the row a vision row")
    max_output_tokens: int = Field(1024, gt=0)
    temperature: float | None = Field(0.0, ge=0, le=2)
    rows_per_request: int = Field(1, ge=1, le=200, description="pack so many rows into a request, where that pays")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("column", "messages", "user") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of column, messages or user; given: {', '.join(given) or 'none'}")
        if self.rows_per_request > 1 and (self.messages or self.image or self.examples):
            raise ValueError("rows_per_request packs texts of one template; not with messages, image or examples")
        if self.messages is not None and (self.system is not None or self.examples):
            raise ValueError("system and examples go with column or user; a messages column brings its own")
        return self


class BaselineColumn(_Section):
    """`baseline = { column = "..." }`: the baseline model is named by the row."""

    column: str


def _baseline(value: object) -> object:
    """Refuse what is none of the three forms with one sentence, where the union would give one a form."""
    is_column = isinstance(value, dict) and value.keys() == {"column"}
    is_table = isinstance(value, dict) and value.keys() <= set(Task) and bool(value)
    if not isinstance(value, str | BaselineColumn) and not is_column and not is_table:
        raise ValueError(f'a model, {{ column = "..." }}, or a table of task = model (tasks: {", ".join(Task)})')
    return value


_CELL = re.compile(rf"({'|'.join(Task)})(\.({'|'.join(Difficulty)}))?")


class Promise(_Section):
    """`[route.promise]`: what the policy must have been learned to keep, and what the report holds the night to."""

    reference: str = Field(description="the model whose quality is the measure")
    quality: float = Field(gt=0, le=1.5, description="share of its quality to keep")
    confidence: float = Field(0.95, ge=0.5, lt=1)


class Route(_Section):
    """`[route]`: which model gets which row."""

    tier: Tier = Tier.BALANCED
    baseline: Annotated[str | BaselineColumn | dict[Task, str], BeforeValidator(_baseline)] = "gpt-4o"
    max_cost_usd: UsdCap | None = Field(None, description="per request: walk budget, balanced, quality for what fits")
    escalate: bool = Field(default=True, description="ask the next tier once when an answer fails its checks")
    task: Task | None = Field(None, description="pins the task of every row")
    batch: Literal["never", "auto", "always"] = Field(
        "auto", description="use providers' batches: auto with a deadline that leaves time for them"
    )
    deadline: str | None = Field(
        None, pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="when the night must be done, local time, as in 07:00"
    )
    table: dict[Tier, dict[str, OneOrMany]] = Field(
        default_factory=dict, description='cells to override: task or "task.hard" = model or models in order'
    )

    policy: str | None = Field(None, description="file of `rowroute route fit`: it decides, the table where it can't")
    agree: Literal["exact", "normalised", "choice", "number", "json"] | None = Field(
        None, description="what of two answers a cascade of the policy compares [choices: exact, schema: json]"
    )
    promise: Promise | None = None

    @model_validator(mode="after")
    def _promise_has_policy(self) -> Self:
        if self.promise is not None and self.policy is None:
            raise ValueError("a promise needs a policy that was learned to keep it: policy = the file of `route fit`")
        return self

    @field_validator("table")
    @classmethod
    def _known_cells(cls, table: dict[Tier, dict[str, list[str]]]) -> dict[Tier, dict[str, list[str]]]:
        bad = [f"{tier}.{cell}" for tier, cells in table.items() for cell in cells if not _CELL.fullmatch(cell)]
        if bad:
            raise ValueError(
                f"no such cell: {', '.join(bad)}; a cell is a task ({', '.join(Task)}), "
                f"alone or with a difficulty (as in code.{Difficulty.HARD})"
            )
        return table


class _Rates(_Section):
    requests_per_min: float | None = Field(None, gt=0)
    tokens_per_min: float | None = Field(None, gt=0, description="input and output together")
    input_tokens_per_min: float | None = Field(None, gt=0, description="input that no cache holds")
    output_tokens_per_min: float | None = Field(None, gt=0)
    requests_per_day: int | None = Field(None, gt=0, description="from 00:00 UTC; the rows beyond stay pending")
    tokens_per_day: int | None = Field(None, gt=0, description="input and output, from 00:00 UTC")


class Quota(_Rates):
    """`[providers.NAME.quotas.QUOTA]`: limits that some models of a provider share, within those of the provider."""

    models: OneOrMany = Field(description="names, or patterns as in claude-sonnet-*")


class Provider(_Rates):
    """`[providers.NAME]`: where to send, with which key, how fast."""

    adapter: str | None = Field(None, description='a built-in dialect, "recorded", "local" or package.module:Class')
    base_url: str | None = None
    key_env: str | None = Field(None, description="environment variable that holds the key")
    key_file: str | None = Field(None, description="file of mode 0600 that holds the key")
    concurrency: int | None = Field(None, gt=0)
    timeout_s: float | None = Field(None, gt=0, description="for a whole attempt")
    max_attempts: int | None = Field(None, gt=0)
    max_retry_after_s: float | None = Field(None, gt=0, description="a longer Retry-After parks the lane")
    headers: dict[str, str] = Field(default_factory=dict, description="sent with every request; never keys")
    path: str | None = Field(None, description="of the recorded answers (adapter recorded)")
    quotas: dict[str, Quota] = Field(default_factory=dict, description="limits that some of the models share")
    batch: str | None = Field(None, description="its batch API: openai, anthropic, gemini or mistral")
    batch_poll_s: float | None = Field(None, gt=0, description="how often a batch is looked at")
    batch_delete: bool | None = Field(None, description="delete a collected batch and its files at the provider")


class ModelEntry(_Section):
    """`[models.NAME]`: a model of the user's, or a change to a known one."""

    provider: str
    context_tokens: int = Field(gt=0)
    api_name: str | None = Field(None, description="the name the provider knows it by")
    vision: bool = False
    prices: list[PriceEntry] = Field(default_factory=list, description="dated prices, in place of the keys below")
    input_usd_per_mtok: Usd | None = None
    cached_input_usd_per_mtok: Usd | None = None
    cache_write_5m_usd_per_mtok: Usd | None = None
    cache_write_1h_usd_per_mtok: Usd | None = None
    output_usd_per_mtok: Usd | None = None
    batch_price: Share | None = Field(None, description="share of these prices in a provider's batch")
    retires: date | None = None
    source: str = "job file"
    only: dict[str, list[str | int | bool]] = Field(
        default_factory=dict, description="column = values: the rows this model may take"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="capabilities, as the adapter names them")

    @model_validator(mode="after")
    def _one_kind_of_price(self) -> Self:
        flat = [name for name in self.model_fields_set if name.endswith("_per_mtok") or name == "batch_price"]
        if self.prices and flat:
            raise ValueError(f"give prices, or {', '.join(sorted(flat))}, not both")
        if not self.prices and (self.input_usd_per_mtok is None or self.output_usd_per_mtok is None):
            raise ValueError("give input_usd_per_mtok and output_usd_per_mtok, or prices with a date")
        if self.prices and min(self.prices, key=lambda price: (price.since, bool(price.hours))).hours:
            raise ValueError("prices: the first entry must hold all day: one with hours needs one for the other hours")
        return self


class Budget(_Section):
    """`[budget]`: where to stop."""

    max_usd: UsdCap | None = None


class Output(_Section):
    """`[output]`: where the answers go and what they must look like."""

    path: str
    prefix: str = Field("llm_", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    choices: list[str] = Field(default_factory=list, description="the only answers allowed")
    report: bool = Field(default=True, description="write report.html as well")
    answer_schema: dict[str, Any] | None = Field(None, alias="schema", description="JSON Schema of the answer")
    repair: bool = Field(default=True, description="ask once more when an answer has the wrong form")

    @field_validator("choices")
    @classmethod
    def _distinct(cls, choices: list[str]) -> list[str]:
        if len(set(choices)) < len(choices) or not all(map(str.strip, choices)):
            raise ValueError("must be distinct and not blank")
        return choices

    @field_validator("answer_schema")
    @classmethod
    def _is_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None:
            check_schema(schema)
        return schema

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.choices and self.answer_schema is not None:
            raise ValueError("give choices or schema, not both; a schema may have an enum")
        return self


class ScoreRule(_Section):
    """`[[score]]`: who scores which rows; of several, a row takes the first that applies to it."""

    scorer: str = Field(description='a built-in scorer, "recorded", "agreement" or package.module:function')
    column: OneOrMany | None = Field(
        None, description="column of references; the rule applies where it is not null. Of several: a struct of them"
    )
    task: Task | None = Field(None, description="the rule applies to rows of this task only")

    @model_validator(mode="after")
    def _has_reference(self) -> Self:
        if (self.column is None) != (self.scorer in (AGREEMENT, JUDGE)):
            raise ValueError(
                f"{self.scorer} compares with the baseline's answer and takes no column"
                if self.column
                else "column is required: the references to score with"
            )
        return self


class Judge(_Section):
    """`[judge]`: the model that compares answers, for the scorer `judge`."""

    model: str
    criteria: str = Field("Which answer does the task better: right, complete, and to the point?", min_length=1)
    max_output_tokens: int = Field(512, gt=0, description="a verdict is one word; some models think before it")


class Compare(_Section):
    """`[compare]`: how cost and quality are set side by side."""

    references: dict[str, str] = Field(
        default_factory=dict, description="the short form of [[score]]: scorer = column of references"
    )
    by: list[str] = Field(default_factory=list, description="further columns to group by, beside the task")
    shadow: int = Field(
        0, ge=0, description="rows, drawn at random by task and difficulty, that the baseline is asked too"
    )
    shadow_twice: bool = Field(default=False, description="ask it twice: how often it disagrees with itself")
    seed: int = Field(0, description="of the draw")


class Job(_Section):
    """A whole job file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    input: Input
    prompt: Prompt
    route: Route = Field(default_factory=Route)
    providers: dict[str, Provider] = Field(default_factory=dict)
    models: dict[str, ModelEntry] = Field(default_factory=dict)
    catalogue: list[str] = Field(default_factory=list, description="further model files; later ones win by name")
    budget: Budget = Field(default_factory=Budget)
    output: Output
    score: list[ScoreRule] = Field(default_factory=list)
    compare: Compare = Field(default_factory=Compare)
    judge: Judge | None = None

    @property
    def score_rules(self) -> list[ScoreRule]:
        """Return `[[score]]`, then what `[compare] references` says in short."""
        short = self.compare.references.items()
        return [*self.score, *(ScoreRule(scorer=scorer, column=[column], task=None) for scorer, column in short)]


class ModelFile(_Section):
    """A file of models, as named by `catalogue`: the same entries as `[models]` and `[providers]` of a job."""

    models: dict[str, ModelEntry] = Field(default_factory=dict)
    providers: dict[str, Provider] = Field(default_factory=dict)


def load_job(path: Path, overrides: Iterable[str] = ()) -> Job:
    """Read the job file at *path*, with `a.b=c` *overrides* on top.

    Raises:
        JobError: with every mistake, its place and what would be right.
    """
    data = _read_toml(path)
    for override in overrides:
        _override(data, override)
    return validate(Job, data, where=str(path))


def validate(section: type[AnySection], data: Mapping[str, Any], *, where: str) -> AnySection:
    """Return *data* as a *section*.

    Raises:
        JobError: with every mistake in *data*, each beginning with *where*.
    """
    try:
        return section.model_validate(data)
    except ValidationError as error:
        raise JobError(*(f"{where}: {_explain(section, issue)}" for issue in error.errors())) from None


def load_models(path: Path) -> ModelFile:
    """Read a file of models. Raises JobError like `load_job`."""
    return validate(ModelFile, _read_toml(path), where=str(path))


def job_schema() -> str:
    """Return the JSON Schema of a job file, for editors."""
    return json.dumps(Job.model_json_schema(by_alias=True), indent=2)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise JobError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise JobError(f"{path}: is not TOML: {error}") from error


def _override(data: dict[str, Any], override: str) -> None:
    """Set one key in place; the value is TOML where it parses as such, text otherwise."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        raise JobError(f"--set {override}: write it as section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, key = _split_dotted(dotted)
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise JobError(f"--set {override}: {section} is not a section")
    data[key] = value


def _split_dotted(dotted: str) -> list[str]:
    """Split a.b."c.d" into its parts."""
    return [quoted or bare for quoted, bare in re.findall(r'"([^"]+)"|([^."]+)', dotted.strip())]


def _explain(section: type[BaseModel], issue: Any) -> str:
    """Say where a mistake is and what would be right."""
    place = ".".join(str(part) for part in issue["loc"]) or "job"
    if issue["type"] == "extra_forbidden":
        known = _known_keys(section, issue["loc"][:-1])
        close = difflib.get_close_matches(str(issue["loc"][-1]), known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"{place}: unknown key{hint} (known: {', '.join(known)})"
    if issue["type"] == "missing":
        return f"{place}: is required"
    message = str(issue["msg"]).removeprefix("Value error, ")
    given = issue["input"]
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{place}: {message}{shown}"


def _known_keys(section: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Return the keys allowed at *location*, by following it through the section types."""
    current: Any = section
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(part)
            current = field.annotation if field else None
        elif getattr(current, "__origin__", None) is dict:
            current = current.__args__[1]
    if isinstance(current, type) and issubclass(current, BaseModel):
        return sorted(field.alias or name for name, field in current.model_fields.items())
    return []
