"""Promises room to uploads before they are read, so that together they never exceed what may be stored.

Within one process no two uploads are promised the same bytes: each decision counts what is stored and what others have
been promised. Other processes of the same data directory are seen once their files are stored; what they and we
promised at the same time is decided again by the transaction that stores it (`Accept.quota`). The room on the disk is
looked at each time, so what is freed can be used at once.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from afterwards._domain.limits import (
    NOTHING,
    RESERVED_FILES,
    Answer,
    Quota,
    Room,
    Usage,
    ask_disk,
    ask_quota,
    default_reserve,
    refusal,
)
from afterwards._files.room import DiskRoom, look
from afterwards.errors import DiskTooSmall, StorageFull

TOTAL = ""  # stands for everybody where owners are named
_LOOKS = 3  # at what is stored, while other uploads end in between


class Holding:
    """What one upload has been promised."""

    __slots__ = ("bytes", "files", "is_counted", "owner", "written")

    def __init__(self, owner: str | None, *, is_counted: bool = False) -> None:
        self.owner = owner
        self.is_counted = is_counted  # by what is stored already: only room on the disk is promised
        self.bytes = 0
        self.files = 0
        self.written = 0  # of the bytes: no longer free on the disk either


class Ledger:
    """The promises of one process. Safe from any thread."""

    def __init__(
        self,
        root: Path,
        *,
        quota: Quota,
        reserve: int | None,
        stored: Callable[[Sequence[str]], Mapping[str, Usage]],
        room: Callable[[Path], DiskRoom] = look,
    ) -> None:
        """Begin with no promises.

        Args:
            root: The data directory.
            quota: What may be stored.
            reserve: Bytes that uploads leave free on the disk; None: see `default_reserve`.
            stored: Returns what is stored of owners, everybody being `TOTAL`. May block for a moment.
            room: Looks at the disk.
        """
        self._root = root
        self.quota = quota
        self._reserve = reserve
        self._stored = stored
        self._room = room
        self._deciding = threading.Lock()  # one decision at a time
        self._counting = threading.Lock()  # for a moment only, so that letting go never waits for a decision
        self._promised: dict[str, Usage] = {}
        self._unwritten = 0
        self._changes = 0  # how often something was let go

    def take(self, holding: Holding, bytes: int, files: int = 0) -> None:
        """Promise an upload so much more. May block for a moment where there is a quota.

        Raises:
            QuotaExceeded: It does not fit beside what is stored.
            UploadsUnderWay: It would, but for what others have been promised.
            StorageFull: The disk's reserve would be touched; or (DiskTooSmall) it could never hold that.
        """
        with self._deciding:
            self._ask_disk(bytes, files)
            if self.quota.asks and not holding.is_counted:
                self._ask_quota(holding, Usage(bytes=bytes, files=files))
            self._add(holding, bytes, files)

    def check_disk(self) -> None:
        """See that the reserve is still free, whoever else writes to the disk.

        Raises:
            StorageFull: It is not.
        """
        self._ask_disk(0, 0, under_way=0)

    def room_for(self, holding: Holding) -> int | None:
        """Return how many bytes more an upload could be promised by its quota now; None: no quota is in the way."""
        names = self._names(holding)
        with self._counting:
            promised = dict(self._promised)
        stored = self._stored(names)
        limits = {TOTAL: self.quota.max_total}
        if holding.owner is not None:
            limits[holding.owner] = self.quota.max_owner
        left = [
            limit - stored.get(name, NOTHING).bytes - promised.get(name, NOTHING).bytes
            for name, limit in limits.items()
            if limit is not None
        ]
        return max(0, min(left)) if left else None

    def wrote(self, holding: Holding, bytes: int) -> None:
        """Note that so many of the promised bytes are on the disk now."""
        with self._counting:
            counted = min(bytes, holding.bytes - holding.written)
            holding.written += counted
            self._unwritten -= counted

    def keep_only(self, holding: Holding, bytes: int) -> None:
        """Take back what of a promise is not needed: no more than so many bytes will be stored."""
        if bytes < holding.bytes:
            self._add(holding, bytes - holding.bytes, 0)

    def let_go(self, holding: Holding) -> None:
        """End a promise: what it was for is stored, or will not be. Again is no harm."""
        if holding.bytes or holding.files:
            self._add(holding, -holding.bytes, -holding.files)

    @property
    def promised(self) -> Usage:
        """What all uploads together have been promised."""
        return self._promised.get(TOTAL, NOTHING)

    def _names(self, holding: Holding) -> list[str]:
        if holding.is_counted:
            return []
        return [TOTAL] if holding.owner is None else [TOTAL, holding.owner]

    def _add(self, holding: Holding, bytes: int, files: int) -> None:
        with self._counting:
            before = holding.bytes - holding.written
            holding.bytes += bytes
            holding.files += files
            holding.written = min(holding.written, holding.bytes)
            self._unwritten += holding.bytes - holding.written - before
            for name in self._names(holding):
                had = self._promised.get(name, NOTHING)
                now = Usage(bytes=had.bytes + bytes, files=had.files + files)
                if now == NOTHING:
                    self._promised.pop(name, None)
                else:
                    self._promised[name] = now
            if bytes < 0 or files < 0:
                self._changes += 1

    def _ask_quota(self, holding: Holding, more: Usage) -> None:
        asked = Usage(bytes=holding.bytes + more.bytes, files=holding.files + more.files)
        answer = Answer(room=Room.FITS)
        for _ in range(_LOOKS):
            with self._counting:
                changes = self._changes
                others = {name: _less(self._promised.get(name, NOTHING), holding) for name in self._names(holding)}
            # Read after the promises: what is stored in between counts twice, and never not at all.
            stored = self._stored(self._names(holding))
            owner = holding.owner
            answer = ask_quota(
                self.quota,
                asked,
                total=stored.get(TOTAL, NOTHING),
                total_under_way=others[TOTAL],
                owner=None if owner is None else stored.get(owner, NOTHING),
                owner_under_way=NOTHING if owner is None else others[owner],
            )
            if answer.room is not Room.BUSY or changes == self._changes:
                break
        if answer.room is not Room.FITS:
            raise refusal(answer, asked)

    def _ask_disk(self, bytes: int, files: int, under_way: int | None = None) -> None:
        room = self._room(self._root)
        reserve = default_reserve(room.bytes_all) if self._reserve is None else self._reserve
        waiting = self._unwritten if under_way is None else under_way
        said = ask_disk(free=room.bytes_free, reserve=reserve, under_way=waiting, asked=bytes)
        if bytes > room.bytes_all:
            raise DiskTooSmall(asked=bytes, size=room.bytes_all)
        if said is not Room.FITS:
            raise StorageFull(
                f"{room.bytes_free:,} bytes are free on the disk of {self._root}, of which {reserve:,} are kept for "
                f"tasks and {waiting:,} are promised to other uploads, so {bytes:,} more cannot be taken. Make "
                "room there, or send it again later."
            )
        if room.files_free is not None:
            reserved = default_reserve(room.files_all, RESERVED_FILES)
            if ask_disk(free=room.files_free, reserve=reserved, under_way=0, asked=files) is not Room.FITS:
                raise StorageFull(
                    f"the disk of {self._root} can hold {room.files_free:,} more files, of which {reserved:,} are kept "
                    "for tasks. Remove files there, or send it again later."
                )


def _less(promised: Usage, holding: Holding) -> Usage:
    return Usage(bytes=promised.bytes - holding.bytes, files=promised.files - holding.files)
