"""The sweep removes what nobody will ask for, and nothing else."""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterwards._domain.ids import new_id
from afterwards._files.holding import holding, sweep_holds
from afterwards._files.staging import Staging
from afterwards._files.stored import path_of
from afterwards._files.sweep import GRACE, Swept, remove, sweep_files, sweep_staging


def stored(root: Path, content: bytes = b"x") -> str:
    id = new_id()
    path = path_of(id, root)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return id


def staged(root: Path, owner: str) -> Path:
    """What a killed process leaves."""
    path = Staging(root, owner).folder / f"{new_id()}.part"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345")
    return path


def nobody(_: object) -> set[str]:
    return set()


LATER = time.time() + GRACE + 86_400  # far enough, however long the tests before these took


def test_folders_of_dead_owners_go_and_those_of_living_ones_stay(tmp_path: Path):
    dead, living = new_id(), new_id()
    left = [staged(tmp_path, dead), staged(tmp_path, dead)]
    used = staged(tmp_path, living)

    assert list(sweep_staging(tmp_path, {living}.__contains__)) == [Swept(seen=2, removed=2, bytes=10)]

    assert used.exists()
    assert not left[0].parent.exists()


def test_what_is_not_ours_stays_in_a_dead_owners_folder(tmp_path: Path):
    """Somebody's notes, a link, a folder: not named like ours, or not plain files."""
    file = staged(tmp_path, new_id())
    outside = tmp_path / "outside"
    outside.write_text("keep")
    (file.parent / "notes.txt").write_text("keep")
    link = file.parent / f"{new_id()}.part"
    link.symlink_to(outside)
    folder = file.parent / f"{new_id()}.part"
    folder.mkdir()

    assert list(sweep_staging(tmp_path, lambda _: False)) == [Swept(seen=4, removed=1, bytes=5)]

    assert sorted(os.listdir(file.parent)) == sorted(["notes.txt", link.name, folder.name])
    assert outside.read_text() == "keep"


def test_a_link_in_place_of_an_owners_folder_is_not_entered(tmp_path: Path):
    target = staged(tmp_path / "other", new_id())
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging" / new_id()).symlink_to(target.parent)
    (tmp_path / "staging" / "lost+found").mkdir()

    list(sweep_staging(tmp_path, lambda _: False))

    assert target.exists()
    assert len(os.listdir(tmp_path / "staging")) == 2


def test_files_without_a_row_go_and_those_with_one_stay(tmp_path: Path):
    known, unknown = stored(tmp_path), stored(tmp_path, b"123")

    swept = list(sweep_files(tmp_path, lambda ids: {known} & set(ids), now=LATER))

    assert swept == [Swept(seen=2, removed=1, bytes=3)]
    assert path_of(known, tmp_path).exists()
    assert not path_of(unknown, tmp_path).exists()


def test_a_file_that_waits_for_its_commit_stays(tmp_path: Path):
    """Promotion comes before the row: a young file without one is no orphan yet."""
    id = stored(tmp_path)
    os.utime(path_of(id, tmp_path), (0, 0))  # an old upload that was renamed just now

    assert list(sweep_files(tmp_path, nobody, now=time.time())) == [Swept(seen=1)]

    assert path_of(id, tmp_path).exists()


def test_the_store_is_asked_about_few_at_a_time_and_the_sweep_can_stop(tmp_path: Path):
    ids = {stored(tmp_path) for _ in range(25)}
    asked: list[list[str]] = []

    steps = sweep_files(tmp_path, lambda some: asked.append(some) or set(), now=LATER, batch=10)
    next(steps)
    steps.close()

    assert [len(some) for some in asked] == [10, 10]  # about those without a row once more, before they go
    assert sum(path_of(id, tmp_path).exists() for id in ids) == 15
    assert sum(step.removed for step in sweep_files(tmp_path, nobody, now=LATER, batch=10)) == 15


def test_a_store_that_cannot_answer_saves_every_file(tmp_path: Path):
    id = stored(tmp_path)

    def broken(_: object) -> set[str]:
        raise RuntimeError("the database is away")

    with pytest.raises(RuntimeError):
        list(sweep_files(tmp_path, broken, now=LATER))
    assert path_of(id, tmp_path).exists()


def test_what_is_not_ours_stays_in_the_files_folder(tmp_path: Path):
    """Wrong names, an id in the wrong folder, links and folders are left alone."""
    here = path_of(stored(tmp_path), tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    kept = [tmp_path / "files" / "README", here.parent / "thumbs.db", outside / here.name]
    for path in kept:
        path.write_text("keep")
    stray = tmp_path / "files" / ("zz" if here.parent.name != "zz" else "yy") / here.name
    stray.parent.mkdir()
    stray.write_text("keep")
    link_id = new_id()
    path_of(link_id, tmp_path).parent.mkdir(exist_ok=True)
    path_of(link_id, tmp_path).symlink_to(kept[0])
    (tmp_path / "files" / "!!").symlink_to(outside)

    list(sweep_files(tmp_path, nobody, now=LATER))

    assert not here.exists()
    assert all(path.read_text() == "keep" for path in [*kept, stray])
    assert path_of(link_id, tmp_path).is_symlink()


def test_an_empty_data_directory_is_swept_in_peace(tmp_path: Path):
    assert list(sweep_staging(tmp_path, lambda _: False)) == []
    assert list(sweep_files(tmp_path, nobody, now=LATER)) == []


def test_files_whose_rows_were_pruned_go_at_once(tmp_path: Path):
    ids = [stored(tmp_path, b"12"), stored(tmp_path, b"345")]

    assert remove([*ids, new_id()], tmp_path) == 5

    assert not any(path_of(id, tmp_path).exists() for id in ids)
    with pytest.raises(ValueError, match="is not the id of a file"):
        remove(["../../outside"], tmp_path)


def test_a_big_folder_of_a_dead_owner_goes_in_short_steps(tmp_path: Path):
    """A sweep of a million files must not keep a round of the engine for minutes."""
    owner = new_id()
    for _ in range(25):
        staged(tmp_path, owner)

    steps = list(sweep_staging(tmp_path, lambda _: False, batch=10))

    assert [(step.seen, step.removed) for step in steps] == [(10, 10), (10, 10), (5, 5)]
    assert os.listdir(tmp_path / "staging") == []


def test_while_a_backup_holds_them_no_stored_file_is_removed(tmp_path: Path):
    """The copy of the database that it made may name them still."""
    unknown, pruned = stored(tmp_path), stored(tmp_path)
    with holding(tmp_path):
        assert remove([pruned], tmp_path) == 0
        assert list(sweep_files(tmp_path, nobody, now=LATER)) == [Swept(seen=2)]
        assert path_of(unknown, tmp_path).exists()
        assert path_of(pruned, tmp_path).exists()

    assert list(sweep_files(tmp_path, nobody, now=LATER)) == [Swept(seen=2, removed=2, bytes=2)]
    assert os.listdir(tmp_path / "workers") == []


def test_what_a_killed_backup_left_of_its_hold_holds_nothing_and_is_removed(tmp_path: Path):
    left = tmp_path / "workers" / f"{new_id()}.hold"
    left.parent.mkdir()
    left.touch()
    id = stored(tmp_path)

    assert remove([id], tmp_path) == 1
    sweep_holds(tmp_path)
    assert left.exists(), "it may have been made this moment, and be locked the next"
    os.utime(left, (0, 0))
    sweep_holds(tmp_path)

    assert not left.exists()


IDS = [new_id() for _ in range(6)]
SHELVES = sorted({id[-2:] for id in IDS} | {"00", "zz", "lost+found", IDS[0]})
NAMES = [*IDS, *(f"{id}.part" for id in IDS[:3]), "notes", ".part", "x" * 43, IDS[0].upper()]
PLACES = st.one_of(
    st.tuples(st.just("files"), st.sampled_from(SHELVES), st.sampled_from(NAMES)),
    st.tuples(st.just("staging"), st.sampled_from([*IDS, "odd"]), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(["files", "staging", "workers", "other"]), st.sampled_from(NAMES)),
    st.sampled_from(IDS).map(lambda id: ("files", id[-2:], id)),
)
KINDS = st.sampled_from(["file", "folder", "link", "pipe"])


def build(root: Path, tree: dict[tuple[str, ...], str]) -> None:
    outside = root / "outside"
    outside.write_text("keep")
    for parts, kind in tree.items():
        path = root.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            match kind:
                case "file":
                    path.write_text("x")
                case "folder":
                    path.mkdir()
                case "link":
                    path.symlink_to(outside)
                case "pipe":
                    os.mkfifo(path)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue  # the tree has something else there


def things(root: Path) -> set[tuple[str, ...]]:
    return {path.relative_to(root).parts for path in root.rglob("*")}


@settings(max_examples=150, deadline=None)
@given(
    tree=st.dictionaries(PLACES, KINDS, max_size=25),
    known=st.sets(st.sampled_from(IDS)),
    living=st.sets(st.sampled_from(IDS)),
)
def test_whatever_lies_around_only_orphans_and_leftovers_go(tree, known, living):
    """Said the other way round from how the sweep looks: from each thing that went, by what it was."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        build(root, tree)
        before = things(root)
        plain = {
            parts for parts in before if root.joinpath(*parts).is_file() and not root.joinpath(*parts).is_symlink()
        }

        for _ in sweep_staging(root, living.__contains__, batch=3):
            pass
        for _ in sweep_files(root, lambda ids: known & set(ids), now=LATER, batch=3):
            pass

        gone = before - things(root)
        orphans = {("files", id[-2:], id) for id in IDS if id not in known} & plain
        leftovers = {
            (first, owner, name)
            for first, owner, name in (parts for parts in plain if len(parts) == 3)
            if first == "staging"
            and owner in IDS
            and owner not in living
            and name.removesuffix(".part") in IDS
            and name.endswith(".part")
        }
        assert {parts for parts in gone if parts in plain} == orphans | leftovers
        emptied = {parts for parts in gone if parts not in plain}
        assert all(parts[0] == "staging" and parts[1] in IDS and parts[1] not in living for parts in emptied)
        assert (root / "outside").read_text() == "keep"
