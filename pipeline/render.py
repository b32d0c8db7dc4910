"""Rows become messages: Jinja2 in a sandbox, where a row's text is data and never a template."""

import base64
import json
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import msgspec
import polars as pl
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipeline.errors import JobError
from pipeline.spec import Example, Prompt

RENDERED: dict[str, type[pl.DataType]] = dict.fromkeys(("user", "system", "image", "messages", "problem"), pl.String)
_MAX_REPEAT = 1_000_000  # the sandbox itself would let 'a' * 10**10 take the machine's memory
_MAX_IMAGE_BYTES = 20 << 20
# What an expression in a template may raise on odd data; the row fails, the job goes on.
_TEMPLATE_ERRORS = (jinja2.TemplateError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError)


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        size = max((len(side) for side in (left, right) if isinstance(side, str | list | tuple)), default=1)
        times = max((abs(side) for side in (left, right) if isinstance(side, int | float)), default=1)
        if size * times > _MAX_REPEAT or (operator == "**" and times > 1000):
            raise SecurityError(f"{operator} makes a value that is too large")
        return super().call_binop(context, operator, left, right)


def _not_null(value: Any) -> Any:
    if value is None:
        raise jinja2.UndefinedError("a null would be printed")
    return value


_SANDBOX = _Sandbox(undefined=jinja2.StrictUndefined, finalize=_not_null, keep_trailing_newline=True, autoescape=False)


class _Template(NamedTuple):
    """A template with the columns it reads; `parts` holds it as text and column names where it only substitutes."""

    compiled: jinja2.Template
    columns: frozenset[str]
    parts: tuple[tuple[str, bool], ...] | None


class Renderer:
    """Turns batches of rows into messages, as one `[prompt]` section says."""

    def __init__(self, prompt: Prompt) -> None:
        """Compile the templates.

        Raises:
            JobError: for a template that does not parse.
        """
        self._prompt = prompt
        self._system = _compile("prompt.system", prompt.system)
        self._user = _compile("prompt.user", prompt.user)
        templates = [template for template in (self._system, self._user) if template]
        named = [name for name in (prompt.column, prompt.messages, prompt.image) if name]
        read = frozenset().union(*(template.columns for template in templates))
        self.columns: list[str] = list(dict.fromkeys([*named, *sorted(read)]))

    def render(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the `RENDERED` columns; `problem` says why a row can't be asked, null where it can."""
        prompt = self._prompt
        out = {name: _nulls(rows.height, dtype).alias(name) for name, dtype in RENDERED.items()}
        problems: list[pl.Series] = []
        if prompt.column is not None:
            out["user"] = _as_text(rows[prompt.column]).alias("user")
        for name, template in (("user", self._user), ("system", self._system)):
            if template is not None:
                texts, problem = _render_column(template, rows)
                out[name] = texts.alias(name)
                problems.append(problem)
        if prompt.messages is not None:
            out["messages"], out["user"], problem = _messages(rows[prompt.messages])
            problems.append(problem)
        if prompt.image is not None:
            out["image"], problem = _images(rows[prompt.image])
            problems.append(problem)
        if prompt.examples:
            out["messages"] = _dialogues(prompt.examples, out["system"], out["user"]).alias("messages")
        frame = pl.DataFrame(list(out.values()))
        empty = (pl.col("user").fill_null("").str.strip_chars() == "") & pl.col("image").is_null()
        found = [pl.lit(problem) for problem in problems]
        return frame.with_columns(
            # An empty rendered system text means that there is no system message.
            system=pl.when(pl.col("system") != "").then(pl.col("system")),
            problem=pl.coalesce(*found, pl.when(empty).then(pl.lit("empty_input: the prompt is empty"))),
        )


def _nulls(height: int, dtype: type[pl.DataType]) -> pl.Series:
    return pl.Series([None], dtype=dtype).new_from_index(0, height)


def _compile(where: str, source: str | None) -> _Template | None:
    if source is None:
        return None
    try:
        tree = _SANDBOX.parse(source)
        columns = frozenset(meta.find_undeclared_variables(tree))
        return _Template(_SANDBOX.from_string(source), columns, _substitution(tree))
    except jinja2.TemplateSyntaxError as error:
        raise JobError(f"{where}: line {error.lineno}: {error.message}") from error


def _substitution(tree: nodes.Template) -> tuple[tuple[str, bool], ...] | None:
    """Return the template as (text, is_column) parts, or None when it does more than put columns between text."""
    parts: list[tuple[str, bool]] = []
    for output in tree.body:
        if not isinstance(output, nodes.Output):
            return None
        for node in output.nodes:
            if isinstance(node, nodes.TemplateData):
                parts.append((node.data, False))
            elif isinstance(node, nodes.Name):
                parts.append((node.name, True))
            else:
                return None
    return tuple(parts)


def _render_column(template: _Template, rows: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """Return the rendered texts and, where there is none, why."""
    plain = template.parts is not None and all(rows[name].dtype == pl.String for name in template.columns)
    if plain and template.parts is not None:
        return _substitute(template.parts, rows)
    texts: list[str | None] = []
    problems: list[str | None] = []
    for row in rows.select(sorted(template.columns)).iter_rows(named=True):
        text, problem = _render_row(template.compiled, row)
        texts.append(text)
        problems.append(problem)
    if not template.columns:
        text, problem = _render_row(template.compiled, {})
        texts, problems = [text] * rows.height, [problem] * rows.height
    return pl.Series(texts, dtype=pl.String), pl.Series(problems, dtype=pl.String)


def _substitute(parts: Sequence[tuple[str, bool]], rows: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    names = dict.fromkeys(name for name, is_column in parts if is_column)
    pieces = [pl.col(name) if is_column else pl.lit(name) for name, is_column in parts]
    # concat_str of literals alone gives one row, so it is made as long as the batch.
    texts = rows.select(pl.repeat("", pl.len()).alias("_pad"), *names).select(
        text=pl.concat_str([pl.col("_pad"), *pieces]),
        problem=pl.coalesce(
            *(pl.when(pl.col(name).is_null()).then(pl.lit(f"empty_input: {name} is null")) for name in names),
            pl.lit(None, dtype=pl.String),
        ),
    )
    return texts["text"], texts["problem"]


def _render_row(template: jinja2.Template, row: Mapping[str, Any]) -> tuple[str | None, str | None]:
    try:
        return template.render(row), None
    except _TEMPLATE_ERRORS as error:
        return None, f"template: {error}"


def _as_text(column: pl.Series) -> pl.Series:
    return column if column.dtype == pl.String else column.cast(pl.String)


def _dialogues(examples: Sequence[Example], systems: pl.Series, users: pl.Series) -> pl.Series:
    """Return messages as JSON: system text, examples as turns, and the row's own text; null where there is none."""
    shown = [
        {"role": role, "content": text}
        for example in examples
        for role, text in (("user", example.user), ("assistant", example.assistant))
    ]
    texts: list[str | None] = []
    for system, user in zip(systems.to_list(), users.to_list(), strict=True):
        first = [{"role": "system", "content": system}] if system else []
        turns = [*first, *shown, {"role": "user", "content": user}]
        texts.append(None if user is None else msgspec.json.encode(turns).decode())
    return pl.Series(texts, dtype=pl.String)


def _messages(column: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Return messages as JSON, the last text among them (what is classified), and problems."""
    encoded: list[str | None] = []
    last: list[str | None] = []
    problems: list[str | None] = []
    for value in column.to_list():
        try:
            messages = json.loads(value) if isinstance(value, str) else value
            text = _last_text(messages)
            encoded.append(msgspec.json.encode(messages).decode())
            last.append(text)
            problems.append(None)
        except (ValueError, TypeError, LookupError, RecursionError):
            encoded.append(None)
            last.append(None)
            problems.append("messages: not a list of {role, content} with a text at its end")
    strings = [pl.Series(values, dtype=pl.String) for values in (encoded, last, problems)]
    return strings[0].alias("messages"), strings[1].alias("user"), strings[2]


def _last_text(messages: Any) -> str:
    if not isinstance(messages, list) or not all(isinstance(one, dict) and "role" in one for one in messages):
        raise ValueError("not a list of messages")
    content = messages[-1]["content"]
    if isinstance(content, list):
        content = " ".join(str(part["text"]) for part in content if part.get("type") == "text")
    if not isinstance(content, str) or not content:
        raise ValueError("no text")
    return content


def _images(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return image URLs, files read into data URLs, and problems."""
    urls: list[str | None] = []
    problems: list[str | None] = []
    for value in _as_text(column).to_list():
        url, problem = (None, None) if not value else _image_url(value)
        urls.append(url)
        problems.append(problem)
    return pl.Series("image", urls, dtype=pl.String), pl.Series(problems, dtype=pl.String)


def _image_url(value: str) -> tuple[str | None, str | None]:
    if value.startswith(("https://", "http://", "data:image/")):
        return value, None
    path = Path(value)
    kind = mimetypes.guess_type(path.name)[0] or ""
    if not kind.startswith("image/"):
        return None, f"image: {path.name} has no image file ending"
    try:
        if path.stat().st_size > _MAX_IMAGE_BYTES:
            return None, f"image: {path.name} is larger than {_MAX_IMAGE_BYTES >> 20} MiB"
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}", None
    except (OSError, ValueError) as error:
        return None, f"image: {path.name} can't be read: {error}"
