"""One process's engine whose loops a test turns by hand, and a second one that only accepts tasks.

The store is a real SQLite file, the threads and event loops are real; only time is not.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from afterwards._domain.options import PLAIN_CALL, CallOptions
from afterwards._domain.tasks import TaskRow, TaskState
from afterwards._engine.engine import Engine, Settings
from afterwards._engine.intake import Intake
from afterwards._engine.rescuer import Rescuer
from afterwards._engine.teller import Teller
from afterwards._engine.watchdog import Watchdog
from afterwards._store.contract import Register, ask_blocking
from afterwards._store.sqlite.store import SqliteStore
from engine.clock import FakeClock
from engine.jobs import DEADLINE

KEY = bytes(range(32))


def no_files(id: str) -> Any:
    raise AssertionError(f"nobody has a file {id}")


class Rig:
    """An engine that is registered and not started."""

    def __init__(
        self,
        root: Path,
        store: SqliteStore,
        clock: FakeClock,
        *,
        reopen: Callable[[str], Any] = no_files,
        **settings: Any,
    ) -> None:
        self.store = store
        self.clock = clock
        self.root = root

        def engine(settings: Settings) -> Engine:
            return Engine(root=root, store=store, key=KEY, settings=settings, reopen=reopen, clock=clock)

        self.engine = engine(Settings(**settings))
        self.engine.adopt_loop(asyncio.get_running_loop())
        self.front = engine(Settings(runs_tasks=False))
        for one in (self.engine, self.front):
            ask_blocking(store, Register(one._info()))
        self.claimer = self.engine.claimer
        self.runner = self.engine.runner
        self.teller = Teller(store=store, runner=self.runner, clock=clock)
        self.watchdog = Watchdog(runner=self.runner, clock=clock)
        self.rescuer = Rescuer(worker=self.engine.worker, store=store, presence=self.engine.presence, clock=clock)
        self.changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        store.watch(lambda _: loop.call_soon_threadsafe(self.changed.set))

    def close(self) -> None:
        """Let go of everything, as the end of the process would; the loops were never started."""
        for one in (self.engine, self.front):
            one.runner.close()
            one.readers.shutdown()
            one._loop.close()
            one.presence.close()

    def queue(self, function: Callable[..., Any], *args: Any, **options: Any) -> str:
        """Accept a task in the process that does not run any."""
        intake = Intake(self.front)
        draft = intake.draft(function, args, {}, CallOptions(**options) if options else PLAIN_CALL, lambda *_: None)
        intake.store_blocking(intake.plan([draft]))
        return draft.id

    def row(self, id: str) -> TaskRow:
        found = self.store.task(id)
        assert found is not None
        return found

    def state(self, id: str) -> TaskState:
        return self.row(id).state

    async def run(self, function: Callable[..., Any], *args: Any, **options: Any) -> TaskRow:
        """Queue a task, claim it and return its row when its attempt is settled."""
        id = self.queue(function, *args, **options)
        return await self.claim_and_settle(id)

    async def claim_and_settle(self, id: str) -> TaskRow:
        self.claimer.hint()
        await self.claimer.round()
        return await self.settled(id)

    async def settled(self, id: str) -> TaskRow:
        await self.until(lambda: self.state(id) is not TaskState.RUNNING)
        return self.row(id)

    async def until(self, there: Callable[[], bool]) -> None:
        """Wait for commits until something is there."""
        async with asyncio.timeout(DEADLINE):
            while not there():
                self.changed.clear()
                if there():
                    return
                await self.changed.wait()

    async def begun(self, gate: Any) -> None:
        """Wait until a task says that it has begun."""
        assert await asyncio.to_thread(gate.acquire, timeout=DEADLINE)


@contextmanager
def rig(root: Path, **settings: Any) -> Iterator[Rig]:
    store = SqliteStore(root / "afterwards.db")
    made = Rig(root, store, FakeClock(), **settings)
    try:
        yield made
    finally:
        made.close()
        store.close()
