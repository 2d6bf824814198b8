"""Runs claimed attempts and settles each exactly once.

`async def` runs on the application's loop, `def` on threads of ours. Whatever the code does (raise, exit, cancel
itself, return something that cannot be stored) ends as a settlement, never as an exception in the server. A
settlement that the store cannot take now is handed over again until it is stored or the lease is lost.
"""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from afterwards._domain.arguments import decode
from afterwards._domain.options import PLAIN, TaskOptions
from afterwards._domain.signing import Signer
from afterwards._domain.tasks import AttemptState, Claim, Settlement
from afterwards._domain.values import encode_result
from afterwards._engine.clock import Clock
from afterwards._engine.context import Running, running
from afterwards._engine.lanes import Lane, Lanes
from afterwards._engine.outcomes import GivenBack, Outcome, Raised, Returned, settlement
from afterwards._engine.registry import Known, Registry
from afterwards._engine.threads import Threads
from afterwards._store.contract import CallbackReply, Settle, Store, Tell
from afterwards.errors import (
    DamagedArguments,
    ForgedTask,
    LeaseLost,
    Stopped,
    StorageFull,
    StorageUnsure,
    StoreBusy,
    UnknownFunction,
    UnstorableResult,
)

log = logging.getLogger("afterwards.engine")

# Not the code's fault, or sure to come again: a retry would meet the same.
_UNRUNNABLE = (ForgedTask, DamagedArguments, UnstorableResult)

AGAIN = 0.5  # seconds until a settlement is offered again to a store that could not take it


class Loops(Protocol):
    """Knows on which event loop `async def` tasks run."""

    def for_tasks(self) -> asyncio.AbstractEventLoop:
        """Return a running loop."""
        ...


class Runner:
    """Starts attempts and sees them through to their settlement."""

    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        signer: Signer,
        lanes: Lanes,
        clock: Clock,
        loops: Loops,
        reopen: Callable[[str], Any],
        freed: Callable[[Lane], None],
        told: Callable[[], None],
    ) -> None:
        self._store = store
        self._registry = registry
        self._signer = signer
        self._lanes = lanes
        self._clock = clock
        self._loops = loops
        self._reopen = reopen
        self._freed = freed
        self._told = told
        self._threads = Threads(lanes.sizes[Lane.THREAD])
        self._unsettled = 0
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self.active: dict[str, Running] = {}  # by task id

    def start(self, claims: Iterable[Claim]) -> None:
        """Start attempts whose places have been taken. Safe from any thread."""
        for claim in claims:
            with self._lock:
                self._unsettled += 1
            known = self._registry.named(claim.name)
            if known is None:  # claimed by name, so it was known a moment ago
                raised = Raised(UnknownFunction(f"this program has no function {claim.name!r}"))
                self._settle(claim, PLAIN, raised)
                continue
            attempt = Running(claim, self._told)
            self.active[claim.id] = attempt
            if known.lane is Lane.THREAD:
                self._threads.run(lambda known=known, attempt=attempt: self._run_on_thread(known, attempt))  # type: ignore[misc]
            else:
                self._start_on_loop(known, attempt)

    def release(self, reason: str) -> None:
        """Cancel the attempts on event loops; each is given back."""
        for attempt in list(self.active.values()):
            task = attempt.task
            if task is not None:
                attempt.released = True
                _on_loop(task.get_loop(), task.cancel, reason)

    def lose(self) -> None:
        """Cancel the attempts on event loops because their leases are lost; nothing of them is stored."""
        for attempt in list(self.active.values()):
            attempt.lost = True
            if attempt.task is not None:
                _on_loop(attempt.task.get_loop(), attempt.task.cancel, "the lease was lost")

    def wait_idle(self, seconds: float | None) -> bool:
        """Block until every attempt is settled on stable storage; False when the time is over first."""
        with self._idle:
            return self._idle.wait_for(lambda: self._unsettled == 0, seconds)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.close()

    def _start_on_loop(self, known: Known, attempt: Running) -> None:
        loop = self._loops.for_tasks()
        context = contextvars.Context()
        context.run(running.set, attempt)
        if _running_loop() is loop:
            attempt.task = loop.create_task(self._run_on_loop(known, attempt), name=known.name, context=context)
        elif not _on_loop(loop, self._create, loop, known, attempt, context):
            self._end(known, attempt, GivenBack("the event loop was closed before it could start"))

    def _create(self, loop: asyncio.AbstractEventLoop, known: Known, attempt: Running, context: Any) -> None:
        attempt.task = loop.create_task(self._run_on_loop(known, attempt), name=known.name, context=context)

    async def _run_on_loop(self, known: Known, attempt: Running) -> None:
        opened: list[Any] = []
        timeout = known.options.timeout
        try:
            args, kwargs = self._arguments(known, attempt.claim, opened)
            if timeout is None:
                value = await known.function(*args, **kwargs)  # type: ignore[misc]
            else:
                value = await self._within(timeout, known, args, kwargs)
            outcome: Outcome = Returned(encode_result(value, known.name))
        except asyncio.CancelledError as error:
            if attempt.released or _was_cancelled():
                outcome = GivenBack("the program was stopped before it was finished")
            else:
                outcome = Raised(error)
        except _UNRUNNABLE as error:
            outcome = Raised(error, final=True)
        except BaseException as error:  # noqa: BLE001 - SystemExit of a task must not end the server
            outcome = Raised(error)
        finally:
            _close_all(opened)
        self._end(known, attempt, outcome)

    async def _within(self, timeout: float, known: Known, args: list[Any], kwargs: dict[str, Any]) -> Any:
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await known.function(*args, **kwargs)  # type: ignore[misc]
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimeoutError(f"{known.name} took longer than its timeout of {timeout:g} s and was cancelled") from error

    def _run_on_thread(self, known: Known, attempt: Running) -> None:
        context = contextvars.Context()
        context.run(running.set, attempt)
        self._end(known, attempt, context.run(self._call, known, attempt))

    def _call(self, known: Known, attempt: Running) -> Outcome:
        opened: list[Any] = []
        try:
            args, kwargs = self._arguments(known, attempt.claim, opened)
            return Returned(encode_result(known.function(*args, **kwargs), known.name))
        except _UNRUNNABLE as error:
            return Raised(error, final=True)
        except BaseException as error:  # noqa: BLE001 - as above
            return Raised(error)
        finally:
            _close_all(opened)

    def _arguments(self, known: Known, claim: Claim, opened: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        if self._signer.task(claim.id, claim.name, claim.arguments) != claim.signature:
            raise ForgedTask(
                f"the row of task {claim.id} does not carry the signature of this data directory's key: it was written "
                "or changed by hand, or the key file was replaced. It was not run. Put the right key back and retry it."
            )

        def reopen(file: str) -> Any:
            opened.append(self._reopen(file))
            return opened[-1]

        return decode(known.function, known.name, claim.arguments, reopen)

    def _end(self, known: Known, attempt: Running, outcome: Outcome) -> None:
        claim = attempt.claim
        self.active.pop(claim.id, None)
        for note in attempt.take(self._clock.now()):
            self._store.submit(Tell(note), CallbackReply(ignore_lost))
        if isinstance(outcome, Raised):
            log.error(
                "task %s %s failed in attempt %d: %s",
                claim.name,
                claim.id,
                claim.attempt,
                outcome.error,
                exc_info=outcome.error,
                extra={"task": claim.id, "attempt": claim.attempt},
            )
        self._settle(claim, known.options, outcome)
        self._lanes.give_back(known.lane)
        self._freed(known.lane)

    def _settle(self, claim: Claim, options: TaskOptions, outcome: Outcome) -> None:
        what = settlement(claim, outcome, options, now=self._clock.now())
        self._submit(Settle(what, claim.followed))

    def _submit(self, command: Settle) -> None:
        self._store.submit(command, CallbackReply(lambda answer: self._settled(command, answer)))

    def _settled(self, command: Settle, answer: Any) -> None:
        what: Settlement = command.settlement
        if isinstance(answer, StorageFull | StorageUnsure | StoreBusy):
            timer = threading.Timer(AGAIN, self._submit, (command,))
            timer.daemon = True
            timer.start()
            return
        if isinstance(answer, LeaseLost):
            log.warning("%s", answer)
        elif isinstance(answer, Stopped):
            log.warning("task %s ended as %s after the engine had stopped; it will run again", what.id, what.outcome)
        elif isinstance(answer, BaseException):
            log.error("the outcome of task %s could not be stored", what.id, exc_info=answer)
        elif what.outcome is AttemptState.RELEASED:
            log.info("task %s was given back in attempt %d", what.id, what.attempt)
        with self._idle:
            self._unsettled -= 1
            if self._unsettled == 0:
                self._idle.notify_all()


def _close_all(opened: list[Any]) -> None:
    for upload in opened:
        upload.file.close()


def _was_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., Any], *args: Any) -> bool:
    """Call on a loop's own thread; False when the loop has been closed."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        return False
    return True


def ignore_lost(answer: Any) -> None:
    """A note that came too late changes nothing; that the lease was lost is told with the settlement."""
    if isinstance(answer, BaseException) and not isinstance(answer, LeaseLost | Stopped):
        log.warning("progress or a log line could not be stored: %s", answer)
