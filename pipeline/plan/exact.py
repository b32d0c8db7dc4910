"""The input of what is to be sent, counted instead of estimated: where it is plain text for a model of OpenAI."""

from collections.abc import Mapping

import polars as pl
import pyarrow as pa

from pipeline.catalogue import Catalogue
from pipeline.spec import Job
from pipeline.tokens import find_counter

# What a chat adds: a role and marks to each message, and the beginning of the answer. From OpenAI's cookbook,
# "How to count tokens with tiktoken".
_MESSAGE_TOKENS = 4
_ANSWER_TOKENS = 3
_ADAPTERS = ("openai", "openai-responses", "azure")


class ExactInput:
    """Counts the tokens of requests that consist of a user text and perhaps a system text, and nothing else.

    It never decides anything: routes and request ids are those of the estimate, so that a plan is the same with the
    extra `tokens` and without it.
    """

    def __init__(self, job: Job, catalogue: Catalogue) -> None:
        prompt, output = job.prompt, job.output
        # How a provider spells out turns, pictures and schemas is not known to the token.
        is_plain = not (prompt.messages or prompt.examples or prompt.image or output.answer_schema or output.choices)
        models = catalogue.models.values() if is_plain else ()
        counters = {
            model.name: find_counter(model.wire_name)
            for model in models
            if catalogue.providers[model.provider].adapter in _ADAPTERS
        }
        self._counters = {name: counter for name, counter in counters.items() if counter is not None}

    @property
    def models(self) -> frozenset[str]:
        """Return the models whose input is counted."""
        return frozenset(self._counters)

    def count(self, frame: pl.DataFrame, texts: pa.LargeStringArray) -> pl.DataFrame:
        """Return *frame* with the `input_tokens` of rows that are to be sent as counted; *texts* are the user texts."""
        sent = frame["first"] & frame["kind"].is_in(["new", "retried"])
        models = frame["model"].filter(sent).unique()
        counted = frame["input_tokens"].to_numpy().copy()
        for name in set(models) & self.models:
            count = self._counters[name]
            rows = (sent & (frame["model"] == name)).arg_true()
            systems = frame["system"].gather(rows)
            distinct = systems.unique()
            by_text: Mapping[str | None, int] = dict(zip(distinct, count(distinct).tolist(), strict=True))
            of_system = pl.Series([by_text[system] for system in systems], dtype=pl.Int64).to_numpy()
            messages = 1 + systems.is_not_null().to_numpy()
            framing = messages * _MESSAGE_TOKENS + _ANSWER_TOKENS
            counted[rows.to_numpy()] = count(texts.take(rows.to_arrow())) + of_system + framing
        return frame.with_columns(input_tokens=counted)
