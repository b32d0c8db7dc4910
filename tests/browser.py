"""Headless Chromium as a witness: what a page holds once it is open, what it complained of, and what it asked for."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")
_FLAGS = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--enable-logging=stderr", "--v=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
_BROWSER = "not an origin"


class Opened(NamedTuple):
    """A page that was opened."""

    dom: str
    console: list[str]
    requested: set[str]  # every URL that the page asked for


def open_page(path: Path, folder: Path) -> Opened:
    """Open the file at *path*, keeping logs in *folder*."""
    assert CHROMIUM is not None
    log = folder / "net.json"
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [CHROMIUM, *_FLAGS, *root, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    console = re.findall(r"CONSOLE[:(].*", done.stderr)
    events = (event.get("params", {}) for event in json.loads(log.read_text())["events"])
    # What the browser asks on its own behalf, as for updates, has no page as its initiator.
    requested = {
        params["url"] for params in events if params.get("initiator", _BROWSER) != _BROWSER and "url" in params
    }
    return Opened(done.stdout, console, requested)
