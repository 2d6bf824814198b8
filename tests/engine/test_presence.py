"""Dead is who has lost its lock, however that happened; alive is everybody else."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from afterwards._domain.ids import new_id
from afterwards._files.presence import Presence, _held, wake
from afterwards.errors import StoreRefused
from engine.jobs import DEADLINE

PRESENT = """
import os, sys
from pathlib import Path
from afterwards._files.presence import Presence
presence = Presence(Path(sys.argv[1]), sys.argv[2])
if "fork" in sys.argv:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # it has every descriptor of its parent, and stays when that is gone
        os.close(read)
        os.write(write, b".")
        sys.stdin.buffer.read()
        from afterwards._domain.ids import new_id
        print("lives" if Presence(Path(sys.argv[1]), new_id()).lives(sys.argv[2]) else "dead", flush=True)
        os._exit(0)
    os.read(read, 1)
    print(child, flush=True)
print("present", flush=True)
sys.stdin.buffer.read()
"""


@contextmanager
def present(root: Path, worker: str, *how: str) -> Iterator[subprocess.Popen]:
    """A process of its own that is present."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRESENT, str(root), worker, *how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=DEADLINE)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Presence]:
    presence = Presence(tmp_path, new_id())
    yield presence
    presence.close()


def line(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_process_lives_until_it_is_killed(tmp_path, own: Presence):
    worker = new_id()
    with present(tmp_path, worker) as process:
        assert line(process) == "present"
        assert own.lives(worker)
        assert own.lives(worker)  # asking has not taken it away

        process.kill()
        process.wait(DEADLINE)

        assert not own.lives(worker)


def test_a_stopped_process_lives(tmp_path, own: Presence):
    """Its lease decides about it."""
    worker = new_id()
    with present(tmp_path, worker) as process:
        assert line(process) == "present"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)

        assert own.lives(worker)

        process.send_signal(signal.SIGCONT)


def test_a_forked_child_does_not_keep_its_dead_parent_alive(tmp_path, own: Presence):
    """User code forks (multiprocessing does): the child has the lock's descriptor, and must not have the lock."""
    worker = new_id()
    with present(tmp_path, worker, "fork") as process:
        child = int(line(process))
        assert line(process) == "present"
        assert own.lives(worker)

        process.kill()
        process.wait(DEADLINE)

        os.kill(child, 0)  # it is still there
        assert not own.lives(worker)
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        assert line(process) == "dead"  # and the child sees it, too, if it starts something of its own


def test_a_forked_child_forgets_what_its_parent_holds_and_leaves_its_files(tmp_path, own: Presence):
    """A child that starts an engine of its own must see when its parent dies; one that ends must not sign it off."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        own.close()
        answer = Presence(tmp_path, new_id()).lives(own._worker)  # held by the parent, which is alive
        os.write(write, b"alive" if answer else b"dead")
        os._exit(0)
    os.close(write)
    assert os.read(read, 10) == b"alive"
    os.close(read)
    os.waitpid(child, 0)

    assert own._lock.exists()
    with present(tmp_path, new_id()) as process:
        assert line(process) == "present"
    with open(own._lock, "rb+") as lock, pytest.raises(OSError, match="unavailable"):
        run_elsewhere(lock.name)


def run_elsewhere(lock: str) -> None:
    """Try a lock from another process, where it is not our own."""
    code = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'rb+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    tried = subprocess.run([sys.executable, "-c", code, lock], capture_output=True, text=True, timeout=DEADLINE)
    if tried.returncode:
        raise OSError(tried.stderr)


def test_whoever_never_was_is_dead(own: Presence):
    assert not own.lives(new_id())


@pytest.mark.parametrize("worker", ["../key", "", "x", "a" * 200])
def test_a_worker_that_is_no_id_names_no_file(tmp_path, own: Presence, worker):
    """The name comes from the database, where anybody who may edit it can write a path."""
    victim = tmp_path / "key.lock"
    victim.write_text("keep")

    assert not own.lives(worker)
    own.forget(worker)

    assert victim.read_text() == "keep"


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_lock_file_tells_nothing_so_the_lease_decides(tmp_path, own: Presence, kind):
    """Somebody's handiwork in the folder must not make a living process dead, and a link must not be followed."""
    worker = new_id()
    path = tmp_path / "workers" / f"{worker}.lock"
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)

    assert own.lives(worker)
    assert not (tmp_path / "elsewhere").exists()


def test_waking_the_others_writes_into_nothing_but_their_pipes(tmp_path, own: Presence):
    """A byte written through a link, or into a file, would damage whatever that is."""
    folder = tmp_path / "workers"
    precious = tmp_path / "afterwards.db"
    precious.write_text("precious")
    (folder / "link.wake").symlink_to(precious)
    (folder / "file.wake").write_text("mine")
    (folder / "folder.wake").mkdir()
    (folder / "gone.wake").symlink_to(tmp_path / "nothing")
    os.mkfifo(folder / "unread.wake")
    other = Presence(tmp_path, new_id())
    try:
        own.wake_others()

        assert os.read(other.descriptor, 10) == b"!"
    finally:
        other.close()
    assert precious.read_text() == "precious"
    assert (folder / "file.wake").read_text() == "mine"
    assert not (tmp_path / "nothing").exists()


def test_a_pipe_full_of_hints_holds_nobody_up(tmp_path, own: Presence):
    """A process that stands still does not read its pipe."""
    for _ in range(70_000):
        wake(tmp_path)

    own.drain()

    with pytest.raises(BlockingIOError):
        os.read(own.descriptor, 1)


def test_a_place_that_cannot_hold_it_is_refused_with_the_reason(tmp_path):
    (tmp_path / "workers").write_text("somebody's notes")

    with pytest.raises(StoreRefused, match="is not a folder"):
        Presence(tmp_path, new_id())


def test_a_link_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "workers").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoreRefused, match="follows no link"):
        Presence(tmp_path, new_id())


def test_signing_off_twice_closes_nothing_of_others(tmp_path):
    """The number of a closed descriptor belongs to the next file that is opened: the database, say."""
    presence = Presence(tmp_path, new_id())
    presence.close()
    read, write = os.pipe()

    presence.close()

    os.write(write, b"x")
    assert os.read(read, 1) == b"x"
    os.close(read)
    os.close(write)


def test_signing_off_leaves_nothing(tmp_path):
    presence = Presence(tmp_path, new_id())
    descriptor = presence._descriptor

    presence.close()

    assert not list((tmp_path / "workers").iterdir())
    with pytest.raises(OSError, match="Bad file descriptor"):
        fcntl.lockf(descriptor, fcntl.LOCK_UN)


@pytest.mark.parametrize("removed", [False, True])
def test_a_lock_that_was_lost_is_taken_again(tmp_path, own: Presence, removed: bool):
    """Code of the same process that opens and closes the file gives it up: a checksum of the folder, a backup."""
    os.close(os.open(own._lock, os.O_RDONLY))
    if removed:
        own._lock.unlink()
    assert not seen_by_another(tmp_path)

    own.renew()

    assert seen_by_another(tmp_path)


def test_what_a_process_left_that_died_at_its_start_is_swept(tmp_path, own: Presence):
    """It had a lock and a pipe and was on no record yet; a young one may be about to come."""
    old, young, known = (Presence(tmp_path, new_id()) for _ in range(3))
    for gone in (old, young, known):
        os.close(os.open(gone._lock, os.O_RDONLY))
        _held.discard(gone._identity)
    for path in (old._lock, known._lock):
        os.utime(path, (0, 0))

    own.sweep({known._worker})

    assert [gone._lock.exists() for gone in (old, young, known)] == [False, True, True]
    assert not old._pipe.exists()
    assert own._lock.exists()


def seen_by_another(root: Path) -> bool:
    """Whether a process that is not of ours finds somebody alive."""
    look = (
        "import sys, pathlib; from afterwards._files.presence import living; print(living(pathlib.Path(sys.argv[1])))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", look, str(root)], capture_output=True, text=True, timeout=60, check=True
    )
    return ended.stdout.strip() == "True"
