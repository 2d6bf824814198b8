"""Uploads whose server is killed, whose machine loses power, whose disk is full: HEAD promises only what is there.

Of every upload the bytes are those that were sent, and it goes on from where it was.
"""

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from blake3 import blake3

from afterwards._files.parts import Part, part_path
from support.data import Data, until
from support.server import Program
from support.talking import request, wire
from support.uploads import BODY, TUS, UPLOADS

CONTENT = os.urandom(3_000_000)
PROGRAM = """
from fastapi import FastAPI
import afterwards

app = FastAPI()
afterwards.Afterwards(app)
"""


class Machine:
    """A server on one data directory, started again and again."""

    def __init__(self, folder: Path, data: Path | None = None) -> None:
        (folder / "main.py").write_text(PROGRAM)
        self._folder = folder
        self.data = data or folder / "data"
        self.start()

    def start(self) -> None:
        run = ("uvicorn", "main:app", "--port", "0", "--log-level", "info", "--http", "afterwards.server:HttpProtocol")
        self.program = Program(*run, folder=self._folder, data=self.data)
        self.port = self.program.port

    def kill(self) -> None:
        if self.program.process.poll() is None:
            self.program.kill()

    def create(self, length: int = len(CONTENT)) -> str:
        return request(self.port, "POST", UPLOADS, {**TUS, "Upload-Length": length})["location"]

    def offset(self, where: str) -> int:
        answer = request(self.port, "HEAD", where, TUS)
        assert answer.status == 204, answer
        return int(answer["upload-offset"])

    def patch(self, where: str, offset: int, body: bytes) -> int:
        return request(self.port, "PATCH", where, {**BODY, "Upload-Offset": offset}, body).status

    def send_until_cut(self, where: str, offset: int, count: int) -> None:
        """Send so many of the bytes that are left, announced as all, and stay connected until some are written."""
        with wire(self.port) as one:
            one.start("PATCH", where, {**BODY, "Upload-Offset": offset}, len(CONTENT) - offset)
            one.send(CONTENT[offset : offset + count])
            part = part_path(where[-43:], self.data)
            until(lambda: part.exists() and part.stat().st_size >= min(offset + count, offset + 1))

    def content(self, where: str) -> bytes | None:
        seen = Data(self.data)
        row = seen.reads.file(where[-43:])
        seen.close()
        if row is None:
            return None
        found = row.content if row.content is not None else (self.data / "files" / row.id[-2:] / row.id).read_bytes()
        assert row.digest == f"blake3:{blake3(found).hexdigest()}"
        return found

    def change(self, statement: str, *values: object) -> None:
        """Change a row as no program of ours would."""
        connection = apsw.Connection(str(self.data / "afterwards.db"))
        connection.execute(statement, values)
        connection.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.kill()


def test_bytes_of_a_killed_server_count_while_the_machine_runs(machine):
    where = machine.create()
    part = part_path(where[-43:], machine.data)
    with wire(machine.port) as one:
        one.start("PATCH", where, {**BODY, "Upload-Offset": 0}, len(CONTENT))
        one.send(CONTENT[:1_500_000])
        until(lambda: part.exists() and part.stat().st_size >= 1_400_000)
        machine.kill()
    machine.start()
    kept = machine.offset(where)
    assert kept == part.stat().st_size
    assert kept >= 1_400_000
    assert machine.patch(where, kept, CONTENT[kept:]) == 204
    assert machine.content(where) == CONTENT


def test_a_plain_post_that_was_killed_with_its_server_leaves_nothing(machine):
    """Its client never learnt an address, so nobody could go on with it: it may not count for a day."""
    with wire(machine.port) as one:
        one.start("POST", UPLOADS, {}, len(CONTENT))
        one.send(CONTENT[:1_000_000])
        until(lambda: any((machine.data / "uploads").glob("*.part")))
        data = Data(machine.data)
        assert data.reads.stored([""])[""].bytes == len(CONTENT)
        machine.kill()
    machine.start()
    until(lambda: not any((machine.data / "uploads").iterdir()))
    assert data.reads.stored([""])[""].bytes == 0
    data.close()


def test_after_a_power_cut_only_what_was_synced_counts(machine):
    """What the system had not written yet is garbage, or nothing: here it is garbage."""
    where = machine.create()
    assert machine.patch(where, 0, CONTENT[:1_000_000]) == 204
    machine.kill()
    with part_path(where[-43:], machine.data).open("ab") as file:
        file.write(bytes(500_000))
    machine.change("UPDATE upload SET boot = ?", "an earlier start of the machine")
    machine.start()
    assert machine.offset(where) == 1_000_000
    assert machine.patch(where, 1_000_000, CONTENT[1_000_000:]) == 204
    assert machine.content(where) == CONTENT


def test_an_upload_that_lost_promised_bytes_is_over(machine):
    """A disk that lied, or a backup without the part files: nobody is told a wrong offset."""
    where = machine.create()
    assert machine.patch(where, 0, CONTENT[:1_000_000]) == 204
    machine.kill()
    os.truncate(part_path(where[-43:], machine.data), 999_999)
    machine.start()
    assert request(machine.port, "HEAD", where, TUS).status == 410


@pytest.mark.parametrize("stored", [False, True])
def test_a_crash_before_the_end_is_committed_leaves_an_upload_that_ends_by_itself(machine, stored):
    """All bytes are there, perhaps under their final name already, and no row says so."""
    where = machine.create()
    assert machine.patch(where, 0, CONTENT[:-1]) == 204
    machine.kill()
    part = Part.open(where[-43:], machine.data)
    assert part is not None
    os.pwrite(part.fd, CONTENT[-1:], len(CONTENT) - 1)
    if stored:
        part.store()
    part.close()
    machine.start()
    assert machine.offset(where) == len(CONTENT)
    assert machine.content(where) == CONTENT
    assert not part_path(where[-43:], machine.data).exists()


def go_on_at_random(machine: Machine, chance: random.Random) -> int:
    """Send one upload with cuts and kills at random bytes; return how many there were."""
    where = machine.create()
    promised = 0
    for number in range(8):  # noqa: B007 - used behind the loop
        at = machine.offset(where)
        assert at >= promised
        promised = at
        if at == len(CONTENT):
            break
        count = chance.randrange(1, len(CONTENT))
        match chance.choice(["cut", "kill", "piece"]):
            case "piece":
                machine.patch(where, at, CONTENT[at : at + count])
            case "cut" if at + count < len(CONTENT):
                machine.send_until_cut(where, at, count)
            case _:
                with wire(machine.port) as one:
                    one.start("PATCH", where, {**BODY, "Upload-Offset": at}, len(CONTENT) - at)
                    try:
                        one.send(CONTENT[at : at + count])
                    except OSError:
                        pass
                    machine.kill()
                machine.start()
    at = machine.offset(where)
    assert at >= promised
    if at < len(CONTENT):
        assert machine.patch(where, at, CONTENT[at:]) == 204
    assert machine.content(where) == CONTENT
    return number


@pytest.mark.parametrize("seed", range(2))
def test_cuts_and_kills_at_random(machine, seed):
    go_on_at_random(machine, random.Random(seed))


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_a_hundred_cuts_and_kills_at_random(machine):
    chance = random.Random(7)
    rounds = 0
    while rounds < 100:
        rounds += go_on_at_random(machine, chance)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode()[:100]}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_stops_an_upload_and_room_lets_it_go_on(tmp_path, small_disk):
    """507, what fitted is kept, the server needs no restart, and small requests go on being answered."""
    content = os.urandom(20_000_000)
    machine = Machine(tmp_path, small_disk / "data")
    try:
        assert request(machine.port, "POST", UPLOADS, {**TUS, "Upload-Length": len(content)}).status == 507
        where = request(machine.port, "POST", UPLOADS, {**TUS, "Upload-Defer-Length": "1"})["location"]
        assert machine.patch(where, 0, content[:4_000_000]) == 204
        assert machine.patch(where, 4_000_000, content[4_000_000:]) == 507, "it says itself that it will not fit"
        with wire(machine.port) as one:
            one.start("PATCH", where, {**BODY, "Upload-Offset": 4_000_000, "Transfer-Encoding": "chunked"})
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                one.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(content) - 4_000_000, content[4_000_000:]))
            answer = one.answer("PATCH")
        assert answer.status == 507
        assert request(machine.port, "GET", where).status == 200

        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)

        kept = machine.offset(where)
        assert kept > 4_000_000
        rest = {**BODY, "Upload-Offset": kept, "Upload-Length": len(content)}
        assert request(machine.port, "PATCH", where, rest, content[kept:]).status == 204
        assert machine.content(where) == content
        assert machine.program.process.poll() is None
    finally:
        machine.kill()


def test_a_creation_that_was_killed_with_its_server_is_the_same_upload_again(machine):
    """Answer and upload are one transaction: with its key the client finds what it had begun."""
    headers = {**BODY, "Upload-Length": len(CONTENT), "Idempotency-Key": "one"}
    data = Data(machine.data)
    with wire(machine.port) as one:
        one.start("POST", UPLOADS, headers, len(CONTENT))
        one.send(CONTENT[:1_000_000])
        until(lambda: data.reads.stored([""])[""].files == 1)
        machine.kill()
    machine.start()

    found = [request(machine.port, "POST", UPLOADS, headers, CONTENT) for _ in range(2)]
    where = found[0]["location"]
    at = machine.offset(where)

    assert {(answer.status, answer["location"], answer["idempotent-replayed"]) for answer in found} == {
        (201, where, "true")
    }
    assert machine.patch(where, at, CONTENT[at:]) == 204
    assert data.reads.stored([""])[""].files == 1
    assert data.reads.file(where[-43:]).digest == f"blake3:{blake3(CONTENT).hexdigest()}"
    data.close()
