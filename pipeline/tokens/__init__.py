"""How many tokens a text has: estimated from its bytes, or counted where a model's vocabulary is at hand."""

from pipeline.tokens.counting import find_counter
from pipeline.tokens.estimate import estimate_tokens

__all__ = ["estimate_tokens", "find_counter"]
