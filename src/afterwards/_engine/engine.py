"""Puts the parts of the engine together, and starts and stops them in the right order.

Its loops run on an event loop and thread of their own, so that no task and no request can hold them up.
"""

import asyncio
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from afterwards._domain.attempts import SECOND
from afterwards._domain.ids import new_id
from afterwards._domain.signing import Signer
from afterwards._domain.tasks import WorkerInfo
from afterwards._engine import logs
from afterwards._engine.claimer import Claimer
from afterwards._engine.clock import Clock, SystemClock, boot_id
from afterwards._engine.hub import Hub
from afterwards._engine.lanes import Lane, Lanes
from afterwards._engine.loops import Loop
from afterwards._engine.pruner import Pruner
from afterwards._engine.registry import Registry
from afterwards._engine.renewer import LEASE, Renewer
from afterwards._engine.rescuer import Rescuer
from afterwards._engine.runner import Runner
from afterwards._engine.teller import Teller
from afterwards._engine.watchdog import Watchdog
from afterwards._files.presence import Presence
from afterwards._store.contract import Know, Register, Rescue, Stopping, Store, ask, ask_blocking
from afterwards.errors import Error

log = logging.getLogger("afterwards.engine")

T = TypeVar("T")
CANCEL = 2.0  # seconds that cancelled tasks get to clean up after themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How an engine runs."""

    runs_tasks: bool = True  # False: only accepts; another process runs them
    concurrency: int = 100  # `async def` tasks at once
    threads: int = 40  # `def` tasks at once
    drain: float = 10.0  # seconds that running tasks get at a stop
    keep: float = 7 * 86_400.0  # seconds that ended tasks are kept


class Engine:
    """One worker: everything a process does for its tasks."""

    def __init__(
        self,
        *,
        root: Path,
        store: Store,
        key: bytes,
        settings: Settings,
        reopen: Callable[[str], Any],
        clock: Clock | None = None,
    ) -> None:
        self.root = root
        self.store = store
        self.settings = settings
        self.clock = clock or SystemClock()
        self.worker = new_id()
        self.signer = Signer(key)
        self.registry = Registry(self.signer)
        sizes = {Lane.LOOP: settings.concurrency, Lane.THREAD: settings.threads}
        self.lanes = Lanes(sizes if settings.runs_tasks else dict.fromkeys(Lane, 0))
        self.presence = Presence(root, self.worker)
        self.hub = Hub(store, self.clock)
        self.readers = ThreadPoolExecutor(2, thread_name_prefix="afterwards-reader")
        self.stopping = False
        self.app_loop: asyncio.AbstractEventLoop | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="afterwards-engine", daemon=True)
        self._tasks: list[asyncio.Task[None]] = []
        self.runner = Runner(
            store=store,
            registry=self.registry,
            signer=self.signer,
            lanes=self.lanes,
            clock=self.clock,
            loops=self,
            reopen=reopen,
            freed=self._freed,
            told=self._told,
        )
        self.claimer = Claimer(
            worker=self.worker,
            store=store,
            registry=self.registry,
            lanes=self.lanes,
            runner=self.runner,
            clock=self.clock,
            left_over=self.presence.wake_others,
        )
        renewer = Renewer(worker=self.worker, store=store, clock=self.clock, lost=self._lost)
        rescuer = Rescuer(worker=self.worker, store=store, presence=self.presence, clock=self.clock)
        teller = Teller(store=store, runner=self.runner, clock=self.clock)
        watchdog = Watchdog(runner=self.runner, clock=self.clock)
        keep = int(settings.keep * SECOND)
        pruner = Pruner(root=root, store=store, clock=self.clock, keep=keep, alive=self.presence.lives)
        self._claims = Loop("claimer", self.claimer, self.clock)
        self._tells = Loop("teller", teller, self.clock)
        self._loops = [
            self._claims,
            self._tells,
            Loop("renewer", renewer, self.clock),
            Loop("rescuer", rescuer, self.clock, jitter=0.1),
            Loop("watchdog", watchdog, self.clock),
            Loop("pruner", pruner, self.clock, jitter=5.0),
        ]

    def start(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Register this worker and begin; `loop` is where `async def` tasks run."""
        self.app_loop = loop
        ask_blocking(self.store, Register(self._info()))
        self.store.watch(self._committed)
        logs.capture()
        self._thread.start()
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._loop.add_reader(self.presence.descriptor, self._hinted)
        self._tasks = [self._loop.create_task(loop.run()) for loop in self._loops]

    def stop(self) -> None:
        """Claim nothing more, let attempts finish for a while, give back the rest, close. Blocks.

        A `def` task cannot be stopped. If one is still running, the store stays open for it and the process's end
        (or its own) frees it: it is given back, not counted as interrupted.
        """
        if self.stopping:
            return
        self.stopping = self.claimer.stopped = True
        try:
            ask_blocking(self.store, Stopping(worker=self.worker, now=self.clock.now()))
        except Error as error:  # the disk is at fault; what runs may still finish
            log.error("could not record that this process stops: %s", error)
        if not self.runner.wait_idle(self.settings.drain):
            self.runner.release("the program is stopping")
            if not self.runner.wait_idle(CANCEL):
                names = sorted({attempt.claim.name for attempt in list(self.runner.active.values())})
                log.warning("still running at the stop, to be run again by the next start: %s", ", ".join(names))
                threading.Thread(target=self._close_later, name="afterwards-close", daemon=True).start()
                return
        self._close()

    def _close_later(self) -> None:
        self.runner.wait_idle(None)
        self._close()

    def _close(self) -> None:
        try:
            ask_blocking(self.store, Rescue(worker=self.worker, now=self.clock.now(), reason="the program was stopped"))
        except Error as error:
            log.error("could not sign off: %s", error)
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join()
        self._loop.close()
        self.runner.close()
        self.readers.shutdown()
        self.presence.close()
        self.store.close()
        self.presence.wake_others()

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._loop.remove_reader(self.presence.descriptor)
        self._loop.call_soon(self._loop.stop)

    def for_tasks(self) -> asyncio.AbstractEventLoop:
        """Return the loop on which `async def` tasks run: the application's, or our own when it has none."""
        loop = self.app_loop
        return loop if loop is not None and not loop.is_closed() else self._loop

    def adopt_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run `async def` tasks on this loop from now on."""
        self.app_loop = loop

    async def read(self, call: Callable[..., T], *args: Any) -> T:
        """Make a read of the store without blocking the running loop."""
        return await asyncio.get_running_loop().run_in_executor(self.readers, call, *args)

    def _committed(self, work: bool) -> None:
        self.hub.committed()
        if work:
            if not self.settings.runs_tasks:
                self.presence.wake_others()
            self.claimer.hint()
            self._claims.wake()

    def _hinted(self) -> None:
        self.presence.drain()
        self.claimer.hint()
        self._claims.wake()

    def _freed(self, lane: Lane) -> None:
        if self.claimer.wants(lane):
            self._claims.wake()

    def _told(self) -> None:
        self._tells.wake()

    async def _lost(self) -> None:
        self.runner.lose()
        await ask(self.store, Register(self._info()))
        await ask(self.store, Know(worker=self.worker, names=self.registry.all_names()))

    def _info(self) -> WorkerInfo:
        return WorkerInfo(
            id=self.worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            boot=boot_id(),
            started_at=self.clock.now(),
            lease_until=self.clock.boot() + int(LEASE * 1000),
            program=" ".join(sys.argv)[:500],
        )

