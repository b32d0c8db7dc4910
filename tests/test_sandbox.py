"""The sandbox of the scorer `tests`: right programs pass, wrong ones fail, and none gets out."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import JobError
from pipeline.scorers import find_scorer, sandbox
from pipeline.scorers.sandbox import run_python
from pipeline.scorers.unit_tests import score
from tests.sandboxed import needs_sandbox

PROBLEMS = pl.read_parquet(Path(__file__).parent.parent / "data" / "humaneval" / "problems.parquet").to_dicts()

# The function as it was, but what it returns is changed to another value of its type.
WRONG_VALUE = """

_right = {name}
def {name}(*args, **kwargs):
    value = _right(*args, **kwargs)
    match value:
        case bool(): return not value
        case int() | float() | complex(): return value + 1
        case str(): return value + "x"
        case list(): return [*value, None]
        case tuple(): return (*value, None)
        case dict(): return value | {{"x": None}}
        case _: return "x"
"""


def solved(problem):
    return problem["prompt"] + problem["canonical_solution"]


def mutated(problem):
    return solved(problem) + WRONG_VALUE.format(name=problem["entry_point"])


@needs_sandbox
@pytest.mark.parametrize(("program", "passed"), [(solved, 164), (mutated, 0)], ids=["canonical", "wrong-value"])
def test_humaneval_is_judged_right(program, passed) -> None:
    """All 164 canonical solutions of HumanEval pass, and none of their 164 mutants that return a wrong value does."""
    references = [{"test": problem["test"], "entry_point": problem["entry_point"]} for problem in PROBLEMS]
    with ThreadPoolExecutor(2) as threads:
        scores = list(threads.map(score, map(program, PROBLEMS), references))
    assert len(scores) == 164
    assert sum(score.value for score in scores) == passed


@needs_sandbox
@pytest.mark.parametrize(
    ("answer", "value", "reason"),
    [
        ("def f(x):\n    return x + 1", 1, "all tests passed"),
        ("Here it is:\n```python\ndef f(x):\n    return x + 1\n```\nIt adds one.", 1, "all tests passed"),
        ("```\ndef f(x):\n    return x + 1\n```", 1, "all tests passed"),
        ("def f(x):\n    return x + 2", 0, "AssertionError"),
        ("def f(x) return x", 0, "SyntaxError"),
        ("I can't do that.", 0, "SyntaxError"),
        ("", 0, "no code in the answer"),
        ("def g(x):\n    return x + 1", 0, "NameError"),
        ("import sys; sys.exit(0)", 0, "ended before its tests"),
        ("import os; os._exit(0)", 0, "ended before its tests"),
        ("print('all tests passed'); raise SystemExit", 0, "ended before its tests"),
        ("def f(x):\n    raise SystemExit(0)", 0, "ended before its tests"),
        ("def f(x):\n    print('x' * 100_000)\n    return x + 1", 1, "all tests passed"),
    ],
)
def test_a_program_passes_or_scores_nothing(answer, value, reason) -> None:
    """Code is found in fences or taken whole; an early exit is no pass, and the reason says what went wrong."""
    found = score(answer, "assert f(1) == 2\nassert f(-1) == 0")
    assert found.value == value
    assert reason in found.reason


ESCAPES = {
    "network": "import socket; socket.create_connection(('1.1.1.1', 80), 2)",
    "loopback": "import socket; socket.create_connection(('127.0.0.1', {port}), 2)",
    "passwords": "open('/etc/shadow').read()",
    "password-file": "open('/etc/passwd').read()",
    "home": "import os; os.listdir('/root')",
    "temporary-files": "open('{file}').read()",
    "write-usr": "open('/usr/here', 'w')",
    "write-root": "open('/here', 'w')",
    "write-dev": "open('/dev/shm/here', 'w')",
    "environment": "import os; assert 'CANARY' in str(os.environ)",
    "parents-environment": "assert b'CANARY' in b''.join(open(f'/proc/{{n}}/environ', 'rb').read() for n in (1, 2))",
    "kill-others": "import os; os.kill({pid}, 0)",
    "capabilities": "assert int(open('/proc/self/status').read().split('CapEff:')[1].split()[0], 16)",
    "become-root": "import os; os.setuid(0); assert open('/etc/shadow')",
    "mount": "import ctypes; assert ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0",
    "fill-disk": "f = open('/tmp/x', 'wb')\nfor _ in range(200): f.write(bytes(1 << 20))",
    "fill-memory": "x = bytearray(2_000_000_000)",
    "many-processes": "import os, time\nfor _ in range(200):\n    if os.fork() == 0: time.sleep(5); os._exit(0)",
    "devices": "import os; assert [n for n in os.listdir('/dev') if n.startswith(('sd', 'vd', 'kmsg', 'mem'))]",
}


@needs_sandbox
@pytest.mark.parametrize("name", ESCAPES)
def test_an_escape_fails(name, tmp_path, monkeypatch) -> None:
    """No network, no files of the machine, no environment, no other process, no privilege, no more than its share."""
    import socket

    monkeypatch.setenv("CANARY", "sk-CANARY")
    (tmp_path / "secret").write_text("sk-CANARY")
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = ESCAPES[name].format(port=server.getsockname()[1], file=tmp_path / "secret", pid=os.getpid())
        ran = run_python(program + "\nprint('escaped')")
    assert ran.status != 0, ran
    assert b"escaped" not in ran.tail
    assert b"Error" in ran.tail


@needs_sandbox
def test_a_program_without_end_is_stopped(monkeypatch) -> None:
    """A loop, busy or asleep, ends with its time and scores nothing."""
    monkeypatch.setattr(sandbox, "_WALL_S", 1.0)
    for program in ("while True: pass", "import time; time.sleep(60)"):
        assert score(program, "assert True").reason == "stopped: the program took too long"


@needs_sandbox
def test_output_is_capped() -> None:
    """A program that prints without end is stopped by the size of its output, and only the end is kept."""
    ran = run_python("while True: print('x' * 1000)")
    assert ran.status != 0
    assert len(ran.tail) <= 4_096


@pytest.mark.parametrize(
    ("tool", "said"),
    [("/usr/bin/no-bwrap", "there is no /usr/bin/no-bwrap; install bubblewrap"), ("/usr/bin/false", "can't make one")],
)
def test_without_a_sandbox_nothing_is_run(tool, said, monkeypatch, tmp_path) -> None:
    """Where bubblewrap is missing or fails, the scorer refuses with what to do, and the program does not run."""
    monkeypatch.setattr(sandbox, "_BWRAP", tool)
    sandbox.check_sandbox.cache_clear()
    try:
        with pytest.raises(JobError, match=said):
            find_scorer("tests")
        with pytest.raises(JobError, match=said):
            score(f"open({str(tmp_path / 'ran')!r}, 'w')", "assert True")
        assert not (tmp_path / "ran").exists()
    finally:
        sandbox.check_sandbox.cache_clear()


@pytest.mark.parametrize(
    "reference", [{"test": "assert 1", "entry_point": "f(); import os"}, {"entry_point": "f"}, "def"]
)
def test_a_reference_that_is_no_test_program_is_refused(reference) -> None:
    """Without a program there is nothing to pass, and an entry point is a name."""
    with pytest.raises(ValueError, match="reference"):
        score("def f(): pass", reference)
