"""Has each file that comes in looked at by the program's scanner before any task is given it.

A file is stored with the verdict `held`, in one transaction with a task of ours that scans it and that the others of
its request wait for. So a scan survives a crash like any task, and is made again. Only a scanner that says so makes a
file `clean`; one that raises, times out, dies or cannot tell leaves it held and is asked again, for ever.
Whoever opens a file for a task asks `check_verdict`, so that no way around the order leads to an unscanned file.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from afterwards._domain.attempts import Backoff
from afterwards._domain.files import Verdict
from afterwards._domain.functions import is_async
from afterwards._domain.options import ATTRIBUTE, PLAIN_CALL, TaskOptions
from afterwards._engine.engine import Engine
from afterwards._engine.intake import Draft, Intake
from afterwards._store.contract import Accept, Stored, ask, ask_blocking
from afterwards._store.upkeep import Judge
from afterwards.errors import FileHeldBack

log = logging.getLogger("afterwards.engine")

NAME = "afterwards.scan"
TIMEOUT = 600.0  # seconds for the files of one request, of an `async def` scanner; a `def` has to see to its own
OPTIONS = TaskOptions(
    name=NAME,
    retries=1_000_000,  # as good as for ever
    backoff=Backoff(first=1.0, longest=60.0),
    queue="scan",
)


class Scanned(Protocol):
    """A file that is about to be stored."""

    verdict: Verdict | None

    @property
    def id(self) -> str:
        """What its row will be found by."""
        ...

    @property
    def is_stored(self) -> bool:
        """Whether it has been, and so is not scanned again."""
        ...


class NotScanned(Exception):
    """A scanner has given an answer that is no verdict on a file."""


class NotYet(FileHeldBack):
    """A scanner cannot tell yet, as it may say: nothing has failed, and it is asked again, less and less often."""


class Scanning:
    """The scanner of one installation."""

    def __init__(
        self, engine: Engine, intake: Intake, scan: Callable[[Any], Any], open: Callable[[Stored], Any]
    ) -> None:
        """Make the scanning task known to an engine that has not been started.

        Args:
            engine: Whose files are scanned.
            intake: Where the scans are queued.
            scan: The program's function; `Uploads` says what it is given and returns.
            open: Opens a stored file as a task would be given it.
        """
        self._engine = engine
        self._intake = intake
        self._scan = scan
        self._open = open
        self._task = self._make_async() if is_async(scan) else self._make_plain()
        engine.registry.of(self._task)

    def hold(self, files: Sequence[Scanned]) -> Draft | None:
        """Hold back files that are about to be stored, and return the scan that goes before their tasks."""
        fresh = [file for file in dict.fromkeys(files) if not file.is_stored]
        if not fresh:
            return None
        for file in fresh:
            file.verdict = Verdict.HELD
        return self._draft([file.id for file in fresh])

    def of_upload(self, id: str) -> Accept:
        """Return the scan of an upload, to be stored in one transaction with its file, which is held back."""
        return self._intake.queued(self._draft([id]))

    def _draft(self, ids: list[str]) -> Draft:
        return self._intake.draft(self._task, (ids,), {}, PLAIN_CALL, lambda *_: None)

    def _make_plain(self) -> Callable[..., Any]:
        def scan_files(files: list[str]) -> dict[str, str]:
            """Ask the scanner about each file, and record what it says."""
            said = _Said()
            for id in files:
                row = self._next(id, said)
                if row is not None:
                    with said.asking(row):
                        with _closing(self._open(row)) as upload:
                            answer = self._scan(upload)
                        said.note(ask_blocking(self._engine.store, verdict(row, answer)))
            return said.end()

        setattr(scan_files, ATTRIBUTE, OPTIONS)
        return scan_files

    def _make_async(self) -> Callable[..., Any]:
        async def scan_files(files: list[str]) -> dict[str, str]:
            """Ask the scanner about each file, and record what it says."""
            said = _Said()
            for id in files:
                row = await self._engine.read(self._next, id, said)
                if row is not None:
                    with said.asking(row):
                        with _closing(self._open(row)) as upload:
                            answer = await self._scan(upload)
                        said.note(await ask(self._engine.store, verdict(row, answer)))
            return said.end()

        setattr(scan_files, ATTRIBUTE, replace(OPTIONS, timeout=TIMEOUT))
        return scan_files

    def _next(self, id: str, said: "_Said") -> Stored | None:
        """Return a file that still has to be scanned."""
        row = self._engine.store.file(id)
        if row is None or row.verdict is not Verdict.HELD:
            said.results[id] = "gone" if row is None else str(row.verdict or "not asked")
            return None
        return row


class _Said:
    """What the scanner has said in one attempt; one file it cannot tell about keeps it from no other."""

    def __init__(self) -> None:
        self.results: dict[str, str] = {}
        self._id = ""
        self._open: list[BaseException] = []

    def asking(self, row: Stored) -> "_Said":
        self._id = row.id
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, NotYet):
            log.info("file %s stays held back: the scanner cannot tell yet and is asked again", self._id)
        if isinstance(error, Exception):
            self._open.append(error)
        return isinstance(error, Exception)

    def note(self, held: Verdict | None) -> None:
        self.results[self._id] = "gone" if held is None else held.value
        if held is Verdict.INFECTED:
            log.warning("file %s is held back for good: the scanner found something in it", self._id)

    def end(self) -> dict[str, str]:
        """Return what was said of each file, when something was said of all."""
        if self._open:
            raise min(self._open, key=lambda error: isinstance(error, NotYet))  # what failed is told first
        return self.results


class _closing:
    def __init__(self, upload: Any) -> None:
        self._upload = upload

    def __enter__(self) -> Any:
        return self._upload

    def __exit__(self, *_: object) -> None:
        self._upload.file.close()


def verdict(row: Stored, answer: object) -> Judge:
    """Turn a scanner's answer into what is recorded.

    Raises:
        NotYet: The scanner cannot tell.
        NotScanned: It is none.
    """
    if answer is True:
        return Judge(file=row.id, verdict=Verdict.CLEAN)
    if answer is False or (isinstance(answer, str) and answer.strip()):
        finding = answer.strip()[:500] if isinstance(answer, str) else None
        return Judge(file=row.id, verdict=Verdict.INFECTED, finding=finding)
    if answer is None:
        raise NotYet(f"the scanner cannot tell yet whether file {row.id} is clean. It is asked again.")
    raise NotScanned(
        f"the scanner says of file {row.id} {answer!r:.80}, so the file stays held back and is scanned again. It "
        "returns True for a clean file, and False or a text that says what it found for another."
    )


def check_verdict(row: Stored, finding: str | None) -> None:
    """See that a file may be given to a task.

    Raises:
        FileHeldBack: Not yet, or, `for_good`, never.
    """
    if row.verdict is Verdict.INFECTED:
        error = FileHeldBack(
            f"file {row.id} ({row.name or 'without a name'}) is held back for good: the scanner found "
            f"{finding or 'something'} in it. No task is given it, and it goes with its tasks."
        )
        error.for_good = True
        raise error
    if row.verdict is Verdict.HELD:
        raise FileHeldBack(
            f"file {row.id} ({row.name or 'without a name'}) is held back until the scanner has said that it is clean. "
            f"This task waits for that; see the tasks named {NAME}."
        )
