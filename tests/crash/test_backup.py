"""Backups of a busy server, killed in the middle: the folder always holds one whole backup, or none."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from afterwards._cli.backup import backed_up
from afterwards._cli.bar import Bar
from afterwards._cli.checkup import check
from afterwards._cli.purge import Wanted, purged
from afterwards._cli.restore import restored
from afterwards._domain.findings import Level
from afterwards._domain.tasks import FINAL, TaskState
from afterwards._files.archive import Archive
from crash.harness import DEADLINE, Harness
from support.data import Data, until
from support.directory import make_directory
from support.server import TESTS, program


def background(call, pause: float) -> tuple[threading.Event, threading.Thread]:
    """Do something again and again until the event is set."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(pause):
            call()

    thread = threading.Thread(target=run)
    thread.start()
    return stop, thread


class Maker:
    """Makes backups that are killed."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process

    def kill_after(self, seconds: float) -> None:
        """Begin making backups, and kill it after so many seconds."""
        self._say("")
        child = int(self.process.stdout.readline())
        time.sleep(seconds)  # the moment is what is tried
        os.kill(child, signal.SIGKILL)
        assert self.process.stdout.readline() == "dead\n"

    def kill_at(self, call: int) -> bool:
        """Make a backup that is killed before this call that reaches the disk; tell whether there was one."""
        self._say(str(call))
        self.process.stdout.readline()
        said = self.process.stdout.readline()
        assert said in ("dead\n", "ended with 0\n")
        return said == "dead\n"

    def _say(self, line: str) -> None:
        self.process.stdin.write(f"{line}\n")


@contextmanager
def backing(target: Path, data: Path) -> Iterator[Maker]:
    """Run a process that makes backups to be killed."""
    search = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    maker = subprocess.Popen(
        [sys.executable, "-m", "crash.backing", str(target)],
        env={**os.environ, "PYTHONPATH": search, "AFTERWARDS_DATA": str(data)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        yield Maker(maker)
    finally:
        maker.stdin.close()
        maker.wait(DEADLINE)
        maker.stdout.close()


def bring_back(target: Path, data: Path, *, dry_run: bool = False) -> tuple[str, int]:
    lines, status = restored(target, data, replace=False, partial=False, dry_run=dry_run, as_json=False)
    return "\n".join(lines), status


def back_up_under_load(harness: Harness, rounds: int) -> None:
    """Kill a backup at any moment, so many times, while files arrive and are purged; then restore and go on."""
    server = harness.start()
    target, data = harness.folder / "backup", harness.data.data
    wanted = Wanted(tasks=True, files=True, uploads=True, older_than=timedelta(seconds=1), state=None)

    def send() -> None:
        size = harness.random.choice([10, 5_000, 70_000, 300_000])
        harness.request(server.port, "upload", harness.random.randbytes(size))
        harness.request(server.port, "plain", pause=0)

    def purge() -> None:
        list(purged(data, wanted, dry_run=False, ask=None, as_json=True))

    loops = [background(send, 0.03), background(purge, 0.3)]
    whole = 0
    try:
        with backing(target, data) as maker:
            for _ in range(rounds):
                maker.kill_after(harness.random.uniform(0, harness.random.choice([0.05, 0.3])))
                if Archive(target).manifest() is not None:
                    said, status = bring_back(target, harness.folder / "nowhere", dry_run=True)
                    assert status == 0, said
                    whole += 1
        lines, status = backed_up(data, target, copy=True, as_json=True)
        assert (status, json.loads("".join(lines))["manifest"]["absent"]) == (0, [])
    finally:
        for stop, thread in loops:
            stop.set()
            thread.join(DEADLINE)
    assert whole, "no backup was ever finished: not a test"
    assert not (target / "partial").exists()
    server.kill()
    _go_on(harness, target, harness.folder / "restored")


def _go_on(harness: Harness, target: Path, data: Path) -> None:
    said, status = bring_back(target, data)
    assert status == 0, said
    restored_data = Data(data)
    before = restored_data.rows()
    assert before
    right = dict(harness.promises.values())
    options = {"CRASH_LEDGER": str(harness.handled)}
    arguments = ("uvicorn", "crash.program:app", "--port=0", "--log-level=info")
    with program(*arguments, folder=harness.folder, data=data, **options) as server:
        assert server.port
        until(lambda: all(row.state in FINAL for row in restored_data.rows()), restored_data.states)
        server.stop()
    for row in restored_data.rows():
        assert row.state is TaskState.SUCCEEDED, (row.state, row.error)
        assert row.id not in right or row.result == json.dumps(right[row.id])
    restored_data.close()
    report = check(data, quick=False, bar=Bar("data"))
    assert [one for one in report.findings if one.level is Level.PROBLEM] == []
    print(f"{len(before)} tasks and {report.files} files came back")


def test_a_backup_killed_at_any_moment_is_whole_or_none(harness: Harness):
    back_up_under_load(harness, 30)


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_backups_killed_three_hundred_times(harness: Harness):
    back_up_under_load(harness, 300)


def test_a_backup_killed_at_each_step_is_what_it_was_or_what_it_became(tmp_path: Path):
    """The moments that a random kill seldom hits: between the files of a backup and its manifest."""
    made, target = make_directory(tmp_path / "data"), tmp_path / "backup"
    with backing(target, made.root) as maker:
        for before in (None, "an earlier backup"):
            call = 0
            while maker.kill_at(call):
                manifest = Archive(target).manifest()
                if manifest is None:
                    assert before is None
                else:
                    said, status = bring_back(target, tmp_path / "nowhere", dry_run=True)
                    assert status == 0, said
                if before is None:
                    shutil.rmtree(target)
                call += 1
            assert call > 10, "it was killed nowhere: not a test"
            assert bring_back(target, tmp_path / f"restored{call}")[1] == 0
            made.edit("UPDATE task SET priority = priority + 1")


def test_a_restore_killed_at_any_moment_is_begun_anew(harness: Harness):
    """Until it has come to its end, no program starts on it; then everything is there."""
    server = harness.start()
    for _ in range(40):
        harness.request(server.port, "upload", harness.random.randbytes(200_000))
    target, data = harness.folder / "backup", harness.folder / "restored"
    backed_up(harness.data.data, target, copy=True, as_json=True)
    server.kill()
    cut = 0

    for _ in range(5):
        with program("afterwards", "restore", str(target), folder=harness.folder, data=data) as restore:
            until(lambda: data.exists() or restore.process.poll() is not None)
            time.sleep(harness.random.uniform(0, 0.05))  # the moment is what is tried
            restore.kill()
        if (data / "restoring").exists():
            cut += 1
        elif data.exists():
            shutil.rmtree(data)

    assert cut, "no restore was cut off: not a test"
    _go_on(harness, target, data)
