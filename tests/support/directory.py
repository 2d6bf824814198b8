"""A data directory with something of everything in it, made through the store as a program makes it."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from afterwards._domain.files import FileKind
from afterwards._domain.ids import new_id
from afterwards._domain.signing import Signer
from afterwards._domain.tasks import NewTask, TaskState
from afterwards._domain.uploads import Upload, UploadState
from afterwards._files.directory import load_key, open_directory
from afterwards._files.parts import part_path
from afterwards._files.stored import StoredFile, digest_of, path_of
from afterwards._store.contract import ask_blocking
from afterwards._store.sqlite.store import SqliteStore
from afterwards._store.upload_commands import CreateUpload
from contract.hand import NOW, Hand, failure, new_task

LARGE = 70_000  # bytes: more than a row holds
FAR = NOW + 10**17


@dataclass
class Made:
    """What is in it."""

    root: Path
    tasks: dict[str, str] = field(default_factory=dict)  # ids by what became of each
    files: dict[str, str] = field(default_factory=dict)

    def path(self, file: str) -> Path:
        return path_of(self.files[file], self.root)

    def edit(self, statement: str, *values: Any) -> None:
        """Write to the database as somebody does who knows nothing of its rules."""
        connection = apsw.Connection(str(self.root / "afterwards.db"))
        try:
            connection.pragma("ignore_check_constraints", True)
            connection.pragma("foreign_keys", False)
            connection.execute(statement, values)
        finally:
            connection.close()


def large_file(root: Path, content: bytes | None = None, **values: Any) -> StoredFile:
    """Put a file where promotion would."""
    content = os.urandom(LARGE) if content is None else content
    file = StoredFile(
        id=new_id(),
        name="large.bin",
        size=len(content),
        content_type=None,
        headers=(),
        digest=digest_of(content),
        **values,
    )
    path = path_of(file.id, root)
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    return file


def open_upload(root: Path, offset: int = 50_000, **values: Any) -> Upload:
    """Put an upload on record of which so many bytes have come, and a few more that its row does not know of."""
    given = {"explicit": False, "length": LARGE, "boot": "b", "created_at": NOW, "changed_at": NOW, "expires_at": FAR}
    upload = Upload(id=new_id(), offset=offset, **{**given, **values})
    store = SqliteStore(root / "afterwards.db")
    ask_blocking(store, CreateUpload(upload=upload))
    store.close()
    part = part_path(upload.id, root)
    part.parent.mkdir(mode=0o700, exist_ok=True)
    part.write_bytes(os.urandom(offset + 10))
    part.chmod(0o600)
    return upload


def small_file(content: bytes = b"small") -> StoredFile:
    return StoredFile(
        id=new_id(),
        name="small.txt",
        size=len(content),
        content_type="text/plain",
        headers=(("content-type", "text/plain"),),
        digest=digest_of(content),
        content=content,
    )


def packed_file(root: Path) -> StoredFile:
    """Store a file that is neither in its row nor a file of its own."""
    file = small_file(os.urandom(20_000))
    store = SqliteStore(root / "afterwards.db")
    ask_blocking(store, CreateUpload(upload=finished_upload(file), file=file))
    store.close()
    return file


def finished_upload(file: StoredFile) -> Upload:
    return Upload(
        id=file.id,
        state=UploadState.FINISHED,
        explicit=False,
        length=file.size,
        offset=file.size,
        boot="b",
        created_at=NOW,
        changed_at=NOW,
    )


def make_directory(root: Path) -> Made:
    """Make tasks of several states, with files inside and outside of their rows."""
    made = Made(open_directory(root))
    signer = Signer(load_key(root))
    store = SqliteStore(root / "afterwards.db")
    hand = Hand(store, new_id())
    hand.register()

    def task(*files: StoredFile, **values: Any) -> NewTask:
        id = new_id()
        named = ",".join(f'{{"$file":"{file.id}"}}' for file in files)
        arguments = f"[[{named}],{{}}]"
        signature = signer.task(id, "f", arguments)
        given = {"id": id, "arguments": arguments, "signature": signature, "files": [file.id for file in files]}
        return new_task(**given | values)

    def add(name: str, *files: StoredFile, **values: Any) -> None:
        one = task(*files, **values)
        hand.add(one, files=files, functions=[("f", signer.function("f"))])
        made.tasks[name] = one.id

    large, shared, small = large_file(root), large_file(root), small_file()
    made.files = {"large": large.id, "shared": shared.id, "small": small.id}
    add("succeeded", large, small)
    hand.settle(hand.one(), result="1")
    add("failed", shared)
    hand.settle(hand.one(), TaskState.FAILED, error=failure("no"))
    add("queued", shared)
    first = task()
    second = task(state=TaskState.WAITING, after=first.id, sequence="r")
    hand.add(first, second)
    made.tasks |= {"first": first.id, "second": second.id}
    upload = large_file(root, kind=FileKind.UPLOAD, kept_until=NOW + 10**16)
    later = task(state=TaskState.SCHEDULED, run_at=NOW + 10**15)
    hand.add(later, files=[upload])  # which nobody has taken
    made.tasks["scheduled"], made.files["upload"] = later.id, upload.id
    hand.rescue()
    store.close()
    return made
