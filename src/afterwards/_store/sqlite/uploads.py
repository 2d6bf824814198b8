"""Uploads that come in several requests: their commands and reads as statements."""

from collections.abc import Callable, Iterable
from typing import Any

import apsw
import msgspec

from afterwards._domain.files import Verdict
from afterwards._domain.limits import Quota, Usage
from afterwards._domain.uploads import REMEMBERED, Upload, UploadState
from afterwards._store import upload_commands as commands
from afterwards._store.contract import Accept, Stored
from afterwards._store.sqlite.keys import keep_answer
from afterwards._store.sqlite.quotas import check_growth
from afterwards._store.sqlite.sql import QUERIES

_digests = msgspec.json.Decoder(dict[str, str | None])

StoreFile = Callable[[apsw.Connection, Stored, int], None]
StoreTasks = Callable[[apsw.Connection, Accept], None]


def upload_of(row: Iterable[Any]) -> Upload:
    """Turn a row of `upload.sql` into what it says."""
    values = dict(zip(Upload.__struct_fields__, row, strict=True))
    return Upload(
        **values
        | {
            "state": UploadState(values["state"]),
            "explicit": bool(values["explicit"]),
            "digests": _digests.decode(values["digests"]),
            "verdict": None if values["verdict"] is None else Verdict(values["verdict"]),
        }
    )


def handlers(store_file: StoreFile, store_tasks: StoreTasks) -> dict[type, Callable[[apsw.Connection, Any], Any]]:
    """Return what carries out each command, inside the open transaction.

    Args:
        store_file: Inserts the row of a file.
        store_tasks: Inserts the rows of tasks.
    """

    def keep_beside(connection: apsw.Connection, beside: commands.Beside) -> None:
        if beside.scan is not None:
            store_tasks(connection, beside.scan)
        if beside.key is not None:
            keep_answer(connection, beside.key)

    def create(connection: apsw.Connection, command: commands.CreateUpload) -> None:
        upload = command.upload
        _insert(connection, upload)
        if command.file is not None:
            store_file(connection, command.file, upload.created_at)
        _check_growth(connection, command.beside.quota, upload.owner, _counted(upload), files=1)
        keep_beside(connection, command.beside)

    def finish(connection: apsw.Connection, command: commands.FinishUpload) -> bool:
        row = {
            "id": command.id,
            "writer": command.writer,
            "offset": command.offset,
            "length": command.file.size,
            "now": command.now,
        }
        before = upload_in(connection, command.id)
        connection.execute(QUERIES["finish_upload"], row)
        if before is None or connection.changes() != 1:
            return False
        store_file(connection, command.file, command.now)
        _check_growth(connection, command.beside.quota, before.owner, command.file.size - _counted(before))
        keep_beside(connection, command.beside)
        return True

    def join(connection: apsw.Connection, command: commands.JoinUploads) -> bool:
        parts = set(command.parts)
        ids = msgspec.json.encode(sorted(parts)).decode()
        if connection.execute(QUERIES["count_joinable_uploads"], {"ids": ids}).get != len(parts):
            return False
        upload = command.upload
        now = upload.created_at
        before = [upload_in(connection, id) for id in parts]
        own = sum(_counted(part) for part in before if part is not None and part.owner == upload.owner)
        connection.execute(QUERIES["join_uploads"], {"ids": ids, "now": now, "until": now + REMEMBERED})
        _insert(connection, upload)
        store_file(connection, command.file, now)
        _check_growth(connection, command.beside.quota, upload.owner, command.file.size - own)
        keep_beside(connection, command.beside)
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


def upload_in(connection: apsw.Connection, id: str) -> Upload | None:
    """Return an upload as its row says."""
    rows = connection.execute(QUERIES["upload"], {"id": id}).fetchall()
    return upload_of(rows[0]) if rows else None


def abandon(connection: apsw.Connection, worker: str, now: int) -> None:
    """Let the uploads expire that nobody can name now that a worker has ended."""
    connection.execute(QUERIES["abandon_uploads"], {"worker": worker, "now": now})


def _counted(upload: Upload) -> int:
    """Return how many bytes an open upload counts with; the triggers of `usage` count the same."""
    return upload.offset if upload.length is None else upload.length


def _check_growth(
    connection: apsw.Connection, quota: Quota | None, owner: str | None, bytes: int, files: int = 0
) -> None:
    if quota is not None and (bytes > 0 or files > 0):
        check_growth(connection, quota, owner, Usage(bytes=bytes, files=files))


def _insert(connection: apsw.Connection, upload: Upload) -> None:
    row = msgspec.structs.asdict(upload)
    del row["writer"], row["verdict"], row["kept_until"]
    connection.execute(QUERIES["insert_upload"], row | {"digests": msgspec.json.encode(upload.digests).decode()})


def _fence(connection: apsw.Connection, command: commands.FenceUpload) -> bool:
    return connection.execute(QUERIES["fence_upload"], {"id": command.id}).get is not None


def _advance(connection: apsw.Connection, command: commands.AdvanceUpload) -> bool:
    before = upload_in(connection, command.id)
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
    if before is None or connection.changes() != 1:
        return False
    if before.length is None:
        length = command.offset if command.length is None else command.length
        _check_growth(connection, command.quota, before.owner, length - _counted(before))
    return True


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
