"""Commands as statements, inside the transaction that the writer has opened.

Each kind of command in a batch is one statement over a JSON array, because every statement costs a hand-over of
the interpreter lock, whatever it does: measured 4 microseconds for a new task in a batch of 64, 32 alone.
Nothing here commits, and nothing is decided here that `_domain` can decide.
"""

from collections.abc import Callable, Sequence
from typing import Any

import apsw
import msgspec

from afterwards._domain.attempts import after_interruption
from afterwards._domain.files import FILE_GRACE, FileRole, Verdict
from afterwards._domain.ids import random_bytes
from afterwards._domain.limits import Quota
from afterwards._domain.tasks import AttemptState, Claim, Failure, NewTask, Note, Settlement, TaskState
from afterwards._store import contract, upkeep, upload_commands
from afterwards._store.contract import Command
from afterwards._store.keys import KeepAnswer
from afterwards._store.sqlite import keys, uploads
from afterwards._store.sqlite.packing import Packed
from afterwards._store.sqlite.quotas import check_quota
from afterwards._store.sqlite.sql import QUERIES
from afterwards.errors import LeaseLost, UnknownFile

_claims = msgspec.json.Decoder(list[Claim])

_CLAIMABLE = frozenset({TaskState.QUEUED, TaskState.SCHEDULED, TaskState.RETRYING})


def one_statement(commands: Sequence[Command]) -> bool:
    """Tell whether these commands fit into the one statement that is a transaction by itself."""
    claims = 0
    for command in commands:
        if isinstance(command, contract.Accept):
            if command.key is not None or any(task.files for task in command.tasks):
                return False
        elif isinstance(command, contract.Settle):
            if command.outputs:
                return False
        elif isinstance(command, contract.ClaimTasks):
            claims += 1
        elif not isinstance(command, contract.Tell):
            return False
    return claims <= 1


def apply(connection: apsw.Connection, commands: Sequence[Command]) -> tuple[list[Any], bool]:
    """Carry out a batch, inside the open transaction or, where `one_statement` holds, as one of its own.

    Returns:
        The answers in the order of the commands, and whether something is left that a claimer should come for, now
        or when it is due.
    """
    answers: list[Any] = [None] * len(commands)
    batch = _Batch()
    alone: list[int] = []
    claim: int | None = None
    for place, command in enumerate(commands):
        if type(command) is contract.ClaimTasks and claim is None:
            claim = place
            batch.claim(command)
        elif not batch.add(command):
            alone.append(place)
    if batch.used:
        batch.write(connection)
    if claim is not None:
        found = connection.execute(QUERIES["claimed_tasks"], {"worker": batch.row["worker"], "batch": batch.mark}).get
        answers[claim] = _claims.decode(found)
    work = batch.work
    for place in alone:
        kind = type(commands[place])
        answers[place] = _ALONE[kind](connection, commands[place])
        work |= kind in _QUEUEING
    return answers, work


class _Batch:
    """Commands of the kinds that come in numbers, on their way into the view `batch`."""

    def __init__(self) -> None:
        self.row: dict[str, Any] = dict.fromkeys(_COLUMNS)
        self.used = False
        self.work = False
        self.mark = ""
        self._notes: list[Note] = []
        self._settlements: list[Settlement] = []
        self._functions: list[tuple[str, str]] = []
        self._tasks: list[NewTask] = []
        self._files: list[tuple[contract.Stored, int]] = []
        self._outputs: list[tuple[str, str, FileRole]] = []
        self._late: list[str] = []
        self._answers: list[KeepAnswer] = []
        self._quotas: list[tuple[Quota, Sequence[contract.Stored]]] = []

    def add(self, command: Command) -> bool:
        """Take a command in; False when it is of another kind."""
        match command:
            case contract.Settle(settlement, followed):
                self._settlements.append(settlement)
                self.work |= followed or settlement.state in _CLAIMABLE
                if command.outputs:
                    self._files += [(file, settlement.at) for file in command.files]
                    self._outputs += [(settlement.id, file, FileRole.OUTPUT) for file in command.outputs]
            case contract.Tell(note):
                self._notes.append(note)
            case contract.Accept():
                self._tasks += command.tasks
                self._functions += command.functions
                self._files += [(file, command.tasks[0].created_at) for file in command.files]
                if command.key is not None:
                    self._answers.append(command.key)
                if command.quota is not None and command.files:
                    self._quotas.append((command.quota, command.files))
                if command.late:
                    self._late += [task.id for task in command.tasks]
                self.work |= command.late or any(task.state in _CLAIMABLE for task in command.tasks)
            case _:
                return False
        self.used = True
        return True

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Take in what follows for the attempts of a worker that is gone."""
        self._settlements += settlements
        self.used = bool(settlements)

    def claim(self, command: contract.ClaimTasks) -> None:
        """Take in a claim."""
        self.mark = random_bytes()[:8].hex()
        if len(command.lanes) > 2:
            raise ValueError(f"a claim for {len(command.lanes)} kinds of places; the view `batch` has columns for two")
        (names, most), (more_names, more_most) = (*command.lanes, ((), 0), ((), 0))[:2]
        self.row |= {
            "worker": command.worker,
            "mark": self.mark,
            "now": command.now,
            "names": _json(names),
            "most": most,
            "more_names": _json(more_names),
            "more_most": more_most,
        }
        self.used = True

    def write(self, connection: apsw.Connection) -> None:
        """Store it all.

        Raises:
            LeaseLost: One of the attempts no longer holds its lease. Nothing was stored.
            UnknownFile: One of the tasks takes or returned a file that has no row. All of it must be taken back.
            KeyLost: One of the keys is another request's by now. Nothing may be stored.
            QuotaExceeded: Files of one of the commands do not fit beside what is stored. The transaction must not end.
            apsw.ConstraintError: One of the commands breaks a rule. Nothing was stored.
        """
        lists = {
            "notes": self._notes,
            "settlements": self._settlements,
            "functions": self._functions,
            "tasks": self._tasks,
            "late": self._late,
        }
        self.row |= {name: _json(items) for name, items in lists.items() if items}
        before = connection.total_changes()
        try:
            connection.execute(QUERIES["write_batch"], self.row)
        except apsw.ConstraintError as error:
            if "lease lost" not in str(error):
                raise
            # In a batch of more than one, each is tried alone after this: the first is the one.
            if self._notes:
                note = self._notes[0]
                raise LeaseLost(task=note.id, attempt=note.attempt, what=note.kind) from error
            end = self._settlements[0]
            raise LeaseLost(task=end.id, attempt=end.attempt, what="outcome") from error
        if self._settlements and not self.work:
            self.work = connection.total_changes() - before > self._changes()
        if self._files:
            connection.executemany(QUERIES["insert_file"], [_file_row(file, at) for file, at in self._files])
            for quota, files in self._quotas:
                check_quota(connection, quota, files)
        links = [(task.id, file, FileRole.INPUT) for task in self._tasks for file in task.files] + self._outputs
        if links:
            given = {"links": _json(links)}
            connection.execute(QUERIES["link_files"], given)
            if connection.changes() < len(links):
                missing = connection.execute(QUERIES["missing_file"], given).get
                if missing is not None:
                    raise UnknownFile(file=missing)
        for answer in self._answers:
            keys.keep_answer(connection, answer)

    def _changes(self) -> int:
        """Return how many rows change if no trigger frees a task behind another: if more do, there is work."""
        news = sum(2 + task.attempt for task in self._tasks)  # the task, its event, its attempt
        tells = len(self._notes) + len({note.id for note in self._notes if note.kind == "progress"})
        return 3 * len(self._settlements) + tells + news  # an attempt, its task, its event


_COLUMNS = (
    "notes",
    "settlements",
    "functions",
    "tasks",
    "late",
    "worker",
    "mark",
    "now",
    "names",
    "most",
    "more_names",
    "more_most",
)


def _file_row(file: contract.Stored, created_at: int) -> dict[str, Any]:
    return {
        "id": file.id,
        "name": file.name,
        "size": file.size,
        "content_type": file.content_type,
        "headers": _json(file.headers),
        "digest": file.digest,
        "content": file.content,
        "pack": file.pack if isinstance(file, Packed) else None,
        "pack_at": file.at if isinstance(file, Packed) else None,
        "created_at": created_at,
        "kind": file.kind,
        "type": file.type,
        "owner": file.owner,
        "kept_until": created_at + FILE_GRACE if file.kept_until is None else file.kept_until,
        "verdict": file.verdict,
    }


def _judge(connection: apsw.Connection, command: upkeep.Judge) -> Verdict | None:
    told = {"id": command.file, "verdict": command.verdict, "finding": command.finding}
    found = connection.execute(QUERIES["judge_file"], told).get
    return None if found is None else Verdict(found)


def _store_file(connection: apsw.Connection, file: contract.Stored, created_at: int) -> None:
    connection.execute(QUERIES["insert_file"], _file_row(file, created_at))


def _store_tasks(connection: apsw.Connection, command: contract.Accept) -> None:
    batch = _Batch()
    batch.add(command)
    batch.write(connection)


def _let_go(connection: apsw.Connection, command: contract.LetGo) -> None:
    connection.execute(QUERIES["let_go"], {"worker": command.worker, "now": command.now, "ids": _json(command.ids)})


def _register(connection: apsw.Connection, command: contract.Register) -> None:
    connection.execute(QUERIES["insert_worker"], msgspec.structs.asdict(command.worker))


def _know(connection: apsw.Connection, command: contract.Know) -> None:
    connection.execute(QUERIES["insert_knows"], {"worker": command.worker, "names": _json(command.names)})


def _renew(connection: apsw.Connection, command: contract.Renew) -> bool:
    connection.execute(QUERIES["renew_lease"], {"worker": command.worker, "lease_until": command.lease_until})
    return connection.changes() == 1


def _stopping(connection: apsw.Connection, command: contract.Stopping) -> None:
    connection.execute(QUERIES["stop_worker"], {"worker": command.worker, "now": command.now})


class _Held(msgspec.Struct):
    id: str
    name: str
    attempt: int
    token: str
    interruptions: int
    max_interruptions: int


class _Holding(msgspec.Struct):
    stopped: bool
    attempts: list[_Held]


_holdings = msgspec.json.Decoder(_Holding)


def _rescue(connection: apsw.Connection, command: contract.Rescue) -> list[contract.Rescued] | None:
    found = connection.execute(QUERIES["worker_attempts"], {"worker": command.worker}).get
    if found is None:
        return None
    holding = _holdings.decode(found)
    settlements = [_interrupted(held, command, stopped=holding.stopped) for held in holding.attempts]
    batch = _Batch()
    batch.settle(settlements)
    if batch.used:
        batch.write(connection)
    connection.execute(QUERIES["let_go_all"], {"worker": command.worker, "now": command.now})
    keys.free_keys(connection, command.worker)
    uploads.abandon(connection, command.worker, command.now)
    connection.execute(QUERIES["delete_worker"], {"worker": command.worker})
    return [
        contract.Rescued(id=held.id, name=held.name, attempt=held.attempt, state=settlement.state)
        for held, settlement in zip(holding.attempts, settlements, strict=True)
    ]


def _interrupted(held: _Held, command: contract.Rescue, *, stopped: bool) -> Settlement:
    if stopped and held.max_interruptions > 1:  # at most once: it may have begun
        outcome, state = AttemptState.RELEASED, TaskState.QUEUED
    else:
        outcome = AttemptState.INTERRUPTED
        state = after_interruption(interruptions=held.interruptions + 1, max_interruptions=held.max_interruptions)
    return Settlement(
        id=held.id,
        attempt=held.attempt,
        token=held.token,
        outcome=outcome,
        state=state,
        at=command.now,
        error=_json(Failure(type=outcome.value, message=command.reason)),
    )


def _run_again(connection: apsw.Connection, command: contract.RunAgain) -> TaskState | None:
    connection.execute(QUERIES["forget_outputs"], {"id": command.id})
    connection.execute(QUERIES["run_again"], {"id": command.id, "now": command.now})
    found = connection.execute(QUERIES["state"], {"id": command.id}).get
    return None if found is None else TaskState(found)


def _prune(connection: apsw.Connection, command: upkeep.Prune) -> upkeep.Pruned:
    failed_before = command.before if command.failed_before is None else command.failed_before
    kinds = ((True, command.since, command.before), (False, command.failed_since, failed_before))
    tasks = 0
    for succeeded, since, before in kinds:
        span = {"succeeded": succeeded, "since": since, "before": before, "limit": command.limit - tasks}
        connection.execute(QUERIES["prune_tasks"], span)
        tasks += connection.changes()
    ids = connection.execute(QUERIES["unused_files"], {"now": command.now, "limit": command.limit}).get
    connection.execute(QUERIES["delete_files"], {"ids": ids})
    return upkeep.Pruned(tasks=tasks, files=tuple(msgspec.json.decode(ids, type=list[str])))


def _recount(connection: apsw.Connection, command: upkeep.Recount) -> int:
    connection.execute(QUERIES["recount_uses"], {"ids": _json(command.ids)})
    return connection.changes()


def _purge(connection: apsw.Connection, command: upkeep.Purge) -> upkeep.Pruned:
    tasks = 0
    if command.tasks:
        wanted = {"before": command.before, "state": command.state, "limit": command.limit}
        connection.execute(QUERIES["purge_tasks"], wanted)
        tasks = connection.changes()
    files = {"before": command.before, "kinds": _json(command.kinds), "limit": command.limit}
    ids = connection.execute(QUERIES["purgeable_files"], files).get
    connection.execute(QUERIES["delete_files"], {"ids": ids})
    return upkeep.Pruned(tasks=tasks, files=tuple(msgspec.json.decode(ids, type=list[str])))


_HERE: dict[type, Callable[[apsw.Connection, Any], Any]] = {
    upkeep.Judge: _judge,
    contract.LetGo: _let_go,
    contract.Register: _register,
    contract.Know: _know,
    contract.Renew: _renew,
    contract.Stopping: _stopping,
    contract.Rescue: _rescue,
    contract.RunAgain: _run_again,
    upkeep.Prune: _prune,
    upkeep.Recount: _recount,
    upkeep.Purge: _purge,
    **keys.ALONE,
}
_ALONE = _HERE | uploads.handlers(_store_file, _store_tasks)

_QUEUEING = frozenset(
    {contract.LetGo, contract.RunAgain, contract.Rescue}
    | {upload_commands.CreateUpload, upload_commands.FinishUpload, upload_commands.JoinUploads}  # perhaps a scan
)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
