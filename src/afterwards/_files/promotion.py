"""Makes the files of a request durable: bytes first, then names, then the names of new folders.

A file is on stable storage under its final name, `root/files/XX/ID` (XX: the last two characters of the id), before
the row that tells of it is committed, and promised (`_files/promises.py`) until the store has answered. So a row
without a file cannot be; a file without a row is removed by `_files/sweep.py`. What fails here leaves nothing: no row
can tell of it, so its files go when they are closed. Whether rows were committed is for the store to say.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from afterwards._files import promises
from afterwards._files.comparison import know
from afterwards._files.disk import DISK, Disk, honest_errors, start_writing_back
from afterwards._files.pending import PendingFile
from afterwards._files.sniffing import START, sniff
from afterwards._files.staging import StagedFile
from afterwards._files.stored import StoredFile, digest_of, path_of
from afterwards.errors import StorageUnsure

log = logging.getLogger("afterwards")

# Folders whose own names are known to be on stable storage. One that exists but is not in here may have been made a
# moment ago by another thread or process that has not synced its parent yet.
_durable: set[Path] = set()


def promote(pending: Sequence[PendingFile], root: Path, *, disk: Disk = DISK) -> list[StoredFile]:
    """Bring files onto stable storage under their final names; what was promoted before stays as it is.

    Blocks, unless the bytes of all are few and in memory; call it on a thread. One sync for each file and each folder
    that gained a name, small files none at all.

    Once the store has answered, call `record`, `demote` or `leave`.

    Returns:
        What is stored, in the order given, each file once.

    Raises:
        StorageFull: There was no room. No row may be written for any of these files, and none is left.
        StorageUnsure: The disk failed. The same; and never ask for the same files again.
    """
    files = list(dict.fromkeys(pending))
    settled = [(file, file.source.settle()) for file in files if file.stored is None]
    staged = [content for _, content in settled if isinstance(content, StagedFile)]
    if staged:
        try:
            with honest_errors(f"storing {_amount(staged)}", root):
                promises.promise([file.id for file in staged], root)
                _make_durable(staged, root, disk)
        except BaseException:
            for one in staged:
                _take_back(one)
            raise
    for file, content in settled:
        file.staged = content if isinstance(content, StagedFile) else None
        know(file.id, None if file.staged is None else file.staged.descriptor)
        file.stored = _record(file, content)
    return [file.stored for file in files if file.stored is not None]


def demote(pending: Sequence[PendingFile]) -> None:
    """Take back a promotion whose rows were definitely refused: the files go as soon as they are closed.

    Never after an error that leaves open whether the rows are there: then the files must stay, as those do that have
    had a row before.
    """
    for file in dict.fromkeys(pending):
        if file.recorded:
            continue
        file.stored = None
        if file.staged is not None:
            _take_back(file.staged)


def record(pending: Sequence[PendingFile]) -> None:
    """Take note that rows tell of files now."""
    for file in pending:
        file.recorded = True
    leave(pending)


def leave(pending: Sequence[PendingFile]) -> None:
    """Leave files where they are, whether rows tell of them or not: the sweep will see."""
    promises.end(file.id for file in pending)


def _take_back(file: StagedFile) -> None:
    file.promoted = False
    try:
        if file.closed:
            os.unlink(file.path)
    except OSError as error:  # gone already; or the sweep will try again
        log.warning("%s, which was not stored after all, cannot be removed: %s", file.path, error)
    promises.end([file.id])


def _make_durable(staged: list[StagedFile], root: Path, disk: Disk) -> None:
    for file in staged:
        if file.unsure:  # a second sync of the same bytes may succeed without having written them
            raise StorageUnsure(f"a file of {file.size:,} bytes was not stored, and cannot be now. Send it again.")
        file.unsure = True
    if len(staged) > 1:  # let the disk work on all of them while we wait for the first
        for file in staged:
            start_writing_back(file.descriptor, 0, 0)
    for file in staged:
        disk.sync_file(file.descriptor)
    targets = [path_of(file.id, root) for file in staged]
    with new_folders(targets, root, disk) as folders:
        for file, target in zip(staged, targets, strict=True):
            disk.rename(file.path, target)
            file.path, file.promoted = target, True
        for folder in folders:
            disk.sync_folder(folder)
    for file in staged:
        file.unsure = False


@contextmanager
def new_folders(targets: Sequence[Path], root: Path, disk: Disk) -> Iterator[list[Path]]:
    """Make the folders of stored files, and give those that must be synced inside, once the files have their names."""
    folders = dict.fromkeys(target.parent for target in targets)
    unproven = [folder for folder in (root / "files", *folders) if disk.make_folder(folder) or folder not in _durable]
    yield list(dict.fromkeys([*folders, *(folder.parent for folder in unproven)]))
    _durable.update(unproven)


def _amount(staged: list[StagedFile]) -> str:
    size = sum(file.size for file in staged)
    return f"an upload of {size:,} bytes" if len(staged) == 1 else f"{len(staged)} uploads of together {size:,} bytes"


def _record(file: PendingFile, content: bytes | StagedFile) -> StoredFile:
    few = content if isinstance(content, bytes) else None
    return StoredFile(
        id=file.id,
        name=file.name,
        size=len(content) if isinstance(content, bytes) else content.size,
        content_type=file.content_type,
        headers=file.headers,
        digest=digest_of(content) if isinstance(content, bytes) else content.digest,
        content=few,
        type=sniff(_start(content), file.name),
        owner=file.owner,
        verdict=file.verdict,
    )


def _start(content: bytes | StagedFile) -> bytes:
    return content[:START] if isinstance(content, bytes) else os.pread(content.descriptor, START, 0)
