"""Answers recorded earlier, served as a provider: real answers of real models, at no cost and with no network."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import CallError, ErrorKind, JobError
from pipeline.identity import request_hasher
from pipeline.records import Answer, Finish, Parameters, Request, Usage, UsageStatus

RECORDING_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string()),  # id of a row, or
        pa.field("prompt_hash", pa.string()),  # hex of `prompt_hash`; one of the two
        pa.field("model", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("finish", pa.string(), nullable=False),  # "stop", "length", ...
        pa.field("input_tokens", pa.int64()),
        pa.field("cached_input_tokens", pa.int64()),
        pa.field("output_tokens", pa.int64()),
        pa.field("latency_s", pa.float64()),
    ]
)
_hash_prompt = request_hasher("", Parameters(max_output_tokens=0))
_FINISH = {"stop": Finish.OK, "length": Finish.TRUNCATED, "content_filter": Finish.BLOCKED}


def prompt_hash(request: Request) -> str:
    """Return the hex address of what is asked, whoever is asked."""
    return _hash_prompt(request.user.encode("utf-8", "replace"), request.system, request.image, request.messages).hex()


class Recordings:
    """Recorded answers of one file, found by (row id or prompt hash, model)."""

    def __init__(self, path: Path) -> None:
        """Read *path*, a Parquet file with the columns of `RECORDING_SCHEMA` (more may be there).

        Raises:
            JobError: when it can't be read, lacks a column, or answers a prompt twice for one model.
        """
        self.path = path
        try:
            names = pq.read_schema(path).names
            self.table = pl.read_parquet(path, columns=[name for name in names if name != "test"])
        except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
            raise JobError(f"{path}: the recorded answers can't be read: {error}") from error
        missing = [name for name in ("model", "answer") if name not in names]
        if missing or not {"prompt_id", "prompt_hash"} & set(names):
            raise JobError(f"{path}: recorded answers need the columns model, answer and prompt_id or prompt_hash")
        self._answers: dict[tuple[str, str], dict[str, Any]] = {}
        for record in self.table.iter_rows(named=True):
            key = str(record.get("prompt_hash") or record.get("prompt_id"))
            if self._answers.setdefault((key, str(record["model"])), record) is not record:
                raise JobError(f"{path}: prompt {key} has two answers of {record['model']}")

    async def ask(self, request: Request, model: str) -> tuple[Answer, float]:
        """Return the recorded answer and its recorded latency in seconds (0 where none was recorded).

        Raises:
            CallError: BAD_REQUEST when there is no recording.
        """
        record = self._answers.get((request.row_id, model)) or self._answers.get((prompt_hash(request), model))
        if record is None:
            raise CallError(
                ErrorKind.BAD_REQUEST,
                f"no recording of {model} for row {request.row_id} in {self.path.name}",
                code="no_recording",
            )
        finish = record.get("finish") or ""
        usage = None
        if record.get("input_tokens") is not None and record.get("output_tokens") is not None:
            cached = record.get("cached_input_tokens") or 0
            usage = Usage(record["input_tokens"] - cached, record["output_tokens"], cached)
        answer = Answer(
            text=record["answer"],
            finish=_FINISH.get(finish, Finish.UNKNOWN) if record["answer"].strip() else Finish.EMPTY,
            raw_finish=finish,
            usage=usage,
            usage_status=UsageStatus.MEASURED if usage else UsageStatus.MISSING,
            model_echo=model,
        )
        return answer, record.get("latency_s") or 0.0
