"""The peers as contenders: which there are, in which environment, and how many rows a slow one takes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import Contender, Place, Told
from benchmarks.peers.installing import LOCKS, install


class Peer(NamedTuple):
    """A tool of others: its script in this package and the lock file of its environment."""

    name: str
    script: str
    lock: str
    most_rows: int  # a row costs it so much that more would only take longer
    variables: tuple[str, ...] = ()  # of its environment

    @property
    def pinned(self) -> str:
        """Return the requirement that its lock file was made of."""
        return (LOCKS / f"{self.lock}.in").read_text(encoding="utf-8").strip()


PEERS = (
    Peer("lm-deluge", "lm_deluge_client", "lm-deluge", 8_000),
    Peer("flexllm", "flexllm_client", "flexllm", 4_000),
    Peer("openai SDK, aiohttp", "openai_sdk", "openai", 4_000, ("OPENAI_TRANSPORT=aiohttp",)),
    Peer("openai SDK", "openai_sdk", "openai", 2_000),
    Peer("litellm", "litellm_sdk", "litellm", 2_000),
)


Installed = Sequence[tuple[Peer, Path]]  # each with its Python


def installed(say: Callable[[str], None]) -> Installed:
    """Return the peers that are installed, or can be; *say* names those that can't."""
    pythons = {lock: install(lock, say) for lock in dict.fromkeys(peer.lock for peer in PEERS)}
    return tuple((peer, python) for peer in PEERS if (python := pythons[peer.lock]) is not None)


def contenders(peers: Installed, told: Told) -> tuple[Contender, ...]:
    """Return *peers* as contenders that know what they are *told*."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in told._asdict().items()]

    def contender(peer: Peer, python: Path) -> Contender:
        def command(place: Place) -> list[str]:
            script = [str(python), "-m", f"benchmarks.peers.{peer.script}", place.url, f"--rows={place.rows}"]
            return ["env", *peer.variables, *script, *options]

        return Contender(peer.name, command, peer.most_rows, may_lose=True)

    return tuple(contender(*one) for one in peers)
