"""How providers say that an answer ended, in all dialects, and what it means."""

from pipeline.records import Finish

_MEANINGS: dict[Finish, str] = {
    Finish.OK: "stop end_turn stop_sequence STOP",
    Finish.TRUNCATED: "length max_tokens MAX_TOKENS model_length model_context_window_exceeded CONTINUATION pause_turn",
    Finish.BLOCKED: (
        "content_filter refusal sensitive SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII LANGUAGE MODEL_ARMOR "
        "IMAGE_SAFETY"
    ),
    Finish.INCOMPLETE: (
        "insufficient_system_resource network_error error abort aborted OTHER "
        "MALFORMED_RESPONSE MALFORMED_FUNCTION_CALL"
    ),
    Finish.UNEXPECTED: "tool_calls function_call tool_use UNEXPECTED_TOOL_CALL",
}
_FINISHES = {word: finish for finish, words in _MEANINGS.items() for word in words.split()}


def finish_of(word: str | None, text: str) -> Finish:
    """Return the meaning of a provider's *word* for the end of *text*.

    No word means that the provider broke off, a word never seen is UNKNOWN: neither is taken for a good answer.
    """
    if not word:
        return Finish.INCOMPLETE
    finish = _FINISHES.get(word, Finish.UNKNOWN)
    if finish is Finish.OK and (not text or text.isspace()):
        return Finish.EMPTY
    return finish
