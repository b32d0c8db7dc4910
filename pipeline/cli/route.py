"""`rowroute route`: learn a policy from recorded outcomes, apply it, play it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipeline.cli.proposing import add_propose_command

_PATH = click.Path(path_type=Path)


def add_route_commands(main: click.Group, say: Callable[[str], None]) -> None:
    """Add the group `route` to *main*; *say* prints to stdout."""

    @main.group()
    def route() -> None:
        """Learn which model is good enough for which row, from outcomes that were recorded."""

    @route.command("fit")
    @click.option("--prompts", required=True, metavar="P", help="Table with prompt_id and prompt.")
    @click.option(
        "--outcomes", required=True, metavar="O", help="Table with prompt_id, model, score, cost or cost_usd."
    )
    @click.option("--reference", required=True, metavar="M", help="The model whose quality is the measure.")
    @click.option("--quality", required=True, type=float, metavar="Q", help="Share of its quality to keep, as in 0.99.")
    @click.option(
        "--answer-column", metavar="C", help="Column of O with answers that can be compared: allows cascades."
    )
    @click.option("--confidence", type=float, default=0.95, show_default=True, help="That the quality is kept.")
    @click.option("--night-rows", type=click.IntRange(0), help="Rows of a night [as many as in P; 0: endless nights].")
    @click.option("--no-cascades", is_flag=True, help="One model a row, also where answers could be compared.")
    @click.option("--seed", type=int, default=0, show_default=True)
    @click.option("--out", required=True, type=_PATH, metavar="POLICY", help="The policy file to write.")
    def fit(*, no_cascades: bool, **given: Any) -> None:
        """Learn a policy that keeps Q of M's quality, and write it to POLICY."""
        from pipeline.learn import fit_policy, policy_text
        from pipeline.learn.commands import FitOptions

        say(policy_text(fit_policy(FitOptions(cascades=not no_cascades, **given))))

    @route.command("apply")
    @click.option("--policy", required=True, type=_PATH, metavar="POLICY", help="A file of `route fit`.")
    @click.option("--prompts", required=True, metavar="P", help="Table with prompt_id and prompt.")
    @click.option("--out", type=_PATH, metavar="D", help="A Parquet file for the decisions.")
    @click.option("--json", "as_json", is_flag=True, help="A JSON line a prompt.")
    def apply(*, policy: Path, prompts: str, out: Path | None, as_json: bool) -> None:
        """Decide for every prompt of P, and write or show it."""
        from pipeline.learn import apply_policy

        decisions = apply_policy(policy, prompts, out)
        if as_json:
            say(decisions.write_ndjson().rstrip("\n"))
        else:
            counts = decisions["arm"].value_counts(sort=True)
            say("\n".join(f"{count} rows: {arm}" for arm, count in counts.iter_rows()) or "no rows")

    @route.command("replay")
    @click.option("--policy", required=True, type=_PATH, metavar="POLICY", help="A file of `route fit`.")
    @click.option("--prompts", required=True, metavar="P", help="Table with prompt_id and prompt.")
    @click.option("--outcomes", required=True, metavar="O", help="Table as for `route fit`.")
    @click.option("--answer-column", metavar="C", help="Instead of the column that the policy was learned with.")
    @click.option("--json", "as_json", is_flag=True, help="As JSON.")
    def replay(*, policy: Path, prompts: str, outcomes: str, answer_column: str | None, as_json: bool) -> None:
        """Play POLICY against recorded outcomes, every call charged."""
        from pipeline.learn import replay_policy, replay_text

        result = replay_policy(policy, prompts, outcomes, answer_column)
        say(json.dumps(result, indent=2) if as_json else replay_text(result))

    add_propose_command(route, say)
