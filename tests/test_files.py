"""Files that appear whole."""

from pathlib import Path

import pytest

from pipeline.files import whole_file, write_whole


def test_a_file_appears_with_its_last_byte(tmp_path: Path) -> None:
    """Until the block ends the old file is there; then the new one is, and nothing else."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """When writing fails, the old file stays and no half of a new one lies beside it."""
    path = tmp_path / "a.txt"
    write_whole(path, "old")
    with pytest.raises(FileNotFoundError), whole_file(path) as partial:
        partial.unlink(missing_ok=True)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
