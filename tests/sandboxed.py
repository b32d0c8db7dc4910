"""Whether this machine can make a sandbox; where it can't, the tests that need one are skipped, and say so."""

import pytest

from pipeline.errors import JobError
from pipeline.scorers.sandbox import check_sandbox


def _missing() -> str:
    try:
        check_sandbox()
    except JobError as error:
        return str(error)
    return ""


needs_sandbox = pytest.mark.skipif(bool(_missing()), reason=_missing() or "there is one")
