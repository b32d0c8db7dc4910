"""A lane asks one model everything that was planned for it."""

from pipeline.lanes.batch import BatchLane, BatchPlan, BatchTools
from pipeline.lanes.batch_client import BatchClient
from pipeline.lanes.breaker import Breaker
from pipeline.lanes.budget import Budget
from pipeline.lanes.online import Lane
from pipeline.lanes.packs import PackLane
from pipeline.lanes.route import Ask, Packed, Reply, Route, Service, Tariff
from pipeline.lanes.watch import Counters, StopSignal

__all__ = [
    "Ask",
    "BatchClient",
    "BatchLane",
    "BatchPlan",
    "BatchTools",
    "Breaker",
    "Budget",
    "Counters",
    "Lane",
    "PackLane",
    "Packed",
    "Reply",
    "Route",
    "Service",
    "StopSignal",
    "Tariff",
]
