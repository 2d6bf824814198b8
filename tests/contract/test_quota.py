"""How much is stored is counted with the files, and a quota is decided by the transaction that stores them."""

import threading

import pytest

from afterwards._domain.files import Verdict
from afterwards._domain.ids import new_id
from afterwards._domain.limits import Quota, Usage
from afterwards._files.stored import StoredFile
from afterwards._store.contract import Accept
from afterwards._store.upkeep import Judge
from afterwards.errors import QuotaExceeded
from contract.hand import HOUR, Hand, new_task


def stored(size: int, owner: str | None = None, **values) -> StoredFile:
    given = {"name": "x", "content_type": None, "headers": (), "digest": "blake3:0", "content": b"x" * size}
    return StoredFile(id=new_id(), size=size, owner=owner, **{**given, **values})


def accept(hand: Hand, *files: StoredFile, quota: Quota | None = None) -> None:
    task = new_task(files=[file.id for file in files])
    hand.ask(Accept(tasks=[task], files=files, quota=quota))


def test_what_is_stored_is_counted_for_its_owner_and_altogether(store, hand):
    accept(hand, stored(10, "ann"), stored(20, "bob"), stored(5))
    accept(hand, stored(1, "ann"))

    assert store.stored(["", "ann", "bob", "eve"]) == {
        "": Usage(bytes=36, files=4),
        "ann": Usage(bytes=11, files=2),
        "bob": Usage(bytes=20, files=1),
    }


def test_what_is_deleted_counts_no_more(store, hand):
    accept(hand, stored(10, "ann"), stored(5))
    hand.settle(hand.one())
    hand.add(new_task())  # the newest is never pruned

    pruned = hand.prune(hand.now + HOUR, hand.now + 2 * HOUR)

    assert len(pruned.files) == 2
    assert store.stored(["", "ann"]) == {"": Usage()}


def test_a_file_of_two_tasks_counts_once(store, hand):
    file = stored(10, "ann")

    accept(hand, file)
    accept(hand, file)

    assert store.stored(["ann"]) == {"ann": Usage(bytes=10, files=1)}


@pytest.mark.parametrize(
    ("quota", "setting"),
    [
        (Quota(max_owner=29), "max_owner"),
        (Quota(max_total=34), "max_total"),
        (Quota(max_owner_files=2), "max_owner_files"),
        (Quota(max_total_files=3), "max_total_files"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_tasks(store, hand, quota, setting):
    """Another process may have used up the room that this one had promised."""
    accept(hand, stored(10, "ann"), stored(5, "bob"))

    with pytest.raises(QuotaExceeded, match=setting):
        accept(hand, stored(10, "ann"), stored(10, "ann"), quota=quota)

    assert store.stored(["", "ann"]) == {"": Usage(bytes=15, files=2), "ann": Usage(bytes=10, files=1)}
    assert store.counts() == {"queued": 1}


def test_what_just_fits_is_stored(store, hand):
    quota = Quota(max_owner=30, max_total=35, max_owner_files=3, max_total_files=4)
    accept(hand, stored(10, "ann"), stored(5, "bob"))

    accept(hand, stored(10, "ann"), stored(10, "ann"), quota=quota)

    assert store.stored(["ann"]) == {"ann": Usage(bytes=30, files=3)}


def test_of_those_that_come_together_as_many_are_stored_as_fit(open_store):
    """Each is refused or stored by itself, also when all of them are in one transaction, or in two processes."""
    stores = [open_store(), open_store()]
    hands = [Hand(store, f"w{number}") for number, store in enumerate(stores)]
    for hand in hands:
        hand.register()
    begin, outcomes = threading.Barrier(8), []

    def upload(hand: Hand) -> None:
        begin.wait()
        for _ in range(5):
            try:
                accept(hand, stored(10, "ann"), quota=Quota(max_owner=100))
                outcomes.append("stored")
            except QuotaExceeded:
                outcomes.append("refused")

    threads = [threading.Thread(target=upload, args=(hands[place % 2],)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert (outcomes.count("stored"), outcomes.count("refused")) == (10, 30)
    assert stores[0].stored(["ann"]) == {"ann": Usage(bytes=100, files=10)}


def test_a_verdict_is_kept_with_what_was_found(store, hand):
    file = stored(10, verdict=Verdict.HELD)
    accept(hand, file)

    assert hand.ask(Judge(file=file.id, verdict=Verdict.CLEAN)) is Verdict.CLEAN
    assert (store.file(file.id).verdict, store.finding(file.id)) == (Verdict.CLEAN, None)
    assert hand.ask(Judge(file=new_id(), verdict=Verdict.CLEAN)) is None


def test_what_was_found_once_is_not_taken_back(store, hand):
    """Two scans of one file may end in any order."""
    file = stored(10, verdict=Verdict.HELD)
    accept(hand, file)
    hand.ask(Judge(file=file.id, verdict=Verdict.INFECTED, finding="EICAR"))

    assert hand.ask(Judge(file=file.id, verdict=Verdict.CLEAN)) is Verdict.INFECTED
    assert (store.file(file.id).verdict, store.finding(file.id)) == (Verdict.INFECTED, "EICAR")
