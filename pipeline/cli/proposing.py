"""`rowroute route propose`: what last nights taught, as a policy for a person to accept."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from pipeline.errors import JobError

_PATH = click.Path(path_type=Path)


def add_propose_command(route: click.Group, say: Callable[[str], None]) -> None:
    """Add the command `propose` to the group *route*; *say* prints to stdout."""

    @route.command("propose")
    @click.argument("job", type=_PATH)
    @click.option("--output", metavar="DIR", help="Learn from the nights there instead of output.path.")
    @click.option("--reference", metavar="M", help="The model to measure by [of the promise, else the baseline].")
    @click.option("--quality", type=float, metavar="Q", help="Share of its quality to keep [the promise's, else 0.99].")
    def propose_(*, job: Path, output: str | None, reference: str | None, quality: float | None) -> None:
        """Learn from the nights of JOB, and write a policy for you to accept; the one in use stays."""
        say(propose(job, output, reference, quality))


def propose(job_file: Path, output: str | None, reference: str | None, quality: float | None) -> str:
    """Write a policy to a new file beside the job, and return its path, the rows it moves and what it promises.

    Where no cheaper way is sure enough to keep the quality, nothing is written, and the text says so.

    Raises:
        JobError: when no reference is named, or too few rows were answered by two models; nothing is written then.
    """
    from pipeline.learn import fit_policy, policy_text
    from pipeline.learn.commands import FitOptions
    from pipeline.run import RunOptions, gather_evidence, load, rows_per_model

    options = RunOptions(job_file, output=output)
    route = load(options).route
    named = reference or (route.promise.reference if route.promise else route.baseline)
    if not isinstance(named, str):
        raise JobError("the baseline is another on each row: name the model to measure by with --reference")
    promised = route.promise.quality if route.promise else 0.99
    share = promised if quality is None else quality
    confidence = route.promise.confidence if route.promise else 0.95
    evidence = gather_evidence(options, named)
    new = (job_file.with_name(f"{job_file.stem}-proposed-{number}.npz") for number in count(1))
    out = next(path for path in new if not path.exists())
    with TemporaryDirectory() as scratch:
        prompts, outcomes = Path(scratch) / "prompts.parquet", Path(scratch) / "outcomes.parquet"
        evidence.prompts.write_parquet(prompts)
        evidence.outcomes.write_parquet(outcomes)
        draft = Path(scratch) / "policy.npz"
        wanted = FitOptions(str(prompts), str(outcomes), named, share, draft, confidence=confidence, cascades=False)
        policy = fit_policy(wanted)
        seen = f"{policy.provenance['rows']} of {evidence.rows}"
        learned = f"this holds for rows like those learned from, which were {seen}"
        if policy.fixed == named:
            verdict = f"nothing is written: the only policy would be {named} for every row"
            return "\n".join([policy_text(policy), learned, verdict])
        before, after = rows_per_model(options), rows_per_model(options, draft)
        out.write_bytes(draft.read_bytes())
    lines = ["model: rows now -> proposed"]
    lines += [f"{name}: {before.get(name, 0)} -> {after.get(name, 0)}" for name in sorted({*before, *after})]
    kept = policy.promise
    lines += [
        policy_text(policy),
        f"mean cost a row: {kept.expected_cost:.6g} USD, of {named} {kept.reference_cost:.6g} USD",
        learned,
        f'written: {out}; nothing changes until [route] says policy = "{out}"',
    ]
    return "\n".join(lines)
