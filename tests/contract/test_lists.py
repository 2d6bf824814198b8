"""Lists, counts, files and pruning: what people look at, and what is forgotten."""

from itertools import count

import pytest

from afterwards._domain.files import FILE_GRACE, FileKind, Verdict
from afterwards._domain.tasks import TaskState
from afterwards._store.contract import Filter
from contract.hand import HOUR, NOW, Hand, chain, new_task


class File:
    """A stored file as the upload code hands it over."""

    numbers = count()

    def __init__(self, content: bytes | None = None, size: int = 0) -> None:
        self.id = f"file{next(self.numbers)}"
        self.name = "naïve ../name.txt"
        self.size = size if content is None else len(content)
        self.content_type = "text/plain"
        self.kind, self.type, self.owner = FileKind.INPUT, "text/html", "me"
        self.kept_until, self.verdict = None, Verdict.CLEAN
        self.headers = (("content-type", "text/plain"), ("x", "ü"))
        self.digest = "d" * 64
        self.content = content


def one_of_each(hand: Hand) -> dict[str, str]:
    """A task in every state a store can bring it to, by state."""
    found = {}
    [found["succeeded"]] = hand.add(new_task())
    hand.settle(hand.one())
    failed, cancelled = hand.add(*chain({"on_error": "stop"}, {}, queue="mail"))
    hand.settle(hand.one(), TaskState.FAILED)
    found |= {"failed": failed, "cancelled": cancelled}
    [found["quarantined"]] = hand.add(new_task(max_interruptions=0))
    hand.one()
    hand.rescue()
    hand.register()
    [found["retrying"]] = hand.add(new_task(max_attempts=2))
    hand.settle(hand.one(), TaskState.RETRYING, run_at=NOW + HOUR)
    [found["running"]] = hand.add(new_task())
    hand.one()
    [found["scheduled"]] = hand.add(new_task(state=TaskState.SCHEDULED, run_at=NOW + HOUR))
    [found["waiting"]] = hand.add(new_task(state=TaskState.WAITING, worker="w1"))
    [found["queued"]] = hand.add(new_task(name="g", queue="mail"))
    return found


def test_tasks_are_listed_and_counted_by_each_state(store, hand):
    """What a dashboard shows is what is there, in every state."""
    found = one_of_each(hand)

    for state, id in found.items():
        assert [row.id for row in store.tasks(Filter(state=TaskState(state)))] == [id]
    assert store.tasks(Filter(state=TaskState.EXPIRED)) == []
    assert store.counts() == dict.fromkeys(found, 1)


def test_an_empty_store_lists_and_counts_nothing(store):
    assert store.tasks(Filter()) == []
    assert store.counts() == {}
    assert store.next_due() is None
    assert store.functions() == []


def test_filters_narrow_together(store, hand):
    found = one_of_each(hand)

    def listed(**wanted):
        return {row.id for row in store.tasks(Filter(**wanted))}

    assert listed(queue="mail") == {found["failed"], found["cancelled"], found["queued"]}
    assert listed(name="g") == {found["queued"]}
    assert listed(queue="mail", name="f") == {found["failed"], found["cancelled"]}
    assert listed(queue="mail", name="g", state=TaskState.QUEUED) == {found["queued"]}
    assert listed(queue="mail", state=TaskState.CANCELLED) == {found["cancelled"]}
    assert listed(queue="default", state=TaskState.QUEUED) == set()
    assert listed() == set(found.values())


@pytest.mark.parametrize("state", [None, "queued", "succeeded", "failed"])
def test_pages_go_from_the_newest_to_the_oldest_without_gap_or_repeat(store, hand, state):
    """A task that ends or arrives between two pages must not shift the next one."""
    ids = []
    for place in range(25):
        [id] = hand.add(new_task())
        if state in ("succeeded", "failed"):
            hand.settle(hand.one(), TaskState(state))
        ids.append(id)
        if place % 3 == 0:
            hand.add(new_task(name="other", queue="other", state=TaskState.SCHEDULED, run_at=NOW + HOUR))
    narrow = {"queue": "default"} if state is None else {"state": TaskState(state)}

    pages, before = [], None
    while page := store.tasks(Filter(before=before, limit=10, **narrow)):
        pages.append([row.id for row in page])
        before = pages[-1][-1]
        hand.add(new_task(name="newer"))

    assert [len(page) for page in pages] == [10, 10, 5]
    assert [id for page in pages for id in page] == ids[::-1]


def test_a_page_before_an_unknown_task_starts_at_the_newest(store, hand):
    """The task a page ended with may have been pruned since."""
    [id] = hand.add(new_task())

    assert [row.id for row in store.tasks(Filter(before="gone"))] == [id]


def test_files_are_linked_and_read_back_with_their_content(store, hand):
    """Small files live in the row, large ones beside the database; both are found through the task."""
    small, empty, large = File(b"\x00bytes\xff"), File(b""), File(size=5_000_000)
    task = new_task(files=(small.id, large.id, small.id, empty.id))

    hand.add(task, files=(small, empty, large))

    for file in (small, empty, large):
        row = store.file(file.id)
        assert row is not None
        for field in ("id", "name", "size", "content_type", "digest", "content", "kind", "type", "owner", "verdict"):
            assert getattr(row, field) == getattr(file, field)
        assert [tuple(header) for header in row.headers] == list(file.headers)
    shown = hand.task(task.id).files
    assert sorted((file.id, file.size, file.digest) for file in shown) == sorted(
        (file.id, file.size, file.digest) for file in (small, empty, large)
    )
    assert store.known_files([small.id, large.id, "nobody"]) == {small.id, large.id}
    assert store.file("nobody") is None


def test_one_file_can_belong_to_several_tasks(store, hand):
    file = File(b"shared")
    first, second = new_task(files=(file.id,)), new_task(files=(file.id,))

    hand.add(first, second, files=(file,))
    [third] = hand.add(new_task(files=(file.id,)), files=(file,))

    assert [hand.task(id).files[0].id for id in (first.id, second.id, third)] == [file.id] * 3


def test_pruning_forgets_old_final_tasks_with_all_that_hangs_on_them(store, hand):
    """Attempts, events and files go with their task; nothing else does."""
    file, kept = File(b"old"), File(b"kept")
    old = new_task(files=(file.id, kept.id))
    hand.add(old, files=(file, kept))
    hand.settle(hand.one())
    hand.now += 10
    [young] = hand.add(new_task(files=(kept.id,)))
    hand.settle(hand.one())
    [open_] = hand.add(new_task(name="g"))

    pruned = hand.prune(before=hand.now, now=hand.now + FILE_GRACE + 1)

    assert (pruned.tasks, pruned.files) == (1, (file.id,))
    assert hand.picture(old.id) == (None, [], [])
    assert store.known_files([file.id, kept.id]) == {kept.id}
    assert {row.id for row in store.tasks(Filter())} == {young, open_}
    assert all(event.task != old.id for event in store.events(0))


def test_pruning_keeps_young_files_nobody_has_taken_yet(store, hand):
    """An upload may be finished before the request that hands it to a task arrives."""
    file = File(b"uploaded")
    hand.add(new_task(), files=(file,))

    assert hand.prune(before=0, now=NOW + FILE_GRACE).files == ()
    assert store.known_files([file.id]) == {file.id}
    assert hand.prune(before=0, now=NOW + FILE_GRACE + 1).files == (file.id,)
    assert store.file(file.id) is None


def test_pruning_works_oldest_first_up_to_its_limit_and_keeps_the_newest(store, hand):
    """Each round is one short transaction; the newest task stays, so that its number is not given again."""
    ids = []
    for _ in range(6):
        ids += hand.add(new_task())
        hand.settle(hand.one())
        hand.now += 1

    assert hand.prune(before=hand.now, limit=2).tasks == 2
    assert [store.task(id) is None for id in ids] == [True, True, False, False, False, False]
    assert hand.prune(before=hand.now, limit=100).tasks == 3
    assert hand.prune(before=hand.now, limit=100).tasks == 0

    assert [row.id for row in store.tasks(Filter())] == ids[-1:]
