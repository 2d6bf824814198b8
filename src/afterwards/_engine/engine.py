"""Puts the parts of the engine together, and starts and stops them in the right order.

Its loops run on an event loop and thread of their own, so that no task and no request can hold them up.
"""

import asyncio
import logging
import os
import re
import socket
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from afterwards._domain.ids import new_id
from afterwards._domain.retention import Keep
from afterwards._domain.signing import Signer
from afterwards._domain.tasks import TaskState, WorkerInfo
from afterwards._engine import logs
from afterwards._engine.again import Again
from afterwards._engine.claimer import Claimer
from afterwards._engine.clock import Clock, SystemClock, boot_id
from afterwards._engine.context import Running
from afterwards._engine.expirer import Expirer
from afterwards._engine.files import Shelf
from afterwards._engine.hub import Hub
from afterwards._engine.interpreter import tune_interpreter
from afterwards._engine.lanes import Lane, Lanes
from afterwards._engine.loops import Loop
from afterwards._engine.pruner import Pruner
from afterwards._engine.publisher import Publisher
from afterwards._engine.registry import Registry
from afterwards._engine.renewer import LEASE, Renewer
from afterwards._engine.rescuer import Rescuer
from afterwards._engine.runner import Runner
from afterwards._engine.teller import Teller
from afterwards._engine.watchdog import Watchdog
from afterwards._files.presence import Presence
from afterwards._store.contract import (
    CallbackReply,
    Command,
    Know,
    Register,
    Reply,
    Rescue,
    Stopping,
    Store,
    ask,
    ask_blocking,
)
from afterwards.errors import Error, Stopped

log = logging.getLogger("afterwards.engine")

T = TypeVar("T")
CANCEL = 2.0  # seconds that cancelled tasks get to clean up after themselves
_APPLICATION = re.compile(
    r"(?<= )[\w.-]+:[^\W\d][\w.]*(?= |$)"
)  # `main:app` in a command line, and no address with a port
_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How an engine runs."""

    runs_tasks: bool = True  # False: only accepts; another process runs them
    concurrency: int = 100  # `async def` tasks at once
    threads: int = 40  # `def` tasks at once
    drain: float = 10.0  # seconds that running tasks get at a stop
    keep: Keep = field(default_factory=Keep)  # how long ended tasks and their files are kept


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
        prefix: str = "/afterwards",
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
        self._process = os.getpid()
        self._gate = threading.Lock()
        self._closed = False  # nothing is accepted any more: no one would look after it
        self._retired: int | None = None
        self.app_loop: asyncio.AbstractEventLoop | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="afterwards-engine", daemon=True)
        self._tasks: list[asyncio.Task[None]] = []
        self._again = Again(store, self.clock)
        self.shelf = Shelf(root, store, prefix)
        self.runner = Runner(
            store=store,
            registry=self.registry,
            signer=self.signer,
            lanes=self.lanes,
            clock=self.clock,
            again=self,
            loops=self,
            reopen=reopen,
            freed=self._freed,
            told=self._told,
            shelf=self.shelf,
            publisher=Publisher(root, self.worker, prefix, settings.keep),
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
        expirer = Loop("expirer", Expirer(root=root, store=store, clock=self.clock), self.clock, jitter=5.0)
        rescuer = Rescuer(worker=self.worker, store=store, presence=self.presence, clock=self.clock, then=expirer.wake)
        teller = Teller(store=store, runner=self.runner, clock=self.clock)
        watchdog = Watchdog(runner=self.runner, clock=self.clock)
        pruner = Pruner(root=root, store=store, clock=self.clock, keep=settings.keep, presence=self.presence)
        self._claims = Loop("claimer", self.claimer, self.clock)
        self._tells = Loop("teller", teller, self.clock, patient=True)
        self._offers = Loop("second tries", self._again, self.clock)
        self._loops = [
            self._claims,
            self._tells,
            self._offers,
            Loop("renewer", renewer, self.clock),
            Loop("rescuer", rescuer, self.clock, jitter=0.1),
            Loop("watchdog", watchdog, self.clock),
            Loop("pruner", pruner, self.clock, jitter=5.0),
            expirer,
        ]

    def start(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Register this worker and begin; `loop` is where `async def` tasks run.

        Raises:
            StorageFull, StorageUnsure, StoreBusy: It could not be registered; it is of no use any more.
        """
        self.app_loop = loop
        try:
            ask_blocking(self.store, Register(self._info()))
        except BaseException:
            self._loop.close()
            self.readers.shutdown()
            self.presence.close()
            raise
        tune_interpreter()
        _engines.add(self)
        self.store.watch(self._committed)
        logs.capture()
        self._thread.start()
        self._loop.call_soon_threadsafe(self._begin)
        self._warn_of_others()

    def _warn_of_others(self) -> None:
        """Say that another program may take this one's tasks: a function is known by its name, not by its code."""
        ours = self._info()
        for other in self.store.workers():
            if other.id == self.worker or _same_program(ours, other) or not self.presence.lives(other.id):
                continue
            log.warning(
                "process %d, started in %s with `%s`, works on the same data directory as this program, started in %s "
                "with `%s`. A task is run by either of them that can import a function of its name: give each program "
                "a data directory of its own (--data, AFTERWARDS_DATA), unless both have the same code.",
                other.pid,
                other.folder,
                other.program,
                ours.folder,
                ours.program,
            )

    def _begin(self) -> None:
        self._loop.add_reader(self.presence.descriptor, self._hinted)
        self._tasks = [self._loop.create_task(loop.run()) for loop in self._loops]

    def retire(self) -> int:
        """Begin to stop while requests are still answered: start no attempt more. Safe to call again.

        It is on record from now on, so that even a kill before the end gives tasks back and does not interrupt them.
        Returns when it was first called, on the boot clock in milliseconds; the drain of `stop` counts from there.
        """
        if self._retired is None and os.getpid() == self._process:
            self._retired = self.clock.boot()
            self.claimer.stopped = True
            self.store.submit(Stopping(worker=self.worker, now=self.clock.now()), CallbackReply(_stop_recorded))
        return self._retired or 0

    def stop(self) -> None:
        """Claim nothing more, let attempts finish for a while, give back the rest, close. Blocks.

        A `def` task cannot be stopped. If one is still running, the store stays open for it and the process's end
        (or its own) frees it: it is given back, not counted as interrupted.
        """
        if self.stopping or os.getpid() != self._process:
            return  # a forked child must not end what belongs to its parent
        self.stopping = True
        until = self.retire() + self.settings.drain * 1000
        try:  # again, so that it is on stable storage before this process can end
            ask_blocking(self.store, Stopping(worker=self.worker, now=self.clock.now()))
        except Error as error:  # the disk is at fault; what runs may still finish
            log.error("could not record that this process stops: %s", error)
        if not self.runner.wait_idle(max(0.0, (until - self.clock.boot()) / 1000)):
            self.runner.release("the program is stopping")
            cancelled = any(attempt.loop is not None for attempt in list(self.runner.active.values()))
            if not self.runner.wait_idle(CANCEL if cancelled else 0.0):
                names = sorted({attempt.claim.name for attempt in list(self.runner.active.values())})
                if not names:
                    log.error("the disk does not take what the last tasks came to, so they will run again")
                    self._close()
                    return
                log.warning("still running at the stop, to be run again by the next start: %s", ", ".join(names))
                try:
                    threading.Thread(target=self._close_later, name="afterwards-close", daemon=True).start()
                except RuntimeError:  # the interpreter is ending: so does this worker, and others see it
                    pass
                return
        self._close()

    def _close_later(self) -> None:
        self.runner.wait_idle(None)
        self._close()

    def _close(self) -> None:
        # First everything that makes attempts, then the worker: one begun after its end would have nobody to free it.
        asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        self._thread.join()
        with self._gate:
            self._closed = True
        try:
            ask_blocking(self.store, Rescue(worker=self.worker, now=self.clock.now(), reason="the program was stopped"))
        except Error as error:
            log.error("could not sign off: %s", error)
        self._loop.close()
        self.runner.close()
        self.readers.shutdown()
        self.presence.close()
        self.store.close()
        self.presence.wake_others()

    async def _end(self) -> None:
        self._loop.remove_reader(self.presence.descriptor)
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=CANCEL)
        self._loop.stop()

    def accept(self, command: Command, reply: Reply) -> None:
        """Hand to the store what this worker will hold, unless it has signed off: nobody would free that."""
        with self._gate:
            closed = self._closed
            if not closed:
                self.store.submit(command, reply)
        if closed:
            if reply.loop is None:
                reply.deliver(self.refusal())
            else:
                reply.loop.call_soon_threadsafe(reply.deliver, self.refusal())

    def refusal(self) -> Stopped:
        """Say why no task can be added any more."""
        if os.getpid() != self._process:
            return Stopped(
                f"Afterwards was started by process {self._process}, and this is a fork of it, in which it does not "
                "run, so no task was added. Start it after the fork (in the application's start-up), or start "
                "processes with the method spawn."
            )
        return Stopped("the program is stopping, so no task was added. Send the request again in a moment.")

    def later(self, command: Command, reply: Reply) -> None:
        """Offer a command again that the store could not take now. Safe from any thread."""
        self._again.later(command, reply)
        self._offers.wake()

    def soon(self, call: Callable[..., object], *args: Any) -> None:
        """Call on the engine's own thread, from wherever; not at all when the engine has ended."""
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # what its worker held has been freed with it
            pass

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

    async def _lost(self, forgotten: bool) -> int:
        if forgotten:
            await ask(self.store, Register(self._info()))
        await ask(self.store, Know(worker=self.worker, names=self.registry.all_names()))
        running = list(self.runner.active.values())
        lost = [attempt for attempt in running if not await self.read(self._holds, attempt)]
        self.runner.lose(lost)
        return len(lost)

    def _holds(self, attempt: Running) -> bool:
        row = self.store.task(attempt.claim.id)
        return attempt.ended or (
            row is not None
            and row.state is TaskState.RUNNING
            and row.worker == self.worker
            and row.attempt == attempt.claim.attempt
        )

    def _info(self) -> WorkerInfo:
        return WorkerInfo(
            id=self.worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            boot=boot_id(),
            started_at=self.clock.now(),
            lease_until=self.clock.boot() + int(LEASE * 1000),
            program=" ".join(sys.argv)[:500],
            folder=_folder(),
        )


def _same_program(one: WorkerInfo, other: WorkerInfo) -> bool:
    """Guess whether two processes have the same code: one folder, and one application where both name theirs."""
    served, other_served = _APPLICATION.search(one.program), _APPLICATION.search(other.program)
    applications = {served[0], other_served[0]} if served and other_served else set()
    return one.folder == other.folder and len(applications) < 2


def _folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "a folder that was removed"


def _in_child() -> None:
    """In a fork there are neither the engine's threads nor its locks, and its loop's descriptors are the parent's."""
    for engine in list(_engines):
        engine.stopping = True


os.register_at_fork(after_in_child=_in_child)


def _stop_recorded(answer: Any) -> None:
    if isinstance(answer, BaseException):  # the disk is at fault; what runs may still finish
        log.error("could not record that this process stops: %s", answer)
