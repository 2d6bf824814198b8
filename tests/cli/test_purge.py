"""`afterwards purge`: what is done with goes when somebody says so, and nothing else."""

import json
import time
from pathlib import Path

import pytest

from afterwards._cli.bar import Bar
from afterwards._cli.checkup import check
from afterwards._domain.uploads import UploadState
from afterwards._files.holding import holding
from afterwards._files.parts import Part, part_path
from afterwards._store.contract import Filter
from afterwards._store.sqlite.store import SqliteStore
from cli.processes import command, until
from support.directory import Made, make_directory, open_upload


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_directory(tmp_path / "data")


def left(made: Made) -> set[str]:
    """The tasks that are there still, by their names here."""
    store = SqliteStore(made.root / "afterwards.db")
    try:
        there = {row.id for row in store.tasks(Filter(limit=100))}
        return {name for name, id in made.tasks.items() if id in there}
    finally:
        store.close()


def purge(made: Made, *options: str) -> dict[str, int]:
    ended = command(made.root.parent, "purge", "--data", "data", "--older-than", "1h", "--json", *options)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


EVERY = {"succeeded", "failed", "queued", "first", "second", "scheduled"}


def test_ended_tasks_go_with_the_files_that_no_other_task_has(made):
    found = purge(made, "--yes")

    assert found == {"tasks": 2, "files": 2, "uploads": 0, "bytes": 70_000, "dry_run": False}
    assert left(made) == EVERY - {"succeeded", "failed"}
    assert not made.path("large").exists()
    assert made.path("shared").exists(), "a queued task needs it"
    assert made.path("upload").exists(), "nobody said uploads"
    assert check(made.root, quick=False, bar=Bar("data")).findings == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--state", "failed"), {"failed"}),
        (("--state", "cancelled"), set()),
        (("--tasks",), {"succeeded", "failed"}),
        (("--uploads",), set()),
        (("--files",), set()),
    ],
)
def test_only_what_is_named_goes(made, options, expected):
    found = purge(made, "--yes", *options)

    assert found["tasks"] == len(expected)
    assert left(made) == EVERY - expected
    assert made.path("upload").exists() == (options != ("--uploads",))
    assert made.path("shared").exists()


def test_what_is_younger_stays(made):
    """The tasks of these tests ended in 2023."""
    ended = command(made.root.parent, "purge", "--data", "data", "--older-than", "5000w", "--yes")

    assert ended.stdout == "deleted 0 tasks and 0 files, 0 B on the disk\n"
    assert left(made) == EVERY


def test_a_dry_run_counts_and_deletes_nothing(made):
    found = purge(made, "--dry-run", "--tasks", "--files", "--uploads")

    assert found == {"tasks": 2, "files": 3, "uploads": 0, "bytes": 140_005, "dry_run": True}
    assert left(made) == EVERY
    assert made.path("upload").exists()


def test_it_asks_first_and_takes_no_answer_for_no(made):
    """A script without --yes deletes nothing."""
    ended = command(made.root.parent, "purge", "--data", "data", "--older-than", "1h")

    assert ended.returncode == 1
    asked = "Delete 2 ended tasks with 2 files that no other task has (68.4 KiB); 0 files that no task has (0 B)?"
    assert asked in ended.stderr
    assert left(made) == EVERY


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--older-than", "soon"), "'soon' is no length of time: write it as 7d"),
        (("--older-than", "30"), "'30' has no unit, so it could be days or seconds"),
        (("--older-than", "1d", "--state", "queued"), "only tasks that have ended can be deleted"),
        (("--older-than", "1d", "--uploads", "--state", "failed"), "--state is about tasks"),
        ((), "--older-than"),
    ],
)
def test_what_makes_no_sense_is_refused(made, options, said):
    ended = command(made.root.parent, "purge", "--data", "data", "--yes", *options, columns=200)

    assert ended.returncode == 2
    assert said in ended.stderr
    assert left(made) == EVERY


def purged_uploads(made: Made, *options: str) -> str:
    ended = command(made.root.parent, "purge", "--data", "data", "--uploads", "--yes", *options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_unfinished_uploads_go_too(made):
    """Whoever is rid of uploads is rid of the largest: those that nobody finishes."""
    upload = open_upload(made.root)
    fresh = open_upload(made.root, changed_at=time.time_ns() // 1000)

    said = purged_uploads(made, "--older-than", "1h", "--dry-run")
    assert said == "1 upload that no task has (68.4 KiB); 1 unfinished upload (48.8 KiB)\n"
    assert part_path(upload.id, made.root).exists()

    said = purged_uploads(made, "--older-than", "1h")

    assert said == "deleted 0 tasks, 1 file and 1 unfinished upload, 117.2 KiB on the disk\n"
    assert not part_path(upload.id, made.root).exists()
    assert part_path(fresh.id, made.root).exists()
    store = SqliteStore(made.root / "afterwards.db")
    try:
        assert store.upload(upload.id).state is UploadState.EXPIRED
        assert store.upload(fresh.id).state is UploadState.OPEN
    finally:
        store.close()
    assert check(made.root, quick=False, bar=Bar("data")).findings == []


def test_an_upload_that_is_being_written_stays(made):
    """However old its last record is: a slow client has it in its hands."""
    upload = open_upload(made.root)
    part = Part.open(upload.id, made.root)
    assert part.lock()
    try:
        said = purged_uploads(made, "--older-than", "1h")
    finally:
        part.close()

    assert "0 unfinished uploads" in said
    assert "1 upload stayed: a request writes there at this moment." in said
    assert part_path(upload.id, made.root).exists()


def test_while_a_backup_is_made_the_bytes_stay(made):
    with holding(made.root):
        ended = command(made.root.parent, "purge", "--data", "data", "--older-than", "1h", "--yes")

    assert "deleted 2 tasks and 2 files, 0 B on the disk" in ended.stdout
    assert "A backup is being made" in ended.stdout
    assert made.path("large").exists()


def test_it_works_beside_a_running_program(folder, serve, data):
    server = serve()
    for _ in range(3):
        server.post("/sleep/0")
    until(lambda: data.states() == ["succeeded"] * 3, "all have ended")

    ended = command(folder, "purge", "--older-than", "0.001s", "--yes")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("deleted 2 tasks and 0 files, 0 B on the disk\nThe newest task stays: the numbers")
    server.post("/sleep/0")
    until(lambda: data.states() == ["succeeded"] * 2, "it goes on")
    assert command(folder, "doctor").returncode == 0
