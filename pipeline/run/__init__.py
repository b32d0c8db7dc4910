"""Wiring: a job and options in, stages in order, a report out. The only package that constructs."""

from pipeline.run.evidence import gather_evidence, rows_per_model
from pipeline.run.history import job_history
from pipeline.run.job import plan_job, run_job
from pipeline.run.offline import check_job, classify_file, list_models, read_comparison
from pipeline.run.options import ExitCode, Report, RunOptions, Tolerance, load
from pipeline.run.repricing import repriced
from pipeline.run.upkeep import export_ledger, ledger_stats, prune_ledger, verify_ledger

__all__ = [
    "ExitCode",
    "Report",
    "RunOptions",
    "Tolerance",
    "check_job",
    "classify_file",
    "export_ledger",
    "gather_evidence",
    "job_history",
    "ledger_stats",
    "list_models",
    "load",
    "plan_job",
    "prune_ledger",
    "read_comparison",
    "repriced",
    "rows_per_model",
    "run_job",
    "verify_ledger",
]
