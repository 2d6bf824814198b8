"""The disk side of what tasks make: folders that go whatever is in them, paths that lead to no stored bytes."""

import gc
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from afterwards._domain.ids import new_id
from afterwards._engine import outside
from afterwards._engine.files import File
from afterwards._engine.outputs import output, workdir
from afterwards._files.cloning import clone
from afterwards._files.outputs import OutputFile
from afterwards._files.removal import remove_folder, sweep_work
from afterwards._files.spooled import Memory
from afterwards._files.staging import INLINE_BYTES, Staging
from afterwards._files.stored import digest_of
from afterwards._files.workspace import Workshop, Workspace
from afterwards.errors import AttemptEnded, UnusableArtifact

# -- removal


def test_a_folder_deeper_than_any_path_is_removed(tmp_path: Path):
    top = tmp_path / "top"
    top.mkdir()
    folder = os.open(top, os.O_RDONLY)
    for _ in range(2_000):
        os.mkdir("d" * 100, dir_fd=folder)
        inner = os.open("d" * 100, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)

    remove_folder(top)

    assert list(tmp_path.iterdir()) == []


def test_links_are_removed_and_not_followed(tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"x")
    top = tmp_path / "top"
    (top / "inner").mkdir(parents=True)
    (top / "inner" / "link").symlink_to(outside)
    (top / "link").symlink_to(outside)

    remove_folder(top)

    assert [path.name for path in tmp_path.rglob("*")] == ["outside", "kept"]
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        remove_folder(tmp_path / "link")
    assert (outside / "kept").exists()


def test_a_folder_into_which_a_thread_still_writes_is_removed_when_it_stops(tmp_path: Path):
    top = tmp_path / "top"
    top.mkdir()
    seen = threading.Event()

    def scribble() -> None:
        for number in range(200):
            try:
                (top / f"{number}").write_bytes(b"x")
                seen.set()
            except FileNotFoundError:
                return

    thread = threading.Thread(target=scribble)
    thread.start()
    assert seen.wait(20)

    try:
        remove_folder(top)
    except OSError:
        thread.join(20)
        remove_folder(top)

    thread.join(20)
    assert not top.exists()
    remove_folder(top)  # twice is fine


def test_only_folders_of_the_dead_are_swept(tmp_path: Path):
    dead, living = new_id(), new_id()
    for owner in (dead, living, "not an id"):
        (tmp_path / "work" / owner / "a" / "work").mkdir(parents=True)

    assert list(sweep_work(tmp_path, lambda owner: owner == living)) == [dead]

    assert {path.name for path in (tmp_path / "work").iterdir()} == {living, "not an id"}
    assert list(sweep_work(tmp_path / "nowhere", lambda _: False)) == []


# -- paths for libraries


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


def test_a_second_name_of_a_stored_file_cannot_be_written_to(open_folder: Path):
    """Where the file system shares no blocks: by a user whom permissions stop, in a process of its own."""
    stored, target = open_folder / "stored", open_folder / "path"
    stored.write_bytes(b"content")
    if os.geteuid() == 0:
        os.chown(stored, 65534, 65534)

    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            with open(stored, "rb") as file:
                clone(file, target, stored_at=stored)
            try:
                open(target, "r+b").close()
            except PermissionError:
                os._exit(7)
        finally:
            os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert target.read_bytes() == b"content"
    assert target.stat().st_mode & 0o777 == 0o400
    if target.stat().st_nlink == 2:  # no shared blocks here
        assert os.path.samefile(stored, target)


def test_root_gets_a_copy(tmp_path: Path):
    """Nothing stops root from writing, so it must write to bytes of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root is not stopped")
    stored, target = tmp_path / "stored", tmp_path / "path"
    stored.write_bytes(b"content")
    with open(stored, "rb") as file:
        clone(file, target, stored_at=stored)

    target.write_bytes(b"spoiled")

    assert stored.read_bytes() == b"content"


# -- outputs


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path, new_id())


def test_an_output_stays_in_memory_while_it_is_small(staging: Staging):
    made = OutputFile(staging, Memory(), "a", None)
    made.write(bytes(INLINE_BYTES))
    assert not staging.folder.exists()

    made.write(b"x")

    assert len(list(staging.folder.iterdir())) == 1
    made.seek(0)
    assert made.read() == bytes(INLINE_BYTES) + b"x"
    made.close()
    assert made.about()[0] == INLINE_BYTES + 1
    made.drop()
    assert list(staging.folder.iterdir()) == []


@pytest.mark.parametrize("size", [1_000, INLINE_BYTES, INLINE_BYTES + 1, 3_000_000])
def test_an_output_can_be_made_longer(staging: Staging, size: int):
    """As any file: with zeros, and the position stays. Many formats reserve their room so."""
    made = OutputFile(staging, Memory(), "a", None)
    made.write(b"head")

    assert made.truncate(size) == size
    assert made.tell() == 4
    made.write(b"more")

    assert made.about() == (size, digest_of(b"headmore" + bytes(size - 8)))
    with made.reader() as file:
        assert file.read() == b"headmore" + bytes(size - 8)
    made.drop()


@pytest.mark.parametrize("size", [1_000, 1_000_000])
def test_what_a_library_writes_through_the_descriptor_is_in_the_digest(staging: Staging, size: int):
    made = OutputFile(staging, Memory(), "a", None)
    made.write(bytes(size))

    os.pwrite(made.fileno(), b"head", 0)

    assert made.about() == (size, digest_of(b"head" + bytes(size - 4)))
    made.drop()


@pytest.mark.parametrize(
    ("name", "given"),
    [("", None), (Path("a/b.txt"), None), (None, None), ("a", "text/\ud800"), ("a", "text"), ("a", "a/b\r\nX: y")],
)
def test_what_is_no_name_and_no_type_is_said_at_once(name: Any, given: str | None):
    with pytest.raises(ValueError, match=r"output\(.*is wanted here"):
        output(name, content_type=given)


def test_a_file_of_ours_is_no_form_field():
    """Two classes of one name: whoever takes the wrong one must not have to guess."""
    for wrong in (lambda: File(), lambda: File("x")):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="`from fastapi import File`"):
            wrong()


def test_a_text_is_not_bytes(staging: Staging):
    made = OutputFile(staging, Memory(), "a", None)

    with pytest.raises(TypeError, match="binary file, and str is not bytes: encode a text first"):
        made.write("text")  # type: ignore[arg-type]
    made.drop()


def test_small_outputs_of_one_attempt_share_the_memory_that_there_is(staging: Staging):
    memory = Memory(100)
    made = [OutputFile(staging, memory, "a", None) for _ in range(4)]

    for one in made:
        one.write(bytes(40))

    assert len(list(staging.folder.iterdir())) == 2
    assert [one.about()[0] for one in made] == [40] * 4
    assert len({one.about()[1] for one in made}) == 1
    for one in made:
        one.drop()


def test_a_closed_output_holds_no_descriptor_and_can_be_read(staging: Staging):
    before = len(os.listdir("/dev/fd"))
    made = OutputFile(staging, Memory(), "a", None)
    made.write(bytes(1_000_000))
    made.close()

    assert len(os.listdir("/dev/fd")) == before
    with made.reader() as file:
        assert len(file.read()) == 1_000_000
    with pytest.raises(ValueError, match="is closed"):
        made.write(b"more")
    made.drop()


def test_a_workspace_that_has_ended_makes_nothing_more(tmp_path: Path):
    workspace = Workspace(Workshop(tmp_path, new_id()), "task-1")
    workspace.folder()
    workspace.discard()

    with pytest.raises(AttemptEnded):
        workspace.folder()
    with pytest.raises(AttemptEnded):
        workspace.write(lambda staging, memory: OutputFile(staging, memory, "a", None))
    assert list((tmp_path / "work").rglob("*-1-*")) == []


def test_a_lent_file_that_was_changed_cannot_be_returned(tmp_path: Path):
    workspace = Workspace(Workshop(tmp_path, new_id()), "task-1")
    (tmp_path / "stored").write_bytes(b"content")
    with open(tmp_path / "stored", "rb") as file:
        path = workspace.lend(new_id(), "a.tar.gz", file, None)
    assert path.suffix == ".gz"
    workspace.keep(path)
    path.chmod(0o600)
    path.write_bytes(b"something else")

    with pytest.raises(UnusableArtifact, match="something changed it"):
        workspace.publish()


# -- outside of a task: functions stay plain functions


def thumbnail(text: str) -> File:
    with output("thumbnail.txt") as file:
        file.write(text.encode())
    return file.file


@pytest.fixture
def nothing_serves(monkeypatch) -> None:
    """Engines that other tests have killed, as far as that goes within one process, do not count."""
    monkeypatch.setattr(outside, "_engines", set())


def test_a_function_that_makes_files_can_be_called_by_a_plain_test(nothing_serves):
    file = thumbnail("small")

    assert (file.name, file.size, file.read()) == ("thumbnail.txt", 5, b"small")
    assert file.path().read_bytes() == b"small"
    (workdir() / "scratch").write_bytes(b"x")
    assert (workdir() / "scratch").exists()
    with pytest.raises(ValueError, match="a name"):
        output("")


def test_what_is_made_outside_of_a_task_goes_with_the_object(nothing_serves):
    file = thumbnail("x" * 1_000_000)
    staged = list(outside.outside()._shop.staging.folder.iterdir())
    assert len(staged) == 1
    assert len(file.read()) == 1_000_000

    del file
    gc.collect()

    assert list(outside.outside()._shop.staging.folder.iterdir()) == []


def test_the_temporary_place_goes_with_its_process():
    script = (
        "from afterwards import output, workdir; import afterwards\n"
        "made = output('a'); made.write(bytes(1_000_000)); made.close()\n"
        "print(workdir())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "afterwards-" in done.stdout
    assert not Path(done.stdout.strip()).parents[3].exists()
    assert done.stderr == ""
