"""Small files in the store: in packs, and nobody who asks for one can tell."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from afterwards._files.packs import LEAST, packs_in
from afterwards._files.stored import StoredFile, digest_of
from afterwards._store.contract import Accept, ask_blocking
from afterwards._store.sqlite.snapshot import make_snapshot
from afterwards._store.sqlite.store import SqliteStore
from afterwards._store.upkeep import Prune
from contract.hand import NOW, new_file, new_task


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "afterwards.db")
    yield store
    store.close()


def file_of(content: bytes, **values: object) -> StoredFile:
    return new_file(content, digest=digest_of(content), **values)


def accept(store: SqliteStore, *files: StoredFile) -> None:
    ask_blocking(store, Accept(tasks=[new_task(files=tuple(file.id for file in files))], files=files))


def rows(path: Path) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(path))
    try:
        return connection.execute("SELECT content, pack FROM file ORDER BY seq").fetchall()
    finally:
        connection.close()


def test_only_what_is_worth_it_goes_into_packs(store: SqliteStore, tmp_path: Path):
    contents = [b"x" * (LEAST - 1), b"y" * LEAST, b"z" * 262_144]
    files = [file_of(content) for content in contents]

    accept(store, *files)

    assert [(row[0] is None, row[1] is not None) for row in rows(tmp_path / "afterwards.db")] == [
        (False, False),
        (True, True),
        (True, True),
    ]
    assert [row.content for file in files if (row := store.file(file.id))] == contents


def test_a_task_that_is_refused_leaves_its_room_to_others(store: SqliteStore, tmp_path: Path):
    given = file_of(b"a" * 100_000)
    task = new_task(files=(given.id, "0" * 43))

    with pytest.raises(Exception, match="0000"):
        ask_blocking(store, Accept(tasks=[task], files=[given]))

    assert store.file(given.id) is None


def test_pruning_gives_back_the_packs(store: SqliteStore, tmp_path: Path):
    for number in range(40):
        given = file_of(bytes([number]) * 262_144, kept_until=NOW)
        ask_blocking(store, Accept(tasks=[new_task()], files=[given]))
    before = packs_in(tmp_path / "packs")

    ask_blocking(store, Prune(before=NOW, now=NOW + 1, limit=100))

    assert store.stored([""])[""].files == 0
    assert len(packs_in(tmp_path / "packs")) < len(before)


def test_other_bytes_in_the_place_of_a_file_are_not_taken_for_it(store: SqliteStore, tmp_path: Path):
    given = file_of(b"a" * 100_000)
    accept(store, given)
    [pack] = (tmp_path / "packs").iterdir()
    with pack.open("r+b") as file:
        file.write(b"b" * 100_000)

    found = store.file(given.id)

    assert found is not None
    assert found.content == b"b" * 100_000
    assert digest_of(found.content) != found.digest


def test_a_copy_of_the_database_has_the_bytes_in_it(store: SqliteStore, tmp_path: Path):
    contents = [bytes([number]) * 50_000 for number in range(30)]
    accept(store, *map(file_of, contents))
    target = tmp_path / "copy.db"

    make_snapshot(tmp_path / "afterwards.db", target, lambda _: None)

    assert rows(target) == [(content, None) for content in contents]
