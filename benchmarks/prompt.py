"""What the bare loop and the peers ask: prompts of 500 characters, each beginning with its mark, as in `[#17]`.

Only the standard library is imported here, since peers have environments of their own.
"""

PROMPT_CHARS = 500
MODEL = "bench"
MAX_OUTPUT_TOKENS = 64
_TEXT = "Say in one sentence what the river market report brings to the quiet village. " * 8


def mark(number: int) -> str:
    """Return what the answer to the prompt *number* begins with."""
    return f"[#{number}]"


def prompt(number: int) -> str:
    """Return the prompt *number*."""
    return f"{mark(number)} {_TEXT}"[:PROMPT_CHARS]
