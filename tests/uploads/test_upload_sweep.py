"""Sweeps beside uploads whose bytes have their final name before any row tells of a file."""

import os
import time

import pytest

from afterwards._files.parts import Part
from afterwards._files.stored import path_of
from afterwards._files.sweep import GRACE, remove_orphans, sweep_files
from support.uploads import TUS, UPLOADS

CONTENT = os.urandom(1_000_000)


@pytest.mark.parametrize("way", ["sweep", "doctor"])
def test_an_upload_that_is_finished_while_a_sweep_asks_keeps_its_file(server, way):
    """A commit was refused, or the process killed, an hour ago; now the client comes back, in the worst moment."""
    where = server.create(len(CONTENT))
    assert server.patch(where, 0, CONTENT[:-1]).status == 204
    id, root = where[-43:], server.site.data
    part = Part.open(id, root)
    assert part is not None
    os.pwrite(part.fd, CONTENT[-1:], len(CONTENT) - 1)
    part.store()
    part.close()

    def known(ids: list[str]) -> set[str]:
        found = server.site.reads.known_files(ids)
        assert server.offset(where) == len(CONTENT)
        return found

    later = time.time() + GRACE + 60
    if way == "sweep":
        list(sweep_files(root, known, now=later))
    else:
        assert remove_orphans([id], root, known, now=later) == []

    assert server.content(where) == CONTENT


def test_parts_that_cannot_be_joined_leave_no_file(server):
    """Whatever the store refuses is told to nobody and counted by nobody."""
    parts = [server.create(400_000, os.urandom(400_000), Upload_Concat="partial") for _ in range(2)]
    server.site.refuse_files()

    answer = server.ask("POST", UPLOADS, {**TUS, "Upload-Concat": f"final;{' '.join(parts)}"})

    assert answer.status == 500
    assert server.site.files() == []
    assert [server.offset(part) for part in parts] == [400_000] * 2


def test_an_upload_that_was_terminated_is_swept_with_its_file(server):
    where = server.create(len(CONTENT))
    assert server.patch(where, 0, CONTENT[:-1]).status == 204
    id, root = where[-43:], server.site.data
    part = Part.open(id, root)
    assert part is not None
    part.store()
    part.close()
    assert server.ask("DELETE", f"{UPLOADS}/{id}", TUS).status == 204
    path_of(id, root).parent.mkdir(exist_ok=True, parents=True)
    path_of(id, root).write_bytes(b"left by a crash")
    list(sweep_files(root, server.site.reads.known_files, now=time.time() + GRACE + 60))
    assert not path_of(id, root).exists()
