"""The ledger: durable when it says so, and never a wrong row, whatever happened to its file."""

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import JobError, LockedError
from pipeline.identity import as_ids
from pipeline.ledger import (
    Attempt,
    Entry,
    Settled,
    connect,
    count_statuses,
    find_done,
    finish_run,
    hold_lock,
    open_ledger,
    pack,
    read_settled,
    start_run,
    unpack,
    verify,
)
from pipeline.records import Status
from tests.builders import an_attempt

STEP = 1 if os.environ.get("ROWROUTE_CHAOS") == "long" else 17  # of the bytes that are cut or flipped, every so many-th


def written(path: Path, *attempts: Attempt) -> None:
    """Write *attempts* to a ledger at *path* as one run."""

    async def write() -> None:
        with closing(connect(path, "job")) as connection:
            async with open_ledger(connection, path, start_run(connection)) as ledger:
                for attempt in attempts:
                    ledger.note(attempt)

    anyio.run(write)


def known(path: Path) -> dict[int, str]:
    """Return request number -> answer, as the ledger at *path* gives it back."""
    with closing(connect(path)) as connection:
        done = find_done(connection, path)
        found = {}
        for ids, values in done.records.items():
            settled = Settled.of(values)
            for attempt in read_settled(connection, path, ids, settled.record.tolist()):
                assert attempt is not None
                found[int.from_bytes(attempt.request_id, "big")] = attempt.answer or ""
        return found


texts = st.one_of(st.none(), st.text(max_size=50), st.text(min_size=1, max_size=3).map(lambda text: text * 2000))


@given(answer=texts, cost=st.integers(0, 2**62), latency_s=st.floats(0, 1e6), final=st.booleans())
def test_an_attempt_comes_back_as_it_was(answer: str | None, cost: int, latency_s: float, final: bool) -> None:
    """Whatever is packed comes back equal, compressed or not."""
    attempt = an_attempt(answer=answer, cost_pusd=cost, latency_s=latency_s, final=final)
    with closing(sqlite3.connect(":memory:")) as connection:
        marks = ", ".join("?" * len(pack(attempt)))
        assert unpack(connection.execute(f"SELECT {marks}", pack(attempt)).fetchone()) == attempt


@given(place=st.integers(0, 25), bit=st.integers(0, 7))
def test_a_changed_field_is_noticed(place: int, bit: int) -> None:
    """No field can change without the checksum telling."""
    values = list(pack(an_attempt()))
    old = values[place]
    if isinstance(old, int):
        values[place] = old ^ (1 << bit) if place != 6 else 1 - old
    elif isinstance(old, bytes) and old:
        values[place] = bytes([old[0] ^ (1 << bit)]) + old[1:]
    else:
        values[place] = f"{old}x"
    assert unpack(tuple(values)) is None


@pytest.mark.anyio
async def test_an_answer_is_on_the_disk_when_append_returns(tmp_path: Path) -> None:
    """Another connection sees an answer as soon as its append is over."""
    path = tmp_path / "ledger.sqlite"
    with closing(connect(path, "job")) as connection:
        async with open_ledger(connection, path, start_run(connection)) as ledger:
            await ledger.append(an_attempt(7))
            assert known(path) == {7: "answer 7"}


@pytest.mark.anyio
async def test_a_commit_waits_for_nobody_where_nobody_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that no other can join goes to the disk at once; one that others may join waits for them."""
    monkeypatch.setattr("pipeline.ledger.writing._COMMIT_AFTER_S", 3600.0)
    path, others = tmp_path / "ledger.sqlite", True
    with closing(connect(path, "job")) as connection:
        async with (
            open_ledger(connection, path, start_run(connection), nothing_comes=lambda: not others) as ledger,
            anyio.create_task_group() as group,
        ):
            group.start_soon(ledger.append, an_attempt(1))
            await anyio.wait_all_tasks_blocked()
            assert known(path) == {}
            others = False
            await ledger.append(an_attempt(2))
            assert known(path) == {1: "answer 1", 2: "answer 2"}


@pytest.mark.anyio
async def test_a_run_knows_what_it_settled(tmp_path: Path) -> None:
    """The map after a run holds old and new requests, new attempts before old ones."""
    path = tmp_path / "ledger.sqlite"
    with closing(connect(path, "job")) as connection:
        async with open_ledger(connection, path, start_run(connection)) as ledger:
            await ledger.append(an_attempt(1, answer="old"))
            await ledger.append(an_attempt(2))
        before = ledger.settled(find_done(connection, path).records)
        async with open_ledger(connection, path, start_run(connection)) as ledger:
            ledger.note(an_attempt(3, final=False, status=None))
            await ledger.append(an_attempt(1, answer="new"))
        after = ledger.settled(before)
        ids = as_ids(b"".join(number.to_bytes(16, "big") for number in (1, 2, 3)))
        records = Settled.of(after.find(ids)).record.tolist()
        assert records[2] == -1
        read = read_settled(connection, path, ids[:2], records[:2])
        assert [attempt and attempt.answer for attempt in read] == ["new", "answer 2"]
        assert find_done(connection, path).records.find(ids).tolist() == after.find(ids).tolist()


def test_only_the_last_final_attempt_counts(tmp_path: Path) -> None:
    """Unsettled requests carry what they have cost; a later answer replaces a failure."""
    path = tmp_path / "ledger.sqlite"
    written(
        path,
        an_attempt(1, final=False, status=None, cost_pusd=5),
        an_attempt(1, final=False, status=None, cost_pusd=6, attempt=2),
        an_attempt(2, status="failed", total_cost_pusd=9, attempt=3),
        an_attempt(3, status="failed"),
        an_attempt(3, answer="good"),
    )
    with closing(connect(path)) as connection:
        done = find_done(connection, path)
        again = find_done(connection, path, again=frozenset({Status.FAILED}))
    assert done.carried == {(1).to_bytes(16, "big"): Entry(2, 11)}
    assert again.carried[(2).to_bytes(16, "big")] == Entry(3, 9)
    (_, values), *_ = done.records.items()
    assert count_statuses(values) == {"failed": 1, "ok": 1}
    assert len(again.records) == 1


def test_a_night_goes_on_until_a_run_finishes(tmp_path: Path) -> None:
    """A killed or capped run is continued with its spending; after a finished one a new night begins."""
    path = tmp_path / "ledger.sqlite"
    with closing(connect(path, "job")) as connection:
        first = start_run(connection)
        assert (first.night, first.spent_pusd) == (1, 0)
    written(path, an_attempt(cost_pusd=40))
    with closing(connect(path)) as connection:
        after_kill = start_run(connection)
        assert (after_kill.night, after_kill.spent_pusd) == (1, 40)
        finish_run(connection, after_kill, 4, {})
        after_cap = start_run(connection)
        assert after_cap.night == 1
        finish_run(connection, after_cap, 0, {})
        assert start_run(connection)[1:3] == (2, 0)
        assert start_run(connection, new_night=True).night == 3


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.write_bytes(b"not a database, but long enough to be read as one" * 20), "can't be used"),
        (lambda path: _execute(path, "PRAGMA user_version=99"), "newer rowroute"),
        (lambda path: _execute(path, "PRAGMA user_version=0"), "older rowroute"),
        (lambda path: _execute(path, "PRAGMA application_id=5"), "is not a rowroute ledger"),
        (lambda path: _execute(path, "UPDATE job SET name = 'theirs'"), "belongs to job 'theirs', not 'job'"),
        (lambda path: _execute(path, "DELETE FROM job"), "names no job"),
    ],
    ids=["noise", "newer", "older", "another program's", "another job's", "no job"],
)
def test_a_ledger_that_is_not_ours_is_refused(tmp_path: Path, spoil: object, told: str) -> None:
    """A foreign, newer, older or damaged ledger is refused with the reason, and left as it is."""
    path = tmp_path / "ledger.sqlite"
    written(path, an_attempt())
    spoil(path)  # type: ignore[operator]
    before = path.read_bytes()
    with pytest.raises(JobError, match=told):
        connect(path, "job")
    assert path.read_bytes() == before


def _execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def test_nobody_else_can_read_the_answers(tmp_path: Path) -> None:
    """The ledger is made private, whatever the umask."""
    before = os.umask(0)
    try:
        connect(tmp_path / "ledger.sqlite", "job").close()
    finally:
        os.umask(before)
    assert (tmp_path / "ledger.sqlite").stat().st_mode & 0o077 == 0


@pytest.mark.anyio
async def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path: Path) -> None:
    """When the disk takes no more, append raises with the reason and what was written before is still there."""
    path = tmp_path / "ledger.sqlite"
    with closing(connect(path, "job")) as connection:
        connection.execute(f"PRAGMA max_page_count={connection.execute('PRAGMA page_count').fetchone()[0] + 3}")
        run = start_run(connection)
        good = 0
        with pytest.raises(JobError, match="No space left"):
            async with open_ledger(connection, path, run) as ledger:
                for number in range(1000):
                    await ledger.append(an_attempt(number, answer=os.urandom(300).hex()))
                    good = number + 1
    assert good > 0
    assert sorted(known(path)) == list(range(good))


def test_a_torn_log_gives_a_prefix_of_what_was_written(tmp_path: Path) -> None:
    """Cut the write-ahead log at any byte: the ledger opens to a prefix of its commits, each row right."""
    path = tmp_path / "ledger.sqlite"
    wal = _killed_writer(path, rows=6)
    whole = known(_copy(path, wal, len(wal), tmp_path / "whole.sqlite"))
    assert whole == {number: f"answer {number}" for number in range(6)}
    frames = range(len(wal) - 3 * (4096 + 24), len(wal), STEP)
    for size in frames:
        found = known(_copy(path, wal, size, tmp_path / f"cut-{size}.sqlite"))
        assert found == {number: f"answer {number}" for number in range(len(found))}


@pytest.mark.parametrize("target", ["wal", "main"])
def test_a_flipped_bit_never_gives_a_wrong_row(tmp_path: Path, target: str) -> None:
    """Flip bits anywhere in the last pages: the ledger gives right rows only, or refuses."""
    path = tmp_path / "ledger.sqlite"
    wal = _killed_writer(path, rows=6)
    right = {number: f"answer {number}" for number in range(6)}
    if target == "main":
        known(_copy(path, wal, len(wal), tmp_path / "merged.sqlite"))
        with closing(sqlite3.connect(tmp_path / "merged.sqlite")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        base = (tmp_path / "merged.sqlite").read_bytes()
        log = b""
    else:
        base, log = path.read_bytes(), wal
    body = log or base
    copy = tmp_path / "flipped.sqlite"
    for place in range(len(body) - 2 * 4096, len(body), STEP):
        flipped = bytearray(body)
        flipped[place] ^= 1 << place % 8
        for name in ("flipped.sqlite", "flipped.sqlite-wal", "flipped.sqlite-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        copy.write_bytes(base if log else bytes(flipped))
        if log:
            copy.with_name("flipped.sqlite-wal").write_bytes(bytes(flipped))
        try:
            found = known(copy)
        except JobError:
            continue
        assert found.items() <= right.items()


def test_damaged_records_are_found(tmp_path: Path) -> None:
    """A record whose answer was changed behind the ledger's back is listed, and its request counts as unsettled."""
    path = tmp_path / "ledger.sqlite"
    written(path, an_attempt(1), an_attempt(2))
    _execute(path, "UPDATE attempts SET answer = CAST('forged' AS BLOB) WHERE id = 1")
    with closing(connect(path)) as connection:
        assert verify(connection, path) == ["record 1 is not what was written"]
        done = find_done(connection, path)
    assert (done.damaged, len(done.records)) == (1, 1)


def _killed_writer(path: Path, rows: int) -> bytes:
    """Let another process commit *rows* one by one and die without closing; return its write-ahead log."""
    program = textwrap.dedent(
        f"""
        import anyio, os
        from pathlib import Path
        from pipeline.ledger import connect, open_ledger, start_run
        from tests.builders import an_attempt
        path = Path({str(path)!r})
        async def main():
            connection = connect(path, "job")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            async with open_ledger(connection, path, start_run(connection)) as ledger:
                for number in range({rows}):
                    await ledger.append(an_attempt(number))
                os.kill(os.getpid(), 9)
        anyio.run(main)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, cwd=Path(__file__).parent.parent)
    assert done.returncode == -9
    return path.with_name(path.name + "-wal").read_bytes()


def _copy(path: Path, wal: bytes, size: int, target: Path) -> Path:
    shutil.copy(path, target)
    target.with_name(target.name + "-wal").write_bytes(wal[:size])
    return target


def test_a_second_holder_is_told_who_has_the_lock(tmp_path: Path) -> None:
    """The lock names its holder to whoever comes second, and is free once the holder is gone."""
    (tmp_path / "state").mkdir()
    path = tmp_path / "state" / "lock"
    program = textwrap.dedent(
        f"""
        from pathlib import Path
        from pipeline.ledger import hold_lock
        with hold_lock(Path({str(path)!r})):
            print("held", flush=True)
            input()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=f"process {holder.pid} on "), hold_lock(path):
            pass
        holder.kill()
    with hold_lock(path):
        pass
