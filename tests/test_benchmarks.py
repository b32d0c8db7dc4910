"""The benchmarks' harness: what it counts, what ends it, and that the tools of others are used as they should be."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.harness import Contender, Place, Scenario, run_scenario, to_markdown
from benchmarks.measure import CommandError, open_server
from benchmarks.peers.contenders import PEERS, Peer, contenders
from benchmarks.peers.installing import install
from benchmarks.peers.running import count_lost
from benchmarks.run import RUN_SCENARIOS
from benchmarks.scale import Scale, run_scale, scale_to_markdown

ROOT = Path(__file__).parent.parent
ROWS = 40


def _quiet(line: str) -> None:
    """Say nothing."""


def _loser(place: Place) -> list[str]:
    """Return a peer that asks all rows but gives one up."""
    script = (
        "from benchmarks.bare import ask_all\n"
        "from benchmarks.peers import running\n"
        "async def ask(task):\n"
        "    await ask_all(task.url, len(task.prompts), 4, fast=True)\n"
        "    return [None, *(running.mark(number) for number in range(1, len(task.prompts)))]\n"
        "running.run(ask)\n"
    )
    return [sys.executable, "-c", script, place.url, f"--rows={place.rows}", "--concurrency=4"]


def test_a_row_that_a_peer_gave_up_is_counted_and_has_no_part_in_the_cost() -> None:
    """Costs and rates of a peer are of the rows that it answered, fewer than others' if it is slow."""
    bare = RUN_SCENARIOS["zero"].contenders[0]
    loser = Contender("loser", _loser, most_rows=ROWS // 2, may_lose=True)
    result = run_scenario(Scenario("few rows", ROWS, (bare, loser), ()), rows=ROWS, rounds=1, say=_quiet)
    ours, theirs = result["contenders"].values()
    assert (ours["rows"], ours["lost"]["median"]) == (ROWS, 0)
    assert (theirs["rows"], theirs["lost"]["median"]) == (ROWS // 2, 1)
    ratio = theirs["cpu_s_per_1000_rows"]["median"] / ours["cpu_s_per_1000_rows"]["median"]
    assert theirs["ratio"]["median"] == pytest.approx(ratio)
    assert "| loser | 20 |" in to_markdown(result)


def test_a_row_that_the_command_itself_loses_ends_the_benchmark() -> None:
    """There is no figure for a run of ours in which a row stays without an answer."""
    scenario = Scenario("few rows", ROWS, (Contender("loser", _loser),), ())
    with pytest.raises(CommandError, match="loser lost 1 of 40 rows"):
        run_scenario(scenario, rows=ROWS, rounds=1, say=_quiet)


def test_the_cost_of_a_row_is_what_comes_beyond_the_start(tmp_path: Path) -> None:
    """Of a command that costs 2 s and 0.5 ms a row, every size has the cost of its rows beyond those of the start."""

    def command(place: Place) -> list[str]:
        assert pq.read_metadata(place.input).num_rows == place.rows
        return [sys.executable, "-c", f"print('{{\"loop_cpu_s\": {2 + place.rows * 0.0005}}}')"]

    scale = Scale("a command", Contender("it", command), (200, 1_000, 10_000), 50)
    result = run_scale(scale, most_rows=1_000, rounds=1, say=_quiet)
    assert result["start_cpu_s"]["median"] == pytest.approx(2.05)
    costs = [(size["rows"], size["us_per_row"]["median"]) for size in result["sizes"]]
    assert costs == [(200, pytest.approx(500)), (1_000, pytest.approx(500))]
    assert "| 1,000 | 1 |" in scale_to_markdown(result)


def test_an_answer_of_another_row_ends_a_peers_script() -> None:
    """A peer whose answers are in the wrong places has no figures."""
    assert count_lost(["[#0] yes", None, "[#2] no"], 3) == 1
    with pytest.raises(SystemExit, match="is that of another row"):
        count_lost(["[#1] yes", "[#0] no"], 2)
    with pytest.raises(SystemExit, match="2 answers for 3 rows"):
        count_lost(["[#0] yes", "[#1] no"], 3)
    with pytest.raises(SystemExit, match="no row got an answer"):
        count_lost([None, None], 2)


def test_a_peer_is_installed_once_for_each_lock(tmp_path: Path) -> None:
    """An environment made from the lock file as it is now is taken as it lies."""
    (tmp_path / "tool.lock").write_text("tool==1 --hash=sha256:00\n")
    home = tmp_path / "made" / "tool"
    home.mkdir(parents=True)
    (home / "installed").write_text(hashlib.sha256((tmp_path / "tool.lock").read_bytes()).hexdigest())
    assert install("tool", pytest.fail, locks=tmp_path, folder=tmp_path / "made") == home / "bin" / "python"


def test_a_peer_that_cannot_be_installed_is_left_out_with_a_word(tmp_path: Path) -> None:
    """A failed installation is reported by name, and nothing of it stays to be taken for a good one."""
    (tmp_path / "tool.lock").write_text(f"{tmp_path}/no-such.whl --hash=sha256:{'0' * 64}\n")
    said: list[str] = []
    assert install("tool", said.append, locks=tmp_path, folder=tmp_path / "made") is None
    (word,) = said
    assert word.startswith("tool can't be installed and is left out: ")
    assert not (tmp_path / "made" / "tool").exists()


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_answers_every_row(peer: Peer, tmp_path: Path) -> None:
    """Each peer that is installed answers all rows of a server without limits, each with its own answer."""
    python = ROOT / ".peers" / "bench" / peer.lock / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"{peer.name} is not installed; `make bench` installs it")
    (contender,) = contenders([(peer, python)], RUN_SCENARIOS["zero"].peers._replace(concurrency=4))
    with open_server() as server:
        command = contender.command(Place(ROWS, tmp_path, tmp_path, server.url))
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.strip().rpartition("\n")[2])
    assert (told["rows"], told["lost"]) == (ROWS, 0)
