"""Runs claimed attempts and settles each exactly once.

`async def` runs on the application's loop, `def` on threads of ours. Whatever the code does (raise, exit, cancel
itself, return something that cannot be stored) ends as a settlement, never as an exception in the server. A
settlement that the store cannot take now is handed over again until it is stored or the lease is lost.
"""

import asyncio
import contextvars
import functools
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from afterwards._domain.arguments import decode
from afterwards._domain.options import PLAIN
from afterwards._domain.signing import Signer
from afterwards._domain.tasks import AttemptState, Claim, Settlement
from afterwards._domain.values import encode_result
from afterwards._engine.again import PASSING
from afterwards._engine.clock import Clock
from afterwards._engine.comparing import Comparing
from afterwards._engine.context import Call, Running, running
from afterwards._engine.event_loops import create_task, on_loop, running_loop
from afterwards._engine.files import Shelf
from afterwards._engine.lanes import Lane, Lanes
from afterwards._engine.outcomes import (
    GivenBack,
    NotYet,
    Outcome,
    Raised,
    Returned,
    refused,
    settlement,
    unrunnable,
    what_it_says,
)
from afterwards._engine.publisher import Publisher
from afterwards._engine.registry import Known, Registry
from afterwards._engine.threads import Threads
from afterwards._store.contract import CallbackReply, Command, Reply, Settle, Store, Tell
from afterwards.errors import (
    DamagedArguments,
    FileHeldBack,
    ForgedTask,
    LeaseLost,
    Stopped,
    TooManyOpenFiles,
    UnstorableResult,
)

log = logging.getLogger("afterwards.engine")

# Not the code's fault, or sure to come again: a retry would meet the same.
_UNRUNNABLE = (ForgedTask, DamagedArguments, UnstorableResult, FileHeldBack, NotYet)


class Loops(Protocol):
    """Knows on which event loop `async def` tasks run."""

    def for_tasks(self) -> asyncio.AbstractEventLoop:
        """Return a running loop."""
        ...


class Offers(Protocol):
    """Hands over once more what the store could not take."""

    def later(self, command: Command, reply: Reply) -> None:
        """Offer a command again in a moment. Safe from any thread."""
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
        again: Offers,
        loops: Loops,
        reopen: Callable[[str], Any],
        freed: Callable[[Lane], None],
        told: Callable[[], None],
        shelf: Shelf,
        publisher: Publisher,
    ) -> None:
        self._store = store
        self._registry = registry
        self._signer = signer
        self._lanes = lanes
        self._clock = clock
        self._again = again
        self._loops = loops
        self._reopen = reopen
        self._freed = freed
        self._told = told
        self._shelf = shelf
        self._publisher = publisher
        self._threads = Threads(lanes.sizes[Lane.THREAD])
        self._comparing = Comparing(shelf)
        self._unsettled = 0
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._shut = False  # nothing more is started
        self._cancelled: set[str] = set()  # tasks that somebody else cancelled once
        self.active: dict[str, Running] = {}  # by token

    def start(self, claims: Iterable[tuple[Claim, Call | None]]) -> None:
        """Start attempts whose places have been taken, with their arguments where they are at hand. From any thread."""
        for_loop: list[Running] = []
        for claim, call in claims:
            with self._lock:
                shut = self._shut
                self._unsettled += 1
            known = self._registry.named(claim.name)
            if shut or known is None:  # claimed by name, so it was known a moment ago
                self._give_back(claim, "the program is stopping" if shut else "the program lacks its function")
                continue
            attempt = Running(claim, known, self._told, call, self._publisher.shop)
            self.active[claim.token] = attempt
            if known.lane is Lane.THREAD:
                self._threads.run(functools.partial(self._run_on_thread, attempt))
            else:
                for_loop.append(attempt)
        if for_loop:
            self._start_on_loop(for_loop)

    def give_back(self, claims: Iterable[Claim], reason: str) -> None:
        """Free attempts that are, or may be, on record and will not be started, and their places."""
        for claim in claims:
            with self._lock:
                self._unsettled += 1
            self._give_back(claim, reason)

    def release(self, reason: str) -> None:
        """Start nothing more, and cancel the attempts on event loops; each is given back."""
        with self._lock:
            self._shut = True
        for attempt in list(self.active.values()):
            attempt.released = True
            self._cancel(attempt, reason)

    def lose(self, attempts: Iterable[Running]) -> None:
        """Cancel attempts on event loops because their leases are lost; nothing of them is stored."""
        for attempt in attempts:
            attempt.lost = True
            self._cancel(attempt, "the lease was lost")

    def reap(self) -> None:
        """Give back attempts whose event loop was closed under them, and start threads that were refused before."""
        self._threads.wake()
        self._comparing.wake()
        for attempt in list(self.active.values()):
            if attempt.loop is not None and attempt.loop.is_closed():
                self._leave(attempt, GivenBack("its event loop was closed", begun=True))

    def wait_idle(self, seconds: float | None) -> bool:
        """Block until every attempt is settled on stable storage, and start nothing more from that moment on.

        False when the time is over first.
        """
        with self._idle:
            idle = self._idle.wait_for(lambda: self._unsettled == 0, seconds)
            self._shut = self._shut or idle
            return idle

    def close(self) -> None:
        """Let the threads end."""
        self._threads.close()
        self._comparing.close()
        self._publisher.close()

    def _start_on_loop(self, attempts: list[Running]) -> None:
        loop = self._loops.for_tasks()
        for attempt in attempts:
            attempt.loop = loop
        try:
            # Also from the loop itself not at once: what was written to a client leaves first.
            call = loop.call_soon if running_loop() is loop else loop.call_soon_threadsafe
            call(self._begin, loop, attempts)
        except RuntimeError:
            for attempt in attempts:
                self._end(attempt, GivenBack("the event loop was closed before it could start"))

    def _begin(self, loop: asyncio.AbstractEventLoop, attempts: list[Running]) -> None:
        for attempt in attempts:
            context = contextvars.Context()
            context.run(running.set, attempt)
            create_task(loop, self._run_on_loop(attempt), attempt.known.name, context)

    async def _run_on_loop(self, attempt: Running) -> None:
        attempt.task = asyncio.current_task()
        if attempt.is_given_up():
            self._end(attempt, GivenBack("the program was stopped before it could start"))
            return
        known = attempt.known
        opened: list[Any] = []
        try:
            if attempt.call is None:
                await self._comparing.files_of(attempt.claim)
            args, kwargs = attempt.call or self._arguments(attempt, opened)
            if known.options.timeout is None:
                value = await known.function(*args, **kwargs)  # type: ignore[misc]
            else:
                value = await self._within(known.options.timeout, known, args, kwargs)
            outcome: Outcome = Returned(encode_result(value, known.name, attempt.keep))
        except asyncio.CancelledError as error:
            if attempt.is_given_up() or self._is_cancelled_by_others(attempt.claim):
                outcome = GivenBack("the program was stopped before it was finished", begun=True)
            else:
                outcome = Raised(error)
        except GeneratorExit:  # nobody will ever go on with this coroutine
            outcome = GivenBack("its event loop was closed", begun=True)
        except _UNRUNNABLE as error:
            outcome = unrunnable(error)
        except BaseException as error:  # noqa: BLE001 - SystemExit of a task must not end the server
            outcome = Raised(error)
        finally:
            if opened:
                _close_all(opened)
        self._leave(attempt, outcome)

    def _leave(self, attempt: Running, outcome: Outcome) -> None:
        """End an attempt on an event loop, which must not wait for the disk."""
        if attempt.workspace is None:
            self._end(attempt, outcome)
        else:
            attempt.loop = attempt.task = None  # from here on it is no more of the loop's business
            self._publisher.soon(self._conclude, attempt, outcome)

    async def _within(self, timeout: float, known: Known, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await known.function(*args, **kwargs)  # type: ignore[misc]
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimeoutError(
                f"{known.name} took longer than its timeout of {timeout:g} s and was cancelled"
            ) from error

    def _run_on_thread(self, attempt: Running) -> None:
        if attempt.is_given_up():
            self._end(attempt, GivenBack("the program was stopped before it could start"))
            return
        context = contextvars.Context()
        context.run(running.set, attempt)
        self._conclude(attempt, context.run(self._make_call, attempt))

    def _conclude(self, attempt: Running, outcome: Outcome) -> None:
        self._end(attempt, self._publisher.conclude(attempt, outcome))

    def _make_call(self, attempt: Running) -> Outcome:
        known = attempt.known
        opened: list[Any] = []
        try:
            args, kwargs = attempt.call or self._arguments(attempt, opened)
            return Returned(encode_result(known.function(*args, **kwargs), known.name, attempt.keep))
        except _UNRUNNABLE as error:
            return unrunnable(error)
        except BaseException as error:  # noqa: BLE001 - as above
            return Raised(error)
        finally:
            if opened:
                _close_all(opened)

    def _arguments(self, attempt: Running, opened: list[Any]) -> Call:
        claim, known = attempt.claim, attempt.known
        if self._signer.task(claim.id, claim.name, claim.arguments) != claim.signature:
            raise ForgedTask(
                f"the row of task {claim.id} does not carry the signature of this data directory's key: it was written "
                "or changed by hand, or the key file was replaced. It was not run. Put the right key back and retry it."
            )

        def reopen(file: str) -> Any:
            opened.append(_now(self._reopen, file))
            return opened[-1]

        return decode(known.function, known.name, claim.arguments, reopen, functools.partial(_now, self._shelf.find))

    def _end(self, attempt: Running, outcome: Outcome) -> None:
        if not attempt.end():
            self._publisher.forget(outcome)
            return
        claim, known = attempt.claim, attempt.known
        attempt.task = None  # whose context holds the attempt: a circle for the garbage collector in every request
        self.active.pop(claim.token, None)
        if self._cancelled and not isinstance(outcome, GivenBack):
            self._cancelled.discard(claim.id)
        now = self._clock.now()
        for note in attempt.take(now):
            self._store.submit(Tell(note), CallbackReply(ignore_lost))
        settle = Settle(settlement(claim, outcome, known.options, now=now), claim.followed)
        if isinstance(outcome, Returned) and outcome.made is not None and outcome.made.outputs:
            settle = self._publisher.settles(settle, outcome.made)
        self._submit(settle)
        self._lanes.give_back(known.lane)
        self._freed(known.lane)
        if isinstance(outcome, Raised):  # last, because a handler of the program may raise
            log.error(
                "task %s %s failed in attempt %d: %s",
                claim.name,
                claim.id,
                claim.attempt,
                what_it_says(outcome.error),
                exc_info=outcome.error,
                extra={"task": claim.id, "attempt": claim.attempt},
            )

    def _give_back(self, claim: Claim, reason: str) -> None:
        known = self._registry.named(claim.name)
        self._submit(Settle(settlement(claim, GivenBack(reason), PLAIN, now=self._clock.now()), claim.followed))
        self._lanes.give_back(Lane.THREAD if known is None else known.lane)

    def _cancel(self, attempt: Running, reason: str) -> None:
        task = attempt.task
        if task is not None:
            on_loop(task.get_loop(), task.cancel, reason)

    def _is_cancelled_by_others(self, claim: Claim) -> bool:
        """Tell whether somebody cancelled the attempt's asyncio task: a loop that ends does that to all of its tasks.

        Code that cancels the task it runs in looks the same, and would be given back for ever: once is enough.
        """
        task = asyncio.current_task()
        if task is None or not task.cancelling() or claim.id in self._cancelled:
            return False
        self._cancelled.add(claim.id)
        return True

    def _submit(self, command: Settle) -> None:
        self._store.submit(command, _Settling(self, command))

    def settled(self, command: Settle, answer: Any) -> None:
        """Take note of what became of a settlement. Called on the store's thread."""
        what: Settlement = command.settlement
        if command.outputs:
            self._publisher.settled(command, answer)
        if isinstance(answer, PASSING):
            self._again.later(command, _Settling(self, command))
            return
        if isinstance(answer, LeaseLost):
            log.log(logging.INFO if what.outcome is AttemptState.RELEASED else logging.WARNING, "%s", answer)
        elif isinstance(answer, Stopped):
            log.warning("task %s ended as %s after the engine had stopped; it will run again", what.id, what.outcome)
        elif isinstance(answer, BaseException):
            log.error("the outcome of task %s could not be stored", what.id, exc_info=answer)
            if what.outcome is AttemptState.SUCCEEDED:  # what the database will not have: a result of a gigabyte
                self._submit(Settle(refused(what, answer), command.followed))
                return
        elif what.outcome is AttemptState.RELEASED:
            log.info("task %s was given back in attempt %d", what.id, what.attempt)
        with self._lock:
            self._unsettled -= 1
            if self._unsettled == 0:
                self._idle.notify_all()


class _Settling(Reply):
    """Brings the answer to a settlement back."""

    __slots__ = ("_command", "_runner")

    def __init__(self, runner: Runner, command: Settle) -> None:
        self.loop = None
        self._runner = runner
        self._command = command

    def deliver(self, answer: Any) -> None:
        self._runner.settled(self._command, answer)


def _now(find: Callable[[str], Any], file: str) -> Any:
    try:
        return find(file)
    except (TooManyOpenFiles, *PASSING) as error:
        raise NotYet(str(error)) from error


def _close_all(opened: list[Any]) -> None:
    for upload in opened:
        try:
            upload.file.close()
        except Exception:  # the task may have done anything to it, and its outcome must be stored all the same
            log.exception("a file of a task could not be closed")


def ignore_lost(answer: Any) -> None:
    """A note that came too late changes nothing; that the lease was lost is told with the settlement."""
    if isinstance(answer, BaseException) and not isinstance(answer, LeaseLost | Stopped):
        log.warning("progress or a log line could not be stored: %s", answer)
