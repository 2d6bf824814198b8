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
    for owner, own in asked.items():
        check_growth(connection, quota, owner, everything if owner is None else own)


def check_growth(connection: apsw.Connection, quota: Quota, owner: str | None, more: Usage) -> None:
    """See that what is counted of an owner, and altogether, keeps to a quota now that so much more has been added.

    Raises:
        QuotaExceeded: It does not; the transaction must be rolled back.
    """
    names = [""] if owner is None else ["", owner]
    rows = connection.execute(QUERIES["usage"], {"owners": msgspec.json.encode(names).decode()})
    stored = {name: Usage(bytes=bytes, files=files) for name, bytes, files in rows}
    answer = ask_quota(
        quota,
        more,
        total=_without(stored.get("", NOTHING), more),
        owner=None if owner is None else _without(stored.get(owner, NOTHING), more),
    )
    if answer.room is not Room.FITS:
        raise refusal(answer, more)


def _without(stored: Usage, asked: Usage) -> Usage:
    return Usage(bytes=stored.bytes - asked.bytes, files=stored.files - asked.files)
