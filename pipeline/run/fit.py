"""Whether a job and its input fit each other, told before anything is spent."""

from pipeline.compare.grading import RECORDED
from pipeline.plan import check_columns
from pipeline.readers import Source
from pipeline.scorers import find_scorer
from pipeline.spec import Job
from pipeline.write import check_prefix


def check_fit(job: Job, source: Source) -> None:
    """Check what the write and compare passes will need.

    Raises:
        JobError: for an answer column that is there already, a scorer or a column that is not.
    """
    check_prefix(source, job.output.prefix, job.output.answer_schema)
    for name in job.compare.references:
        if name != RECORDED:
            find_scorer(name)
    check_columns("compare", [*job.compare.references.values(), *job.compare.by], source)
