"""`kill -9` of a server, at any moment and at the worst ones: nothing that was accepted is lost, and nothing waits."""

import http.client
import statistics

import pytest

from afterwards._domain.tasks import AttemptState, TaskState
from crash.harness import Harness


def kill_many_times(harness: Harness, rounds: int, record_property) -> None:
    for _ in range(rounds):
        harness.kill_under_load()
    last = harness.start()

    verdict = harness.judge()

    assert verdict.accepted > rounds
    assert not verdict.broken, verdict
    waits = harness.moving_again()
    assert waits, "no kill has hit a running task: not a test"
    assert max(waits) < 15  # the promise is 2; a busy machine must not fail the test
    harness.stop(last)
    harness.data.close()
    assert harness.integrity() == "ok"
    record_property("accepted", verdict.accepted)
    record_property("repeated", verdict.repeats)
    record_property("moving again after", f"median {statistics.median(waits):.3f} s, longest {max(waits):.3f} s")
    print(
        f"{rounds} kills: {verdict.accepted} accepted, 0 lost, 0 stuck, {verdict.repeats} begun again; moving again "
        f"after {statistics.median(waits):.3f} s (median), {max(waits):.3f} s (longest)"
    )


def test_killed_at_random_moments_under_load_a_server_loses_nothing(harness: Harness, record_property):
    kill_many_times(harness, 12, record_property)


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_killed_two_hundred_times_a_server_loses_nothing(harness: Harness, record_property):
    kill_many_times(harness, 200, record_property)


@pytest.mark.parametrize(
    "point",
    [
        "before the bytes are synced",
        "between sync and rename",
        "between rename and commit",
        "just before the commit",
    ],
)
def test_an_upload_cut_off_before_its_commit_never_was(harness: Harness, point):
    """No answer, no task: never half of either. What lies on the disk has no row, and is swept."""
    server = harness.start(CRASH_POINT=point)
    with pytest.raises((OSError, http.client.HTTPException)):
        harness.request(server.port, "upload", b"x" * 400_000)
    assert server.end() == -9

    again = harness.start()
    key, _ = harness.request(again.port, "upload", b"y" * 400_000)
    verdict = harness.judge()

    assert not verdict.broken, verdict
    assert [row.state for row in harness.data.rows()] == [TaskState.SUCCEEDED]
    assert [line[1] for line in harness.lines("start")] == [key]
    harness.stop(again)
    harness.data.close()
    assert harness.integrity() == "ok"


def test_a_kill_between_commit_and_answer_leaves_a_task_that_runs(harness: Harness):
    """The client does not know. The disk does: it is there, whole, and it runs, once."""
    server = harness.start(CRASH_POINT="between commit and answer")
    with pytest.raises((OSError, http.client.HTTPException)):
        harness.request(server.port, "upload", b"z" * 400_000)
    assert server.end() == -9
    assert harness.lines("start") == []

    harness.start()
    verdict = harness.judge()

    [row] = harness.data.rows()
    assert row.state is TaskState.SUCCEEDED
    assert len(harness.lines("start")) == len(harness.lines("end")) == 1
    assert not verdict.broken, verdict
    states = [attempt.state for attempt in harness.data.reads.attempts(row.id)]
    assert states == [AttemptState.INTERRUPTED, AttemptState.SUCCEEDED]


def test_of_two_servers_the_other_takes_over(harness: Harness, tmp_path):
    """Nobody restarts anything: it sees that the lock is free."""
    one, two = harness.start(), harness.start()
    gate = tmp_path / "gate"
    _, id = harness.request(one.port, "hold", gate=gate)
    harness.wait(lambda: harness.lines("start"))
    assert harness.lines("start")[0][2] == str(one.process.pid)

    one.kill()
    harness.wait(lambda: len(harness.lines("start")) == 2)
    gate.touch()
    verdict = harness.judge()

    assert not verdict.broken, verdict
    assert harness.lines("start")[1][2] == str(two.process.pid)
    assert [one.state for one in harness.data.reads.attempts(id)] == [AttemptState.INTERRUPTED, AttemptState.SUCCEEDED]


def test_a_task_that_kills_its_server_is_quarantined_after_three_interruptions_and_the_others_finish(
    harness: Harness,
):
    """Otherwise one bad upload takes the service down for ever."""
    server = harness.start()
    for _ in range(20):
        harness.request(server.port, "plain", pause=0)
    try:
        _, id = harness.request(server.port, "poison")
    except (OSError, http.client.HTTPException):  # it died of it before its answer had left
        id = next(row.id for row in harness.data.rows() if row.name.endswith(":poison"))
    harness.promises = {key: promise for key, promise in harness.promises.items() if not key.startswith("poison")}
    for _ in range(2):
        assert server.end() == 9
        server = harness.start()
    assert server.end() == 9
    last = harness.start()
    for _ in range(20):
        harness.request(last.port, "coroutine", pause=0)

    verdict = harness.judge()

    assert not verdict.broken, verdict
    row = harness.data.reads.task(id)
    assert row is not None
    assert (row.state, row.interruptions) == (TaskState.QUARANTINED, 3)
    assert [one.state for one in harness.data.reads.attempts(id)] == [AttemptState.INTERRUPTED] * 3
    assert len([line for line in harness.lines("start") if line[1].startswith("poison")]) == 3
    assert last.process.poll() is None


def test_told_to_stop_a_server_gives_back_what_it_cannot_finish(harness: Harness, tmp_path):
    """A deployment: released and not interrupted, however often it happens."""
    gate = tmp_path / "gate"
    server = harness.start(CRASH_DRAIN="0")
    _, id = harness.request(server.port, "hold", gate=gate)
    harness.wait(lambda: harness.lines("start"))
    server.stop()
    again = harness.start(CRASH_DRAIN="10")
    harness.wait(lambda: len(harness.lines("start")) == 2)

    gate.touch()
    verdict = harness.judge()

    assert not verdict.broken, verdict
    assert [one.state for one in harness.data.reads.attempts(id)] == [AttemptState.RELEASED, AttemptState.SUCCEEDED]
    harness.stop(again)
