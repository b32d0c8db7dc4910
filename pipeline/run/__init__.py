"""Wiring: a job and options in, stages in order, a report out. The only package that constructs."""

from pipeline.run.job import compare_outputs, plan_job, run_job
from pipeline.run.offline import check_job, classify_file, list_models, read_comparison
from pipeline.run.options import ExitCode, Report, RunOptions, Tolerance, load

__all__ = [
    "ExitCode",
    "Report",
    "RunOptions",
    "Tolerance",
    "check_job",
    "classify_file",
    "compare_outputs",
    "list_models",
    "load",
    "plan_job",
    "read_comparison",
    "run_job",
]
