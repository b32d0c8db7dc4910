"""Batch by batch: read, render, classify, route, address, spool. Memory grows by 17 bytes a distinct request."""

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from pipeline.catalogue import Catalogue, cheap_from, dearest_at, price_at
from pipeline.classify.bulk import JobClassifier
from pipeline.errors import JobError
from pipeline.identity import ID_BYTES, IdMap, RequestHasher, as_ids, repeat_id, request_hasher
from pipeline.packing import packing_of
from pipeline.plan.exact import ExactInput
from pipeline.plan.learned import Learned
from pipeline.plan.rows import RowWriter
from pipeline.plan.selection import Selection, select_rows, take_rows
from pipeline.plan.spool import SPOOL_SCHEMA, Group, Spool
from pipeline.plan.summary import Estimates, GroupSummary, PlanPrices, Summary, Tally
from pipeline.plan.timing import Timing
from pipeline.plan.unique import UniqueIds
from pipeline.readers import Batch, Source
from pipeline.records import Parameters, Price
from pipeline.render import Renderer
from pipeline.route import only_columns, route
from pipeline.spec import Job
from pipeline.tokens import estimate_tokens

_MESSAGE_TOKENS = 4  # what a chat format adds to a message
_KINDS = [None, "reused", "retried", "new"]
_NOT_ASKED, _REUSED, _RETRIED, _NEW = range(4)
_CACHED_FROM_TOKENS = 1024  # the least that OpenAI, Anthropic and Gemini keep in a cache
_IMAGE_TOKENS = 1000  # a picture of usual size; providers count 85 to 1,600


class BaselineOnly(NamedTuple):
    """Plan some rows, by ascending number among the selected ones, for their baseline; *again* asks what was asked."""

    rows: Sequence[int]
    again: bool = False


class PlanOptions(NamedTuple):
    """What of the input takes part, and what is already known of its requests."""

    selection: Selection = Selection()
    known: IdMap = IdMap()  # settled requests -> any value >= 0
    carried: Collection[bytes] = ()  # requests that were asked before and are not settled
    baseline: BaselineOnly | None = None  # ask the baseline instead of the routed model
    describe: Callable[[npt.NDArray[np.int64]], Mapping[str, int]] = lambda values: {"settled": len(values)}
    """Counts known values by status."""
    timing: Timing | None = None  # what the job says of batches; None: never
    off_peak: bool = False  # nothing is sent in dear hours


class Plan(NamedTuple):
    """A finished plan: where it lies and what it says."""

    folder: Path
    groups: tuple[Group, ...]
    summary: Summary
    parameters: Parameters
    prices: Mapping[str, Price]
    selection: Selection

    @property
    def rows_path(self) -> Path:
        """Return the row map's file."""
        return self.folder / "rows.parquet"


def make_plan(job: Job, source: Source, catalogue: Catalogue, folder: Path, options: PlanOptions) -> Plan:
    """Plan *job* over *source* into *folder*, which is emptied first.

    Raises:
        JobError: for a missing column, duplicate ids, or an input that can't be read.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    planner = _Planner(job, source, catalogue, folder, options)
    rows = RowWriter(folder / "rows.parquet")
    try:
        batches = select_rows(source, planner.columns, options.selection)
        if options.baseline is not None:
            batches = take_rows(batches, options.baseline.rows)
        for batch in batches:
            frame, request_ids = planner.plan(batch)
            rows.write(frame, request_ids)
    finally:
        rows.close()
        groups = planner.spool.close()
    planner.check_ids()
    summary = planner.tally.summary(catalogue, planner.earlier)
    if options.off_peak:
        summary = summary._replace(
            notes=(*summary.notes, *_waits(catalogue, [group.model for group in summary.groups]))
        )
    if job.prompt.rows_per_request > 1:
        summary = summary._replace(notes=(*summary.notes, *map(_packs, summary.groups)))
    return Plan(folder, groups, summary, planner.parameters, planner.prices, options.selection)


class _Planner:
    """What the batches share."""

    def __init__(self, job: Job, source: Source, catalogue: Catalogue, folder: Path, options: PlanOptions) -> None:
        self._job = job
        self._catalogue = catalogue
        self._options = options
        self._renderer = Renderer(job.prompt)
        self._classifier = JobClassifier(task=job.route.task, templates=(job.prompt.system, job.prompt.user))
        self._learned = Learned(job, catalogue)
        self._route_columns = only_columns(catalogue, job.route, self._learned.models)
        self.columns = list(
            dict.fromkeys([*self._renderer.columns, *self._route_columns, *filter(None, [job.input.id])])
        )
        check_columns("prompt, route or input", self.columns, source)
        self.parameters = parameters_of(job)
        # However it is sent, a schema is read as input.
        self._form_tokens = estimate_tokens(pl.Series([self.parameters.schema or ""])).item()
        self._exact = ExactInput(job, catalogue)
        self._hashers = _Hashers(self.parameters)
        timing = options.timing or Timing("never", datetime.now(UTC))
        now = timing.at
        waits = options.off_peak
        self.prices = {
            name: price_at(model, cheap_from(model, now) if waits else now) for name, model in catalogue.models.items()
        }
        peak = {name: dearest_at(model, now) for name, model in catalogue.models.items()}
        self._seen = IdMap()
        self._row_ids = UniqueIds(folder / "ids.hashes")
        self.spool = Spool(folder)
        rows_per_request = 1 if options.baseline is not None else job.prompt.rows_per_request
        prices = PlanPrices(timing, self.prices, peak)
        estimates = Estimates(self._learned.further, self._exact.models)
        self.tally = Tally(job.prompt.max_output_tokens, prices, rows_per_request, estimates)
        packing = packing_of(job.prompt.rows_per_request, job.prompt.user)
        frame = pl.Series([packing.head + packing.tail]).to_arrow()
        self._frame_tokens = _MESSAGE_TOKENS + int(estimate_tokens(frame)[0])
        self.earlier: dict[str, int] = {}

    def plan(self, batch: Batch) -> tuple[pl.DataFrame, pa.Array]:
        """Plan one batch: its rows for the row map and their request ids; its new requests go to the spool."""
        frame, texts = self._routed(batch)
        request_ids, marks = self._addressed(frame, texts)
        frame = self._exact.count(pl.concat([frame, marks], how="horizontal"), texts)
        self.tally.add(frame)
        self._spool(frame, texts, request_ids)
        return frame, request_ids

    def _routed(self, batch: Batch) -> tuple[pl.DataFrame, pa.LargeStringArray]:
        """Return the rows with message, labels, model and, where there is none, the problem; and the user texts."""
        table = pl.from_arrow(batch.table)
        assert isinstance(table, pl.DataFrame)
        if not table.width:
            table = pl.DataFrame({"_row": range(batch.table.num_rows)})
        rendered = self._renderer.render(table)
        bad = (
            pl.Series([batch.bad.get(offset) for offset in range(table.height)], dtype=pl.String) if batch.bad else None
        )
        has_image = rendered["image"].is_not_null()
        labels = self._classifier.label(rendered["user"], has_image, rendered["system"])
        prompt = self._job.prompt
        texts = rendered["user"].fill_null("").to_arrow()
        whole = prompt.messages is not None or bool(prompt.examples)  # messages that hold all, the system text too
        tokens = estimate_tokens(rendered["messages"] if whole else texts) + _MESSAGE_TOKENS
        tokens += self._form_tokens
        shared_tokens: int | pl.Series = self._frame_tokens
        if prompt.system is not None and not whole:
            of_system = estimate_tokens(rendered["system"])
            tokens += of_system
            shared_tokens = of_system + self._frame_tokens
        if prompt.image is not None:
            tokens += has_image.cast(pl.Int64) * _IMAGE_TOKENS
        facts = labels.select("task", "difficulty").with_columns(has_image=has_image, input_tokens=tokens)
        wanted = self._learned.wanted(rendered["user"])
        if wanted is not None:
            facts = facts.hstack(wanted)
        routed = route(
            pl.concat([facts, table.select(self._route_columns)], how="horizontal"),
            spec=self._job.route,
            catalogue=self._catalogue,
            max_output_tokens=prompt.max_output_tokens,
        )
        if self._options.baseline is not None:
            nobody = pl.lit(None, dtype=pl.String)
            routed = routed.with_columns(model="baseline", escalate_to=nobody, cascade=nobody)
        frame = pl.concat([rendered, labels, routed], how="horizontal").with_columns(
            input_tokens=tokens,
            shared_tokens=shared_tokens,
            row_id=self._row_id(table, batch.first_row),
            route=pl.col("reason"),
            problem=pl.coalesce(
                pl.lit(None if bad is None else "bad_line: " + bad, dtype=pl.String),
                pl.col("problem"),
                pl.when(pl.col("model").is_null()).then("no_model: " + pl.col("reason")),
            ),
        )
        return frame, texts

    def _row_id(self, table: pl.DataFrame, first_row: int) -> pl.Series:
        numbers = pl.Series(range(first_row, first_row + table.height), dtype=pl.Int64).cast(pl.String)
        if self._job.input.id is None:
            return numbers
        ids = table[self._job.input.id].cast(pl.String)
        self._row_ids.add(ids)
        return ids.fill_null("row " + numbers)

    def check_ids(self) -> None:
        """Refuse an id column that names two rows alike. No batch can be planned any more."""
        self._seen = IdMap()  # for its memory
        twice = self._row_ids.take_repeated()
        if twice:
            raise JobError(
                f"input.id: column {self._job.input.id} is not unique: {twice} rows repeat an id; "
                "name a unique column, or leave input.id out to number the rows"
            )

    def _addressed(self, frame: pl.DataFrame, texts: pa.LargeStringArray) -> tuple[pa.Array, pl.DataFrame]:
        """Return each row's request id, and whether it is the first to ask it, and new, retried or reused."""
        rows = frame["problem"].is_null().arg_true().to_numpy().astype(np.int64)
        if len(rows) < frame.height:
            ids = self._ids(frame[rows], texts.take(pa.array(rows)))
        else:
            ids = self._ids(frame, texts)
        packed = as_ids(b"".join(ids))
        is_first = self._seen.add(packed, np.zeros(len(rows), dtype=bool))
        known = self._options.known.find(packed)
        for name, count in self._options.describe(known[is_first & (known >= 0)]).items():
            self.earlier[name] = self.earlier.get(name, 0) + count
        again = np.zeros(len(ids), dtype=bool)
        if self._options.carried:
            again = np.fromiter((one in self._options.carried for one in ids), dtype=bool, count=len(ids))
        first = np.zeros(frame.height, dtype=bool)
        first[rows] = is_first
        kind = np.full(frame.height, _NOT_ASKED, dtype=np.uint8)
        kind[rows] = np.where(known >= 0, _REUSED, np.where(again, _RETRIED, _NEW))
        marks = pl.DataFrame({"first": first, "kind": pl.Series(_KINDS).gather(kind)})
        return _id_array(b"".join(ids), rows, frame.height), marks

    def _ids(self, asked: pl.DataFrame, users: pa.LargeStringArray) -> list[bytes]:
        """Return the request id of each row of *asked*, whose user texts are *users*."""
        # The texts are hashed as UTF-8, without a string object each.
        _, offsets_buffer, data = users.buffers()
        offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[users.offset : users.offset + len(users) + 1].tolist()
        texts = data.to_pybytes() if data is not None else b""  # slices of bytes cost half of what those of a view do
        hashers = self._hashers
        whom = asked.select(pl.concat_str("model", "cascade", separator="\n", ignore_nulls=True)).to_series()
        columns = (asked[name].to_list() for name in ("system", "image", "messages"))
        ids = [
            hashers[name](texts[start:end], system, image, messages)
            for start, end, name, system, image, messages in zip(
                offsets, offsets[1:], whom.to_list(), *columns, strict=False
            )
        ]
        again = self._options.baseline is not None and self._options.baseline.again
        return list(map(repeat_id, ids)) if again else ids

    def _spool(self, frame: pl.DataFrame, texts: pa.LargeStringArray, request_ids: pa.Array) -> None:
        """Write the requests that must be sent, a model at a time."""
        send = (frame["first"] & frame["kind"].is_in(["new", "retried"])).arg_true()
        ready = {"request_id": request_ids, "user": texts}
        others = frame.select(field.name for field in SPOOL_SCHEMA if field.name not in ready)
        models = frame["model"].gather(send)
        for model in models.unique(maintain_order=True):
            rows = self._in_order(send.filter(models == model), others, texts, model)
            taken = {name: column.take(rows.to_arrow()) for name, column in ready.items()}
            sent = others[rows]
            columns = [taken[name] if name in taken else sent[name].to_arrow() for name in SPOOL_SCHEMA.names]
            self.spool.write(model, pa.table(columns, names=SPOOL_SCHEMA.names).cast(SPOOL_SCHEMA))

    def _in_order(self, rows: pl.Series, others: pl.DataFrame, texts: pa.LargeStringArray, model: str) -> pl.Series:
        """Return *rows* so that those which begin alike follow each other, where the model's provider caches that."""
        price = self.prices[model]
        long = others["input_tokens"].gather(rows).max()
        cached = price.cached_input is not None and price.cached_input < price.input
        if not cached or not isinstance(long, int) or long < _CACHED_FROM_TOKENS:
            return rows
        keys = others.select("system", "messages").with_columns(user=pl.Series(texts), row=pl.int_range(pl.len()))
        return keys[rows].sort("system", "messages", "user", maintain_order=True)["row"]


class _Hashers(dict[str, RequestHasher]):
    """Hashers by the model that is asked, and the cascade it begins: its answer is another than the model's alone."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__()
        self._parameters = parameters

    def __missing__(self, whom: str) -> RequestHasher:
        self[whom] = hasher = request_hasher(whom, self._parameters)
        return hasher


def _id_array(packed: bytes, rows: npt.NDArray[np.int64], height: int) -> pa.Array:
    """Return *height* ids, those of *rows* as *packed*, null elsewhere."""
    ids = np.zeros((height, ID_BYTES), dtype=np.uint8)
    ids[rows] = np.frombuffer(packed, dtype=np.uint8).reshape(-1, ID_BYTES)
    there = np.zeros(height, dtype=bool)
    there[rows] = True
    valid = pa.py_buffer(np.packbits(there, bitorder="little").tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(ID_BYTES), height, [valid, pa.py_buffer(ids.tobytes())])


def _waits(catalogue: Catalogue, names: Iterable[str]) -> tuple[str, ...]:
    """Return what is to be said of the models that are in their dear hours now."""
    now = datetime.now(UTC)
    times = {name: cheap_from(catalogue.models[name], now) for name in names}
    return tuple(
        f"{name}: nothing is sent before its cheap hours, which begin at {time:%Y-%m-%d %H:%M} UTC"
        for name, time in times.items()
        if time > now
    )


def _packs(group: GroupSummary) -> str:
    if group.rows_per_request > 1:
        saved = group.alone_cost_usd - group.packed_cost_usd
        return f"{group.model}: {group.rows_per_request} rows a request save about {saved:.4f} USD"
    if group.packed_cost_usd == group.alone_cost_usd:
        return f"{group.model}: rows are not packed"
    return f"{group.model}: rows are not packed: {group.packed_cost_usd:.4f} USD against {group.alone_cost_usd:.4f}"


def check_columns(where: str, wanted: Iterable[str], source: Source) -> None:
    """Refuse *wanted* columns that are not in the input. A file without a byte has no columns to miss, and no rows.

    Raises:
        JobError: naming the columns that there are.
    """
    names = source.schema.names
    missing = [name for name in wanted if name not in names]
    if missing and names:
        raise JobError(f"{where}: no column {', '.join(missing)}; the input has: {', '.join(names)}")


def parameters_of(job: Job) -> Parameters:
    """Return what every request of *job* shares."""
    # Of what TOML has and JSON has not, times become text.
    schema = None if job.output.answer_schema is None else msgspec.json.encode(job.output.answer_schema).decode()
    return Parameters(job.prompt.max_output_tokens, job.prompt.temperature, schema, tuple(job.output.choices))
