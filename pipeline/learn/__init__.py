"""Learn a routing policy from recorded outcomes, and play one against them."""

from pipeline.learn.commands import apply_policy, fit_policy, replay_policy
from pipeline.learn.texts import policy_text, replay_text

__all__ = ["apply_policy", "fit_policy", "policy_text", "replay_policy", "replay_text"]
