"""The commands about idempotency keys as statements; see `commands.py`."""

from collections.abc import Callable
from typing import Any

import apsw
import msgspec

from afterwards._store import keys
from afterwards._store.sqlite.sql import QUERIES
from afterwards.errors import KeyLost

_headers = msgspec.json.Decoder(list[tuple[str, str]])


def take_key(connection: apsw.Connection, command: keys.TakeKey) -> keys.Answered | str | None:
    """Take a key, or say who has it."""
    values = {"id": command.id, "worker": command.worker, "token": command.token, "now": command.now}
    connection.execute(QUERIES["take_key"], values)
    if connection.changes() == 1:
        return None
    fingerprint, status, headers, body = connection.execute(QUERIES["key"], {"id": command.id}).get
    if status is None:
        return keys.HELD
    return keys.Answered(fingerprint=fingerprint, status=status, headers=_headers.decode(headers), body=body)


def keep_answer(connection: apsw.Connection, command: keys.KeepAnswer) -> None:
    """Keep an answer.

    Raises:
        KeyLost: Another request has the key by now. Whatever was to be stored with the answer must not be.
    """
    values = msgspec.structs.asdict(command) | {"headers": msgspec.json.encode(command.headers).decode()}
    connection.execute(QUERIES["keep_answer"], values)
    if connection.changes() == 0:
        raise KeyLost()


def free_keys(connection: apsw.Connection, worker: str) -> None:
    """Free what a worker holds that is being ended."""
    connection.execute(QUERIES["free_keys"], {"worker": worker})


def _free_key(connection: apsw.Connection, command: keys.FreeKey) -> None:
    connection.execute(QUERIES["free_key"], {"id": command.id, "token": command.token})


def _prune_keys(connection: apsw.Connection, command: keys.PruneKeys) -> int:
    connection.execute(QUERIES["prune_keys"], {"now": command.now, "limit": command.limit})
    return connection.changes()


ALONE: dict[type, Callable[[apsw.Connection, Any], Any]] = {
    keys.TakeKey: take_key,
    keys.KeepAnswer: keep_answer,
    keys.FreeKey: _free_key,
    keys.PruneKeys: _prune_keys,
}
