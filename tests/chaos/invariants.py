"""The checker: reads what runs left behind, and says where one of the invariants I1 to I12 does not hold."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from .checks_files import exit_code_fits, no_secrets, rerun_sends_nothing, whole_files
from .checks_money import costs_agree, within_cap
from .checks_rows import answers_trace_back, each_row_once, same_order
from .checks_sends import bounded_losses, bounded_sends, within_rates
from .evidence import Case, Evidence, Price, Rate, Sighting, Snapshot, snapshot
from .watching import watch_output

__all__ = ["INVARIANTS", "Case", "Price", "Rate", "Sighting", "Snapshot", "check", "snapshot", "watch_output"]

INVARIANTS: Final[Mapping[str, Callable[[Evidence], Iterator[str]]]] = {
    "I1": each_row_once,
    "I2": same_order,
    "I3": answers_trace_back,
    "I4": bounded_sends,
    "I5": bounded_losses,
    "I6": costs_agree,
    "I7": within_cap,
    "I8": within_rates,
    "I9": no_secrets,
    "I10": rerun_sends_nothing,
    "I11": whole_files,
    "I12": exit_code_fits,
}


def check(case: Case) -> list[str]:
    """Return every violation in what the runs of *case* left behind, each a sentence that begins with the invariant."""
    evidence = Evidence(case)
    return [f"{name}: {violation}" for name, holds in INVARIANTS.items() for violation in holds(evidence)]
