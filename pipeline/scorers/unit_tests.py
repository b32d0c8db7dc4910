"""Unit tests: a program passes all of its tests or scores nothing (pass@1), run in a sandbox."""

import ast
import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

from pipeline.scorers.contract import Score, quoted
from pipeline.scorers.sandbox import Ran, check_sandbox, run_python

_FENCE = re.compile(r"^```(?:[pP]ython3?|py)?[ \t]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Code and token come by the standard input, so that the program does not find the token in a file. It is printed after
# the tests, as an exit status of 0 is a thing that any program can bring about.
_HARNESS = """
import json, sys
def run():
    given = json.loads(sys.stdin.read())
    space = {"__name__": "answer"}
    exec(compile(given["code"], "answer.py", "exec"), space)
    exec(compile(given["test"], "test.py", "exec"), space)
    sys.stdout.flush()
    return given["token"]
print("\\n" + run())
"""


def score(answer: str, reference: Any) -> Score:
    """Return 1 when the Python program in *answer* passes the tests of *reference*, without a failure in time.

    The reference is a test program that fails by raising, or a struct with `test`, the program, and optionally
    `entry_point`, the function that `test` defines a `check` for, as HumanEval does. The program is all of the answer,
    or its fenced code.

    Raises:
        ValueError: for a reference that is no program.
        JobError: where there is no sandbox.
    """
    test = _test_of(reference)
    code = _code_of(answer)
    if not code.strip():
        return Score(0.0, "no code in the answer")
    check_sandbox()
    token = secrets.token_hex(16)
    text = json.dumps({"code": code, "test": test, "token": token})
    ran = run_python(_HARNESS, text.encode("utf-8", "replace"))
    passed = ran.status == 0 and ran.tail.rstrip().endswith(b"\n" + token.encode())
    return Score(1.0, "all tests passed") if passed else Score(0.0, _why(ran))


def _test_of(reference: Any) -> str:
    fields = reference if isinstance(reference, Mapping) else {"test": reference}
    test, entry_point = fields.get("test"), fields.get("entry_point")
    if not isinstance(test, str) or not test.strip():
        raise ValueError(f"the reference {quoted(str(reference))} has no test program")
    if entry_point is not None:
        if not str(entry_point).isidentifier():
            raise ValueError(f"the reference's entry point {quoted(str(entry_point))} is no name")
        test = f"{test}\ncheck({entry_point})\n"
    try:
        ast.parse(test)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"the reference {quoted(test)} is no Python program") from error
    return test


def _code_of(answer: str) -> str:
    return "\n".join(_FENCE.findall(answer)) or answer


def _why(ran: Ran) -> str:
    if ran.status is None:
        return "stopped: the program took too long"
    lines = ran.tail.decode("utf-8", "replace").strip().splitlines()
    return f"failed: {quoted(lines[-1])[1:-1]}" if lines and ran.status else "ended before its tests"
