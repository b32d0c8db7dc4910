"""What a learned policy says of a row: load it, and decide. Pure; learning it is the trade of `learn`."""

from pipeline.policy.arms import Arm, Played, Recorded, play
from pipeline.policy.deciding import choose_arms, decide
from pipeline.policy.file import Policy, Promise, load_policy, save_policy

__all__ = [
    "Arm",
    "Played",
    "Policy",
    "Promise",
    "Recorded",
    "choose_arms",
    "decide",
    "load_policy",
    "play",
    "save_policy",
]
