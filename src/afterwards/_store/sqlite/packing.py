"""Puts the bytes of small files into packs before the commit that brings their rows, and gets them back."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
from blake3 import blake3

from afterwards._files.packs import LEAST, Packs, Place, read
from afterwards._store.contract import Accept, Command, Settle, Stored
from afterwards._store.upload_commands import CreateUpload, FinishUpload, JoinUploads


class Packed:
    """A file whose bytes are in a pack; all else is as it came."""

    content = None

    def __init__(self, file: Stored, place: Place) -> None:
        self._file = file
        self.pack, self.at = place

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def pack(commands: Sequence[Command], packs: Packs) -> Sequence[Command]:
    """Bring the bytes that commands carry onto stable storage; return commands whose files say where they are.

    Raises:
        StorageUnsure: The disk failed, and nothing may be committed.
    """
    files = [file for command in commands for file in files_of(command) if len(file.content or b"") >= LEAST]
    if not files:
        return commands
    places = packs.store([file.content for file in files if file.content is not None])
    if places is None:  # whether the database has room for them is for SQLite to say
        return commands
    packed = {id(file): Packed(file, place) for file, place in zip(files, places, strict=True)}
    return [_with(command, packed) for command in commands]


def unpack(root: Path, place: Place, size: int, digest: str) -> tuple[bytes, bool]:
    """Return the bytes at a place, and whether they are those that a row tells of."""
    content = read(root, place, size)
    return content, f"blake3:{blake3(content).hexdigest()}" == digest


def files_of(command: Command) -> Sequence[Stored]:
    """Return the files that a command brings."""
    if isinstance(command, Accept | Settle):
        return command.files
    if isinstance(command, CreateUpload | FinishUpload | JoinUploads) and command.file is not None:
        return (command.file,)
    return ()


def _with(command: Command, packed: dict[int, Packed]) -> Command:
    """Return a command with the packed files in the place of its own."""
    files = [cast(Stored, packed.get(id(file), file)) for file in files_of(command)]
    if isinstance(command, Accept | Settle):
        return msgspec.structs.replace(command, files=files) if files else command
    if isinstance(command, CreateUpload | FinishUpload | JoinUploads) and files:
        return replace(command, file=files[0])
    return command
