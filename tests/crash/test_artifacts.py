"""`kill -9` while a task's files are published: all of them and its result, or nothing of either."""

import http.client
import time

import msgspec
import pytest

from afterwards._domain.files import FileKind
from afterwards._domain.tasks import AttemptState, TaskState
from afterwards._files.removal import sweep_work
from afterwards._files.stored import StoredFile, digest_of
from afterwards._files.sweep import sweep_files, sweep_staging
from crash.harness import Harness
from crash.work import LARGE
from support.stored import content_of

POINTS = [
    "before the bytes are synced",
    "between sync and rename",
    "between rename and commit",
    "just before the commit",
    "while the work folder is removed",
    "after the files were committed",
]


def files_of(harness: Harness, id: str, key: str) -> list[str]:
    """Read every file of a task from the disk, and return their names."""
    row = harness.data.reads.task(id)
    assert row is not None
    names = []
    for file in row.files:
        stored = harness.data.reads.file(file.id)
        assert stored is not None
        content = content_of(msgspec.convert(stored, StoredFile, from_attributes=True), harness.data.data)
        right = key.encode() if file.name == "small" else key.encode().ljust(LARGE // 9, b".") * 9
        assert (stored.kind, content == right, digest_of(content)) == (FileKind.ARTIFACT, True, file.digest)
        names.append(str(file.name))
    return names


@pytest.mark.parametrize("kind", ["make", "make_async"])
@pytest.mark.parametrize("point", POINTS)
def test_killed_while_it_publishes_a_task_has_one_whole_set_of_files_in_the_end(harness: Harness, point, kind):
    server = harness.start(CRASH_POINT=point)
    try:
        key, id = harness.request(server.port, kind)
    except (OSError, http.client.HTTPException):  # it died of it before its answer had left
        [row] = harness.data.rows()
        key, id = f"{kind}-1", row.id
    assert server.end() == -9
    row = harness.data.reads.task(id)
    assert row is not None
    committed = point == "after the files were committed"
    assert (row.state is TaskState.SUCCEEDED, len(row.files)) == (committed, 3 * committed)

    again = harness.start()
    harness.wait(lambda: harness.data.reads.task(id).state is TaskState.SUCCEEDED)  # type: ignore[union-attr]

    assert sorted(files_of(harness, id, key)) == ["one", "small", "two"]
    states = [one.state for one in harness.data.reads.attempts(id)]
    assert states == [AttemptState.SUCCEEDED] if committed else [AttemptState.INTERRUPTED, AttemptState.SUCCEEDED]
    harness.stop(again)
    root = harness.data.data
    list(sweep_staging(root, lambda _: False))  # what the pruner of a running program does
    list(sweep_work(root, lambda _: False))
    list(sweep_files(root, harness.data.reads.known_files, now=time.time() + 7200))
    assert list((root / "work").rglob("*")) == []
    named = {file.id for file in harness.data.reads.task(id).files if file.size > len(key)}  # type: ignore[union-attr]
    assert {path.name for path in harness.data.files()} == named
    assert sorted(files_of(harness, id, key)) == ["one", "small", "two"]
    harness.data.close()
    assert harness.integrity() == "ok"


def test_killed_at_random_moments_tasks_that_make_files_make_them_once(harness: Harness):
    promises = []
    for _ in range(5):
        server = harness.start()
        for number in range(harness.random.randrange(3, 12)):
            promises.append(harness.request(server.port, ("make", "make_async")[number % 2]))
        until = time.monotonic() + harness.random.random() * 0.3
        harness.wait(lambda until=until: time.monotonic() > until)
        server.kill()
    last = harness.start()

    def all_done() -> bool:
        return all(harness.data.reads.task(id).state is TaskState.SUCCEEDED for _, id in promises)  # type: ignore[union-attr]

    harness.wait(all_done, lambda: [harness.data.reads.task(id).state for _, id in promises])  # type: ignore[union-attr]

    for key, id in promises:
        assert sorted(files_of(harness, id, key)) == ["one", "small", "two"]
    harness.wait(lambda: len(list((harness.data.data / "work").iterdir())) <= 1)  # swept at the start, but for its own
    harness.stop(last)
