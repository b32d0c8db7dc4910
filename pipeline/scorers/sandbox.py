"""A program that nobody trusts, run where it can do no harm: bubblewrap or nothing.

Its own user, process, network and mount namespaces; of the disk only /usr, read-only, and 16 MiB of memory for /tmp;
no capability, no environment, limits on memory, time, processes and output.
"""

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import JobError

PYTHON = "/usr/bin/python3"
_BWRAP = "/usr/bin/bwrap"
_NOBODY = 65534
_MEMORY_BYTES = 800_000_000
_TMP_BYTES = 16 << 20
_OUTPUT_BYTES = 10_000_000
_SHOWN_BYTES = 4_096
_PROCESSES = 64
_CPU_S = 10
# A whole launch, as starting one on a busy machine takes its time.
_WALL_S = 20.0


class Ran(NamedTuple):
    """How a program ended: exit status (None: stopped for its time) and the end of what it printed."""

    status: int | None
    tail: bytes


def run_python(program: str, stdin: bytes = b"") -> Ran:
    """Run the *program* text with the system's Python, isolated, with *stdin* to read."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as printed:
        given.write(stdin)
        given.seek(0)
        try:
            done = subprocess.run(  # noqa: S603 - the command is ours, the program stays in the sandbox
                [*_command(), PYTHON, "-I", "-S", "-c", program],
                stdin=given,
                stdout=printed,
                stderr=subprocess.STDOUT,
                timeout=_WALL_S,
                check=False,
            )
            status = done.returncode
        except subprocess.TimeoutExpired:
            status = None
        printed.seek(max(printed.seek(0, os.SEEK_END) - _SHOWN_BYTES, 0))
        return Ran(status, printed.read())


@cache
def check_sandbox() -> None:
    """Make sure that there is a sandbox.

    Raises:
        JobError: when there is none; a program is never run without one.
    """
    needed = [path for path in (_BWRAP, PYTHON, "/usr/bin/prlimit") if not Path(path).exists()]
    if needed:
        raise JobError(
            f"scorer 'tests' runs the answers as programs, in a sandbox only, and there is no {', '.join(needed)}; "
            "install bubblewrap, python3 and util-linux (apt-get install bubblewrap), or take the scorer out"
        )
    ran = run_python("print(6 * 7)")
    if (ran.status, ran.tail.strip()) != (0, b"42"):
        said = ran.tail.decode("utf-8", "replace").strip()
        raise JobError(f"scorer 'tests' needs a sandbox, and bubblewrap can't make one on this machine: {said}")


def _command() -> list[str]:
    # prlimit runs inside: there, processes are counted for this sandbox alone. `env -i` because bubblewrap's own
    # environment can be read in its /proc entry.
    limits = [f"--as={_MEMORY_BYTES}", f"--cpu={_CPU_S}", f"--fsize={_OUTPUT_BYTES}", "--nofile=64", "--core=0"]
    drop = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    return [
        *("/usr/bin/env", "-i", "PATH=/usr/bin:/bin", *drop),
        *(_BWRAP, "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/usr", "/usr"),
        *("--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin"),
        *("--proc", "/proc", "--dev", "/dev", "--size", str(_TMP_BYTES), "--tmpfs", "/tmp", "--chdir", "/tmp"),  # noqa: S108
        # The root and /dev are file systems in memory as well, of no set size.
        *("--remount-ro", "/", "--remount-ro", "/dev"),
        *("--clearenv", "--setenv", "PATH", "/usr/bin", "--cap-drop", "ALL", "--"),
        *("/usr/bin/prlimit", *limits, f"--nproc={_PROCESSES}", "--"),
    ]
