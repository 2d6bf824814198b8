"""Stored files on their way into tasks, and what an application answers when there is no such file."""

from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from afterwards._engine.files import File, Shelf
from afterwards._engine.outputs import Output
from afterwards._web.problems import problem
from afterwards.errors import Error, FileHeld, FileInfected, UnknownFile, UnstorableArgument

if TYPE_CHECKING:
    from afterwards._web.system import System


def taken(value: object, shelf: Shelf, *, function: str, argument: str) -> File | None:
    """Return a stored file that a task is to take, None for any other value. Nothing is copied.

    Raises:
        UnknownFile: It is stored no longer, or was never stored here.
        FileHeld, FileInfected: A scanner has not cleared it.
        UnstorableArgument: The task that makes it has not ended.
    """
    if isinstance(value, Output) or (isinstance(value, File) and value.is_draft):
        raise UnstorableArgument(
            function=function,
            argument=argument,
            type=f"the output {value.label if isinstance(value, Output) else value.name!r}",
            reason="which is stored when the task that makes it has succeeded",
            remedy="Return it, and let what comes next take it from the result.",
        )
    if not isinstance(value, File):
        return None
    shelf.check(value.id)
    return value


def answer_missing_files(app: FastAPI, system: "System") -> None:
    """Let endpoints that ask for a file which is not there answer with a problem, unless they answer otherwise."""

    async def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, Error)
        return problem(error, request.url.path, hide=system.hidden_folder)

    for kind in (UnknownFile, FileHeld, FileInfected):
        app.exception_handlers.setdefault(kind, answer)
