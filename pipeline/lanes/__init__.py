"""A lane asks one model everything that was planned for it."""

from pipeline.lanes.breaker import Breaker
from pipeline.lanes.budget import Budget
from pipeline.lanes.online import Lane
from pipeline.lanes.route import Ask, Reply, Route, Service
from pipeline.lanes.watch import Counters, StopSignal

__all__ = ["Ask", "Breaker", "Budget", "Counters", "Lane", "Reply", "Route", "Service", "StopSignal"]
