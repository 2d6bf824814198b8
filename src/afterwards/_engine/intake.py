"""Turns calls into tasks: checked and encoded when they are made, stored together when their request is answered.

Where this process has a free place and nothing waits for it, the first attempt is recorded in the same transaction
as the task, so that it can start the moment the answer has left, with one commit less.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from afterwards._domain.arguments import encode
from afterwards._domain.attempts import SECOND
from afterwards._domain.ids import new_id, random_bytes
from afterwards._domain.limits import Quota
from afterwards._domain.options import CallOptions
from afterwards._domain.tasks import Claim, NewTask, TaskState
from afterwards._engine.context import Call
from afterwards._engine.engine import Engine
from afterwards._engine.lanes import Lane
from afterwards._engine.registry import Known
from afterwards._store.contract import Accept, CallbackReply, FutureReply, Know, LetGo, Stored, ThreadReply
from afterwards._store.keys import KeepAnswer
from afterwards.errors import Stopped, StorageUnsure

log = logging.getLogger("afterwards.engine")


class Pending(Protocol):
    """A file that a call was given and that is not stored yet."""

    @property
    def id(self) -> str:
        """The id it will be stored by."""
        ...


Keep = Callable[[object, str], Pending | None]  # (value, function) -> the file it becomes


class Draft:
    """A task that has been added and not stored."""

    __slots__ = ("arguments", "call", "created_at", "files", "id", "known", "options")

    def __init__(
        self,
        known: Known,
        arguments: str,
        files: Sequence[Pending],
        options: CallOptions,
        call: Call | None,
        created_at: int,
    ) -> None:
        self.id = new_id()
        self.known = known
        self.arguments = arguments
        self.files = files
        self.options = options
        self.call = call  # the arguments themselves, where nobody can change them meanwhile
        self.created_at = created_at


class Intake:
    """The way into the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def draft(
        self,
        function: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: CallOptions,
        keep: Keep,
    ) -> Draft:
        """Check a call and encode its arguments.

        Raises:
            Unstorable, WrongArguments: It could not be made again after a restart, or never.
            Stopped: The program is stopping.
        """
        engine = self._engine
        if engine.stopping:
            raise engine.refusal()
        known = engine.registry.of(function)
        files: list[Pending] = []

        def keep_file(value: object) -> str | None:
            kept = keep(value, known.name)
            if kept is None:
                return None
            files.append(kept)
            return kept.id

        arguments = encode(function, known.name, args, kwargs, keep_file)
        # Without a list, an object or a tag inside, it is numbers and text only, which are the same when read back.
        flat = arguments.count("[") == 2 and arguments.count("{") == 1
        call = (args, kwargs) if flat else None
        return Draft(known, arguments, files, options, call, engine.clock.now())

    def plan(
        self, drafts: Sequence[Draft], *, after: str | None = None, held: bool = False, first: Draft | None = None
    ) -> "Plan":
        """Decide how the tasks of one request are stored.

        Args:
            drafts: In the order they were added. Each waits for the one before it, unless it says otherwise.
            after: The task the first one follows.
            held: They must not start before their response has been sent, which may take long.
            first: What goes before each of them that has files: it looks at those.
        """
        return Plan(self._engine, drafts, after=after, held=held, first=first)

    def queued(self, draft: Draft) -> Accept:
        """Return what stores a task as part of something else; then call `stored`. Whoever is free will run it."""
        return Plan(self._engine, [draft], after=None, held=False, starts=False).command((), late=False)

    def stored(self, command: Accept) -> None:
        """Take note that what `queued` returned is stored."""
        self._known(command)

    async def store(self, plan: "Plan", files: Sequence[Stored] = (), *, late: bool = False) -> None:
        """Bring a plan onto stable storage.

        Whoever waits here may be cancelled: what is then stored after all is started all the same.

        Raises:
            StorageFull, StorageUnsure, StoreBusy, Stopped: Nothing will run; see each.
        """
        command = plan.command(files, late=late)
        reply = _PlanReply(asyncio.get_running_loop(), plan)
        self._engine.accept(command, reply)
        try:
            await reply.future
        except StorageUnsure:
            plan.give_back()
            raise
        except Exception:
            plan.give_up()
            raise
        except asyncio.CancelledError:
            reply.leave()
            raise
        self._known(command)

    def store_blocking(self, plan: "Plan", files: Sequence[Stored] = (), *, late: bool = False) -> None:
        """Do the same on a thread that may block."""
        command = plan.command(files, late=late)
        reply = ThreadReply()
        self._engine.accept(command, reply)
        try:
            reply.wait()
        except StorageUnsure:
            plan.give_back()
            raise
        except Exception:  # whoever interrupts the waiting itself drops the plan, which is given back then
            plan.give_up()
            raise
        self._known(command)

    def _known(self, command: Accept) -> None:
        if command.functions:
            engine = self._engine
            engine.registry.saved(command.functions)
            names = tuple(name for name, _ in command.functions)
            engine.store.submit(Know(worker=engine.worker, names=names), CallbackReply(_told))


class _PlanReply(FutureReply):
    """Starts what was stored although nobody waits for the answer any more."""

    __slots__ = ("_plan",)

    def __init__(self, loop: asyncio.AbstractEventLoop, plan: "Plan") -> None:
        self.loop = loop
        self.future = loop.create_future()
        self._plan = plan

    def deliver(self, answer: Any) -> None:
        if self.future.done():
            self.dropped(answer)
        else:
            super().deliver(answer)

    def dropped(self, answer: Any) -> None:
        if isinstance(answer, StorageUnsure):
            self._plan.give_back()
        elif isinstance(answer, BaseException):
            self._plan.give_up()
        else:
            self._plan.start()
        if self._plan.unheard is not None:
            self._plan.unheard(answer)

    def leave(self) -> None:
        """Whoever waits was cancelled: perhaps when the answer was there already, and then it comes no more."""
        if not self.future.done():
            self.future.cancel()
        elif not self.future.cancelled():
            self.deliver(self.future.exception())


def _told(answer: Any) -> None:
    if isinstance(answer, BaseException):
        log.warning("could not record which functions this program has: %s", answer)


class Plan:
    """The rows of one request, and the attempts that start with them."""

    def __init__(
        self,
        engine: Engine,
        drafts: Sequence[Draft],
        *,
        after: str | None,
        held: bool,
        first: Draft | None = None,
        starts: bool = True,
    ) -> None:
        drafts = drafts if first is None else [first, *drafts]
        self._engine = engine
        self._submitted = False
        self._starts = starts  # here, when they are stored; else they wait for whoever comes
        self.quota: Quota | None = None  # that its files must keep to when they are stored
        self.claims: list[tuple[Claim, Call | None]] = []
        self.held: list[str] = []
        self.tasks: list[NewTask] = []
        self.key: KeepAnswer | None = None  # what the client will be told, to be stored with the tasks
        self.unheard: Callable[[BaseException | None], None] | None = None  # told the answer that nobody waits for
        self._drafts = drafts
        now = engine.clock.now()
        sequence = drafts[0].id if len(drafts) > 1 else None
        last = len(drafts) - 1
        for place, draft in enumerate(drafts):
            before = drafts[place - 1].id if place else after
            if draft.options.parallel:
                before = first.id if first is not None and draft.files else None
            followed = draft is first or (place < last and not drafts[place + 1].options.parallel)
            self.tasks.append(self._task(draft, before, followed=followed, sequence=sequence, held=held, now=now))

    def _task(
        self, draft: Draft, before: str | None, *, followed: bool, sequence: str | None, held: bool, now: int
    ) -> NewTask:
        engine, known, call = self._engine, draft.known, draft.options
        options = known.options
        signature = engine.signer.task(draft.id, known.name, draft.arguments)
        max_interruptions = 1 if call.at_most_once else options.max_interruptions
        state, attempt, worker, token, started_at = TaskState.QUEUED, 0, None, None, None
        if before is not None:
            state = TaskState.WAITING
        elif held:
            state, worker = TaskState.WAITING, engine.worker
            self.held.append(draft.id)
        elif call.delay > 0:
            state = TaskState.SCHEDULED
        elif self._starts and self._is_free(known.lane) and engine.lanes.take(known.lane):
            state, attempt, worker, started_at = TaskState.RUNNING, 1, engine.worker, now
            token = random_bytes().hex()
            claim = Claim(
                id=draft.id,
                name=known.name,
                attempt=1,
                token=token,
                arguments=draft.arguments,
                signature=signature,
                created_at=draft.created_at,
                started_at=started_at,
                max_attempts=options.retries + 1,
                max_interruptions=max_interruptions,
                followed=followed,
            )
            self.claims.append((claim, draft.call))
        return NewTask(
            id=draft.id,
            name=known.name,
            arguments=draft.arguments,
            signature=signature,
            created_at=draft.created_at,
            run_at=draft.created_at + int(call.delay * SECOND),
            state=state,
            queue=options.queue,
            priority=options.priority if call.priority is None else call.priority,
            sequence=sequence,
            after=before,
            followed=followed,
            on_error=call.on_error,
            max_attempts=options.retries + 1,
            max_interruptions=max_interruptions,
            attempt=attempt,
            worker=worker,
            token=token,
            started_at=started_at,
            files=[file.id for file in draft.files],
        )

    def _is_free(self, lane: Lane) -> bool:
        claimer = self._engine.claimer
        return not (claimer.stopped or claimer.backlog[lane])

    def command(self, files: Sequence[Stored], *, late: bool) -> Accept:
        """Return the command that stores the plan, to be handed to the store at once."""
        self._submitted = True
        functions = self._engine.registry.unsaved([draft.known.name for draft in self._drafts])
        return Accept(
            tasks=self.tasks,
            files=files,
            functions=functions,
            late=late,
            key=self.key,
            quota=self.quota if files else None,
        )

    def start(self) -> None:
        """Start what is on record as running and let go of what was held. Safe from any thread; once is enough."""
        claims, self.claims = self.claims, []
        held, self.held = self.held, []
        if claims:
            self._engine.runner.start(claims)
        if held:
            engine = self._engine
            command = LetGo(worker=engine.worker, ids=tuple(held), now=engine.clock.now())
            engine.store.submit(command, CallbackReply(lambda answer: self._let_go(command, answer)))

    def _let_go(self, command: LetGo, answer: Any) -> None:
        if isinstance(answer, BaseException) and not isinstance(answer, Stopped):
            log.warning("tasks are held a little longer: %s", answer)
            self._engine.later(command, CallbackReply(lambda answer: self._let_go(command, answer)))

    def give_back(self) -> None:
        """Free the places, and the tasks for whoever comes for them, in case they are on record."""
        claims, self.claims = self.claims, []
        self._engine.runner.give_back([claim for claim, _ in claims], "its request was dropped before it could start")
        self.start()

    def give_up(self) -> None:
        """Free the places that were taken, because nothing was stored."""
        for claim, _ in self.claims:
            known = self._engine.registry.named(claim.name)
            if known is not None:
                self._engine.lanes.give_back(known.lane)
        self.claims, self.held = [], []

    def __del__(self) -> None:
        """See that nothing of it stays running on record only: its request was dropped, its loop closed.

        Not from here, which may be in the middle of anything, but on the engine's thread.
        """
        if self.claims or self.held:
            left = Plan.__new__(Plan)
            left._engine, left.claims, left.held = self._engine, self.claims, self.held
            left._submitted = self._submitted
            self._engine.soon(Plan.give_back if left._submitted else Plan.give_up, left)
            self.claims, self.held = [], []
