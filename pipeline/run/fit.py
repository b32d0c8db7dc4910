"""Whether a job and its input fit each other, told before anything is spent."""

from pipeline.compare.grading import scorer_of
from pipeline.errors import JobError
from pipeline.plan import check_columns
from pipeline.readers import Source
from pipeline.spec import JUDGE, Job
from pipeline.write import check_prefix


def check_fit(job: Job, source: Source) -> None:
    """Check what the write and compare passes will need.

    Raises:
        JobError: for an answer column that is there already, a scorer or a column that is not.
    """
    check_prefix(source, job.output.prefix, job.output.answer_schema)
    for rule in job.score_rules:
        scorer_of(rule.scorer)
    references = [column for rule in job.score_rules for column in rule.column or []]
    if any(rule.scorer == JUDGE for rule in job.score_rules) and (job.judge is None or not job.compare.shadow):
        raise JobError(
            "score: the scorer judge compares with what the baseline says to a sample: it needs [judge] with a model, "
            "and [compare] shadow = 200 or so"
        )
    check_columns("score or compare", [*references, *job.compare.by], source)
