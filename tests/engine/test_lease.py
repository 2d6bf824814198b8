"""Who is dead, who stands still, and what becomes of what they held."""

import asyncio
import logging
from pathlib import Path

import apsw
import pytest

from afterwards._domain.ids import new_id
from afterwards._domain.tasks import AttemptState, TaskState, WorkerInfo
from afterwards._engine.clock import boot_id
from afterwards._engine.renewer import LEASE, ROUND, Renewer
from afterwards._engine.rescuer import DOUBT, GRACE, Rescuer
from afterwards._files.presence import Presence
from afterwards._store.contract import ClaimTasks, Register, Renew, Rescue, Stopping, ask_blocking
from engine import jobs
from engine.rig import Rig, rig

LONG = LEASE + GRACE / 1000 + 1  # seconds after which a lease has ended beyond doubt


def another(hands: Rig, *, boot: str | None = None, present: bool) -> WorkerInfo:
    """A worker of another process, as far as the store can tell; its lock is ours to give."""
    info = WorkerInfo(
        id=new_id(),
        host="here",
        pid=4242,
        boot=boot or boot_id(),
        started_at=hands.clock.now(),
        lease_until=hands.clock.boot() + int(LEASE * 1000),
    )
    if present:  # held by this process, which never takes its own for dead
        presences.append(Presence(hands.root, info.id))
    ask_blocking(hands.store, Register(info))
    return info


presences: list[Presence] = []


@pytest.fixture(autouse=True)
def _sign_off():
    yield
    while presences:
        presences.pop().close()


def claim_for(hands: Rig, worker: WorkerInfo, *ids: str) -> None:
    names = tuple(name for name, _ in hands.store.functions())
    claims = ask_blocking(hands.store, ClaimTasks(worker=worker.id, lanes=((names, 100),), now=hands.clock.now()))
    assert {claim.id for claim in claims} >= set(ids)


def renew(hands: Rig, worker: str) -> None:
    until = hands.clock.boot() + int(LEASE * 1000)
    assert ask_blocking(hands.store, Renew(worker=worker, lease_until=until))


def workers(hands: Rig) -> set[str]:
    return {worker.id for worker in hands.store.workers()}


async def test_what_a_dead_process_held_is_queued_again(hands: Rig):
    """Its lock can be had, so it is dead: nobody waits for its lease."""
    dead = another(hands, present=False)
    id = hands.queue(jobs.give)
    claim_for(hands, dead, id)

    await hands.rescuer.round()

    assert hands.state(id) is TaskState.QUEUED
    [attempt] = hands.store.attempts(id)
    assert attempt.state is AttemptState.INTERRUPTED
    assert "4242" in (attempt.error or "")
    assert dead.id not in workers(hands)
    assert (await hands.claim_and_settle(id)).state is TaskState.SUCCEEDED


async def test_a_worker_of_an_earlier_start_of_the_machine_is_dead_whatever_its_lock_says(hands: Rig):
    """After a power cut, numbers of the boot clock begin anew: its lease may look endless."""
    old = another(hands, boot="another boot", present=True)
    id = hands.queue(jobs.give)
    claim_for(hands, old, id)

    await hands.rescuer.round()

    assert hands.state(id) is TaskState.QUEUED
    assert old.id not in workers(hands)


async def test_a_silent_worker_loses_what_it_holds_and_stays_known(hands: Rig):
    """It lives and may go on any moment: whatever it then does must be on record under a worker that is watched."""
    silent = another(hands, present=True)
    id = hands.queue(jobs.give)
    claim_for(hands, silent, id)
    hands.clock.advance(LONG)
    renew(hands, hands.engine.worker)

    await hands.rescuer.round()

    assert hands.state(id) is TaskState.QUEUED
    assert silent.id in workers(hands)
    assert hands.engine.presence.lives(silent.id)  # its files were left alone


async def test_a_silent_worker_is_taken_from_once_for_each_lease(hands: Rig, caplog):
    """A stopped process must not cost a transaction twice a second for as long as it is stopped."""
    another(hands, present=True)
    hands.clock.advance(LONG)
    renew(hands, hands.engine.worker)
    await hands.rescuer.round()
    before = hands.store.version()

    await hands.rescuer.round()

    assert hands.store.version() == before


async def test_what_a_silent_worker_claims_when_it_goes_on_is_rescued_after_its_death(hands: Rig):
    """It was stopped, lost its attempts, went on, claimed one, and was killed before its next renewal: no limbo."""
    silent = another(hands, present=True)
    hands.clock.advance(LONG)
    renew(hands, hands.engine.worker)
    await hands.rescuer.round()
    id = hands.queue(jobs.give)
    claim_for(hands, silent, id)

    presences.pop().close()
    await hands.rescuer.round()

    assert hands.state(id) is TaskState.QUEUED


async def test_after_a_sleep_of_the_machine_nobody_is_taken_for_silent_at_once(hands: Rig):
    """A laptop wakes up and all leases have ended: each process renews its own before it judges the others."""
    other = another(hands, present=True)
    id = hands.queue(jobs.give)
    claim_for(hands, other, id)
    hands.clock.advance(3600)

    await hands.rescuer.round()
    renew(hands, hands.engine.worker)
    await hands.rescuer.round()
    assert hands.state(id) is TaskState.RUNNING

    renew(hands, other.id)
    hands.clock.advance(DOUBT / 1000)
    await hands.rescuer.round()
    assert hands.state(id) is TaskState.RUNNING


async def test_of_two_rescuers_one_ends_a_worker(hands: Rig):
    """The attempt is interrupted once, or it would be quarantined in half the time."""
    dead = another(hands, present=False)
    id = hands.queue(jobs.give)
    claim_for(hands, dead, id)
    second = Rescuer(worker=hands.front.worker, store=hands.store, presence=hands.front.presence, clock=hands.clock)

    await asyncio.gather(hands.rescuer.round(), second.round())

    assert hands.row(id).interruptions == 1


async def test_workers_of_this_process_are_never_taken_for_dead(hands: Rig):
    """A POSIX lock does not keep its own process out, and trying it would give it up."""
    await hands.rescuer.round()

    assert workers(hands) == {hands.engine.worker, hands.front.worker}
    assert hands.front.presence.lives(hands.engine.worker)


async def test_one_worker_that_cannot_be_looked_at_does_not_keep_the_others_waiting(hands: Rig, monkeypatch, caplog):
    """No descriptor is left, say: for that one. The tasks of the other are still freed."""
    unclear = another(hands, present=False)
    dead = another(hands, present=False)
    id = hands.queue(jobs.give)
    claim_for(hands, dead, id)
    lives = hands.engine.presence.lives

    def limited(worker: str) -> bool:
        if worker == unclear.id:
            raise OSError(24, "Too many open files")
        return lives(worker)

    monkeypatch.setattr(hands.engine.presence, "lives", limited)

    await hands.rescuer.round()

    assert hands.state(id) is TaskState.QUEUED
    assert unclear.id in workers(hands)
    assert "could not tell whether process 4242 still runs" in caplog.text


async def test_a_task_that_kills_its_process_is_quarantined_after_exactly_three_interruptions(hands: Rig, caplog):
    """It would take down one process after the other, with everything else they run."""
    id = hands.queue(jobs.give)
    for number in (1, 2, 3):
        dead = another(hands, present=False)
        claim_for(hands, dead, id)
        await hands.rescuer.round()
        assert hands.row(id).interruptions == number
        assert hands.state(id) is (TaskState.QUARANTINED if number == 3 else TaskState.QUEUED)

    assert [attempt.state for attempt in hands.store.attempts(id)] == [AttemptState.INTERRUPTED] * 3
    assert jobs.journal == []
    assert any(record.levelno == logging.ERROR and id in record.message for record in caplog.records)


async def test_at_most_once_is_quarantined_by_its_first_interruption(hands: Rig):
    """Whether it happened is not known, and it must not happen twice."""
    id = hands.queue(jobs.give, at_most_once=True)
    claim_for(hands, another(hands, present=False), id)

    await hands.rescuer.round()

    assert hands.state(id) is TaskState.QUARANTINED
    assert hands.row(id).attempt == 1


async def test_what_a_stopping_process_held_is_released_and_not_counted(hands: Rig):
    """A deployment is no fault of the task."""
    stopping = another(hands, present=False)
    id = hands.queue(jobs.give)
    claim_for(hands, stopping, id)
    ask_blocking(hands.store, Stopping(worker=stopping.id, now=hands.clock.now()))

    await hands.rescuer.round()

    assert hands.row(id).interruptions == 0
    assert [attempt.state for attempt in hands.store.attempts(id)] == [AttemptState.RELEASED]


def renewer_of(hands: Rig) -> Renewer:
    engine = hands.engine
    return Renewer(worker=engine.worker, store=hands.store, clock=hands.clock, lost=engine._lost)


def lease(hands: Rig) -> int:
    [own] = [worker for worker in hands.store.workers() if worker.id == hands.engine.worker]
    return own.lease_until


async def test_the_lease_is_renewed_every_third_of_it(hands: Rig):
    renewer = renewer_of(hands)
    hands.clock.advance(5)

    assert await renewer.round() == ROUND

    assert lease(hands) == hands.clock.boot() + LEASE * 1000
    assert ROUND * 3 <= LEASE


async def test_a_process_that_was_given_up_is_registered_again_and_its_attempts_are_told(hands: Rig, caplog):
    """Its attempts belong to others now: what runs on the loop is cancelled, and nothing of it is stored."""
    renewer = renewer_of(hands)
    id = hands.queue(jobs.hold_async)
    await hands.claimer.round()
    await hands.begun(jobs.begun)
    ask_blocking(hands.store, Rescue(worker=hands.engine.worker, now=hands.clock.now(), reason="it stood still"))

    await renewer.round()

    assert hands.engine.worker in workers(hands)
    assert await asyncio.to_thread(hands.runner.wait_idle, jobs.DEADLINE)
    assert jobs.journal == ["held was cancelled"]
    assert [attempt.state for attempt in hands.store.attempts(id)] == [AttemptState.INTERRUPTED]
    assert "1 of its attempts were given to others" in caplog.text
    assert hands.row(id).known  # it has said again what it can run


async def test_a_late_renewal_keeps_the_attempts_that_nobody_has_taken(hands: Rig):
    """The machine slept and no other process was there: what runs, goes on."""
    renewer = renewer_of(hands)
    id = hands.queue(jobs.hold)
    await hands.claimer.round()
    await hands.begun(jobs.begun)
    hands.clock.advance(3600)

    await renewer.round()

    assert hands.state(id) is TaskState.RUNNING
    jobs.gate.set()
    assert (await hands.settled(id)).state is TaskState.SUCCEEDED


async def test_a_process_that_stood_still_loses_only_what_was_taken(hands: Rig):
    """Another process took its first task; one that it claimed when it went on stays its own."""
    renewer = renewer_of(hands)
    taken = hands.queue(jobs.hold_async, "taken")
    await hands.claimer.round()
    await hands.begun(jobs.begun)
    hands.clock.advance(LONG)
    renew(hands, hands.front.worker)
    other = Rescuer(worker=hands.front.worker, store=hands.store, presence=hands.front.presence, clock=hands.clock)
    await other.round()
    claim_for(hands, another(hands, present=False), taken)
    kept = hands.queue(jobs.hold_async, "kept")
    hands.claimer.hint()
    await hands.claimer.round()
    await hands.begun(jobs.begun)

    await renewer.round()

    await hands.until(lambda: hands.engine.lanes.busy() == 1)
    assert jobs.journal == ["taken was cancelled"]
    assert hands.state(kept) is TaskState.RUNNING


async def test_a_round_that_dies_on_the_way_is_made_up_for(hands: Rig, monkeypatch):
    """The lease was renewed, the look at the attempts failed: the next round must not think that all is well."""
    renewer = renewer_of(hands)
    hands.clock.advance(LONG)
    asked: list[bool] = []

    async def lost(forgotten: bool) -> int:
        asked.append(forgotten)
        if len(asked) == 1:
            raise OSError("disk")
        return 0

    monkeypatch.setattr(renewer, "_lost", lost)
    with pytest.raises(OSError, match="disk"):
        await renewer.round()

    await renewer.round()
    await renewer.round()

    assert asked == [False, False]


async def test_two_engines_of_one_process_share_a_data_directory(tmp_path: Path):
    """Two applications in one server, or a test beside another: neither takes the other for dead."""
    with rig(tmp_path) as one, rig(tmp_path) as two:
        held = one.queue(jobs.hold)
        await one.claimer.round()
        await one.begun(jobs.begun)

        await two.rescuer.round()
        assert one.state(held) is TaskState.RUNNING
        other = one.queue(jobs.give)
        assert (await two.claim_and_settle(other)).worker is None

        jobs.gate.set()
        assert (await one.settled(held)).state is TaskState.SUCCEEDED


async def test_the_lock_of_one_process_is_the_same_by_any_path_to_it(tmp_path: Path):
    """Trying it by another name of the folder would succeed, and give it up."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    presence = Presence(tmp_path / "real", new_id())
    other = Presence(tmp_path / "link", new_id())
    try:
        assert other.lives(presence._worker)
        assert presence.lives(other._worker)
    finally:
        presence.close()
        other.close()


async def test_what_a_forgotten_worker_holds_is_freed_once_its_process_has_ended(tmp_path, hands: Rig):
    """Others took it for dead, because its lock was lost to code of its own; what it begins after that is on record."""
    forgotten = another(hands, present=True)
    id = hands.queue(jobs.give)
    claim_for(hands, forgotten, id)
    connection = apsw.Connection(str(tmp_path / "afterwards.db"))
    connection.execute("DELETE FROM worker WHERE id = ?", (forgotten.id,))
    connection.close()

    await hands.rescuer.round()
    assert hands.state(id) is TaskState.RUNNING  # it lives, and will make itself known again

    presences.pop().close()
    await hands.rescuer.round()

    assert hands.state(id) is TaskState.QUEUED
    assert [attempt.state for attempt in hands.store.attempts(id)] == [AttemptState.INTERRUPTED]
    assert forgotten.id not in workers(hands)
