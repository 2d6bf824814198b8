"""What one call of the harness works with: whom to measure, how often, where, and with which interpreter.

Sides take turns within a repeat (A B C, A B C, ...), so that a machine that slows down slows all of them. Every
measurement gets a fresh folder below `benchmarks/data`, on the disk of the project, and it is removed afterwards.
"""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks import servers
from benchmarks.catalogue import Entry
from benchmarks.children import ROOT, Child, ChildFailed, answers, free_port
from benchmarks.figures import Part
from benchmarks.task import DIRECTORY, SERVER, traces

DATA = ROOT / "benchmarks" / "data"
WEB_START = 30.0  # seconds a web process gets until it accepts connections


Side = tuple[str, Callable[[], dict[tuple[str, str], float]]]  # its name, and what measures it once


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The settings shared by all parts."""

    repeats: int
    quick: bool
    client: str  # "wrk" or "own"
    peers: tuple[Entry, ...]  # those that can be measured here
    absent: dict[str, str]  # the others, with the reason
    versions: dict[str, str]
    peers_python: Path | None
    seed: int
    _numbers: Iterator[int] = field(default_factory=count)

    def size(self, full: int, quick: int) -> int:
        """The amount of work: smaller with --quick, whose figures are for trying the harness only."""
        return quick if self.quick else full

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """A new folder for one measurement."""
        path = DATA / f"{next(self._numbers):04d}-{name}"
        path.mkdir(parents=True)
        try:
            yield path
        finally:
            # A server that is still closing its files may hold a folder; the harness removes all of them at its end.
            shutil.rmtree(path, ignore_errors=True)

    def ours(self, folder: Path, *verb: str, module: str = "benchmarks.ours") -> Child:
        """One of our own commands, in this interpreter."""
        environment = {DIRECTORY: str(folder), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        return Child([sys.executable, "-m", module, *verb], environment=environment, log=folder / "output.log")

    def peer(self, entry: Entry, folder: Path, address: str, *verb: str) -> Child:
        """A peer's command, in the peers' interpreter."""
        environment = {DIRECTORY: str(folder), SERVER: address, "PYTHONPATH": str(ROOT)}
        command = [str(self.peers_python), "-m", f"benchmarks.peers.{entry.name}", *verb]
        return Child(command, environment=environment, log=folder / "output.log")

    @contextmanager
    def peer_with_server(self, entry: Entry) -> Iterator[tuple[Path, str]]:
        """A fresh folder, the server the peer needs, and its tables."""
        with self.folder(entry.name) as folder, servers.started(entry.server, folder) as address:
            with self.peer(entry, folder, address, "prepare") as preparing:
                preparing.finish(within=60)
            yield folder, address

    @contextmanager
    def serving(self, start: Callable[[str], Child]) -> Iterator[tuple[int, Child]]:
        """A web process that accepts connections; `start` is given the port as text."""
        port = free_port()
        with start(str(port)) as child:
            child.until(lambda: answers(port), within=WEB_START, what="accepting connections")
            yield port, child

    @contextmanager
    def our_server(self, name: str, module: str = "benchmarks.ours") -> Iterator[tuple[Path, int, Child]]:
        """One of our own web processes on a fresh folder: the folder, the port, the process."""
        with self.folder(name) as folder, self.serving(partial(self.ours, folder, "serve", module=module)) as found:
            yield folder, *found

    @contextmanager
    def peer_server(self, entry: Entry) -> Iterator[tuple[int, Child]]:
        """A peer's web process, with whatever server it needs."""
        with (
            self.peer_with_server(entry) as (folder, address),
            self.serving(partial(self.peer, entry, folder, address, "serve")) as found,
        ):
            yield found


class Samples:
    """Collects the samples of a part by side, and drops a side for good at its first failure."""

    def __init__(self, part: Part, run: Run) -> None:
        self.part = part
        self.run = run
        self._kept: dict[str, dict[tuple[str, str], list[float]]] = {}

    def take(self, side: str, repeat: int, measure: Callable[[], dict[tuple[str, str], float]]) -> None:
        """Measure one side once: `measure` returns {(what, unit): sample}. A peer's failure is said, not raised."""
        if side in self.part.absent:
            return
        begin = time.monotonic()
        try:
            found = measure()
        except ChildFailed as error:
            self.part.absent[side] = str(error).splitlines()[0]
            self._kept.pop(side, None)
            say(f"{self.part.name} {repeat + 1}/{self.run.repeats} {side}: FAILED: {error}")
            return
        for key, sample in found.items():
            self._kept.setdefault(side, {}).setdefault(key, []).append(sample)
        shown = ", ".join(f"{what} {sample:,.3g} {unit}" for (what, unit), sample in found.items())
        say(f"{self.part.name} {repeat + 1}/{self.run.repeats} {side}: {shown} ({time.monotonic() - begin:.0f} s)")

    def of(self, side: str, what: str) -> list[float]:
        """The samples of one quantity, empty when the side was dropped."""
        for (name, _), samples in self._kept.get(side, {}).items():
            if name == what:
                return samples
        return []

    def need(self, *sides: str) -> None:
        """Stop a part that cannot be judged without these sides.

        Raises:
            ChildFailed: One of them was dropped.
        """
        for side in sides:
            if side in self.part.absent:
                raise ChildFailed(f"{side} was not measured: {self.part.absent[side]}")

    def keep(self) -> None:
        """Write all rows into the part."""
        for side, quantities in self._kept.items():
            for (what, unit), samples in quantities.items():
                self.part.add(side, what, unit, samples)


def turns(repeat: int, sides: Sequence[Side]) -> Sequence[Side]:
    """The sides in their order, backwards in every second repeat, so that none always follows the same other."""
    return sides[::-1] if repeat % 2 else sides


def rate(folder: Path, expected: int) -> float:
    """Tasks a second between the first and the last body of a drain.

    Raises:
        ChildFailed: Not every number from 0 ran, so there is nothing to compare.
    """
    found = traces(folder)
    numbers = {trace.number for trace in found}
    if numbers != set(range(expected)):
        raise ChildFailed(f"{len(numbers)} different tasks ran of {expected}; a rate would mean nothing")
    began = [trace.began for trace in found]
    return (len(found) - 1) / ((max(began) - min(began)) / 1e9)


def say(text: str) -> None:
    """Progress, apart from the results."""
    print(text, file=sys.stderr, flush=True)
