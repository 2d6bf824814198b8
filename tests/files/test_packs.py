"""Packs: what goes in comes back, and a pack is used again only when nobody needs what is in it."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from afterwards._files.holding import holding
from afterwards._files.packs import FIRST, LARGEST, Packs, Place, packs_in, read
from support.disk import TINY

random.seed(3)


@pytest.fixture
def used() -> set[int]:
    """The packs that rows name."""
    return set()


@pytest.fixture
def new_packs(tmp_path: Path, used: set[int]) -> Iterator[Callable[..., Packs]]:
    """What one process has, as often as wanted; rows name what is put in `used`."""
    made: list[Packs] = []

    def new(root: Path = tmp_path) -> Packs:
        made.append(Packs(root, lambda numbers: used & set(numbers)))
        return made[-1]

    yield new
    for packs in made:
        packs.close()


def some(*sizes: int) -> list[bytes]:
    return [random.randbytes(size) for size in sizes]


def back(root: Path, places: Sequence[Place] | None, contents: Sequence[bytes]) -> list[bytes]:
    assert places is not None
    return [read(root, place, len(content)) for place, content in zip(places, contents, strict=True)]


def test_what_goes_in_comes_back(tmp_path: Path, new_packs):
    packs = new_packs()
    batches = [some(1), some(8_192, 4_096, 4_095, 1), some(262_144) * 3, some(FIRST), some(3 * FIRST + 1, 5)]

    placed = [(packs.store(contents), contents) for contents in batches]

    for places, contents in placed:
        assert back(tmp_path, places, contents) == contents


def test_packs_grow_and_then_stay_as_large(tmp_path: Path, new_packs, used):
    packs = new_packs()

    for _ in range(2 * LARGEST // 262_144):
        [(number, _)] = packs.store(some(262_144))
        used.add(number)
        packs.committed()

    sizes = [os.stat(path).st_size for path in sorted((tmp_path / "packs").iterdir())]
    assert sizes[:5] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST, LARGEST]
    assert max(sizes) == LARGEST


def test_two_processes_never_fill_one_pack(new_packs, used):
    ours, theirs = new_packs(), new_packs()

    numbers = [{packs.store(some(100))[0][0] for _ in range(3)} for packs in (ours, theirs)]

    assert not numbers[0] & numbers[1]


def test_a_full_pack_is_ours_until_its_rows_are_committed(new_packs, used):
    ours, theirs = new_packs(), new_packs()
    [(first, _)] = ours.store(some(FIRST))
    ours.store(some(100))

    [(before, _)] = theirs.store(some(100))
    ours.committed()
    theirs.close()
    [(after, _)] = new_packs().store(some(100))

    assert before != first
    assert after == first  # no row named it in the end


def test_a_pack_that_a_row_names_is_never_filled_again_nor_removed(tmp_path: Path, new_packs, used):
    contents = some(FIRST)
    packs = new_packs()
    places = packs.store(contents)
    used.add(places[0][0])
    packs.close()

    again = new_packs()
    again.store(some(FIRST))
    again.tidy()

    assert back(tmp_path, places, contents) == contents


def test_of_the_packs_that_nobody_needs_one_is_kept(tmp_path: Path, new_packs, used):
    packs = new_packs()
    for _ in range(3):
        packs.store(some(2 * FIRST))
    packs.close()
    assert len(packs_in(tmp_path / "packs")) >= 3

    new_packs().tidy()

    assert len(packs_in(tmp_path / "packs")) == 1


def test_a_backup_keeps_every_pack_as_it_is(tmp_path: Path, new_packs, used):
    contents = some(FIRST)
    packs = new_packs()
    places = packs.store(contents)
    packs.close()

    with holding(tmp_path):
        again = new_packs()
        again.store(some(FIRST))
        again.tidy()
        assert back(tmp_path, places, contents) == contents


def test_a_killed_process_leaves_its_pack_to_others(tmp_path: Path, new_packs, used):
    program = (
        "import os, sys; from pathlib import Path; from afterwards._files.packs import Packs\n"
        "packs = Packs(Path(sys.argv[1]), lambda numbers: set())\n"
        "print(packs.store([b'x' * 10_000])[0][0], flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )

    [(number, _)] = new_packs().store(some(10_000))

    assert number == int(killed.stdout)


def test_without_room_for_another_pack_nothing_is_stored(tiny_disk: Path, new_packs, used):
    """Then the bytes go into their rows, while the database has room."""
    packs = new_packs(tiny_disk)
    (tiny_disk / "ballast").write_bytes(bytes((TINY << 20) - FIRST // 2))

    assert packs.store(some(10_000)) is None
    assert packs_in(tiny_disk / "packs") == []

    (tiny_disk / "ballast").unlink()
    contents = some(10_000)
    assert back(tiny_disk, packs.store(contents), contents) == contents


def test_a_pack_that_is_gone_gives_nothing(tmp_path: Path):
    assert read(tmp_path, (1, 0), 100) == b""
