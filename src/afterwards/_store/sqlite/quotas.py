"""Decides inside the transaction that stores files whether they fit beside what every process has stored."""

from collections.abc import Sequence

import apsw
import msgspec

from afterwards._domain.limits import NOTHING, Quota, Room, Usage, ask_quota, refusal
from afterwards._store import contract
from afterwards._store.sqlite.sql import QUERIES


def check_quota(connection: apsw.Connection, quota: Quota, files: Sequence[contract.Stored]) -> None:
    """See that the files of one command, which have been inserted, keep to a quota.

    Raises:
        QuotaExceeded: They do not; the transaction must be rolled back.
    """
    asked: dict[str | None, Usage] = {}
    for file in files:
        had = asked.get(file.owner, NOTHING)
        asked[file.owner] = Usage(bytes=had.bytes + file.size, files=had.files + 1)
    everything = Usage(bytes=sum(one.bytes for one in asked.values()), files=len(files))
    names = ["", *(owner for owner in asked if owner is not None)]
    rows = connection.execute(QUERIES["usage"], {"owners": msgspec.json.encode(names).decode()})
    stored = {owner: Usage(bytes=bytes, files=files) for owner, bytes, files in rows}
    for owner, own in asked.items():
        needed = everything if owner is None else own
        answer = ask_quota(
            quota,
            needed,
            total=_without(stored.get("", NOTHING), needed),
            owner=None if owner is None else _without(stored.get(owner, NOTHING), own),
        )
        if answer.room is not Room.FITS:
            raise refusal(answer, needed)


def _without(stored: Usage, asked: Usage) -> Usage:
    return Usage(bytes=stored.bytes - asked.bytes, files=stored.files - asked.files)
