"""The plan pass: every row gets a model, every distinct question an address, and both are written down."""

from pipeline.plan.learned import Learned
from pipeline.plan.planning import BaselineOnly, Plan, PlanOptions, check_columns, make_plan
from pipeline.plan.rows import ROW_SCHEMA, read_rows
from pipeline.plan.sampling import draw_sample
from pipeline.plan.selection import Selection, select_rows, take_rows
from pipeline.plan.spool import SPOOL_SCHEMA, WHOLE, Group, Share, Spool, read_requests
from pipeline.plan.summary import GroupSummary, Summary
from pipeline.plan.timing import Choice, Timing, choose_lane, next_time

__all__ = [
    "ROW_SCHEMA",
    "SPOOL_SCHEMA",
    "WHOLE",
    "BaselineOnly",
    "Choice",
    "Group",
    "GroupSummary",
    "Learned",
    "Plan",
    "PlanOptions",
    "Selection",
    "Share",
    "Spool",
    "Summary",
    "Timing",
    "check_columns",
    "choose_lane",
    "draw_sample",
    "make_plan",
    "next_time",
    "read_requests",
    "read_rows",
    "select_rows",
    "take_rows",
]
