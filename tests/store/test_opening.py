"""Opening refuses what it must not use, says what to do, and leaves everything as it was."""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from afterwards._store.sqlite import schema
from afterwards._store.sqlite.place import check_file_system, check_library, file_system
from afterwards._store.sqlite.store import SqliteStore
from afterwards.errors import StorageUnsure, StoreRefused
from contract.hand import Hand, new_task

SCHEMAS = Path(__file__).parent / "schemas"


def picture(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def refuse(path: Path, *words: str, **options) -> None:
    before = picture(path.parent)

    with pytest.raises(StoreRefused) as refused:
        SqliteStore(path, **options).close()

    for word in (str(path), *words):
        assert word in str(refused.value)
    after = picture(path.parent)
    assert {name: after[name] for name in before} == before


def test_a_new_database_is_made_for_us_alone(path):
    """What is uploaded may be anyone's secret, whatever the umask of the server."""
    old = os.umask(0)
    try:
        store = SqliteStore(path)
        Hand(store, "w1").add(new_task())
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        store.close()
    finally:
        os.umask(old)

    assert modes == {"tasks.db": 0o600, "tasks.db-wal": 0o600, "tasks.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_another_programs_database_is_refused(path):
    path.parent.mkdir()
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
    other.close()

    refuse(path, "another program", "--data")


def test_another_programs_database_with_a_log_is_refused_and_its_log_left_alone(path, tmp_path):
    """Its owner crashed, and the last transactions are only in the log."""
    path.parent.mkdir()
    live = tmp_path / "live.db"
    other = apsw.Connection(str(live))
    other.pragma("journal_mode", "wal")
    other.execute("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
    for ending in ("", "-wal"):
        Path(f"{path}{ending}").write_bytes(Path(f"{live}{ending}").read_bytes())
    other.close()

    refuse(path, "another program")

    again = apsw.Connection(str(path))
    assert again.execute("SELECT x FROM theirs").get == 1
    again.close()


@pytest.mark.parametrize("content", [b"Dear diary,\n" * 500, b"x"])
def test_a_file_that_is_no_database_is_refused(path, content):
    path.parent.mkdir()
    path.write_bytes(content)

    refuse(path, "not a database of Afterwards")


def test_a_folder_in_place_of_the_database_is_refused(path):
    path.mkdir(parents=True)

    with pytest.raises(StoreRefused, match=r"tasks\.db"):
        SqliteStore(path)


def test_a_newer_schema_is_refused(path):
    """An older program would not keep the rules the newer one relies on."""
    SqliteStore(path).close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 999)
    connection.close()

    refuse(path, "newer", "999", "Upgrade")


@pytest.mark.parametrize("empty", [True, False])
def test_a_locked_database_is_refused(path, empty):
    """Somebody has it open in a program that keeps it to itself."""
    path.parent.mkdir()
    if not empty:
        SqliteStore(path).close()
    other = apsw.Connection(str(path))
    other.pragma("locking_mode", "exclusive")
    other.execute("BEGIN EXCLUSIVE")
    other.execute("CREATE TABLE lock (x)")

    with pytest.raises(StoreRefused, match="locked by another program"):
        SqliteStore(path, busy=0.05)

    other.execute("ROLLBACK")
    other.close()
    SqliteStore(path).close()


def test_a_folder_that_cannot_be_written_is_refused(mount):
    """Permissions do not bind root, a read-only file system does."""
    folder = mount("-t", "tmpfs", "-o", "ro", "tmpfs")

    with pytest.raises(StoreRefused, match="cannot be made"):
        SqliteStore(folder / "tasks.db")
    with pytest.raises(StoreRefused, match="cannot be made"):
        SqliteStore(folder / "deeper" / "tasks.db")


MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:30 / /mnt/share rw - nfs4 server:/export rw
24 22 0:31 / /mnt/share/local rw - ext4 /dev/vdb rw
25 22 0:32 / /mnt/with\040space rw shared:1 master:2 - fuse.sshfs me@host:/ rw
26 22 0:33 / /mnt/twice rw - cifs //server/share rw
27 26 0:34 / /mnt/twice rw - xfs /dev/vdc rw
28 22 0:35 / /mnt/plan9 rw - 9p host rw
29 22 0:36 / /mnt/disk rw - fuseblk /dev/sda1 rw
""".lstrip()


@pytest.mark.parametrize(
    ("folder", "kind", "fits"),
    [
        ("/", "ext4", True),
        ("/home/me/data", "ext4", True),
        ("/mnt/share", "nfs4", False),
        ("/mnt/share/deep/er", "nfs4", False),
        ("/mnt/sharewith", "ext4", True),
        ("/mnt/share/local/x", "ext4", True),
        ("/mnt/with space/x", "fuse.sshfs", False),
        ("/mnt/twice/x", "xfs", True),
        ("/mnt/plan9", "9p", False),
        ("/mnt/disk", "fuseblk", True),
    ],
)
def test_network_file_systems_are_refused(folder, kind, fits):
    """There SQLite's shared memory does not reach every reader, and commits vanish in silence."""
    assert file_system(Path(folder), MOUNTS) == kind

    if fits:
        check_file_system(Path(folder), kind)
    else:
        with pytest.raises(StoreRefused, match=f"{kind}.*--data"):
            check_file_system(Path(folder), kind)


def test_a_store_on_a_network_file_system_makes_nothing(path, monkeypatch):
    """The check comes before the first file."""
    monkeypatch.setattr(schema, "file_system", lambda folder: "nfs4")

    with pytest.raises(StoreRefused, match="nfs4"):
        SqliteStore(path)

    assert not path.parent.exists()


@pytest.mark.parametrize("version", ["3.40.1", "3.44.5", "3.49.9", "3.50.6", "3.51.2", "3.52.0"])
def test_an_sqlite_that_can_destroy_the_database_is_refused(version):
    with pytest.raises(StoreRefused, match=version.replace(".", r"\.")):
        check_library(version)


@pytest.mark.parametrize(
    "version", ["3.44.6", "3.50.7", "3.51.3", "3.52.1", "3.54.1", "4.0.0", apsw.sqlite_lib_version()]
)
def test_an_sqlite_with_the_fix_is_accepted(version):
    check_library(version)


def test_a_store_on_an_old_sqlite_makes_nothing(path, monkeypatch):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.40.1")

    with pytest.raises(StoreRefused, match="apsw"):
        SqliteStore(path)

    assert not path.parent.exists()


STARTER = """
import sys
from pathlib import Path
from afterwards._store.sqlite.store import SqliteStore
from contract.hand import Hand, new_task
print("ready", flush=True)
sys.stdin.readline()
store = SqliteStore(Path(sys.argv[1]))
for _ in range(5):
    Hand(store, "w").add(new_task())
print("done", flush=True)
sys.stdin.readline()
store.close()
"""


def test_several_processes_may_make_the_database_at_once(path):
    """Uvicorn starts its workers at the same moment, on an empty folder."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", STARTER, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(4)]
    try:
        for word in ("ready", "done"):
            for process in processes:
                assert process.stdout.readline().strip() == word
            for process in processes:
                process.stdin.write("go\n")
                process.stdin.flush()
        assert [process.wait(30) for process in processes] == [0] * 4
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=30)

    store = SqliteStore(path)
    assert store.counts() == {"queued": 20}
    store.close()


@pytest.mark.parametrize("release", sorted(file.stem for file in SCHEMAS.glob("*.sql")))
def test_the_database_of_an_earlier_release_is_brought_up_to_date(path, release):
    """Its tasks are still there and can run, and its schema is that of a new database."""
    path.parent.mkdir()
    old = apsw.Connection(str(path))
    old.pragma("journal_mode", "wal")
    old.execute((SCHEMAS / f"{release}.sql").read_text())
    old.close()

    store = SqliteStore(path)
    hand = Hand(store, "w1")
    hand.register()
    claims = hand.claim()
    assert [claim.id for claim in claims] == ["queued0"]
    hand.settle(claims[0])
    assert store.counts() == {"succeeded": 2, "failed": 1, "waiting": 1}
    store.close()
    SqliteStore(path.parent / "new.db").close()

    assert tables(path) == tables(path.parent / "new.db")


def test_the_schema_of_this_release_is_kept_for_later_ones(path):
    """A migration that was released is never edited; until then, `tools/keep-schema` writes the copy anew."""
    SqliteStore(path).close()
    kept = apsw.Connection(":memory:")
    kept.execute((SCHEMAS / "0.1.0.sql").read_text())

    assert sorted(kept.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")) == tables(path)


def tables(path: Path) -> list[tuple[str]]:
    connection = apsw.Connection(str(path))
    found = sorted(connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL"))
    connection.close()
    return found


def test_another_database_in_the_place_of_the_one_in_use_is_not_written_to(tmp_path, caplog):
    """The folder was moved away and another program made a new one: this process has the wrong key for it."""
    folder = tmp_path / "data"
    folder.mkdir()
    store = SqliteStore(folder / "tasks.db")
    hand = Hand(store, "w1")
    hand.register()
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    other = SqliteStore(folder / "tasks.db")

    for _ in range(3):
        with pytest.raises((StorageUnsure, StoreRefused)):
            hand.add(new_task())

    wait_until(lambda: "another database has taken the place" in caplog.text)
    assert other.counts() == {}
    other.close()
    shutil.rmtree(folder)
    (tmp_path / "moved").rename(folder)
    wait_until(lambda: store.health() is None)
    hand.add(new_task())
    assert store.counts() == {"queued": 1}
    store.close()


def wait_until(there: Callable[[], bool]) -> None:
    never = threading.Event()
    for _ in range(2_000):
        if there():
            return
        never.wait(0.01)
    raise AssertionError("it did not come")
