"""How a task makes files: `output` to write one, `workdir` for code that writes files by itself."""

from pathlib import Path
from typing import Any, BinaryIO

from afterwards._domain.labels import label
from afterwards._domain.media import media_type
from afterwards._engine.context import running
from afterwards._engine.files import File, workspace
from afterwards._files.outputs import OutputFile
from afterwards._files.spooled import Memory
from afterwards._files.staging import Staging
from afterwards._files.workspace import LONGEST_NAME, Workspace


class Output(OutputFile):
    """A file that a task writes: a binary file object, and, once it is written, a `File` by its `file`."""

    def __init__(self, staging: Staging, memory: Memory, name: str, content_type: str | None, prefix: str) -> None:
        super().__init__(staging, memory, name, content_type)
        self.prefix = prefix

    @property
    def file(self) -> File:
        """End the writing and return what was written as a value, to be returned by the task."""
        size, digest = self.about()
        return File(
            _Unpublished(self),
            id=self.id,
            name=self.label,
            size=size,
            content_type=self.content_type,
            type=None,
            digest=digest,
        )

    def __enter__(self) -> "Output":
        return self

    def __repr__(self) -> str:
        return f"Output({self.label!r})"


class _Unpublished:
    """Where the bytes of an output are until its attempt has succeeded."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def open(self, id: str) -> BinaryIO:
        return self.output.reader()

    def lend(self, file: File, workspace: Workspace) -> Path:
        with self.output.reader() as opened:
            return workspace.lend(file.id, file.name, opened, None)

    def href(self, id: str) -> str:
        return f"{self.output.prefix}/files/{id}"


def output(name: str, *, content_type: str | None = None) -> Output:
    """Begin a file that the current task makes: `with output("thumbnail.png") as file: image.save(file, "PNG")`.

    It is written straight to where it stays, and belongs to the task when the attempt succeeds, whether it is returned
    or not; of an attempt that fails nothing remains. A `with` block that raises drops it. Outside of a task it is a
    temporary file that goes with the object, so that functions stay plain functions.

    Args:
        name: What people will see; never part of a path.
        content_type: What it is, for those who download it. Default: what its bytes say.

    Raises:
        ValueError: One of the two is none.
        TooManyArtifacts: The attempt has made 1,000.
        NoAttempt: Tasks run in this process, and the code that calls is part of none.
    """
    given: tuple[Any, Any] = name, content_type  # a Path, as likely as not
    if not isinstance(given[0], str) or not name:
        raise ValueError(f"output({name!r}): a name for people to see is wanted here, as a text")
    if content_type is not None and (not isinstance(given[1], str) or media_type(content_type) != content_type):
        raise ValueError(f'output(content_type={content_type!r}): a media type such as "image/png" is wanted here')

    place = workspace("output()")

    def make(staging: Staging, memory: Memory) -> Output:
        return Output(staging, memory, label(name, LONGEST_NAME), content_type, place.prefix)

    return place.write(make, keep=running.get() is not None)


def workdir() -> Path:
    """Return an empty folder for the current attempt, for code that writes files by itself.

    Return the path of a file in it, and it becomes the task's result. Everything else in it goes when the attempt ends.
    Outside of a task it is a temporary folder of the process.
    """
    return workspace("workdir()").folder()
