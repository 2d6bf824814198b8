"""What ended long ago goes, rows first and bytes afterwards; everything else stays."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from afterwards._domain.attempts import SECOND
from afterwards._domain.ids import new_id
from afterwards._domain.options import PLAIN_CALL
from afterwards._domain.retention import Keep
from afterwards._engine.intake import Intake
from afterwards._engine.pruner import MOST, ROUND, SOON, Pruner
from afterwards._files.staging import Staging
from afterwards._files.stored import StoredFile, digest_of, path_of
from afterwards._store.contract import Reply, ask
from afterwards._store.keys import KeepAnswer, PruneKeys
from afterwards.errors import StorageFull
from engine import jobs
from engine.rig import Rig

KEEP = 3600.0  # seconds


@pytest.fixture
def pruner(hands: Rig) -> Pruner:
    return Pruner(
        root=hands.root,
        store=hands.store,
        clock=hands.clock,
        keep=Keep(succeeded=timedelta(seconds=KEEP), failed=timedelta(seconds=KEEP)),
        presence=hands.engine.presence,
    )


def with_file(hands: Rig) -> tuple[str, Path]:
    """Queue a task with a stored file."""
    file = StoredFile(id=new_id(), name="a", size=3, content_type=None, headers=(), digest=digest_of(b"abc"))
    path = path_of(file.id, hands.root)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"abc")
    intake = Intake(hands.front)
    draft = intake.draft(jobs.give, (), {}, PLAIN_CALL, lambda *_: None)
    draft.files = (file,)
    intake.store_blocking(intake.plan([draft]), [file])
    return draft.id, path


async def test_ended_tasks_go_after_their_time_with_their_files(hands: Rig, pruner: Pruner):
    id, path = with_file(hands)
    await hands.claim_and_settle(id)
    await hands.run(jobs.give)  # the newest stays, so that its number is not used again
    hands.clock.advance(KEEP - 1)
    await pruner.round()
    assert hands.state(id)
    assert path.exists()

    hands.clock.advance(2)
    assert await pruner.round() == ROUND

    assert hands.store.task(id) is None
    assert not path.exists()


async def test_tasks_that_failed_stay_longer_than_those_that_succeeded(hands: Rig):
    """Somebody may have to look into them. And what stays does not hide what goes."""
    pruner = Pruner(
        root=hands.root,
        store=hands.store,
        clock=hands.clock,
        keep=Keep(succeeded=timedelta(hours=1), failed=timedelta(hours=3)),
        presence=hands.engine.presence,
    )
    failed, succeeded = [], []
    for _ in range(3):
        failed.append((await hands.run(jobs.fail)).id)
        succeeded.append((await hands.run(jobs.give)).id)
    newest = (await hands.run(jobs.give)).id

    def left(ids: list[str]) -> int:
        return sum(hands.store.task(id) is not None for id in ids)

    await pruner.round()
    for hours, expected in ((0.9, (3, 3)), (0.2, (0, 3)), (1.8, (0, 3)), (0.2, (0, 0))):
        hands.clock.advance(hours * 3600)
        await pruner.round()
        assert (left(succeeded), left(failed)) == expected
    assert hands.store.task(newest) is not None


async def test_a_full_disk_gets_the_room_of_dead_processes_back_first(hands: Rig, pruner: Pruner):
    """Rows cannot be deleted without room for the log; what was half received can be removed."""
    left = Staging(hands.root, new_id()).open()
    refused = StorageFull("no room")

    class Full:
        """The store as it is on a full disk: it can be read."""

        def __getattr__(self, name: str) -> object:
            return getattr(hands.store, name)

        def submit(self, command: object, reply: Reply) -> None:
            assert reply.loop is not None
            reply.loop.call_soon_threadsafe(reply.deliver, refused)

    pruner._store = Full()
    with pytest.raises(StorageFull):
        await pruner.round()

    assert not left.path.exists()
    left.close()


async def test_a_long_sweep_is_done_in_several_rounds(hands: Rig, pruner: Pruner, monkeypatch):
    monkeypatch.setattr("afterwards._engine.pruner.LONG", 0.0)
    left = [Staging(hands.root, new_id()).open() for _ in range(3)]

    pauses = [await pruner.round() for _ in range(4)]

    assert pauses == [SOON, SOON, SOON, ROUND]
    assert not any(file.path.exists() for file in left)
    for file in left:
        file.close()


async def test_open_tasks_stay_however_old_they_are(hands: Rig, pruner: Pruner):
    """A task that waits for its function may wait for a year."""
    id, path = with_file(hands)
    hands.clock.advance(365 * 86_400)

    await pruner.round()

    assert hands.state(id)
    assert path.exists()


async def test_a_full_batch_is_followed_by_the_next_at_once(hands: Rig, pruner: Pruner, monkeypatch):
    monkeypatch.setattr("afterwards._engine.pruner.MOST", 2)
    for _ in range(4):
        await hands.run(jobs.give)
    hands.clock.advance(KEEP + 1)

    pause = await pruner.round()

    assert pause is not None
    assert pause < 1
    assert MOST == 1_000


async def test_what_a_dead_process_left_in_staging_goes_and_what_a_living_one_writes_stays(hands: Rig, pruner: Pruner):
    left = Staging(hands.root, new_id()).open()
    used = Staging(hands.root, hands.front.worker).open()

    await pruner.round()

    assert not left.path.exists()
    assert used.path.exists()
    for file in (left, used):
        file.close()


async def test_files_without_a_row_are_swept_once_they_are_old(hands: Rig, pruner: Pruner):
    """A process died between the rename and the commit."""
    path = path_of(new_id(), hands.root)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    now = hands.clock.now() / SECOND
    os.utime(path, (now, now))
    await pruner.round()
    assert path.exists()

    hands.clock.advance(365 * 86_400)  # the sweep looks at the time of the rename too, which is the machine's own
    await pruner.round()

    assert not path.exists()


async def test_expired_answers_go_and_the_pruner_comes_back_for_more(hands: Rig, pruner: Pruner, monkeypatch):
    """A batch at a time, so that nobody waits behind a day of requests."""
    monkeypatch.setattr("afterwards._engine.pruner.MOST", 3)
    for number in range(5):
        await ask(
            hands.store,
            KeepAnswer(
                id=bytes([number]) * 32,
                token="",
                fingerprint=None,
                status=202,
                headers=[],
                body=b"",
                expires_at=hands.clock.now() + number * SECOND,
            ),
        )
    hands.clock.advance(3.5)

    rounds = [await pruner.round() for _ in range(2)]

    assert rounds == [0.1, ROUND]
    assert await ask(hands.store, PruneKeys(now=hands.clock.now() + 9 * SECOND, limit=9)) == 1
