"""How fast a provider may be asked: rates, requests at a time, and what its answers tell of both."""

from pipeline.limits.pool import Gate, Pool, Ticket
from pipeline.limits.quota import Quota, Used
from pipeline.limits.slots import fair_shares

__all__ = ["Gate", "Pool", "Quota", "Ticket", "Used", "fair_shares"]
