"""One attempt, and the line that the ledger gets of it."""

from typing import NamedTuple

from pipeline.errors import CallError
from pipeline.ledger import Attempt, Entry, Run
from pipeline.records import Answer, Request, Status, Usage


class Tried(NamedTuple):
    """One attempt, before anyone decided what it means."""

    number: int
    model: str
    result: Answer | CallError
    started_at: float
    latency_s: float
    usage: Usage
    cost_pusd: int
    other: str | None = None  # the model that answered, where it is not the one asked
    batch: str = ""  # the provider's name of the batch it was part of
    shared_by: int = 1  # requests that it answered

    @property
    def remark(self) -> str | None:
        """Return what is to be said of the attempt, whatever it leads to."""
        if isinstance(self.result, CallError):
            return f"{self.result.kind}: {self.result.message}"
        return f"answered by another model: {self.other}" if self.other else None

    def line(self, request: Request, run: Run, so_far: Entry, status: Status | None, reason: str | None) -> Attempt:
        """Return the line of the ledger; a *status* makes it the final one. *so_far* counts it and all before it."""
        result, usage = self.result, self.usage
        answer = result if isinstance(result, Answer) else None
        error = result if isinstance(result, CallError) else None
        return Attempt(
            request_id=request.request_id,
            row_id=request.row_id,
            night=run.night,
            run=run.id,
            attempt=so_far.attempts,
            model=self.model,
            final=status is not None,
            status=status and status.value,
            reason=reason or self.remark,
            started_at=self.started_at,
            latency_s=self.latency_s,
            input_tokens=usage.total_input,
            cached_tokens=usage.cached_input,
            output_tokens=usage.output,
            reasoning_tokens=usage.reasoning,
            cache_write_5m_tokens=usage.cache_write_5m,
            cache_write_1h_tokens=usage.cache_write_1h,
            usage_status=answer and answer.usage_status.value,
            cost_pusd=self.cost_pusd,
            total_cost_pusd=so_far.cost_pusd,
            provider_request_id=answer.provider_request_id if answer else "",
            finish=answer.raw_finish if answer else "",
            http_status=error.status if error else 200,
            error_kind=error.kind.value if error else "",
            error_code=error.code if error else "",
            model_echo=answer.model_echo if answer else "",
            repeats=0,
            batch=self.batch,
            shared_by=self.shared_by,
            answer=answer and answer.text,
        )
