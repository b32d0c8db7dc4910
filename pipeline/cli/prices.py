"""`rowroute models` and `rowroute prices`: what models cost, by whom it was said, and where the public list differs."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pipeline.cli.output import print_out, say
from pipeline.cli.texts import table

_JOB = click.option("--job", type=click.Path(path_type=Path), help="With the models of this job file.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--stale", is_flag=True, help="Only those retired, or whose price nobody has checked for 90 days.")
@click.option("--diff", is_flag=True, help="Only prices that are not those of the public list (genai-prices).")
@_JOB
def models(*, as_json: bool, stale: bool, diff: bool, job: Path | None) -> None:
    """List the models with provider, context and prices, each with its source and date."""
    from pipeline.run import list_models, pricelist

    if diff:
        found = pricelist.differences(pricelist.load_models(job, listed=False), datetime.now(UTC))
        _show([line._asdict() for line in found], pricelist.Difference._fields, as_json=as_json)
        return
    listed = list_models(job)
    columns: tuple[str, ...] = (
        "model",
        "provider",
        "context_tokens",
        "input_usd_per_mtok",
        "output_usd_per_mtok",
        "since",
        "checked",
        "source",
        "retires",
    )
    if stale:
        old = pricelist.stale_models(pricelist.load_models(job, listed=True), datetime.now(UTC).date())
        listed = [{**model, "stale": old[model["model"]]} for model in listed if model["model"] in old]
        columns = ("model", "provider", "stale", "source")
    _show(listed, columns, as_json=as_json)


@click.group()
def prices() -> None:
    """Keep prices up to date. Prices are dated: a new one never replaces an old one."""


@prices.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Write FILE; without it nothing is written.")
@_JOB
def refresh(*, file: Path, yes: bool, job: Path | None) -> None:
    """Show where prices differ from the public list, and with --yes put the listed ones into FILE, from today on.

    FILE is a catalogue file: name it in `catalogue` of a job file to use its prices. The list is that of the installed
    package genai-prices; a newer package has newer prices. Nothing is fetched.
    """
    from pipeline.run import pricelist

    now = datetime.now(UTC)
    catalogue = pricelist.load_models(job, listed=False)
    found = pricelist.differences(catalogue, now)
    if not found:
        say("all prices are those of the list")
        return
    _show([line._asdict() for line in found], pricelist.Difference._fields, as_json=False)
    changed = {line.model for line in found}
    if yes:
        pricelist.write_listed(file, catalogue, changed, now)
        say(f'{file}: {len(changed)} models with new prices; use it as catalogue = ["{file}"]')
    else:
        say(f"nothing is written; --yes writes {len(changed)} models to {file}")


def _show(lines: list[dict[str, Any]], columns: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        print_out(json.dumps(lines, indent=2, default=str))
    elif lines:
        cells = (["" if line[name] is None else str(line[name]) for name in columns] for line in lines)
        print_out(table([columns, *cells]))
