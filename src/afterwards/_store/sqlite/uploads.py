"""Uploads that come in several requests: their commands and reads as statements."""

from collections.abc import Callable, Iterable
from typing import Any

import apsw
import msgspec

from afterwards._domain.uploads import REMEMBERED, Upload, UploadState
from afterwards._store import upload_commands as commands
from afterwards._store.contract import Stored
from afterwards._store.sqlite.sql import QUERIES

_digests = msgspec.json.Decoder(dict[str, str | None])

StoreFile = Callable[[apsw.Connection, Stored, int], None]


def upload_of(row: Iterable[Any]) -> Upload:
    """Turn a row of `upload.sql` into what it says."""
    values = dict(zip(Upload.__struct_fields__, row, strict=True))
    return Upload(
        **values
        | {
            "state": UploadState(values["state"]),
            "explicit": bool(values["explicit"]),
            "digests": _digests.decode(values["digests"]),
        }
    )


def handlers(store_file: StoreFile) -> dict[type, Callable[[apsw.Connection, Any], Any]]:
    """Return what carries out each command, inside the open transaction.

    Args:
        store_file: Inserts the row of a file.
    """

    def create(connection: apsw.Connection, command: commands.CreateUpload) -> None:
        _insert(connection, command.upload)
        if command.file is not None:
            store_file(connection, command.file, command.upload.created_at)

    def finish(connection: apsw.Connection, command: commands.FinishUpload) -> bool:
        row = {
            "id": command.id,
            "writer": command.writer,
            "offset": command.offset,
            "length": command.file.size,
            "now": command.now,
        }
        connection.execute(QUERIES["finish_upload"], row)
        if connection.changes() != 1:
            return False
        store_file(connection, command.file, command.now)
        return True

    def join(connection: apsw.Connection, command: commands.JoinUploads) -> bool:
        parts = set(command.parts)
        ids = msgspec.json.encode(sorted(parts)).decode()
        if connection.execute(QUERIES["count_joinable_uploads"], {"ids": ids}).get != len(parts):
            return False
        now = command.upload.created_at
        connection.execute(QUERIES["join_uploads"], {"ids": ids, "now": now, "until": now + REMEMBERED})
        _insert(connection, command.upload)
        store_file(connection, command.file, now)
        return True

    return {
        commands.CreateUpload: create,
        commands.FenceUpload: _fence,
        commands.AdvanceUpload: _advance,
        commands.FinishUpload: finish,
        commands.JoinUploads: join,
        commands.EndUpload: _end,
        commands.KeepFile: _keep,
        commands.ExpireUploads: _expire,
    }


def _insert(connection: apsw.Connection, upload: Upload) -> None:
    row = msgspec.structs.asdict(upload)
    del row["writer"]
    connection.execute(QUERIES["insert_upload"], row | {"digests": msgspec.json.encode(upload.digests).decode()})


def _fence(connection: apsw.Connection, command: commands.FenceUpload) -> bool:
    return connection.execute(QUERIES["fence_upload"], {"id": command.id}).get is not None


def _advance(connection: apsw.Connection, command: commands.AdvanceUpload) -> bool:
    connection.execute(
        QUERIES["advance_upload"],
        {
            "id": command.id,
            "writer": command.writer,
            "offset": command.offset,
            "boot": command.boot,
            "length": command.length,
            "now": command.now,
            "expires_at": command.expires_at,
        },
    )
    return connection.changes() == 1


def _end(connection: apsw.Connection, command: commands.EndUpload) -> bool | None:
    row = {"id": command.id, "state": command.state, "now": command.now, "until": command.now + REMEMBERED}
    if connection.execute(QUERIES["end_upload"], row).get is None:
        return None
    connection.execute(QUERIES["release_file"], {"id": command.id})
    if connection.changes() == 0:
        return True  # it was not finished
    return connection.execute(QUERIES["delete_unused_file"], {"id": command.id}).get is not None


def _keep(connection: apsw.Connection, command: commands.KeepFile) -> bool:
    return connection.execute(QUERIES["keep_file"], {"id": command.id, "until": command.until}).get is not None


def _expire(connection: apsw.Connection, command: commands.ExpireUploads) -> tuple[str, ...]:
    ids = connection.execute(QUERIES["expired_uploads"], {"now": command.now, "limit": command.limit}).get
    if ids != "[]":
        row = {"ids": ids, "now": command.now, "until": command.now + REMEMBERED}
        connection.execute(QUERIES["expire_uploads"], row)
    connection.execute(QUERIES["forget_uploads"], {"now": command.now, "limit": command.limit})
    return tuple(msgspec.json.decode(ids, type=list[str]))
