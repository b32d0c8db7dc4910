"""Requests that go together: the batches of a run, begun by it or by an earlier one, and its packs."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from pipeline.catalogue import Catalogue
from pipeline.lanes import BatchPlan, BatchTools, Packed, Route
from pipeline.ledger import BatchBook, connect
from pipeline.packing import packing_of
from pipeline.plan import Plan, Summary, Timing, next_time
from pipeline.records import Parameters
from pipeline.spec import Prompt
from pipeline.spec import Route as RouteSpec


def timing_of(route: RouteSpec) -> Timing:
    """Return what the job says of batches, seen from now in the zone of this machine."""
    now = datetime.now().astimezone()
    return Timing(route.batch, now, None if route.deadline is None else next_time(route.deadline, now))


@contextmanager
def open_book(ledger: Path) -> Iterator[BatchBook]:
    """Open the list of batches; it has a connection of its own beside the ledger's writer."""
    with closing(connect(ledger)) as connection:
        yield BatchBook(connection, ledger)


def notes_on_batches(ledger: Path) -> list[str]:
    """Return what is to be said of the batches under way; their rows count as new in a plan."""
    if not ledger.exists():
        return []
    with open_book(ledger) as book:
        return [
            f"{batch.model}: {batch.requests} rows are in batch {batch.batch_id or batch.intent} already: "
            "they are among the new ones above"
            for batch in book.open_batches()
        ]


def begun_for(connection: sqlite3.Connection, ledger: Path, catalogue: Catalogue) -> set[str]:
    """Return the models whose batches are to be collected or deleted, of those that the catalogue knows."""
    book = BatchBook(connection, ledger)
    left_over = {
        batch.model
        for batch in book.left_over()
        if (model := catalogue.models.get(batch.model)) and catalogue.providers[model.provider].batch_delete
    }
    return left_over | ({batch.model for batch in book.open_batches()} & catalogue.models.keys())


def goes_together(summary: Summary) -> bool:
    """Tell whether some requests of the plan go into batches or packs."""
    return any(group.lane == "batch" or group.rows_per_request > 1 for group in summary.groups)


def packs_for(routes: Mapping[str, Route], plan: Plan, prompt: Prompt) -> dict[str, Packed]:
    """Return how the models are asked for which packing pays; what a job wants of an answer is asked of each row."""
    packing = packing_of(prompt.rows_per_request, prompt.user)
    whole = Parameters(packing.max_output_tokens(prompt.max_output_tokens), prompt.temperature)
    asks = {
        group.model: routes[group.model].service.ask_with for group in plan.summary.groups if group.rows_per_request > 1
    }
    return {name: Packed(packing, ask_with(whole)) for name, ask_with in asks.items() if ask_with is not None}


def tools_for(
    routes: Mapping[str, Route], summary: Summary, begun: Iterable[str], book: BatchBook, state: Path, *, wait: bool
) -> dict[str, BatchTools]:
    """Return, for each model with a batch to begin or to collect, what its lane works with."""
    folder = state / "batches"
    folder.mkdir(exist_ok=True, mode=0o700)
    lanes = {group.model: group for group in summary.groups}
    tools: dict[str, BatchTools] = {}
    for name in {*begun, *(group.model for group in summary.groups if group.lane == "batch")}:
        client = routes[name].service.batches
        if client is None:
            continue
        group = lanes.get(name)
        submit, due_at = (group.lane == "batch", group.due_at) if group else (False, None)
        plan = BatchPlan(submit, due_at, wait=wait, poll_s=routes[name].service.poll_s)
        tools[name] = BatchTools(client, book, folder, plan)
    return tools
