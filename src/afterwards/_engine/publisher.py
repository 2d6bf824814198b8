"""Publishes what attempts made before they are settled, and sees to it that nothing of the others stays.

Its disk work is done on the thread of a `def` task, and on threads of its own for tasks on event loops. Files are
durable under their final names before the settlement that tells of them is handed to the store; whether the attempt
still holds its lease is for the store to say. What is refused for sure is removed at once; where nobody knows whether
rows were stored, the files stay, and the sweep removes what no row names. Most attempts make no files and never come
here.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from afterwards._domain.files import FileKind
from afterwards._domain.retention import Keep
from afterwards._engine import outside
from afterwards._engine.again import PASSING
from afterwards._engine.context import Running
from afterwards._engine.outcomes import Outcome, Raised, Returned
from afterwards._files.pools import Pool
from afterwards._files.workspace import Made, Workshop
from afterwards._store.contract import Settle
from afterwards.errors import Stopped, StorageUnsure, UnusableArtifact

log = logging.getLogger("afterwards.engine")

_UNKNOWN = (StorageUnsure, Stopped)  # after these, the rows may be stored or not


class Publisher:
    """Brings the files of one process's attempts onto stable storage."""

    def __init__(self, root: Path, worker: str, prefix: str, keep: Keep) -> None:
        self._keep = keep
        self.shop = Workshop(root, worker, prefix)
        self._threads = Pool("publisher", 4)
        self._lock = threading.Lock()
        self._made: dict[str, Made] = {}  # what settlements on their way tell of, by the attempts' tokens
        self._unsure: set[str] = set()  # tokens of those that may be stored although the store said otherwise
        outside.serve(self, begins=True)

    def soon(self, call: Callable[..., None], *args: Any) -> None:
        """Call on a thread that may block."""
        self._threads.soon(call, *args)

    def conclude(self, attempt: Running, outcome: Outcome) -> Outcome:
        """Publish what an attempt made, or throw it away where it did not succeed; its work folder goes. Blocks."""
        workspace = attempt.workspace
        if workspace is None:
            return outcome
        try:
            if not isinstance(outcome, Returned):
                workspace.discard()
                return outcome
            outcome.made = workspace.publish()
        except Exception as error:  # noqa: BLE001 - whatever it is, the attempt has not come to what it returned
            if not isinstance(outcome, Returned):
                log.warning("what attempt %d of task %s left cannot be removed: %s", *_of(attempt), error)
                return outcome
            return Raised(error, final=isinstance(error, UnusableArtifact))
        return outcome

    def settles(self, settle: Settle, made: Made) -> Settle:
        """Return a settlement that tells of what was made, too."""
        with self._lock:
            self._made[settle.settlement.token] = made
        until = self._keep.file_until(FileKind.ARTIFACT, settle.settlement.at)
        files = [msgspec.structs.replace(file, kept_until=until) for file in made.files]
        return Settle(settle.settlement, settle.followed, files, made.outputs)

    def settled(self, settle: Settle, answer: Any) -> None:
        """Take note of what became of it; called on the store's thread."""
        token = settle.settlement.token
        with self._lock:
            if isinstance(answer, PASSING):  # it is handed over once more
                if isinstance(answer, _UNKNOWN):
                    self._unsure.add(token)
                return
            made = self._made.pop(token, None)
            unsure = token in self._unsure or isinstance(answer, _UNKNOWN)
            self._unsure.discard(token)
        if made is not None:
            refused = isinstance(answer, BaseException) and not unsure
            self.soon(made.take_back) if refused else made.leave()

    def forget(self, outcome: Outcome) -> None:
        """Remove what was made by an attempt whose end was decided without it."""
        if isinstance(outcome, Returned) and outcome.made is not None:
            self.soon(outcome.made.take_back)

    def close(self) -> None:
        """Finish what was begun, and let the threads end."""
        self._threads.shutdown()
        outside.serve(self, begins=False)


def _of(attempt: Running) -> tuple[int, str]:
    return attempt.claim.attempt, attempt.claim.id
