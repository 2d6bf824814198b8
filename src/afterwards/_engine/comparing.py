"""Compares the files of `async def` tasks with their digests before these begin: an event loop must not wait for that.

Threads of `def` tasks do it themselves, when they open a file.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future

from afterwards._domain.arguments import files_in
from afterwards._domain.tasks import Claim
from afterwards._engine.files import Shelf
from afterwards._engine.threads import Threads
from afterwards._files.comparison import is_known

THREADS = 4  # daemons: a file of a terabyte must not keep the process from ending


class Comparing:
    """Reads files for the tasks of one process."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._root = shelf.root
        self._threads = Threads(THREADS)

    async def files_of(self, claim: Claim) -> None:
        """Return when the files that a task is given can be opened without reading them.

        Raises:
            MissingFile, DamagedFile: One of them is not what was stored.
        """
        ids = [id for id in files_in(claim.arguments) if not is_known(id, self._root)]
        if ids:
            done: Future[None] = Future()
            self._threads.run(lambda: self._compare(ids, done))
            await asyncio.wrap_future(done)

    def _compare(self, ids: Sequence[str], done: Future[None]) -> None:
        if done.set_running_or_notify_cancel():
            try:
                self._shelf.compare(ids)
            except BaseException as error:  # noqa: BLE001 - it is the task's
                done.set_exception(error)
            else:
                done.set_result(None)

    def wake(self) -> None:
        """See `Threads.wake`."""
        self._threads.wake()

    def close(self) -> None:
        """Let the threads end."""
        self._threads.close()
