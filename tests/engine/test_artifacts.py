"""Files that tasks make: published whole with the success of their attempt, or gone without a trace."""

import asyncio
import errno
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from afterwards._domain.artifacts import MOST, single_artifact
from afterwards._domain.documents import plain_result
from afterwards._domain.files import FileKind, FileRole
from afterwards._domain.ids import new_id
from afterwards._domain.options import PLAIN_CALL
from afterwards._domain.retention import Keep
from afterwards._domain.tasks import AttemptState, TaskRow, TaskState
from afterwards._domain.values import decode_result
from afterwards._engine.files import File
from afterwards._engine.intake import Intake
from afterwards._engine.pruner import Pruner
from afterwards._files.disk import Disk
from afterwards._files.stored import path_of
from afterwards._files.sweep import GRACE, sweep_files
from afterwards._store.contract import Rescue, ask_blocking
from afterwards._store.sqlite import writer
from afterwards._store.sqlite.store import SqliteStore
from afterwards.errors import UnknownFile
from engine import jobs, makers
from engine.clock import FakeClock
from engine.makers import LARGE, content
from engine.rig import Rig, rig
from store.faults import FaultyDisk, disk_error, full
from support.data import until_async

SIZES = [0, 10, LARGE]


def queue(hands: Rig, function: Callable[..., Any], *args: Any) -> str:
    """Queue a task that may take files."""
    intake = Intake(hands.front)
    draft = intake.draft(function, args, {}, PLAIN_CALL, lambda value, _: value if isinstance(value, File) else None)
    intake.store_blocking(intake.plan([draft]))
    return draft.id


async def run(hands: Rig, function: Callable[..., Any], *args: Any) -> TaskRow:
    return await hands.claim_and_settle(queue(hands, function, *args))


def result(hands: Rig, row: TaskRow) -> Any:
    assert row.state is TaskState.SUCCEEDED, row.error
    assert row.result is not None
    return decode_result(row.result, hands.engine.shelf.among(row.files))


def on_disk(root: Path) -> list[str]:
    """What is below the folders of files, stored or on their way."""
    folders = [root / name for name in ("files", "staging", "work")]
    return sorted(str(path.relative_to(root)) for folder in folders for path in folder.rglob("*") if path.is_file())


def left_at_work(root: Path) -> list[Path]:
    return [path for owner in (root / "work").glob("*") for path in owner.iterdir()]


def is_clean(hands: Rig, row: TaskRow) -> None:
    """Nothing is on the disk but what the task's rows tell of, and nothing is half of it."""
    large = [file for file in row.files if not hands.store.file(file.id).content and file.size]
    assert on_disk(hands.root) == sorted(str(path_of(file.id, Path())) for file in large)
    assert left_at_work(hands.root) == []
    for file in row.files:
        assert len(hands.engine.shelf.find(file.id).read()) == file.size


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("function", [makers.write, makers.write_async])
async def test_what_a_task_writes_is_its_result(hands: Rig, function, size):
    row = await run(hands, function, size, "../../a name\0.png")

    file = result(hands, row)
    assert isinstance(file, File)
    assert (file.size, file.name, file.read()) == (size, "../../a name�.png", content(size))
    assert [(one.id, one.role) for one in row.files] == [(file.id, FileRole.OUTPUT)]
    stored = hands.store.file(file.id)
    assert (stored.kind, stored.digest) == (FileKind.ARTIFACT, file.digest)
    assert stored.content_type == ("image/png" if function is makers.write else None)
    assert single_artifact(row) == file.id
    is_clean(hands, row)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("function", [makers.return_path, makers.return_path_async])
async def test_a_path_below_the_work_folder_becomes_a_file(hands: Rig, function, size):
    row = await run(hands, function, size)

    file = result(hands, row)
    assert (file.size, file.name, file.read()) == (size, "kept.bin", content(size))
    assert len(row.files) == 1
    is_clean(hands, row)


async def test_a_path_in_a_folder_below_the_work_folder_does_too(hands: Rig):
    row = await run(hands, makers.return_path, LARGE, "a/b/c.bin")

    assert result(hands, row).name == "c.bin"
    is_clean(hands, row)


async def test_files_stay_in_their_places_inside_of_a_result(hands: Rig):
    row = await run(hands, makers.return_many)

    found = result(hands, row)
    assert [page.name for page in found["report"].pages] == ["page0.txt", "page10.txt", "page700000.txt", "page0.txt"]
    assert found["report"].pages[0] == found["report"].pages[3]
    assert found["album"].cover == found["same"]
    assert found["album"].rest["back"].read() == content(LARGE)
    assert found["number"] == 7
    assert len(row.files) == 5
    assert single_artifact(row) is None
    shown: Any = plain_result(row, base="/base")
    cover = found["same"]
    assert shown["album"]["cover"] == {
        "id": cover.id,
        "name": "cover.png",
        "href": f"/base/files/{cover.id}",
        "size": 20,
        "type": "image/png",
        "digest": cover.digest,
    }
    assert shown["report"]["pages"][2]["size"] == LARGE
    is_clean(hands, row)


async def test_what_is_written_and_not_returned_belongs_to_the_task_too(hands: Rig):
    row = await run(hands, makers.write_and_return_nothing, 10, LARGE)

    assert result(hands, row) is None
    assert [(file.name, file.size, file.role) for file in row.files] == [
        ("0.bin", 10, FileRole.OUTPUT),
        ("1.bin", LARGE, FileRole.OUTPUT),
    ]
    assert single_artifact(row) is None
    is_clean(hands, row)
    one = await run(hands, makers.write_and_return_nothing, 10)
    assert single_artifact(one) == one.files[0].id


@pytest.mark.parametrize(("pieces", "size"), [(1, 10), (40, 10_000)])
async def test_an_output_can_be_written_in_any_order_and_read_back(hands: Rig, pieces, size):
    row = await run(hands, makers.write_in_pieces, pieces, size)

    assert result(hands, row).read() == b"the head" + content(size) * pieces
    is_clean(hands, row)


@pytest.mark.parametrize("function", [makers.write_and_fail, makers.write_and_return_a_lock])
async def test_of_an_attempt_that_fails_nothing_remains(hands: Rig, function):
    row = await run(hands, function)

    assert row.state is TaskState.FAILED
    assert row.files == []
    assert on_disk(hands.root) == []
    assert left_at_work(hands.root) == []


async def test_retries_start_empty_and_leave_one_set(hands: Rig):
    id = queue(hands, makers.fail_twice)
    for _ in range(2):
        row = await hands.claim_and_settle(id)
        assert (row.state, row.files, on_disk(hands.root)) == (TaskState.RETRYING, [], [])
        hands.clock.advance(60)

    row = await hands.claim_and_settle(id)

    assert [file.name for file in result(hands, row)] == ["small3", "large3"]
    assert len(row.files) == 2
    is_clean(hands, row)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (makers.outside, "not below the work folder"),
        (makers.link_for_the_folder, "no link is followed"),
        (makers.relative, "not below the work folder"),
        (makers.up_and_out, "not below the work folder"),
        (makers.the_folder, "it is the work folder itself: put its files into an archive"),
        (makers.the_database, "not below the work folder"),
        (makers.missing, "no such file"),
        (makers.a_folder, "a folder"),
        (makers.a_link, "a symbolic link"),
        (makers.a_link_inside, "a symbolic link"),
        (makers.below_a_link, "through a symbolic link"),
        (makers.below_a_file, "through a symbolic link or a file"),
        (makers.a_pipe, "not a plain file"),
    ],
)
async def test_a_path_that_is_no_file_of_the_attempt_is_refused(hands: Rig, function, problem):
    """The task would otherwise publish what is not its own, or hang."""
    row = await run(hands, function)

    assert row.state is TaskState.FAILED
    assert problem in row.error
    assert "workdir()" in row.error
    assert row.files == []
    assert on_disk(hands.root) == []
    assert left_at_work(hands.root) == []


async def test_threads_of_a_task_make_files_within_its_context(hands: Rig):
    row = await run(hands, makers.in_threads, True)

    assert sorted(file.name or "" for file in row.files) == ["0.bin", "1.bin", "2.bin"]


@pytest.mark.parametrize(("function", "given"), [(makers.in_threads, (False,)), (makers.workdir_in_a_thread, ())])
async def test_threads_outside_of_it_make_none(hands: Rig, function, given):
    """A file that belongs to nobody would be lost, and the task would succeed without it."""
    row = await run(hands, function, *given)

    assert row.state is TaskState.FAILED
    assert "NoAttempt" in row.error
    assert "contextvars.copy_context().run" in row.error


async def test_a_block_that_raises_drops_its_output(hands: Rig):
    row = await run(hands, makers.drop_one)

    assert [file.name for file in row.files] == ["made.bin"]
    is_clean(hands, row)
    refused = await run(hands, makers.return_dropped)
    assert "it was dropped" in refused.error


async def test_what_was_written_can_be_read_before_the_end(hands: Rig):
    row = await run(hands, makers.read_while_writing)

    assert result(hands, row) == [True, True, [10, LARGE]]
    assert len(row.files) == 2
    is_clean(hands, row)


async def test_a_task_leaves_nothing_in_its_work_folder_whatever_it_does_there(hands: Rig):
    row = await run(hands, makers.stray)

    assert row.state is TaskState.SUCCEEDED
    assert left_at_work(hands.root) == []


async def test_an_attempt_can_make_so_many_files_and_no_more(hands: Rig):
    row = await run(hands, makers.many, MOST)
    assert len(row.files) == MOST
    assert sum(hands.engine.shelf.find(file.id).read() == file.name.encode() for file in row.files) == MOST

    refused = await run(hands, makers.many, MOST + 1)

    assert refused.state is TaskState.FAILED
    assert "1,000" in refused.error
    assert refused.files == []


async def test_a_hundred_large_files_do_not_need_a_hundred_descriptors(hands: Rig):
    before = len(os.listdir("/dev/fd"))

    row = await run(hands, makers.large_many, 100)

    assert len(row.files) == 100
    assert {file.size for file in row.files} == {LARGE}
    is_clean(hands, row)
    assert len(os.listdir("/dev/fd")) <= before + 8


# -- files that were there before


@pytest.mark.parametrize("size", SIZES)
async def test_a_task_takes_what_another_made_and_returns_it(hands: Rig, size):
    first = await run(hands, makers.write, size)

    second = await run(hands, makers.return_given, result(hands, first))

    given = result(hands, second)
    assert given == [result(hands, first)] * 2
    assert given[0].read() == content(size)
    assert [(file.id, file.role) for file in second.files] == [(given[0].id, FileRole.INPUT)]
    assert len(on_disk(hands.root)) == int(size == LARGE)


@pytest.mark.parametrize("size", SIZES)
async def test_no_path_leads_to_the_stored_bytes_themselves(hands: Rig, size):
    """Other tasks and downloads read the same bytes."""
    file = result(hands, await run(hands, makers.write, size))

    row = await run(hands, makers.spoil_path, file)

    assert result(hands, row) == content(size)
    assert file.read() == content(size)
    path, mode, found = result(hands, await run(hands, makers.use_path, file))
    assert (mode, found) == (0o400, size)
    assert not os.path.exists(path)
    assert left_at_work(hands.root) == []


async def test_the_path_of_a_stored_file_is_that_file_when_it_is_returned(hands: Rig):
    file = result(hands, await run(hands, makers.write, LARGE))

    row = await run(hands, makers.return_its_path, file)

    assert result(hands, row) == file
    assert len(on_disk(hands.root)) == 1


async def test_a_second_name_of_another_file_is_published_as_a_copy(hands: Rig):
    file = result(hands, await run(hands, makers.write, LARGE))

    row = await run(hands, makers.link_what_was_given, file)

    assert result(hands, row) != file
    assert result(hands, row).read() == content(LARGE)
    assert len(on_disk(hands.root)) == 2


async def test_a_file_that_is_gone_cannot_be_taken_nor_returned(hands: Rig):
    file = result(hands, await run(hands, makers.write, 10))
    gone = File(hands.engine.shelf, id=new_id(), name="a", size=1, content_type=None, type=None, digest="")

    with pytest.raises(UnknownFile):
        queue(hands, makers.return_given, gone)
    with pytest.raises(UnknownFile):
        hands.engine.shelf.check(gone.id)
    hands.engine.shelf.check(file.id)
    makers.content.kept = gone
    row = await run(hands, return_kept)
    assert row.state is TaskState.FAILED
    assert gone.id in row.error


def return_kept() -> list[Any]:
    """A file from somewhere else, beside one of its own."""
    return [makers.content.kept, makers.write(LARGE)]


# -- who is late


@pytest.mark.parametrize("function", [makers.hold_with_files, makers.hold_with_files_async])
async def test_a_late_attempt_publishes_nothing(hands: Rig, function):
    """Another attempt has the task; its files are the only ones, and the late one's are gone."""
    id = queue(hands, function)
    hands.claimer.hint()
    await hands.claimer.round()
    await hands.begun(jobs.begun)
    ask_blocking(hands.store, Rescue(worker=hands.engine.worker, now=hands.clock.now(), reason="a test"))

    [late] = hands.runner.active.values()
    if late.task is not None:
        late.task.cancel()
    jobs.gate.set()

    await asyncio.to_thread(hands.runner.wait_idle, jobs.DEADLINE)
    hands.runner._publisher.close()  # waits for what it was told to remove
    assert (hands.state(id), hands.row(id).files) == (TaskState.QUEUED, [])
    assert on_disk(hands.root) == []
    assert left_at_work(hands.root) == []


async def test_what_a_dead_process_worked_in_is_swept_and_what_a_living_one_does_is_not(hands: Rig):
    dead = hands.root / "work" / new_id() / f"{new_id()}-1-abcd" / "work"
    dead.mkdir(parents=True)
    (dead / "half.bin").write_bytes(b"half")
    (dead / "link").symlink_to("/etc")
    other = hands.root / "work" / "somebody's"
    other.mkdir()
    queue(hands, makers.hold_with_files)
    hands.claimer.hint()
    await hands.claimer.round()
    await hands.begun(jobs.begun)
    pruner = Pruner(root=hands.root, store=hands.store, clock=hands.clock, keep=Keep(), presence=hands.engine.presence)

    await pruner.round()
    assert not dead.parents[1].exists()
    assert other.exists()
    assert len(left_at_work(hands.root)) == 1

    jobs.gate.set()
    await asyncio.to_thread(hands.runner.wait_idle, jobs.DEADLINE)
    assert left_at_work(hands.root) == []


# -- disks that are full or fail


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    disk = FaultyDisk(f"artifacts{new_id()}")
    yield disk
    disk.plan.clear()
    disk.unregister()


@pytest_asyncio.fixture
async def faulty(tmp_path: Path, disk: FaultyDisk, monkeypatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(writer, "REOPEN", 0.01)
    store = SqliteStore(tmp_path / "afterwards.db", vfs=disk.name)
    made = Rig(tmp_path, store, FakeClock(), threads=4)
    try:
        yield made
        jobs.gate.set()
    finally:
        made.close()
        disk.plan.clear()
        store.close()


@pytest.mark.parametrize("what", ["full", "unsure"])
async def test_a_settlement_that_the_database_could_not_take_is_offered_again_with_its_files(
    faulty: Rig, disk: FaultyDisk, what
):
    """After a failed sync nobody knows what is stored, so no file may be removed."""
    id = queue(faulty, makers.hold_with_files)
    faulty.claimer.hint()
    await faulty.claimer.round()
    await faulty.begun(jobs.begun)
    disk.once = True
    disk.plan["write" if what == "full" else "sync", "-wal"] = full() if what == "full" else disk_error(1034)

    jobs.gate.set()
    await until_async(lambda: bool(disk.raised))
    later = time.time() + GRACE + 60  # the disk stays full for a night, and every process sweeps
    assert sum(step.removed for step in sweep_files(faulty.root, faulty.store.known_files, now=later)) == 0
    async with asyncio.timeout(jobs.DEADLINE):
        while faulty.state(id) is TaskState.RUNNING:
            faulty.clock.advance(1)
            await faulty.engine._again.round()
            await asyncio.sleep(0.01)

    assert disk.raised == 1
    row = faulty.row(id)
    assert result(faulty, row).read() == content(LARGE)
    assert len(row.files) == 1
    is_clean(faulty, row)


async def test_files_of_a_commit_that_nobody_knows_the_end_of_are_left_to_the_sweep(faulty: Rig, disk: FaultyDisk):
    """The lease is lost when it is offered again; but the first commit may still be there after a crash."""
    id = queue(faulty, makers.hold_with_files)
    faulty.claimer.hint()
    await faulty.claimer.round()
    await faulty.begun(jobs.begun)
    disk.once = True
    disk.plan["sync", "-wal"] = disk_error(1034)
    jobs.gate.set()
    await until_async(lambda: bool(disk.raised) and faulty.store.health() is None)
    ask_blocking(faulty.store, Rescue(worker=faulty.engine.worker, now=faulty.clock.now(), reason="a test"))

    async with asyncio.timeout(jobs.DEADLINE):
        while faulty.runner._unsettled:
            faulty.clock.advance(1)
            await faulty.engine._again.round()
            await asyncio.sleep(0.01)

    faulty.runner._publisher.close()
    assert faulty.row(id).files == []
    assert len(on_disk(faulty.root)) == 1


class Failing(Disk):
    """The real disk, one call of which fails as the system would, at a time of our choosing."""

    def __init__(self, call: str, number: int, after: int) -> None:
        self.call, self.number, self.left = call, number, after

    def _meet(self, call: str) -> None:
        if call == self.call:
            self.left -= 1
            if self.left == 0:
                raise OSError(self.number, os.strerror(self.number))

    def sync_file(self, fd: int) -> None:
        self._meet("sync")
        super().sync_file(fd)

    def rename(self, source: Path, target: Path) -> None:
        self._meet("rename")
        super().rename(source, target)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize(("call", "after"), [("sync", 1), ("sync", 3), ("rename", 1), ("rename", 3), ("rename", 40)])
async def test_a_disk_that_fails_while_publishing_fails_the_attempt_and_keeps_nothing(
    hands: Rig, monkeypatch, call, after, number
):
    """Also what had got its final name before: no row tells of it, and the room is wanted back."""
    failing = Failing(call, number, after)
    monkeypatch.setattr("afterwards._files.workspace.DISK", failing)

    row = await run(hands, makers.large_many, 45)

    assert row.state is TaskState.FAILED
    assert failing.left <= 0
    assert "that the task made could not be stored" in row.error
    assert ("StorageFull" if number == errno.ENOSPC else "StorageUnsure") in row.error
    assert on_disk(hands.root) == []
    assert left_at_work(hands.root) == []
    again = await run(hands, makers.large_many, 2)
    assert len(again.files) == 2


def system(*command: str | Path) -> None:
    subprocess.run(command, check=True, timeout=30)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"this machine does not let us mount: {mounted.stderr.strip()}")
    yield folder
    system("umount", folder)


@pytest.mark.parametrize("function", [makers.large_many, makers.copies])
async def test_a_task_that_fills_the_disk_fails_honestly_and_the_room_comes_back(small_disk: Path, function):
    """While it writes, and while what it made is copied to where it stays."""
    with rig(small_disk, threads=4) as hands:
        row = await run(hands, function, 50)
        assert row.state is TaskState.FAILED
        assert "No space left" in row.error or "no space is left" in row.error
        assert on_disk(small_disk) == []
        assert left_at_work(small_disk) == []

        row = await run(hands, function, 3)
        assert len(row.files) == 3
        is_clean(hands, row)


async def test_work_folders_may_be_on_a_disk_of_their_own(small_disk: Path, tmp_path: Path):
    """Then what is returned is copied."""
    (tmp_path / "work").symlink_to(small_disk)
    with rig(tmp_path, threads=4) as hands:
        row = await run(hands, makers.return_path, LARGE)
        assert "StoreRefused" in row.error
    (tmp_path / "work").unlink()
    (tmp_path / "work").mkdir()
    system("mount", "--bind", small_disk, tmp_path / "work")
    try:
        with rig(tmp_path, threads=4) as hands:
            row = await run(hands, makers.return_path, LARGE)
            assert result(hands, row).read() == content(LARGE)
            is_clean(hands, row)
    finally:
        system("umount", tmp_path / "work")


async def test_attempts_of_tasks_that_make_no_files_have_no_workspace(hands: Rig):
    """Most tasks: they must not pay for the others."""
    id = hands.queue(jobs.hold, "x")
    hands.claimer.hint()
    await hands.claimer.round()
    await hands.begun(jobs.begun)
    [attempt] = hands.runner.active.values()

    jobs.gate.set()
    row = await hands.settled(id)

    assert attempt.workspace is None
    assert not (hands.root / "work").exists()
    assert hands.store.attempts(row.id)[0].state is AttemptState.SUCCEEDED
