"""Promises: no sweep takes a file that a living process is about to put on record, however long that takes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from afterwards._domain.ids import new_id
from afterwards._files.promises import end, is_promised, promise
from afterwards._files.stored import path_of
from afterwards._files.sweep import GRACE, remove_orphans, sweep_files

LATER = 2_000_000_000.0 + GRACE  # far in the future of every file here

OTHER = """
import sys
from pathlib import Path
from afterwards._files.promises import promise
promise(sys.argv[2:], Path(sys.argv[1]))
print("promised", flush=True)
sys.stdin.read()
"""


def stored(root: Path) -> str:
    id = new_id()
    path_of(id, root).parent.mkdir(parents=True, exist_ok=True)
    path_of(id, root).write_bytes(b"x")
    return id


def sweep(root: Path, *ids: str) -> list[str]:
    """Sweep in both ways where no file has a row, and return those that are left."""
    list(sweep_files(root, lambda _: [], now=LATER))
    remove_orphans(ids, root, lambda _: [], now=LATER)
    return [id for id in ids if path_of(id, root).exists()]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process, and the file that it has promised."""
    id = stored(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path), id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "promised\n"
    with process:
        yield process, id
        process.kill()


def test_what_is_promised_here_stays_until_the_store_has_answered(tmp_path: Path):
    mine, unknown = stored(tmp_path), stored(tmp_path)
    promise([mine], tmp_path)
    assert sweep(tmp_path, mine, unknown) == [mine]
    end([mine])
    assert sweep(tmp_path, mine) == []


def test_what_another_process_promises_stays_as_long_as_that_lives(tmp_path: Path, other):
    """A process that stands still for a day promises it for a day; one that is killed, no moment longer."""
    process, id = other
    assert sweep(tmp_path, id) == [id]
    process.kill()
    process.wait()
    assert sweep(tmp_path, id) == []


def test_a_promise_of_ours_that_ends_leaves_those_of_others_and_the_rest_of_ours(tmp_path: Path, other):
    """Closing the file of promises would give up all that this process has."""
    _, theirs = other
    ours = [new_id() for _ in range(3)]
    promise(ours, tmp_path)
    assert is_promised(theirs, tmp_path)
    end(ours[:1])
    assert [is_promised(id, tmp_path) for id in [*ours, theirs]] == [False, True, True, True]
    code = "import sys; from pathlib import Path; from afterwards._files.promises import is_promised; "
    code += "print(*(is_promised(id, Path(sys.argv[1])) for id in sys.argv[2:]))"
    asked = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), *ours],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert asked.stdout.split() == ["False", "True", "True"]
    end(ours)
    end(ours)


def test_a_promise_that_is_kept_while_the_sweep_asks_is_found_as_a_row(tmp_path: Path):
    """The row comes between the two questions: the one for rows is the last."""
    id = stored(tmp_path)
    promise([id], tmp_path)
    rows: list[str] = []
    asked: list[list[str]] = []

    def known(ids: list[str]) -> list[str]:
        asked.append(ids)
        found = list(rows)
        rows.append(id)
        end([id])
        return found

    list(sweep_files(tmp_path, known, now=LATER))

    assert path_of(id, tmp_path).exists()
    assert len(asked) == 2


def test_asking_leaves_nothing_behind(tmp_path: Path):
    assert not is_promised(new_id(), tmp_path)
    assert list(tmp_path.iterdir()) == []
