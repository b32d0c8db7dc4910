"""I9 to I12: secrets, running again, whole files, and the exit code."""

import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from .checks_rows import BAD, FINISHED
from .evidence import OUTPUTS, STATUSES, SUMMARY, Evidence, snapshot
from .ledger_rows import open_copy

_SIGNALLED: Final = (130, 143)


def no_secrets(evidence: Evidence) -> Iterator[str]:
    """I9: no secret is in any artefact, compressed ones included."""
    case = evidence.case
    files = [path for path in sorted(case.output.rglob("*")) if path.is_file()]
    for path in (*files, *case.artefacts) if case.secrets else ():
        texts = (path.name.encode(), *_texts(path))
        for number, secret in enumerate(case.secrets, start=1):
            if any(secret.encode() in text for text in texts):
                # The secret itself is not told: this sentence goes into logs as well.
                yield f"secret {number} is in {path.name.replace(secret, '***')}"


def _texts(path: Path) -> Iterator[bytes]:
    """Yield everything that can be read from a file: its bytes, and what they are the packed form of."""
    data = path.read_bytes()
    yield data
    if data[:4] == b"PAR1":
        yield from _parquet_texts(path)
    elif data[:15] == b"SQLite format 3":
        yield from _sqlite_texts(path)
    elif data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    elif data[:4] == b"\x28\xb5\x2f\xfd":
        yield pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()


def _parquet_texts(path: Path) -> Iterator[bytes]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        return  # I11 says so
    yield repr(table.schema.metadata).encode()
    for column in table.columns:
        yield "\n".join(map(str, column.to_pylist())).encode("utf-8", "replace")


def _sqlite_texts(path: Path) -> Iterator[bytes]:
    with open_copy(path) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            yield from map(_unpacked, _cells(connection.execute(f'SELECT * FROM "{table}"')))


def _cells(rows: Iterable[tuple[Any, ...]]) -> Iterator[bytes]:
    for row in rows:
        yield from (cell if isinstance(cell, bytes) else str(cell).encode("utf-8", "replace") for cell in row)


def _unpacked(cell: bytes) -> bytes:
    try:
        return zlib.decompress(cell)
    except zlib.error:
        return cell


def rerun_sends_nothing(evidence: Evidence) -> Iterator[str]:
    """I10: running a finished job again sent nothing and left the output byte for byte as it was."""
    before = evidence.case.before
    if before is None:
        return
    after = snapshot(evidence.case)
    if after.requests != before.requests:
        again = evidence.exchanges[before.requests].arrival
        yield f"the last run sent {after.requests - before.requests} requests, the first for mark {again.mark}"
    if after.outputs_sha256 != before.outputs_sha256:
        yield f"the last run changed {OUTPUTS}: {before.outputs_sha256} became {after.outputs_sha256}"


def whole_files(evidence: Evidence) -> Iterator[str]:
    """I11: whenever one looked, the output was a whole file; and nothing half written is left."""
    case = evidence.case
    for place, sighting in enumerate(case.sightings):
        if sighting.problem:
            yield f"sighting {place} of {OUTPUTS}: {sighting.problem}"
        elif sighting.rows != len(evidence.ids):
            yield f"sighting {place} of {OUTPUTS} had {sighting.rows} of {len(evidence.ids)} rows"
    if case.sightings and case.sightings[-1].sha256 != snapshot(case).outputs_sha256:
        yield f"{OUTPUTS} is not what was seen last"
    for path in sorted(case.output.glob("*.parquet")):
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                file.read()
        except (OSError, pa.ArrowException) as error:
            yield f"{path.name} can't be read: {error}"
    if case.exit_code >= 0:
        yield from (f"{path.name} was left behind" for path in sorted(case.output.glob("*.partial")))


def exit_code_fits(evidence: Evidence) -> Iterator[str]:
    """I12: the exit code says what the rows say, and the summary counts them alike."""
    case, code = evidence.case, evidence.case.exit_code
    counts = Counter(evidence.statuses)
    bad, pending = sum(counts[status] for status in BAD), counts["pending"]
    said = f"exit code {code}, but of {counts.total()} rows {bad} are bad and {pending} pending"
    match code:
        case 0:
            fits = pending == 0 and bad <= case.tolerate
        case 1:
            fits = pending == 0 and bad > case.tolerate
        case 3:
            fits, said = pending > 0 and _refused(evidence), said + " (no error in the ledger explains a stop)"
        case 4:
            fits, said = pending > 0 and case.cap_usd is not None, said + f" with cap {case.cap_usd}"
        case 2 | 75:
            fits, said = _nothing_happened(evidence), f"exit code {code}, but something was sent or written"
        case _:
            fits, said = code < 0 or code in _SIGNALLED, f"exit code {code} means nothing"
    if not fits:
        yield said
    if code in FINISHED and evidence.outputs is not None:
        reported = (evidence.summary or {}).get(STATUSES) or {}
        if {status: count for status, count in reported.items() if count} != dict(counts):
            yield f"{SUMMARY} counts {reported}, {OUTPUTS} {dict(counts)}"


def _refused(evidence: Evidence) -> bool:
    return any(attempt.error_kind for attempt in evidence.ledger.attempts)


def _nothing_happened(evidence: Evidence) -> bool:
    """Say whether the last run left everything alone, as far as a snapshot before it tells."""
    before = evidence.case.before
    return before is None or before == snapshot(evidence.case)
