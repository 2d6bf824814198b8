"""`afterwards backup` and `restore`: what comes back is what was there, or nothing comes back and it is said why."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from afterwards import Afterwards
from afterwards._cli import backup as backups
from afterwards._cli import restore as restores
from afterwards._cli.backup import backed_up
from afterwards._cli.bar import Bar
from afterwards._cli.checkup import check
from afterwards._cli.restore import restored
from afterwards._domain.options import PLAIN_CALL
from afterwards._domain.tasks import TaskRow
from afterwards._domain.uploads import UploadState
from afterwards._files import entering
from afterwards._files.archive import Archive, Manifest
from afterwards._files.directory import open_directory
from afterwards._files.holding import held
from afterwards._files.stored import path_of
from afterwards._store.contract import Filter, ask_blocking
from afterwards._store.sqlite.store import SqliteStore
from afterwards._store.upkeep import Purge
from afterwards.errors import BackupRefused, StorageFull, StoreRefused
from cli.processes import command, until
from contract.hand import NOW
from support.directory import LARGE, Made, large_file, make_directory, open_upload, packed_file


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_directory(tmp_path / "data")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "backup"


def save(made: Made, target: Path, **options) -> tuple[str, int]:
    lines, status = backed_up(made.root, target, copy=options.get("copy", False), as_json=False)
    return "\n".join(lines), status


def bring_back(target: Path, data: Path, **options) -> tuple[str, int]:
    given = {"replace": False, "partial": False, "dry_run": False, "as_json": False}
    lines, status = restored(target, data, **given | options)
    return "\n".join(lines), status


def rows(root: Path) -> list[TaskRow]:
    store = SqliteStore(root / "afterwards.db")
    try:
        return store.tasks(Filter(limit=100))
    finally:
        store.close()


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "files").rglob("*") if path.is_file()}


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_restored_is_what_was_backed_up(made, target, tmp_path):
    said, status = save(made, target)
    assert status == 0
    assert "It holds the key and everything your tasks were given" in said

    told, status = bring_back(target, tmp_path / "new")

    assert status == 0
    assert told.splitlines()[-1] == "healthy: 6 tasks, 4 files (205.1 KiB read and compared)"
    assert rows(tmp_path / "new") == rows(made.root)
    assert contents(tmp_path / "new") == contents(made.root)
    assert (tmp_path / "new" / "key").read_bytes() == (made.root / "key").read_bytes()
    assert sorted(os.listdir(tmp_path / "new")) == ["afterwards.db", "files", "key"]


def test_uploads_that_are_arriving_have_ended_in_a_backup(made, target, tmp_path):
    """Their bytes are not copied: in the restored directory nobody is promised them, and nothing is amiss."""
    upload = open_upload(made.root, owner="ann")
    save(made, target)

    told, status = bring_back(target, tmp_path / "new")

    assert status == 0, told
    assert "healthy" in told
    restored_store, store = SqliteStore(tmp_path / "new" / "afterwards.db"), SqliteStore(made.root / "afterwards.db")
    try:
        assert restored_store.upload(upload.id).state is UploadState.EXPIRED
        assert store.upload(upload.id) == upload, "in the original it goes on"
        before, after = (one.stored(["", "ann"]) for one in (store, restored_store))
    finally:
        restored_store.close()
        store.close()
    assert before["ann"].bytes == before[""].bytes - after[""].bytes == LARGE
    assert "ann" not in after


@pytest.mark.parametrize("copy", [False, True])
def test_nobody_else_can_read_a_backup_or_what_is_restored(made, target, tmp_path, copy):
    """It holds the key: who reads it can have code run."""
    os.umask(0)
    try:
        save(made, target, copy=copy)
        bring_back(target, tmp_path / "new")
    finally:
        os.umask(0o022)

    for folder in (target, tmp_path / "new"):
        for path in [folder, *folder.rglob("*")]:
            assert path.stat().st_mode & 0o077 == 0, path


def test_files_are_shared_where_that_is_possible_and_copied_where_that_is_asked(made, target, tmp_path):
    save(made, target)
    save(made, tmp_path / "copies", copy=True)

    large = made.files["large"]
    assert path_of(large, tmp_path / "copies").stat().st_nlink == 1
    assert path_of(large, target).stat().st_ino != path_of(large, tmp_path / "copies").stat().st_ino
    assert contents(target) == contents(tmp_path / "copies")


def test_the_next_backup_brings_only_what_is_new_and_forgets_what_is_gone(made, target):
    save(made, target)
    kept = path_of(made.files["shared"], target).stat()
    store = SqliteStore(made.root / "afterwards.db")
    purge = Purge(tasks=True, kinds=("upload",), before=NOW + 10**17, state="succeeded", limit=100)
    ask_blocking(store, purge)
    store.close()

    lines, _ = backed_up(made.root, target, copy=False, as_json=True)

    document = json.loads("".join(lines))
    assert document["brought"] == {"kept": 2}, "the file of the succeeded task waits for its own time"
    assert document["manifest"]["tasks"] == {"failed": 1, "queued": 2, "waiting": 1, "scheduled": 1}
    assert path_of(made.files["shared"], target).stat() == kept
    assert not path_of(made.files["upload"], target).exists()
    assert len(list(target.glob("*.db"))) == len(list(target.glob("*.key"))) == 1


def test_a_file_pruned_in_the_middle_is_in_the_backup(made, target, monkeypatch):
    """The copy of the database names it, so it must come along: the hold keeps its bytes."""
    real = backups.make_snapshot

    def then_prune(*arguments):
        real(*arguments)
        assert held(made.root)
        store = SqliteStore(made.root / "afterwards.db")
        wanted = Purge(tasks=True, kinds=("input", "upload"), before=NOW + 10**17, state=None, limit=100)
        gone = ask_blocking(store, wanted)
        store.close()
        assert made.files["upload"] in gone.files
        from afterwards._files.sweep import remove

        assert remove(gone.files, made.root) == 0

    monkeypatch.setattr(backups, "make_snapshot", then_prune)

    _, status = save(made, target)

    assert status == 0
    assert not held(made.root)
    assert made.files["upload"] in contents(target)
    assert bring_back(target, target.parent / "new")[1] == 0


def test_a_file_that_goes_in_spite_of_the_hold_begins_the_backup_anew(made, target, monkeypatch):
    """An older program prunes without asking: then the next copy of the database does not name it."""
    real, times = backups.make_snapshot, []

    def then_lose(*arguments):
        real(*arguments)
        times.append(1)
        made.edit("DELETE FROM file WHERE id = ?", made.files["upload"])
        made.path("upload").unlink(missing_ok=True)

    monkeypatch.setattr(backups, "make_snapshot", then_lose)

    _, status = save(made, target)

    assert (status, len(times)) == (0, 2)
    assert made.files["upload"] not in contents(target)
    assert bring_back(target, target.parent / "new")[1] == 0


def test_a_damaged_file_is_named_and_the_rest_is_saved(made, target, tmp_path):
    """One bad file must not leave somebody without any backup. Nor is it taken for a good one."""
    os.truncate(made.path("large"), 7)

    said, status = save(made, target)

    assert status == 1
    assert f"MISSING  file {made.files['large']}: " in said
    assert made.files["large"] not in contents(target)
    told, status = bring_back(target, tmp_path / "new")
    assert status == 1
    assert "PROBLEM  missing_file" in told


def test_what_an_earlier_backup_has_is_not_lost_to_a_damage_since(made, target):
    save(made, target, copy=True)
    right = made.path("large").read_bytes()
    made.path("large").unlink()

    _, status = save(made, target, copy=True)

    assert status == 0
    assert contents(target)[made.files["large"]] == right


def test_a_file_of_the_backup_that_went_bad_is_brought_again(made, target, tmp_path):
    """A backup that is renewed looks at what is there: the size alone says nothing."""
    save(made, target, copy=True)
    large = path_of(made.files["large"], target)
    large.chmod(0o600)
    content = bytearray(large.read_bytes())
    content[5] ^= 1
    large.write_bytes(content)

    said, status = save(made, target, copy=True)

    assert status == 0
    assert f"RENEWED  file {made.files['large']}: what the backup had of it was damaged: its digest is" in said
    assert contents(target) == contents(made.root)
    told, status = bring_back(target, tmp_path / "new", dry_run=True)
    assert status == 0
    assert told.startswith("whole: 6 tasks and 3 stored files")


def damage_small(made: Made) -> str:
    made.edit("UPDATE file SET content = CAST(x'00' || substr(content, 2) AS BLOB) WHERE id = ?", made.files["small"])
    return made.files["small"]


def test_a_damaged_small_file_is_named(made, target, tmp_path):
    """It is kept in a row, which SQLite's own check calls sound whatever bytes it has."""
    id = damage_small(made)

    said, status = save(made, target)

    assert status == 1
    assert f"MISSING  file {id}: the bytes in its row do not have the digest that was stored" in said
    told, status = bring_back(target, tmp_path / "new", dry_run=True)
    assert status == 1
    assert f"MISSING  file {id}: the bytes in its row" in told
    told, status = bring_back(target, tmp_path / "new")
    assert status == 1
    assert f"damaged_file: file {id}" in told


def test_a_small_file_that_is_whole_in_the_earlier_backup_stays_whole(made, target, tmp_path):
    """The last good copy of it must not go with the copy of the database that it is in."""
    right = small_content(made)
    save(made, target)
    id = damage_small(made)

    said, status = save(made, target)

    assert status == 1, "something is wrong with the data directory"
    assert f"MENDED   file {id}: " in said
    told, status = bring_back(target, tmp_path / "new")
    assert status == 0, told
    made.root = tmp_path / "new"
    assert small_content(made) == right


def test_a_file_in_a_pack_is_in_the_backup_and_needs_no_pack_there(made, target, tmp_path):
    file = packed_file(made.root)

    save(made, target)
    told, status = bring_back(target, tmp_path / "new")

    assert status == 0, told
    assert not (tmp_path / "new" / "packs").exists()
    made.root, made.files["small"] = tmp_path / "new", file.id
    assert small_content(made) == file.content


def small_content(made: Made) -> bytes:
    store = SqliteStore(made.root / "afterwards.db")
    try:
        return store.file(made.files["small"]).content
    finally:
        store.close()


def test_a_small_file_that_no_manifest_calls_damaged_is_refused(made, target, tmp_path, monkeypatch):
    """A backup of a release that did not look is not called whole."""
    id = damage_small(made)
    with monkeypatch.context() as older:
        older.setattr(backups, "damaged_small_files", lambda _: ())
        assert save(made, target)[1] == 0

    for options in ({}, {"dry_run": True}):
        with pytest.raises(BackupRefused, match=f"is damaged: file {id}: the bytes in its row"):
            bring_back(target, tmp_path / "new", **options)

    assert os.listdir(tmp_path / "new") == []
    assert bring_back(target, tmp_path / "new", partial=True)[1] == 1


def test_a_damaged_database_is_not_saved_over_a_good_backup(made, target):
    save(made, target)
    before = everything(target)
    made.edit("INSERT INTO task_file (task, file) VALUES (999, 999)")
    content = bytearray((made.root / "afterwards.db").read_bytes())
    for start in range(4096 * 6, len(content), 4096 * 3):
        content[start + 20 : start + 400] = os.urandom(380)
    (made.root / "afterwards.db").write_bytes(content)

    with pytest.raises(Exception, match=r"damaged|could not be read"):
        save(made, target)

    assert everything(target) == before


@pytest.mark.parametrize("broken", ["database", "key", "file", "file gone", "manifest"])
def test_a_damaged_backup_is_refused_before_anything_is_restored(made, target, tmp_path, broken):
    save(made, target, copy=True)
    manifest: Manifest = Archive(target).manifest()
    path = {
        "database": target / manifest.database.name,
        "key": target / manifest.key.name,
        "manifest": target / "backup.json",
    }.get(broken, path_of(made.files["large"], target))
    if broken == "file gone":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[1] ^= 1
        path.write_bytes(content)

    for options in ({}, {"dry_run": True}):
        with pytest.raises(BackupRefused, match=r"[Uu]se another backup"):
            bring_back(target, tmp_path / "new", **options)

    assert not (tmp_path / "new").exists() or os.listdir(tmp_path / "new") == []
    if broken.startswith("file"):
        told, status = bring_back(target, tmp_path / "new", partial=True)
        assert status == 1
        assert "missing_file" in told


def test_a_folder_that_is_no_backup_is_neither_restored_nor_written_to(made, target, tmp_path):
    target.mkdir()
    (target / "photo.jpg").write_text("keep")

    with pytest.raises(BackupRefused, match="is not empty and is no backup"):
        save(made, target)
    with pytest.raises(BackupRefused, match="is no finished backup"):
        bring_back(target, tmp_path / "new")

    assert os.listdir(target) == ["photo.jpg"]
    assert not (tmp_path / "new").exists()


def test_a_backup_does_not_take_the_place_of_another_programs(made, target, tmp_path):
    save(made, target)
    before = everything(target)

    with pytest.raises(BackupRefused, match="is a backup of another data directory"):
        save(make_directory(tmp_path / "other"), target)

    assert everything(target) == before


def test_a_backup_beside_or_inside_its_data_is_refused(made, tmp_path):
    for place in (made.root, made.root / "backup", tmp_path):
        with pytest.raises(BackupRefused, match="lie in each other"):
            save(made, place)
    assert not (made.root / "backup").exists()


def test_a_place_where_no_backup_can_be_is_named_for_what_it_is(made, tmp_path):
    """Room is not what is missing there."""
    (tmp_path / "file").write_text("keep")

    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(
            BackupRefused, match=r"file(/below)? is no folder\. Choose another for the backup"
        ) as refused:
            save(made, place)
        assert "Make room" not in str(refused.value)
    if os.path.isdir("/proc/self"):
        with pytest.raises(
            BackupRefused, match=r"failed: No such file or directory \(/proc/x\).* Choose a folder that"
        ):
            save(made, Path("/proc/x"))
    assert (tmp_path / "file").read_text() == "keep"


def test_two_backups_to_one_folder_do_not_mix(made, target):
    save(made, target)

    with Archive(target).locked(), pytest.raises(BackupRefused, match=r"another backup to .* is being made"):
        save(made, target)


def test_a_used_data_directory_is_not_written_over(made, target):
    save(made, target)
    before = everything(made.root)

    with pytest.raises(BackupRefused, match=r"is not empty \(afterwards.db, files, key\).*--replace"):
        bring_back(target, made.root)

    assert everything(made.root) == before


def test_what_was_there_is_set_aside_when_that_is_asked(made, target, tmp_path):
    save(made, target)
    other = make_directory(tmp_path / "other")
    before = everything(other.root)

    told, status = bring_back(target, other.root, replace=True)

    assert status == 0
    [aside] = [name for name in os.listdir(other.root) if name.startswith("replaced-")]
    assert f"what was there before is in {other.root / aside}" in told
    assert everything(other.root / aside) == before
    assert rows(other.root) == rows(made.root)


def test_a_failed_restore_puts_back_what_was_there(made, target, tmp_path):
    save(made, target, copy=True)
    path_of(made.files["large"], target).unlink()
    other = make_directory(tmp_path / "other")
    before = everything(other.root)

    with pytest.raises(BackupRefused, match="Nothing has been restored"):
        bring_back(target, other.root, replace=True)

    assert everything(other.root) == before


@pytest.mark.parametrize("doing", ["copying", "setting aside"])
def test_a_restore_that_was_killed_keeps_programs_out_and_is_begun_anew(made, target, tmp_path, doing):
    save(made, target)
    other = make_directory(tmp_path / "other")
    before = everything(other.root)
    aside = other.root / "replaced-x"
    aside.mkdir(mode=0o700)
    os.rename(other.root / "key", aside / "key")
    if doing == "copying":  # all is aside, and a part of the backup is there
        for name in ("afterwards.db", "files"):
            os.rename(other.root / name, aside / name)
        (other.root / "afterwards.db").write_text("half")
    (other.root / "restoring").write_text(f"{doing}\nreplaced-x")
    with pytest.raises(StoreRefused, match="did not come to its end"):
        open_directory(other.root)

    _, status = bring_back(target, other.root)

    assert status == 0
    assert rows(other.root) == rows(made.root)
    assert everything(aside) == before
    assert open_directory(other.root)


def test_a_running_programs_data_is_not_replaced(folder, serve, tmp_path):
    server = serve()
    server.post("/sleep/0")
    assert command(folder, "backup", "saved").returncode == 0

    refused = command(folder, "restore", "saved", "--replace")

    assert refused.returncode == 1
    assert "a program runs on the data directory" in refused.stderr
    assert server.post("/sleep/0") is None


def test_a_program_that_starts_just_before_the_marker_keeps_its_data(made, target, tmp_path, monkeypatch):
    """It saw no marker, so it runs: the restore sees it, refuses, and clears nothing of it."""
    save(made, target)
    new = tmp_path / "new"
    system = Afterwards(data=new)._system
    real = restores._mark

    def start_first(*arguments):
        monkeypatch.setattr(restores, "_mark", real)
        system.start(None)
        system.enqueue_blocking(print, (), {}, PLAIN_CALL)
        real(*arguments)

    monkeypatch.setattr(restores, "_mark", start_first)
    try:
        with pytest.raises(BackupRefused, match=r"was started on the data directory .* at the same moment"):
            bring_back(target, new)

        assert sorted(os.listdir(new)) == ["afterwards.db", "afterwards.db-shm", "afterwards.db-wal", "key", "workers"]
        system.enqueue_blocking(print, (), {}, PLAIN_CALL)
    finally:
        system.stop()
    assert len(rows(new)) == 2
    assert check(new, quick=False, bar=Bar("data")).findings == []


def test_a_program_that_ran_for_a_moment_before_the_marker_keeps_its_data(made, target, tmp_path, monkeypatch):
    """It has ended again, so no lock tells of it; what it made does."""
    save(made, target)
    new, real = tmp_path / "new", restores._mark

    def make_first(*arguments):
        make_directory(new)
        real(*arguments)

    monkeypatch.setattr(restores, "_mark", make_first)

    with pytest.raises(BackupRefused, match="is not empty"):
        bring_back(target, new)

    assert contents(new)
    assert open_directory(new)


def test_a_program_that_saw_no_marker_looks_again(made, target, tmp_path, monkeypatch):
    """It looked before the restore began, and goes on in its middle: it writes nothing there, and does not run."""
    save(made, target)
    new, real = tmp_path / "new", restores._copy
    refused = []

    def start_in_the_middle(*arguments):
        monkeypatch.setattr(entering, "open_directory", lambda root: root)  # it has looked already
        before = everything(new)
        with pytest.raises(StoreRefused, match="did not come to its end") as raised:
            Afterwards(data=new)._system.start(None)
        refused.append(raised.value)
        assert everything(new) == before
        real(*arguments)

    monkeypatch.setattr(restores, "_copy", start_in_the_middle)

    told, status = bring_back(target, new)

    assert (len(refused), status) == (1, 0), told
    assert rows(new) == rows(made.root)


def test_two_restores_into_one_folder_do_not_mix(made, target, tmp_path, monkeypatch):
    """The second would take what the first has copied for what a killed one has left."""
    save(made, target)
    new, real = tmp_path / "new", restores._copy

    def twice(*arguments):
        with pytest.raises(BackupRefused, match=r"another restore into .* is under way"):
            bring_back(target, new)
        real(*arguments)

    monkeypatch.setattr(restores, "_copy", twice)

    assert bring_back(target, new)[1] == 0
    assert rows(new) == rows(made.root)


def test_a_restored_directory_knows_no_process_of_the_original(folder, serve):
    """It runs, so that nothing should be said of its end."""
    server = serve()
    server.post("/sleep/0")
    assert command(folder, "backup", "saved").returncode == 0

    back = command(folder, "restore", "saved", "--data", "other")

    assert back.returncode == 0, back.stderr
    assert "dead_worker" not in back.stdout
    assert "healthy" in back.stdout
    assert command(folder, "doctor").stdout.startswith("healthy"), "the original goes on"


def test_what_ran_in_the_backup_runs_again_in_the_restored(folder, serve, start, data):
    """It is taken up as after a crash, and what had ended has its result."""
    server = serve()
    server.post("/sleep/0")
    server.post("/wait/gate")
    until(lambda: sorted(data.states()) == ["running", "succeeded"], "one runs")
    saved = command(folder, "backup", "saved")
    assert saved.returncode == 0, saved.stderr
    server.kill()
    (folder / "gate").touch()
    shutil.rmtree(folder / "afterwards-data")

    back = command(folder, "restore", "saved", "--json")

    assert json.loads(back.stdout)["healthy"] is True
    serve()
    until(lambda: data.states() == ["succeeded", "succeeded"], "both have ended")


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    mounting = ["mount", "-t", "tmpfs", "-o", "size=600k,mode=700", "tmpfs", folder]
    result = subprocess.run(mounting, capture_output=True, text=True, timeout=30, check=False)
    if result.returncode != 0:
        pytest.skip(f"this machine does not let us mount: {result.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True, timeout=30)


def test_a_full_disk_leaves_the_earlier_backup_and_its_room(made, small_disk, tmp_path):
    target = small_disk / "backup"
    save(made, target)
    before = everything(target)
    free = os.statvfs(small_disk).f_bavail
    store = SqliteStore(made.root / "afterwards.db")
    from contract.hand import Hand, new_task

    more = [large_file(made.root) for _ in range(12)]
    Hand(store, "w").add(new_task(files=[file.id for file in more]), files=more)
    store.close()

    with pytest.raises(StorageFull, match="The earlier backup there is unchanged"):
        save(made, target)

    assert everything(target) == before
    assert os.statvfs(small_disk).f_bavail >= free
    assert bring_back(target, tmp_path / "new")[1] == 0


def test_a_restore_onto_a_full_disk_leaves_nothing(made, target, small_disk):
    save(made, target)
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 300_000)

    with pytest.raises(StorageFull, match="nothing was restored"):
        bring_back(target, small_disk / "data")

    assert os.listdir(small_disk / "data") == []
    filler.unlink()
    told, _ = bring_back(target, small_disk / "data")
    assert [line.split()[1] for line in told.splitlines() if line.startswith("PROBLEM")] == ["disk_almost_full:"]
    assert sum(map(len, everything(small_disk / "data").values())) > LARGE * 3


def test_root_restores_for_the_account_of_the_program(made, target, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    save(made, target)
    new = tmp_path / "new"
    new.mkdir()
    os.chown(new, 12345, 12345)

    _, status = bring_back(target, new)

    assert status == 0
    assert {path.stat().st_uid for path in new.rglob("*")} == {12345}


def test_the_restored_directory_is_checked_to_the_last_byte(made, target, tmp_path):
    save(made, target)
    bring_back(target, tmp_path / "new")

    report = check(tmp_path / "new", quick=False, bar=Bar("data"))

    assert report.findings == []
    assert report.bytes == 3 * LARGE
