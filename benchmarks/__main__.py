"""The benchmarks: `python -m benchmarks [SCENARIO...]`; see README.md beside this file."""

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.harness import run_scenario, to_markdown
from benchmarks.measure import CommandError
from benchmarks.peers.contenders import Installed, contenders, installed
from benchmarks.plan import PLAN_SCENARIOS
from benchmarks.run import RUN_SCENARIOS
from benchmarks.scale import SCALES, run_scale, scale_to_markdown

SCENARIOS = {**RUN_SCENARIOS, **PLAN_SCENARIOS}
_DEFAULT = ("zero", "latency", "enforced-requests", "enforced-tokens", "plan")
_LEAST_ROUNDS = 3
_PACKAGES = ("rowroute", "aiohttp", "uvloop", "msgspec", "polars", "pyarrow")


def _machine() -> dict[str, object]:
    """Return what the figures depend on."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg(),
        "versions": versions,
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _run(name: str, options: argparse.Namespace, peers: Installed) -> tuple[dict[str, Any], str]:
    """Return the figures of one scenario, and its table."""
    if name in SCALES:
        result = run_scale(SCALES[name], most_rows=options.rows, rounds=options.rounds, say=_say)
        return result, scale_to_markdown(result)
    scenario = SCENARIOS[name]
    if scenario.peers:
        scenario = scenario._replace(contenders=(*scenario.contenders, *contenders(peers, scenario.peers)))
    result = run_scenario(scenario, rows=options.rows or scenario.rows, rounds=options.rounds, say=_say)
    return result, to_markdown(result)


def main() -> None:
    """Run the scenarios, print a table for each and write all figures to a JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    known = (*SCENARIOS, *SCALES)
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=f"{', '.join(known)} (default: {' '.join(_DEFAULT)})"
    )
    parser.add_argument("--rows", type=int, help="instead of the scenario's own number; of a scale the most")
    parser.add_argument("--rounds", type=int, default=5, help=f"at least {_LEAST_ROUNDS}")
    parser.add_argument("--alone", action="store_true", help="without the tools of others")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/latest.json"))
    options = parser.parse_args()
    unknown = [name for name in options.scenarios if name not in known]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are: {', '.join(known)}")
    if options.rounds < _LEAST_ROUNDS:
        parser.error(f"a median needs at least {_LEAST_ROUNDS} rounds")
    names = options.scenarios or _DEFAULT
    alone = options.alone or not any(SCENARIOS[name].peers for name in names if name in SCENARIOS)
    peers = () if alone else installed(_say)
    report = {"machine": _machine(), "peers": {peer.name: peer.pinned for peer, _ in peers}, "scenarios": {}}
    for name in names:
        try:
            report["scenarios"][name], table = _run(name, options, peers)
        except CommandError as error:
            sys.exit(f"benchmarks: {name}: {error}")
        print(table, flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"all figures: {options.output}")


if __name__ == "__main__":
    main()
