"""Promises of room: together they never exceed what may be stored, and all of them end."""

import threading
from pathlib import Path

import pytest

from afterwards._domain.limits import NOTHING, Quota, Usage
from afterwards._engine.ledger import TOTAL, Holding, Ledger
from afterwards._files.room import DiskRoom
from afterwards.errors import QuotaExceeded, StorageFull, UploadsUnderWay

ROOM = DiskRoom(bytes_free=10_000, bytes_all=100_000, files_free=500, files_all=1_000)


class Stored:
    """What a store says is stored."""

    def __init__(self) -> None:
        self.amounts: dict[str, Usage] = {}
        self.asked = 0

    def add(self, bytes: int, *owners: str) -> None:
        for owner in (TOTAL, *owners):
            had = self.amounts.get(owner, NOTHING)
            self.amounts = {**self.amounts, owner: Usage(bytes=had.bytes + bytes, files=had.files + 1)}

    def __call__(self, owners):
        self.asked += 1
        return {owner: self.amounts[owner] for owner in owners if owner in self.amounts}


def ledger(quota: Quota | None = None, *, reserve: int = 0, stored=None, room: DiskRoom = ROOM) -> Ledger:
    return Ledger(
        Path("/data"), quota=quota or Quota(), reserve=reserve, stored=stored or Stored(), room=lambda _: room
    )


def test_what_one_upload_is_promised_no_other_is():
    book = ledger(Quota(max_total=100))
    first, second = Holding(None), Holding(None)
    book.take(first, 60, 1)

    with pytest.raises(UploadsUnderWay, match="need the room"):
        book.take(second, 41, 1)
    book.let_go(first)
    book.take(second, 41, 1)

    assert book.promised == Usage(bytes=41, files=1)


def test_what_is_stored_leaves_no_room_that_waiting_would_bring():
    stored = Stored()
    stored.add(60, "ann")
    book = ledger(Quota(max_owner=100), stored=stored)

    with pytest.raises(QuotaExceeded, match="60 bytes of yours"):
        book.take(Holding("ann"), 41)
    book.take(Holding("ann"), 40)
    book.take(Holding("bob"), 100)


def test_what_an_upload_was_promised_itself_is_no_other_upload():
    """One that grows beyond its limit is too large; waiting would not help it."""
    book = ledger(Quota(max_total=100))
    holding = Holding(None)
    book.take(holding, 60, 1)

    with pytest.raises(QuotaExceeded, match="needs 101"):
        book.take(holding, 41)
    book.take(holding, 40)

    assert book.promised == Usage(bytes=100, files=1)


def test_without_a_quota_the_store_is_not_asked():
    """Every upload would pay for limits that nobody has set."""
    stored = Stored()
    book = ledger(stored=stored)

    book.take(Holding("ann"), 1000)

    assert stored.asked == 0


def test_the_reserve_counts_what_was_promised_and_is_not_written_yet():
    """A disk does not look fuller for what is only on its way."""
    book = ledger(reserve=4_000)
    first = Holding(None)
    book.take(first, 5_000)

    with pytest.raises(StorageFull, match="5,000 are promised"):
        book.take(Holding(None), 1_001)
    book.wrote(first, 5_000)  # and the disk, which shows it itself, still has 10,000
    book.take(Holding(None), 6_000)


def test_inodes_have_a_reserve_too():
    full = DiskRoom(bytes_free=10_000, bytes_all=10_000, files_free=50, files_all=1_000)
    book = ledger(room=full)

    with pytest.raises(StorageFull, match="50 more files"):
        book.take(Holding(None), 1, 1)


def test_what_was_promised_in_vain_is_free_again():
    """A form of a million bytes may have one file of ten."""
    book = ledger(Quota(max_total=100))
    holding = Holding("ann")
    book.take(holding, 100, 1)
    book.wrote(holding, 10)

    book.keep_only(holding, 10)

    assert (book.promised, holding.bytes) == (Usage(bytes=10, files=1), 10)
    book.let_go(holding)
    book.let_go(holding)
    assert book.promised == NOTHING
    assert book._promised == {}
    assert book._unwritten == 0


def test_threads_together_never_get_more_than_there_is():
    """Each stores what it was promised before it lets go, as requests do."""
    stored = Stored()
    book = ledger(Quota(max_owner=1_000, max_total=1_500), stored=stored)
    storing = threading.Lock()
    begin = threading.Barrier(8)
    most = []

    def upload(owner: str) -> None:
        begin.wait()
        for _ in range(100):
            holding = Holding(owner)
            try:
                book.take(holding, 7, 1)
            except (QuotaExceeded, UploadsUnderWay):
                continue
            with storing:
                stored.add(7, owner)
                most.append(stored.amounts[TOTAL].bytes)
            book.let_go(holding)

    threads = [threading.Thread(target=upload, args=(owner,)) for owner in ["ann"] * 4 + ["bob"] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert max(most) <= 1_500
    assert stored.amounts["ann"].bytes <= 1_000
    assert stored.amounts["bob"].bytes <= 1_000
    assert stored.amounts[TOTAL].bytes > 1_500 - 7  # and what there was has been used
    assert book.promised == NOTHING
