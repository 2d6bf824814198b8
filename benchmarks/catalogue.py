"""Which systems are measured beside Afterwards, what each needs, and how much work it is given.

`promise` is what its own code does with an accepted task: the figures are not comparable without it.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.children import ROOT
from benchmarks.task import DIRECTORY, SERVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One peer, as the harness knows it without importing it."""

    name: str  # its module in benchmarks/peers
    promise: str
    server: str = ""  # "redis", "postgres", or "" for none
    drain: int  # tasks in a full drain: two to four seconds of work on a slow machine
    decides: bool = False  # one of the five the drain figure is measured against
    web: bool = True  # has an app of its own to put under HTTP load
    split: bool = True  # can queue in one process and run in another
    polls: bool = False  # looks for work so seldom that 200 samples of it are not worth the wait


PEERS = (
    Entry(name="huey", promise="SQLite, flushed; lost if the worker dies", drain=10_000, decides=True),
    Entry(name="cairnq", promise="SQLite, flushed; leased", drain=6_000, decides=True),
    Entry(name="honker", promise="SQLite, not flushed; leased", drain=5_000, decides=True),
    Entry(name="taskflow", promise="memory until done", drain=5_000, decides=True, split=False),
    Entry(name="dbos", promise="SQLite, flushed; recovered", drain=2_500, decides=True, polls=True),
    Entry(name="honker_batch", promise="as honker, hand-written loop of 100", drain=40_000, web=False),
    Entry(name="celery", promise="Redis, flushed each second; lost if the worker dies", server="redis", drain=3_000),
    Entry(name="dramatiq", promise="Redis, flushed each second; acknowledged late", server="redis", drain=6_000),
    Entry(name="rq", promise="Redis, flushed each second; marked failed", server="redis", drain=500),
    Entry(name="arq", promise="Redis, flushed each second; after its timeout", server="redis", drain=4_000),
    Entry(name="saq", promise="Redis, flushed each second; swept, one try", server="redis", drain=4_000),
    Entry(name="taskiq", promise="Redis, flushed each second; after 10 idle minutes", server="redis", drain=4_000),
    Entry(name="procrastinate", promise="PostgreSQL; stays `doing`", server="postgres", drain=1_500),
    Entry(name="pgqueuer", promise="PostgreSQL; heartbeat", server="postgres", drain=20_000),
)


def named(names: list[str] | None) -> list[Entry]:
    """The peers of that name, in the order of the catalogue; all of them for None."""
    if names is None:
        return list(PEERS)
    known = {entry.name: entry for entry in PEERS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no peer is named {', '.join(unknown)}; there are {', '.join(known)}")
    return [entry for entry in PEERS if entry.name in names]


def probe(entry: Entry, python: Path | None, folder: Path) -> tuple[str, str]:
    """(version, "") when the peer can be measured here, else ("", why not)."""
    if python is None:
        return "", "no peers' environment: make .venv-bench from requirements/bench.txt, or name one with --python"
    if reason := servers.missing(entry.server):
        return "", reason
    found = subprocess.run(
        [str(python), "-m", f"benchmarks.peers.{entry.name}", "probe"],
        cwd=ROOT,
        env={**os.environ, DIRECTORY: str(folder), SERVER: _NOWHERE[entry.server]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if found.returncode != 0:
        last = (found.stderr.strip().splitlines() or ["no message"])[-1]
        return "", f"does not import: {last}"
    return found.stdout.strip(), ""


# A peer that builds its client when it is imported wants an address, though a probe connects nowhere.
_NOWHERE = {"": "", "redis": "redis://127.0.0.1:1/0", "postgres": "postgresql://nobody@127.0.0.1:1/none"}
