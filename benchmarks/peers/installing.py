"""Gives each peer a virtual environment of its own in `.peers/bench/`, made when it is first wanted.

What goes in is pinned with hashes in the `.lock` beside this file; an environment of another lock is made anew.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

LOCKS = Path(__file__).parent
_FOLDER = Path(".peers/bench")
_PATIENCE_S = 300.0


def install(name: str, say: Callable[[str], None], *, locks: Path = LOCKS, folder: Path = _FOLDER) -> Path | None:
    """Return the Python of the peer *name*, installed if it is not yet; None, and say why, when it can't be."""
    lock, home = locks / f"{name}.lock", folder / name
    python = home / "bin" / "python"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    ready = home / "installed"
    if ready.is_file() and ready.read_text(encoding="utf-8") == digest:
        return python
    shutil.rmtree(home, ignore_errors=True)
    commands = (
        [sys.executable, "-m", "venv", str(home)],
        [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(lock)],
    )
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
            problem = done.stderr.strip().rpartition("\n")[2] if done.returncode else ""
        except subprocess.TimeoutExpired:
            problem = f"no end within {_PATIENCE_S:.0f} s"
        if problem:
            shutil.rmtree(home, ignore_errors=True)
            say(f"{name} can't be installed and is left out: {problem}")
            return None
    ready.write_text(digest, encoding="utf-8")
    return python
