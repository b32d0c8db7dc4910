"""The command line: arguments, progress and exit status. Only this module prints; what is heavy is imported late."""

import gc
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import click

from pipeline import __version__
from pipeline.cli.nights import compare, fail_if_option, history
from pipeline.cli.output import print_out as _print
from pipeline.cli.output import say as _say
from pipeline.cli.prices import models, prices
from pipeline.cli.route import add_route_commands
from pipeline.cli.texts import cascades_text, plan_text, promise_text, report_text, table
from pipeline.errors import JobError, LockedError

_CANNOT_RUN, _WORSE, _DEFECT, _LOCKED, _INTERRUPTED = 2, 6, 70, 75, 130
logger = logging.getLogger("rowroute")

# Read when polars is imported. Batches are small: more threads would spend more CPU on each other than they save.
os.environ.setdefault("POLARS_MAX_THREADS", "1")
# Looking for plugins of pydantic reads the metadata of every installed package.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
# Of polars' allocator: batch follows batch, so memory given back to the system would be asked for again at once.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:10000,muzzy_decay_ms:10000")


def _is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a person sits at *stream*; there is none where it was closed."""
    return stream is not None and stream.isatty()


class _Commands(click.Group):
    """Turns the errors raised on purpose into messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        came = _note_interrupts()
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - Python's own exit code for it, 1, means finished
            sys.exit(_INTERRUPTED if came or isinstance(error, KeyboardInterrupt) else _tell(error))


def _note_interrupts() -> list[int]:
    """Return what each SIGINT is added to: compiled code, modules on import above all, may make any error of it."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else somebody wants it ignored
        signal.signal(signal.SIGINT, note)
    return came


def _tell(error: Exception) -> int:
    """Say what *error* is, and return the exit code for it."""
    match error:
        case LockedError():
            _say(f"rowroute: {error}")
            return _LOCKED
        case JobError():
            for problem in error.problems:
                _say(f"rowroute: {problem}")
            return _CANNOT_RUN
        case OSError():
            _say(f"rowroute: {error.filename or 'file'}: {error.strerror}")
            return _CANNOT_RUN
        case _:
            traceback.print_exception(error)
            return _DEFECT


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rowroute")
def main() -> None:
    """Run a prompt over every row of a dataset and pay as little as the wanted quality allows.

    \b
    Exit codes: 0 all rows ok; 1 finished, more rows failed than --tolerate; 2 the job can't run as written;
    3 stopped by auth, quota or a dead provider (run it again); 4 cost cap (raise it, run again);
    5 waiting for a provider's batch (run it again later);
    6 quality is worse than the baseline's and --fail-if worse was given;
    70 a defect in rowroute; 75 another run holds the job; 130/143 interrupted (run it again).
    """


add_route_commands(main, _print)


def _job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that `run`, `plan` and `check` share."""
    options = [
        click.argument("job", type=click.Path(path_type=Path)),
        click.option("--input", "input_", metavar="PATH", help="Read this instead of input.path."),
        click.option("--output", metavar="DIR", help="Write here instead of output.path."),
        click.option("--limit", type=click.IntRange(0), help="Take the first N rows only."),
        click.option("--sample", type=click.IntRange(0), help="Take N rows at random."),
        click.option("--seed", type=int, default=0, show_default=True, help="Seed of --sample."),
        click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a key of the job file."),
        click.option("--json", "as_json", is_flag=True, help="One machine-readable summary on stdout."),
        click.option("-q", "--quiet", is_flag=True, help="Say only what is wrong."),
        click.option("-v", "--verbose", is_flag=True, help="Say what happens."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _options(given: dict[str, Any]) -> Any:
    """Return RunOptions of what was given on the command line."""
    # Modules stay, and rows come and go in large numbers without cycles: the collector would look at both in vain.
    gc.set_threshold(100_000, 50, 50)
    from pipeline.plan import Selection
    from pipeline.run import RunOptions

    gc.freeze()

    level = logging.INFO if given.pop("verbose") else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    given.pop("quiet", None)
    given.pop("as_json", None)
    selection = Selection(given.pop("limit"), given.pop("sample"), given.pop("seed"))
    return RunOptions(
        job_file=given.pop("job"),
        input=given.pop("input_"),
        selection=selection,
        overrides=given.pop("overrides"),
        **given,
    )


@main.command()
@_job_options
@click.option("--dry-run", is_flag=True, help="Plan only, like `rowroute plan`.")
@click.option("--yes", is_flag=True, help="Do not ask before spending.")
@click.option("--retry-failed", is_flag=True, help="Ask the rows again that failed before.")
@click.option("--refresh", is_flag=True, help="Ask every row again.")
@click.option("--new-night", is_flag=True, help="Count the cost cap from zero, though the last run did not finish.")
@click.option("--overwrite", is_flag=True, help="Throw the ledger away, whoever's it is, and begin anew.")
@click.option("--tolerate", default="0", show_default=True, metavar="N|P%", help="Failed rows that still exit 0.")
@click.option("--grace", "grace_s", type=float, default=20, show_default=True, help="Seconds to finish after a signal.")
@click.option(
    "--ledger-text",
    type=click.Choice(["full", "hash"]),
    default="full",
    show_default=True,
    help="hash: keep no prompt, and no answer once the output is written.",
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Ask by so many processes.")
@click.option(
    "--when",
    type=click.Choice(["now", "off-peak"]),
    default="now",
    show_default=True,
    help="off-peak: ask no model in its dear hours; wait for the cheap ones.",
)
@click.option("--wait", is_flag=True, help="Stay until the batches are answered, in place of exit 5.")
@click.option("--record", type=click.Path(path_type=Path), help="Keep the answers in a file that can be replayed.")
@fail_if_option
def run(*, dry_run: bool, yes: bool, tolerate: str, fail_if: str | None, when: str, **given: Any) -> None:
    """Run JOB: plan, ask, write outputs.parquet and comparison.parquet. Run it again to continue."""
    from pipeline.run import Tolerance, plan_job, run_job

    quiet, as_json, given["off_peak"] = given["quiet"], given["as_json"], when == "off-peak"
    if dry_run:
        _show_plan(plan_job(_options(given)), quiet=quiet, as_json=as_json)
        return
    options = _options(given)._replace(tolerate=Tolerance.parse(tolerate))
    with _progress(quiet=quiet) as watch:
        report = run_job(options._replace(watch=watch, confirm=_confirm(yes=yes, quiet=quiet)))
    _show_report(report, quiet=quiet, as_json=as_json)
    sys.exit(report.exit_code or (_WORSE if fail_if and report.worse else 0))


@main.command()
@_job_options
def plan(**given: Any) -> None:
    """Show what JOB would send, to whom, and what it would cost. Sends nothing."""
    from pipeline.run import plan_job

    quiet, as_json = given["quiet"], given["as_json"]
    _show_plan(plan_job(_options(given)), quiet=quiet, as_json=as_json)


@main.command()
@_job_options
def check(**given: Any) -> None:
    """Look JOB over: the file, the columns, the models, the keys. Sends nothing and writes nothing."""
    from pipeline.run import check_job

    as_json, quiet = given["as_json"], given["quiet"]
    found = check_job(_options(given))
    if as_json:
        _print(json.dumps({"ok": True, "warnings": found}))
    elif not quiet:
        for warning in found:
            _say(f"warning: {warning}")
        _say("ok")


main.add_command(models)
main.add_command(prices)


@main.command()
@click.argument("input_", metavar="INPUT")
@click.option("--column", required=True, help="The column of prompts.")
@click.option("--image-column", help="The column of images: a row with one is a vision row.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="A Parquet file.")
def classify(*, input_: str, column: str, image_column: str | None, output: Path) -> None:
    """Label every row of INPUT with task, difficulty, confidence and the rule that decided."""
    from pipeline.run import classify_file

    rows = classify_file(input_, column=column, image_column=image_column, output=output)
    _say(f"{rows} rows labelled in {output}")


main.add_command(compare)
main.add_command(history)


@main.group()
def ledger() -> None:
    """Look after the ledger in OUT, the output folder of a job."""


@ledger.command("stats")
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def stats(*, folder: Path, as_json: bool) -> None:
    """Count attempts, tokens and cost by model and status."""
    from pipeline.run import ledger_stats

    lines = ledger_stats(folder)
    if as_json:
        _print(json.dumps(lines, indent=2))
    elif lines:
        _print(table([list(lines[0]), *([str(cell) for cell in line.values()] for line in lines)]))


@ledger.command("verify")
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
def verify(*, folder: Path) -> None:
    """Check the file and the checksum of every record; exit 1 when something is wrong."""
    from pipeline.run import verify_ledger

    problems = verify_ledger(folder)
    for problem in problems:
        _say(problem)
    _say(f"{len(problems)} problems")
    sys.exit(bool(problems))


@ledger.command("export")
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--to", "target", required=True, type=click.Path(path_type=Path), help="A Parquet file.")
def export(*, folder: Path, target: Path) -> None:
    """Write every attempt to a Parquet file."""
    from pipeline.run import export_ledger

    _say(f"{export_ledger(folder, target)} attempts in {target}")


@ledger.command("prune")
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--keep-nights", type=click.IntRange(0), default=30, show_default=True, help="Nights to keep whole.")
def prune(*, folder: Path, keep_nights: int) -> None:
    """Delete old attempts at requests that the last plan does not use; no answer in use is lost."""
    from pipeline.run import prune_ledger

    _say(f"{prune_ledger(folder, keep_nights)} attempts deleted")


@main.command()
def schema() -> None:
    """Print the JSON Schema of a job file, for editors."""
    from pipeline.spec import job_schema

    _print(job_schema())


@main.command()
@click.argument("path", type=click.Path(path_type=Path), default="job.toml")
def init(path: Path) -> None:
    """Write a commented starter job to PATH."""
    from importlib.resources import files

    if path.exists():
        raise JobError(f"{path}: exists already")
    path.write_text(files("pipeline").joinpath("starter.toml").read_text(encoding="utf-8"), encoding="utf-8")
    _say(f"{path} written; edit it, then: rowroute plan {path}")


def _confirm(*, yes: bool, quiet: bool) -> Callable[[Any], bool]:
    """Ask on a terminal before money is spent; cron has nobody to ask."""

    def confirm(planned: Any) -> bool:
        if not quiet:
            _say(plan_text(planned))
        costs = planned.total("cost_usd") or (planned.shadow is not None and planned.shadow["new"])
        if yes or not costs or not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
            return True
        return click.confirm("Send it?", err=True)

    return confirm


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[Any, int], None]]:
    """Show rows, rate, time left and spend on a terminal, and nothing without one."""
    from tqdm import tqdm

    hidden = quiet or not _is_terminal(sys.stderr) or os.environ.get("TERM") == "dumb"
    with tqdm(unit=" requests", disable=hidden, file=sys.stderr, dynamic_ncols=True) as bar:

        def watch(counters: Any, requests: int) -> None:
            bar.total = requests
            bar.set_postfix_str(f"{counters.spent_pusd / 1e12:.4f} USD", refresh=False)
            bar.update(counters.done - bar.n)

        yield watch


def _show_plan(report: Any, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        _print(json.dumps(report.summary, indent=2))
        return
    for warning in report.warnings:
        _say(f"warning: {warning}")
    if not quiet:
        _print(plan_text(report.plan))


def _show_report(report: Any, *, quiet: bool, as_json: bool) -> None:
    summary = report.summary
    for warning in report.warnings:
        _say(f"warning: {warning}")
    for model, batch in summary.get("waiting", {}).items():
        _say(f"waiting: {model}: {batch}; run it again later")
    for model, reason in summary.get("halted", {}).items():
        _say(f"stopped: {model}: {reason}; its rows are pending")
    if as_json:
        _print(json.dumps(summary, indent=2, default=str))
        return
    if quiet or "rows" not in summary:
        return
    if report.comparison is not None:
        from pipeline.compare import to_text

        _print(to_text(report.comparison))
    if "promise" in summary:
        _print(promise_text(summary["promise"]))
    if summary["cascades"]:
        _print(cascades_text(summary["cascades"]))
    _print(report_text(summary))
    if summary["stopped"]:
        _print(f"stopped by {summary['stopped']}; run it again to continue")
