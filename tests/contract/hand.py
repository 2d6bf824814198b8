"""What a worker does with a store, in the fewest words, and new tasks with the values a test does not care about."""

from collections.abc import Sequence
from typing import Any

from msgspec import json

from afterwards._domain.files import FileKind
from afterwards._domain.ids import new_id
from afterwards._domain.tasks import (
    AttemptState,
    Claim,
    Event,
    Failure,
    NewTask,
    Note,
    Settlement,
    TaskRow,
    TaskState,
    WorkerInfo,
)
from afterwards._files.stored import StoredFile
from afterwards._store import contract, upkeep
from afterwards._store.contract import Store, ask_blocking

NOW = 1_700_000_000_000_000  # a moment in 2023, in microseconds
HOUR = 3_600_000_000


def new_task(**values: Any) -> NewTask:
    given = {"id": new_id(), "name": "f", "arguments": "[]", "signature": "s", "created_at": NOW, "run_at": NOW}
    return NewTask(**given | values)


def new_file(content: bytes | None = b"made", **values: Any) -> StoredFile:
    given = {"id": new_id(), "name": "made.txt", "size": len(content or b"4444"), "content_type": None, "headers": ()}
    return StoredFile(**given | {"digest": "blake3:00", "content": content, "kind": FileKind.ARTIFACT} | values)


def chain(*length_and_options: dict[str, Any], **values: Any) -> list[NewTask]:
    """Tasks of one request in their order, each with its own options."""
    tasks: list[NewTask] = []
    for place, options in enumerate(length_and_options):
        order: dict[str, Any] = {"sequence": "r", "followed": place + 1 < len(length_and_options)}
        if tasks:
            order |= {"after": tasks[-1].id, "state": TaskState.WAITING}
        tasks.append(new_task(**values | order | options))
    return tasks


def failure(message: str) -> str:
    return json.encode(Failure(type="ValueError", message=message)).decode()


class Hand:
    """One worker's commands, each waited for."""

    def __init__(self, store: Store, worker: str) -> None:
        self.store = store
        self.worker = worker
        self.now = NOW

    def ask(self, command: contract.Command) -> Any:
        return ask_blocking(self.store, command)

    def register(self) -> None:
        worker = WorkerInfo(id=self.worker, host="h", pid=1, boot="b", started_at=NOW, lease_until=1)
        self.ask(contract.Register(worker))

    def add(self, *tasks: NewTask, **options: Any) -> list[str]:
        self.ask(contract.Accept(tasks=tasks, **options))
        return [task.id for task in tasks]

    def claim(self, limit: int = 1000, *names: str) -> list[Claim]:
        lanes = ((names or ("f",), limit),)
        return self.ask(contract.ClaimTasks(worker=self.worker, lanes=lanes, now=self.now))

    def one(self) -> Claim:
        [claim] = self.claim()
        return claim

    def settle(
        self,
        claim: Claim,
        state: TaskState = TaskState.SUCCEEDED,
        *,
        files: Sequence[StoredFile] = (),
        outputs: Sequence[str] | None = None,
        **values: Any,
    ) -> None:
        outcome = AttemptState.SUCCEEDED if state is TaskState.SUCCEEDED else AttemptState.FAILED
        given = {"outcome": outcome, "state": state, "at": self.now}
        fence = {"id": claim.id, "attempt": claim.attempt, "token": claim.token}
        kept = [file.id for file in files] if outputs is None else outputs
        self.ask(contract.Settle(Settlement(**fence | given | values), False, files, kept))

    def tell(self, claim: Claim, kind: str, data: str, at: int | None = None) -> None:
        at = self.now if at is None else at
        note = Note(id=claim.id, attempt=claim.attempt, token=claim.token, kind=kind, at=at, data=data)
        self.ask(contract.Tell(note))

    def rescue(self, worker: str | None = None) -> Any:
        return self.ask(contract.Rescue(worker=worker or self.worker, now=self.now, reason="its process ended"))

    def stopping(self) -> None:
        self.ask(contract.Stopping(worker=self.worker, now=self.now))

    def let_go(self, *ids: str) -> None:
        self.ask(contract.LetGo(worker=self.worker, ids=ids, now=self.now))

    def run_again(self, id: str) -> Any:
        return self.ask(contract.RunAgain(id=id, now=self.now))

    def prune(self, before: int, now: int = 0, limit: int = 1000) -> upkeep.Pruned:
        return self.ask(upkeep.Prune(before=before, now=now, limit=limit))

    def task(self, id: str) -> TaskRow:
        row = self.store.task(id)
        assert row is not None
        return row

    def state(self, id: str) -> TaskState:
        return self.task(id).state

    def states(self, ids: list[str]) -> list[str]:
        return [self.state(id).value for id in ids]

    def events(self, id: str | None = None) -> list[Event]:
        return self.store.events(0, task=id)

    def picture(self, id: str) -> Any:
        """Everything the store shows of a task, to compare before and after."""
        return self.store.task(id), self.store.attempts(id), self.store.events(0, task=id)
