"""Commands as statements, inside the transaction that the writer has opened.

Each kind of command in a batch is one statement over a JSON array, because every statement costs a hand-over of
the interpreter lock, whatever it does: measured 4 microseconds for a new task in a batch of 64, 32 alone.
Nothing here commits, and nothing is decided here that `_domain` can decide.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import apsw
import msgspec

from afterwards._domain.attempts import after_interruption
from afterwards._domain.tasks import AttemptState, Claim, Failure, NewTask, Settlement, TaskState
from afterwards._store import contract
from afterwards._store.contract import Command
from afterwards._store.sqlite.sql import QUERIES
from afterwards.errors import LeaseLost

_claims = msgspec.json.Decoder(list[Claim])

_CLAIMABLE = frozenset({TaskState.QUEUED, TaskState.SCHEDULED, TaskState.RETRYING})


def apply(connection: apsw.Connection, commands: Sequence[Command]) -> tuple[list[Any], bool]:
    """Carry out a batch inside the open transaction.

    Returns:
        The answers in the order of the commands, and whether something is left that a claimer should come for, now
        or when it is due.
    """
    answers: list[Any] = [None] * len(commands)
    work = False
    of_kind: dict[type, list[int]] = {}
    for place, command in enumerate(commands):
        of_kind.setdefault(type(command), []).append(place)
    for kind, apply_all in _TOGETHER.items():  # in this order: what an attempt tells comes before its end
        if kind in of_kind:
            work |= apply_all(connection, [commands[place] for place in of_kind[kind]])
    for kind, places in of_kind.items():
        if kind not in _TOGETHER:
            for place in places:
                answers[place] = _ALONE[kind](connection, commands[place])
                work |= kind in _QUEUEING
    return answers, work


def _tell(connection: apsw.Connection, commands: Sequence[contract.Tell]) -> bool:
    notes = [command.note for command in commands]
    connection.execute(QUERIES["insert_notes"], {"notes": _json(notes)})
    if connection.changes() != len(notes):
        note = notes[0]  # in a batch of more than one, each is tried alone after this
        raise LeaseLost(task=note.id, attempt=note.attempt, what=note.kind)
    if any(note.kind == "progress" for note in notes):
        connection.execute(QUERIES["keep_progress"], {"notes": _json(notes)})
    return False


def _settle(connection: apsw.Connection, commands: Sequence[contract.Settle]) -> bool:
    return _write_settlements(connection, [command.settlement for command in commands])


def _write_settlements(connection: apsw.Connection, settlements: Sequence[Settlement]) -> bool:
    """Write outcomes under the fence; tell whether anything became ready to run by it."""
    text = _json(settlements)
    connection.execute(QUERIES["settle_attempts"], {"settlements": text})
    if connection.changes() != len(settlements):
        first = settlements[0]
        raise LeaseLost(task=first.id, attempt=first.attempt, what="outcome")
    before = connection.total_changes()
    connection.execute(QUERIES["settle_tasks"], {"settlements": text})
    # Each settlement changes a task and adds an event. More than that: triggers moved the tasks behind some of them.
    freed = connection.total_changes() - before > 2 * len(settlements)
    return freed or any(settlement.state in _CLAIMABLE for settlement in settlements)


def _accept(connection: apsw.Connection, commands: Sequence[contract.Accept]) -> bool:
    functions = [function for command in commands for function in command.functions]
    if functions:
        connection.execute(QUERIES["insert_functions"], {"functions": _json(functions)})
    tasks: list[NewTask] = [task for command in commands for task in command.tasks]
    connection.execute(QUERIES["insert_tasks"], {"tasks": _json(tasks)})
    files = [(file, command.tasks[0].created_at) for command in commands for file in command.files]
    if files:
        rows = [
            {
                "id": file.id,
                "name": file.name,
                "size": file.size,
                "content_type": file.content_type,
                "headers": _json(file.headers),
                "digest": file.digest,
                "content": file.content,
                "created_at": created_at,
            }
            for file, created_at in files
        ]
        connection.executemany(QUERIES["insert_file"], rows)
    links = [(task.id, file) for task in tasks for file in task.files]
    if links:
        connection.execute(QUERIES["link_files"], {"links": _json(links)})
    late = [task.id for command in commands if command.late for task in command.tasks]
    if late:
        connection.execute(QUERIES["free_late_tasks"], {"ids": _json(late)})
    return bool(late) or any(task.state in _CLAIMABLE for task in tasks)


_TOGETHER: dict[type, Callable[[apsw.Connection, Sequence[Any]], bool]] = {
    contract.Tell: _tell,
    contract.Settle: _settle,
    contract.Accept: _accept,
}


def _claim(connection: apsw.Connection, command: contract.ClaimTasks) -> list[Claim]:
    connection.execute(QUERIES["queue_due"], {"now": command.now})
    batch = os.urandom(8).hex()
    for names, limit in command.lanes:
        connection.execute(
            QUERIES["claim_tasks"],
            {"worker": command.worker, "batch": batch, "now": command.now, "names": _json(names), "limit": limit},
        )
    found = connection.execute(QUERIES["claimed_tasks"], {"worker": command.worker, "batch": batch}).get
    return _claims.decode(found)


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
    _write_settlements(connection, settlements)
    connection.execute(QUERIES["let_go_all"], {"worker": command.worker, "now": command.now})
    connection.execute(QUERIES["delete_worker"], {"worker": command.worker})
    return [
        contract.Rescued(id=held.id, name=held.name, attempt=held.attempt, state=settlement.state)
        for held, settlement in zip(holding.attempts, settlements, strict=True)
    ]


def _interrupted(held: _Held, command: contract.Rescue, *, stopped: bool) -> Settlement:
    if stopped:
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
    connection.execute(QUERIES["run_again"], {"id": command.id, "now": command.now})
    found = connection.execute(QUERIES["state"], {"id": command.id}).get
    return None if found is None else TaskState(found)


def _prune(connection: apsw.Connection, command: contract.Prune) -> contract.Pruned:
    connection.execute(QUERIES["prune_tasks"], {"before": command.before, "limit": command.limit})
    tasks = connection.changes()
    ids = connection.execute(QUERIES["unused_files"], {"before": command.files_before, "limit": command.limit}).get
    connection.execute(QUERIES["delete_files"], {"ids": ids})
    return contract.Pruned(tasks=tasks, files=tuple(msgspec.json.decode(ids, type=list[str])))


_ALONE: dict[type, Callable[[apsw.Connection, Any], Any]] = {
    contract.ClaimTasks: _claim,
    contract.LetGo: _let_go,
    contract.Register: _register,
    contract.Know: _know,
    contract.Renew: _renew,
    contract.Stopping: _stopping,
    contract.Rescue: _rescue,
    contract.RunAgain: _run_again,
    contract.Prune: _prune,
}

_QUEUEING = frozenset({contract.LetGo, contract.RunAgain, contract.Rescue})


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
