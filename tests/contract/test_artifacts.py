"""Files that an attempt made: stored with its success or not at all, and kept as long as any task has them."""

import pytest

from afterwards._domain.files import FILE_GRACE, FileKind, FileRole, Verdict
from afterwards._domain.ids import new_id
from afterwards._domain.tasks import TaskState
from afterwards.errors import LeaseLost, UnknownFile
from contract.hand import HOUR, NOW, new_file, new_task


def roles(hand, id):
    return [(file.id, file.role) for file in hand.task(id).files]


@pytest.mark.parametrize("content", [b"made", None], ids=["in the row", "on the disk"])
def test_files_are_stored_with_the_success_of_their_attempt(hand, content):
    [id] = hand.add(new_task())
    file = new_file(content, type="text/plain", owner="o")
    claim = hand.one()
    hand.now = NOW + HOUR

    hand.settle(claim, result='"done"', files=[file])

    assert (hand.state(id), roles(hand, id)) == (TaskState.SUCCEEDED, [(file.id, FileRole.OUTPUT)])
    stored = hand.store.file(file.id)
    assert (stored.kind, stored.content, stored.type, stored.owner) == (FileKind.ARTIFACT, content, "text/plain", "o")
    assert stored.kept_until == hand.now + FILE_GRACE


def test_files_of_a_settlement_that_is_refused_are_not_stored(hand):
    """Also when others of the same transaction are."""
    [id] = hand.add(new_task())
    claim = hand.one()
    file = new_file()
    hand.settle(claim, TaskState.FAILED)

    with pytest.raises(LeaseLost):
        hand.settle(claim, files=[file])

    assert hand.store.file(file.id) is None
    assert hand.task(id).files == []


def test_a_settlement_that_names_a_file_which_is_gone_stores_nothing(hand):
    [id] = hand.add(new_task())
    claim, file, gone = hand.one(), new_file(), new_id()

    with pytest.raises(UnknownFile) as refused:
        hand.settle(claim, files=[file], outputs=[file.id, gone])

    assert gone in str(refused.value)
    assert hand.state(id) is TaskState.RUNNING
    assert hand.store.file(file.id) is None
    hand.settle(claim, files=[file])
    assert roles(hand, id) == [(file.id, FileRole.OUTPUT)]


def test_a_settlement_offered_twice_has_one_set_of_files(hand):
    """As after a commit of which nobody knew whether it was there."""
    [id] = hand.add(new_task())
    claim, file = hand.one(), new_file()
    hand.settle(claim, files=[file])

    with pytest.raises(LeaseLost):
        hand.settle(claim, files=[file])

    assert roles(hand, id) == [(file.id, FileRole.OUTPUT)]


def test_a_task_takes_a_stored_file_and_may_return_it(hand):
    hand.add(new_task())
    file = new_file()
    hand.settle(hand.one(), files=[file])

    [id] = hand.add(new_task(files=[file.id, file.id]))
    assert roles(hand, id) == [(file.id, FileRole.INPUT)]
    hand.settle(hand.one(), outputs=[file.id])

    assert roles(hand, id) == [(file.id, FileRole.INPUT)]


def test_a_task_that_takes_a_file_which_is_gone_is_refused_with_all_of_its_request(hand):
    tasks = [new_task(), new_task(files=[new_id()])]

    with pytest.raises(UnknownFile):
        hand.add(*tasks)

    assert [hand.store.task(task.id) for task in tasks] == [None, None]
    assert hand.claim() == []


def test_one_refused_request_does_not_harm_the_others_of_its_transaction(hand):
    from afterwards._store.contract import Accept, ThreadReply

    good, bad = new_task(), new_task(files=[new_id()])
    replies = []
    for task in (good, bad, new_task()):
        replies.append(ThreadReply())
        hand.store.submit(Accept(tasks=[task]), replies[-1])

    assert replies[0].wait() is None
    with pytest.raises(UnknownFile):
        replies[1].wait()
    assert replies[2].wait() is None
    assert hand.store.task(bad.id) is None


def test_a_file_stays_as_long_as_one_task_has_it(hand):
    """The one that made it is pruned first."""
    hand.add(new_task())
    file = new_file()
    hand.settle(hand.one(), files=[file])
    hand.now = NOW + 10 * HOUR
    [second] = hand.add(new_task(files=[file.id]))
    hand.settle(hand.one())
    hand.add(new_task())  # the newest stays

    assert hand.prune(NOW + HOUR, now=NOW + 10 * HOUR).files == ()
    assert roles(hand, second) == [(file.id, FileRole.INPUT)]
    assert hand.prune(NOW + 20 * HOUR, now=NOW + 20 * HOUR).files == (file.id,)
    assert hand.store.file(file.id) is None


def test_run_again_a_task_has_the_files_of_its_last_success_only(hand):
    [id] = hand.add(new_task())
    first, second = new_file(), new_file()
    hand.settle(hand.one(), files=[first])

    hand.run_again(id)
    assert roles(hand, id) == []
    hand.settle(hand.one(), files=[second])

    assert roles(hand, id) == [(second.id, FileRole.OUTPUT)]
    assert hand.prune(0, now=NOW + 2 * HOUR).files == (first.id,)


def test_a_task_that_has_not_ended_keeps_its_files_when_it_is_told_to_run_again(hand):
    hand.add(new_task())
    file = new_file()
    hand.settle(hand.one(), files=[file])
    [id] = hand.add(new_task(files=[file.id]))

    hand.run_again(id)

    assert roles(hand, id) == [(file.id, FileRole.INPUT)]


def test_what_a_scanner_said_is_told_of_those_that_have_a_row(hand):
    hand.add(new_task())
    files = [new_file(verdict=verdict) for verdict in (None, *Verdict)]
    hand.settle(hand.one(), files=files)

    found = hand.store.verdicts([*(file.id for file in files), new_id()])

    assert found == {file.id: file.verdict for file in files}
