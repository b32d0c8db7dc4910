"""What `rowroute route` does: read the tables, learn, decide, play, write the files."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from pipeline.errors import JobError
from pipeline.files import whole_file
from pipeline.learn.fitting import fit
from pipeline.learn.outcomes import read_prompts, read_table
from pipeline.learn.promise import Aim
from pipeline.learn.replay import replay
from pipeline.policy import Policy, decide, load_policy, save_policy


class FitOptions(NamedTuple):
    """What `fit` is asked for."""

    prompts: str
    outcomes: str
    reference: str
    quality: float
    out: Path
    answer_column: str | None = None
    confidence: float = 0.95
    night_rows: int | None = None  # None: as many as are learned from
    cascades: bool = True
    seed: int = 0


def fit_policy(options: FitOptions) -> Policy:
    """Learn a policy from the tables and write it to `options.out`.

    Raises:
        JobError: when the tables can't be read or hold too little.
    """
    _check(options)
    table = read_table(
        options.prompts, options.outcomes, reference=options.reference, answer_column=options.answer_column
    )
    night_rows = table.rows if options.night_rows is None else options.night_rows
    aim = Aim(options.reference, options.quality, options.confidence, night_rows)
    provenance = {
        "made": datetime.now(UTC).date().isoformat(),
        "left_out": table.left_out,
        "answer_column": options.answer_column,
        "subjects": list(table.subject_names),
    }
    policy = fit(table, aim, cascades=options.cascades, seed=options.seed, provenance=provenance).policy
    save_policy(policy, options.out)
    return policy


def _check(options: FitOptions) -> None:
    problems = []
    if not 0 < options.quality <= 1.5:
        problems.append(f"--quality {options.quality}: a share of the reference's quality, as in 0.99")
    if not 0.5 <= options.confidence < 1:
        problems.append(f"--confidence {options.confidence}: at least 0.5 and below 1, as in 0.95")
    if not options.out.parent.is_dir():
        problems.append(f"--out {options.out}: there is no folder {options.out.parent}")
    if problems:
        raise JobError(*problems)


def apply_policy(policy_path: Path, prompts_path: str, out: Path | None) -> pl.DataFrame:
    """Return the decision for each prompt, and write it to *out* where given.

    Raises:
        JobError: when the policy or the prompts can't be read.
    """
    policy = load_policy(policy_path)
    prompts = read_prompts(prompts_path)
    decisions = pl.concat([prompts.select("prompt_id"), decide(policy, prompts["prompt"])], how="horizontal")
    if out is not None:
        with whole_file(out) as partial:
            decisions.write_parquet(partial)
    return decisions


def replay_policy(
    policy_path: Path, prompts_path: str, outcomes_path: str, answer_column: str | None
) -> dict[str, Any]:
    """Return what the policy would have come to on recorded outcomes, see `replay`.

    Answers are compared in *answer_column*, else in the column the policy was learned with.

    Raises:
        JobError: when anything can't be read, or a model of the policy was not recorded.
    """
    policy = load_policy(policy_path)
    column = answer_column or policy.provenance.get("answer_column")
    needs = any(arm.is_cascade for arm in policy.arms)
    table = read_table(
        prompts_path, outcomes_path, reference=policy.promise.reference, answer_column=column if needs else None
    )
    return replay(policy, table)
