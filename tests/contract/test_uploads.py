"""Uploads in a store: whoever was taken over changes nothing, and a file's row comes with the end of its upload."""

from typing import Any

import msgspec
import pytest

from afterwards._domain.files import FileKind
from afterwards._domain.ids import new_id
from afterwards._domain.limits import Quota, Usage
from afterwards._domain.uploads import REMEMBERED, Upload, UploadState
from afterwards._files.stored import StoredFile, digest_of
from afterwards._store.contract import Accept, ask_blocking
from afterwards._store.keys import KeepAnswer, TakeKey
from afterwards._store.upkeep import Prune
from afterwards._store.upload_commands import (
    AdvanceUpload,
    Beside,
    CreateUpload,
    EndUpload,
    ExpireUploads,
    FenceUpload,
    FinishUpload,
    JoinUploads,
    KeepFile,
)
from afterwards.errors import KeyLost, QuotaExceeded
from contract.hand import new_task

NOW = 1_000_000_000


def new(**values: Any) -> Upload:
    values = {"explicit": False, "length": 10, "boot": "b1", "expires_at": NOW + 100, **values}
    return Upload(id=new_id(), created_at=NOW, changed_at=NOW, **values)


def file_of(upload: Upload, content: bytes = b"0123456789", kept_until: int = NOW + 50) -> StoredFile:
    return StoredFile(
        id=upload.id,
        name=None,
        size=len(content),
        content_type=None,
        headers=(),
        digest=digest_of(content),
        content=content,
        kind=FileKind.UPLOAD,
        kept_until=kept_until,
    )


@pytest.fixture
def created(store):
    upload = new()
    ask_blocking(store, CreateUpload(upload=upload))
    return upload


def advance(store, upload: Upload, offset: int, *, writer: int = 0, length: int | None = None) -> bool:
    command = AdvanceUpload(
        id=upload.id, writer=writer, offset=offset, boot="b2", length=length, now=NOW + 1, expires_at=NOW + 200
    )
    return ask_blocking(store, command)


def finish(
    store, upload: Upload, *, writer: int = 0, offset: int | None = None, content: bytes = b"0123456789"
) -> bool:
    command = FinishUpload(id=upload.id, writer=writer, offset=offset, file=file_of(upload, content), now=NOW + 2)
    return ask_blocking(store, command)


def test_an_upload_is_read_as_it_was_created(store):
    upload = new(concat="partial", metadata="a YQ==", name="ä", owner="o", digests={"sha-256": "x", "sha-512": None})
    ask_blocking(store, CreateUpload(upload=upload))
    assert store.upload(upload.id) == upload
    assert store.upload(new_id()) is None
    assert store.open_uploads([upload.id, new_id()]) == {upload.id}


def test_the_file_of_an_open_upload_is_known_before_it_has_a_row_and_until_it_ends(store, created):
    """Its bytes may have their final name: whoever sweeps must not take them, whatever the moment."""
    assert store.known_files([created.id, new_id()]) == {created.id}
    finish(store, created)
    assert store.known_files([created.id]) == {created.id}
    ended = new()
    ask_blocking(store, CreateUpload(upload=ended))
    ask_blocking(store, EndUpload(id=ended.id, state=UploadState.FAILED, now=NOW))
    assert store.known_files([ended.id]) == set()


def test_uploads_that_only_a_worker_knew_of_end_with_it(store, hand):
    """Nobody can go on with them; others are left alone."""
    mine, others = new(worker=hand.worker), new()
    for one in (mine, others):
        ask_blocking(store, CreateUpload(upload=one))
    assert store.upload(mine.id) == mine
    hand.now = NOW
    hand.rescue()
    assert ask_blocking(store, ExpireUploads(now=NOW, limit=10)) == (mine.id,)
    assert not advance(store, mine, 5)
    assert advance(store, others, 5)


def test_the_offset_grows_and_never_shrinks(store, created):
    assert advance(store, created, 5)
    assert not advance(store, created, 4)
    row = store.upload(created.id)
    assert (row.offset, row.boot, row.expires_at) == (5, "b2", NOW + 200)


def test_a_length_that_was_not_known_is_set_once(store):
    upload = new(length=None)
    ask_blocking(store, CreateUpload(upload=upload))
    assert advance(store, upload, 3, length=7)
    assert advance(store, upload, 4, length=9)
    assert store.upload(upload.id).length == 7


def test_who_was_taken_over_changes_nothing(store, created):
    assert ask_blocking(store, FenceUpload(created.id)) is True
    assert not advance(store, created, 5)
    assert not finish(store, created)
    assert store.upload(created.id).offset == 0
    assert store.file(created.id) is None

    assert advance(store, created, 5, writer=1)
    assert finish(store, created, writer=1)
    assert ask_blocking(store, FenceUpload(created.id)) is False


def test_an_upload_ends_with_its_file_and_once(store, created):
    assert finish(store, created, offset=0)
    row = store.upload(created.id)
    assert (row.state, row.offset, row.expires_at) == (UploadState.FINISHED, 10, None)
    assert store.file(created.id).content == b"0123456789"
    assert not finish(store, created)
    assert not advance(store, created, 10)


def test_it_does_not_end_with_another_length_or_from_another_offset(store, created):
    assert not finish(store, created, content=b"too short")
    advance(store, created, 3)
    assert not finish(store, created, offset=0)
    assert store.file(created.id) is None


def test_parts_end_with_the_upload_made_of_them_or_not_at_all(store):
    parts = [new(concat="partial", length=5) for _ in range(2)]
    for part in parts:
        ask_blocking(store, CreateUpload(upload=part))
    advance(store, parts[0], 5)
    final = new(concat="final;a b", state=UploadState.FINISHED, offset=10, expires_at=None)
    command = JoinUploads(upload=final, file=file_of(final), parts=tuple(part.id for part in parts))

    assert ask_blocking(store, command) is False
    assert store.upload(final.id) is None
    assert store.upload(parts[0].id).state is UploadState.OPEN

    advance(store, parts[1], 5)
    assert ask_blocking(store, command) is True
    assert [store.upload(part.id).state for part in parts] == [UploadState.JOINED] * 2
    assert store.file(final.id) is not None


def test_ending_one_early_frees_what_nobody_needs(store, created):
    assert ask_blocking(store, EndUpload(id=created.id, state=UploadState.TERMINATED, now=NOW)) is True
    assert store.upload(created.id).state is UploadState.TERMINATED
    assert ask_blocking(store, EndUpload(id=created.id, state=UploadState.TERMINATED, now=NOW)) is None

    finished = new()
    ask_blocking(store, CreateUpload(upload=finished))
    finish(store, finished)
    assert ask_blocking(store, EndUpload(id=finished.id, state=UploadState.FAILED, now=NOW)) is None
    assert ask_blocking(store, EndUpload(id=finished.id, state=UploadState.TERMINATED, now=NOW)) is True
    assert store.file(finished.id) is None


def counted(store, *names: str) -> dict[str, Usage]:
    return dict(store.stored(list(names or [""])))


def test_an_upload_counts_from_its_creation_to_its_end(store):
    upload = new(owner="ann")
    ask_blocking(store, CreateUpload(upload=upload))
    assert counted(store, "", "ann") == {name: Usage(bytes=10, files=1) for name in ("", "ann")}
    finish(store, upload)
    assert counted(store) == {"": Usage(bytes=10, files=1)}, "now its file does"
    ask_blocking(store, EndUpload(id=upload.id, state=UploadState.TERMINATED, now=NOW))
    assert counted(store) == {"": Usage()}


@pytest.mark.parametrize("quota", [Quota(max_total=19), Quota(max_owner=19), Quota(max_total_files=1)])
def test_one_for_which_there_is_no_room_is_not_created(store, quota):
    ask_blocking(store, CreateUpload(upload=new(owner="ann")))
    other = new(owner="ann")
    with pytest.raises(QuotaExceeded):
        ask_blocking(store, CreateUpload(upload=other, beside=Beside(quota=quota)))
    assert store.upload(other.id) is None
    assert counted(store) == {"": Usage(bytes=10, files=1)}


def test_one_of_unknown_length_grows_as_far_as_there_is_room(store):
    upload = new(length=None)
    ask_blocking(store, CreateUpload(upload=upload))

    def grow(offset: int, length: int | None = None) -> bool:
        return ask_blocking(
            store,
            AdvanceUpload(
                id=upload.id,
                writer=0,
                offset=offset,
                boot="b",
                length=length,
                now=NOW,
                expires_at=NOW,
                quota=Quota(max_total=20),
            ),
        )

    assert grow(20)
    with pytest.raises(QuotaExceeded):
        grow(21)
    with pytest.raises(QuotaExceeded):
        grow(20, length=21)
    assert (store.upload(upload.id).offset, store.upload(upload.id).length) == (20, None)
    assert counted(store) == {"": Usage(bytes=20, files=1)}


def test_what_was_let_in_may_end_although_others_have_used_up_the_room(store, created):
    ask_blocking(store, CreateUpload(upload=new(length=100)))
    tight = Beside(quota=Quota(max_total=5))
    command = FinishUpload(id=created.id, writer=0, offset=None, file=file_of(created), now=NOW, beside=tight)
    assert ask_blocking(store, command) is True


def test_the_scan_is_stored_with_the_file_or_neither_is(store, created):
    scan = Accept(tasks=[new_task()])
    command = FinishUpload(
        id=created.id, writer=1, offset=None, file=file_of(created), now=NOW, beside=Beside(scan=scan)
    )
    assert ask_blocking(store, command) is False
    assert store.counts() == {}
    ask_blocking(store, FenceUpload(created.id))
    assert ask_blocking(store, command) is True
    assert store.counts() == {"queued": 1}
    assert store.task(scan.tasks[0].id) is not None


def test_nothing_is_created_where_the_key_is_another_requests(store):
    """The answer belongs to the transaction of the creation."""
    lost = KeepAnswer(id=b"k", token="t", fingerprint=b"f", status=201, headers=[], body=b"", expires_at=NOW)
    ask_blocking(store, TakeKey(id=b"k", worker="w", token="another", now=NOW))
    upload = new()
    with pytest.raises(KeyLost):
        ask_blocking(store, CreateUpload(upload=upload, beside=Beside(key=lost)))
    assert store.upload(upload.id) is None
    assert counted(store) == {"": Usage()}


def test_those_to_which_nothing_comes_end_and_are_forgotten(store, created):
    assert ask_blocking(store, ExpireUploads(now=NOW + 99, limit=10)) == ()
    assert ask_blocking(store, ExpireUploads(now=NOW + 100, limit=10)) == (created.id,)
    assert store.upload(created.id).state is UploadState.EXPIRED
    assert not advance(store, created, 5)
    ask_blocking(store, ExpireUploads(now=NOW + 100 + REMEMBERED, limit=10))
    assert store.upload(created.id) is None


def test_a_finished_upload_is_over_when_its_file_is(store, created):
    finish(store, created)
    assert ask_blocking(store, KeepFile(id=created.id, until=NOW + 80)) is True
    ask_blocking(store, Prune(before=0, now=NOW + 60, limit=10))
    assert store.upload(created.id).state is UploadState.FINISHED
    ask_blocking(store, Prune(before=0, now=NOW + 90, limit=10))
    assert store.file(created.id) is None
    assert store.upload(created.id).state is UploadState.EXPIRED
    assert ask_blocking(store, KeepFile(id=created.id, until=NOW + 80)) is False


def test_a_broken_row_is_refused(store):
    with pytest.raises(Exception, match="rule"):
        ask_blocking(store, CreateUpload(upload=msgspec.structs.replace(new(), offset=11)))
