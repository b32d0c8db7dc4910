"""What goes on beside the lanes: signals, and telling how far it is."""

import signal

import anyio

from pipeline.lanes import Counters, StopSignal
from pipeline.run.options import ExitCode, RunOptions

_WATCH_EVERY_S = 0.2
SIGNAL_EXITS = {"SIGINT": ExitCode.INTERRUPTED, "SIGTERM": ExitCode.TERMINATED}


async def heed_signals(work: anyio.CancelScope, stop: StopSignal, grace_s: float) -> None:
    """Let *stop* know of a signal, and cancel *work* *grace_s* later, or at a second one."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            if stop.reason in SIGNAL_EXITS:
                break
            stop.set(signal.Signals(number).name)
            work.deadline = anyio.current_time() + grace_s
    work.cancel()


async def watch(options: RunOptions, counters: Counters, requests: int) -> None:
    """Tell whoever watches how far the run has come, again and again."""
    while True:
        options.watch(counters, requests)
        await anyio.sleep(_WATCH_EVERY_S)
