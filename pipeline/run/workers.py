"""Several processes for one job: each asks its share of every lane within its share of the limits, into a shard."""

import multiprocessing
import random
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, closing, contextmanager
from functools import reduce
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import anyio

from pipeline.catalogue import Catalogue
from pipeline.dispatch import Dispatched, dispatch
from pipeline.errors import JobError
from pipeline.lanes import Budget, Counters, StopSignal
from pipeline.lanes.online import Shared
from pipeline.ledger import Entry, Run, connect, hold_lock, open_ledger, shard_lock, shard_path
from pipeline.limits import Used
from pipeline.plan import Group, Share
from pipeline.records import Parameters
from pipeline.run.routes import Credentials, Setting, open_routes

_TELL_EVERY_S = 0.2
_ENDED_S = 5.0


class Task(NamedTuple):
    """What a process needs to do its part. *cap_pusd* is its own, counted from *run.spent_pusd*."""

    job: str
    catalogue: Catalogue
    credentials: Mapping[str, Credentials]
    parameters: Parameters
    groups: Sequence[Group]
    sample: Sequence[Group]  # asked after them, for what is left of the cap
    carried: dict[bytes, Entry]
    cap_pusd: int | None
    ledger: Path
    run: Run
    grace_s: float
    used_today: Mapping[str, Used]
    repairs: bool
    places: int  # requests that it may have under way
    share: Share = Share()
    off_peak: bool = False

    def divided(self, processes: int) -> "list[Task]":
        """Return the parts for so many processes; rounding never makes their caps more than the whole."""
        cap = self.cap_pusd
        if cap is not None:
            cap = self.run.spent_pusd + max(0, cap - self.run.spent_pusd) // processes
        places = -(-self.places // processes)
        return [
            self._replace(cap_pusd=cap, places=places, share=Share(number, processes)) for number in range(processes)
        ]


class _Ended(NamedTuple):
    """The last word of a process."""

    dispatched: Dispatched
    problems: tuple[str, ...] = ()  # what a person must see to


_DIED = _Ended(Dispatched({"a worker": "died; what it was asking may be paid for again"}, None))


class _Worker:
    """A process seen from the one that started it."""

    def __init__(self, task: Task) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy locks that threads of ours hold
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_main, args=(task, other), name=f"worker {task.share.number}")
        self.places = task.places
        self.counters = Counters()
        self.ended: _Ended | None = None
        self.process.start()
        other.close()

    async def listen(self) -> None:
        """Take in what the process tells, to its end."""
        try:
            while self.ended is None:
                await anyio.wait_readable(self.pipe)
                told = self.pipe.recv()
                if isinstance(told, Counters):
                    self.counters = told
                else:
                    self.ended = told
        except EOFError:
            self.ended = _DIED

    @property
    def has_reported(self) -> bool:
        """Tell whether it came to an end of its own."""
        return self.ended is not None and self.ended is not _DIED

    def tell(self, reason: str) -> None:
        """Ask it to stop; asked twice, it stops at once."""
        try:
            self.pipe.send(reason)
        except OSError:
            return  # it has ended


async def ask_by_workers(tasks: Sequence[Task], stop: StopSignal, counters: Counters) -> Dispatched:
    """Run a process for each of *tasks* until all have ended; *counters* follow the sums of theirs.

    When *stop* is set, all are told; when this is cancelled, all cut off what is under way.

    Raises:
        JobError: with what the processes could not do, such as writing to a full disk.
    """
    with _workers(tasks) as workers:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_pass_on, stop, workers)
                group.start_soon(_add_up, workers, counters)
                await _listen(workers)
                group.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(_ENDED_S, shield=True):
                for worker in workers:
                    worker.tell("now")
                    worker.tell("now")
                await _listen(workers)
            _sum(workers, counters)
            # Whatever a process had under way when it died may be on the bill.
            counters.cut_off += sum(worker.places for worker in workers if not worker.has_reported)
    ends = [worker.ended for worker in workers if worker.ended is not None]
    problems = dict.fromkeys(problem for end in ends for problem in end.problems)
    if problems:
        raise JobError(*problems)
    halted = {model: why for end in ends for model, why in end.dispatched.halted.items()}
    return Dispatched(halted, next((end.dispatched.stopped for end in ends if end.dispatched.stopped), None))


@contextmanager
def _workers(tasks: Sequence[Task]) -> Iterator[list[_Worker]]:
    workers = [_Worker(task) for task in tasks]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.pipe.close()  # which tells those that still run to stop
        for worker in workers:
            worker.process.join(_ENDED_S)
            worker.process.kill()
            worker.process.join()


async def _listen(workers: Sequence[_Worker]) -> None:
    async with anyio.create_task_group() as group:
        for worker in workers:
            group.start_soon(worker.listen)


async def _pass_on(stop: StopSignal, workers: Sequence[_Worker]) -> None:
    await stop.wait()
    for worker in workers:
        worker.tell(stop.reason or "")


async def _add_up(workers: Sequence[_Worker], counters: Counters) -> None:
    while True:
        await anyio.sleep(_TELL_EVERY_S)
        _sum(workers, counters)


def _sum(workers: Sequence[_Worker], counters: Counters) -> None:
    counters.set_to(reduce(Counters.plus, (worker.counters for worker in workers), Counters()))


def _main(task: Task, pipe: Connection) -> None:
    """Be a worker process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal sends it to all; who started us decides
    counters = Counters()
    try:
        with hold_lock(shard_lock(task.ledger, task.share.number)):
            dispatched = anyio.run(_ask, task, pipe, counters, backend_options={"use_uvloop": True})
        ended = _Ended(dispatched)
    except JobError as error:
        ended = _Ended(Dispatched({}, None), error.problems)
    try:
        pipe.send(counters)
        pipe.send(ended)
    except OSError:
        return  # nobody listens any more


async def _ask(task: Task, pipe: Connection, counters: Counters) -> Dispatched:
    path, share = shard_path(task.ledger, task.share.number), task.share
    stop = StopSignal()
    ended: Dispatched | None = None
    with closing(connect(path, task.job)) as connection:
        async with AsyncExitStack() as stack:
            setting = Setting(
                task.ledger.parent,
                share.of,
                used_today=lambda: task.used_today,
                off_peak=task.off_peak,
                repairs=task.repairs,
            )
            routes = await open_routes(stack, task.catalogue, task.credentials, task.parameters, setting)
            async with (
                open_ledger(connection, path, task.run, nothing_comes=counters.nothing_comes) as ledger,
                anyio.create_task_group() as group,
            ):
                shared = Shared(
                    routes=routes,
                    parameters=task.parameters,
                    ledger=ledger,
                    carried=task.carried,
                    budget=Budget(task.cap_pusd, task.run.spent_pusd),
                    counters=counters,
                    stop=stop,
                    rng=random.Random(),
                )
                group.start_soon(_obey, pipe, group.cancel_scope, stop, task.grace_s)
                group.start_soon(_tell, pipe, counters)
                group.start_soon(shared.end_when_drained, group.cancel_scope)
                ended = await dispatch(task.groups, shared, share)
                if task.sample and stop.reason is None:
                    sampled = await dispatch(task.sample, shared, share)
                    ended = ended._replace(halted=sampled.halted)
                group.cancel_scope.cancel()
    return ended or Dispatched({}, stop.reason)


async def _obey(pipe: Connection, work: anyio.CancelScope, stop: StopSignal, grace_s: float) -> None:
    """Stop when told to, or when nobody is there any more to tell: at the second time at once."""
    try:
        for left_s in (grace_s, 0.0):
            await anyio.wait_readable(pipe)
            stop.set(pipe.recv())
            work.deadline = anyio.current_time() + left_s
    except EOFError:
        stop.set("orphaned")
        work.deadline = anyio.current_time()


async def _tell(pipe: Connection, counters: Counters) -> None:
    while True:
        await anyio.sleep(_TELL_EVERY_S)
        try:
            pipe.send(counters)
        except OSError:
            return
