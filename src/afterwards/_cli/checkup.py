"""Checks a whole data directory, running or not, and mends what can be mended safely.

The rows say what must be on the disk, the disk says what no row names. What a running program changes in the meantime
is asked again before it becomes a finding.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from afterwards._cli.bar import Bar
from afterwards._cli.text import size as bytes_text
from afterwards._domain.findings import Finding, Level, Repair
from afterwards._domain.signing import Signer
from afterwards._files.directory import load_key
from afterwards._files.inspection import (
    DATABASE,
    look_at_file,
    look_at_folders,
    look_at_part,
    look_at_parts,
    look_at_root,
)
from afterwards._files.mending import close_to_others, is_intact, put_back
from afterwards._files.presence import is_held, living
from afterwards._files.stored import digest_of
from afterwards._files.sweep import remove_orphans, sweep_staging, sweep_uploads
from afterwards._store.contract import ask_blocking
from afterwards._store.sqlite.inspection import CheckedFile, Inspection, inspecting, reading
from afterwards._store.sqlite.store import SqliteStore
from afterwards._store.upkeep import Recount
from afterwards.errors import Error, StoreRefused

RESCUE = 5.0  # seconds in which a running program frees what a dead one held
LOOK = 0.1  # seconds between two looks whether it did
NAMED = 3  # tasks that a finding about a file names


@dataclass
class Report:
    """What a check came to."""

    root: Path
    quick: bool
    findings: list[Finding] = field(default_factory=list)
    done: dict[int, str] = field(default_factory=dict)  # by place in `findings`: how it was mended
    tasks: int = 0
    files: int = 0
    bytes: int = 0
    events: int = 0

    @property
    def left(self) -> list[Finding]:
        """The problems that have not been mended."""
        return [
            finding
            for place, finding in enumerate(self.findings)
            if finding.level is Level.PROBLEM and place not in self.done
        ]


def check(root: Path, *, quick: bool, bar: Bar) -> Report:
    """Look at everything, and change nothing.

    Args:
        root: The data directory.
        quick: Leave out the digests, and SQLite's slower half of its check.
        bar: Where to show how far it is.
    """
    root = Path(os.path.realpath(root))
    report = Report(root=root, quick=quick)
    found = report.findings.append
    report.findings += look_at_root(root)
    signer = _signer(root)
    with inspecting(root / "afterwards.db", found) as inspection:
        if inspection is None:
            return report
        bar.label = "database"
        bar.show(0.0)
        understood = False
        with reading("file", found):
            old = inspection.version()
            report.findings += inspection.structure(quick=quick, advance=bar.show)
            understood = old is None
            if old is not None:
                found(old)
        if not understood:
            return report
        bar.label = "tasks"
        with reading("functions", found):
            report.findings += inspection.functions(signer)
        with reading("tasks", found):
            report.findings += inspection.task_rows(signer, bar.show)
        with reading("events", found):
            report.findings += inspection.event_rows(bar.show)
        with reading("workers", found):
            report.findings += _workers(inspection, root)
        with reading("uploads", found):
            report.findings += _uploads(inspection, root)
        with reading("files", found):
            _look_at_files(inspection, report, bar)
        report.tasks, report.events = inspection.tasks, inspection.events
    return report


def mend(report: Report) -> None:
    """Carry out every repair that the findings name, and note at each what was done.

    Raises:
        StoreRefused: The data directory belongs to another user.
        StorageFull, StorageUnsure, StoreBusy: The database could not be written.
    """
    root = report.root
    wanted: dict[Repair, list[int]] = {}
    for place, finding in enumerate(report.findings):
        if finding.repair is not None:
            wanted.setdefault(finding.repair, []).append(place)
    if not wanted:
        return
    owner = os.stat(root).st_uid
    if os.geteuid() != owner:
        raise StoreRefused(
            f"the data directory {root} belongs to user {owner}, and this is user {os.geteuid()}: what is mended would "
            "belong to the wrong one. Use the account that runs the program."
        )
    for place in wanted.get(Repair.MODE, ()):
        target = report.findings[place].target
        if close_to_others(root / target):
            report.done[place] = "closed to others"
        for beside in DATABASE if target == DATABASE[0] else ():  # made with the mode of the database
            if os.path.lexists(root / beside):
                close_to_others(root / beside)
    _remove(report, wanted.get(Repair.LEFTOVER, ()), wanted.get(Repair.ORPHAN, ()))
    _remove_parts(report, wanted.get(Repair.PART, ()))
    for place in wanted.get(Repair.PUT_BACK, ()):
        path = root / report.findings[place].target
        row = _row(root, path.name)
        if row is not None and put_back(path, path.name, root, size=row[0], digest=row[1]):
            report.done[place] = "put back, its digest is right"
    uses = wanted.get(Repair.USES, ())
    if uses:
        store = SqliteStore(root / "afterwards.db")
        try:
            ask_blocking(store, Recount(ids=tuple(report.findings[place].target for place in uses)))
        finally:
            store.close()
        report.done |= dict.fromkeys(uses, "counted anew")


def _signer(root: Path) -> Signer | None:
    try:
        return Signer(load_key(root)) if os.path.lexists(root / "key") else None
    except Error:  # look_at_root has said it
        return None


def _workers(inspection: Inspection, root: Path) -> Iterable[Finding]:
    def dead() -> dict[str, tuple[int, str]]:
        every = inspection.workers()
        return {id: (pid, host) for id, pid, host in every if not is_held(root / "workers" / f"{id}.lock")}

    until = time.monotonic() + RESCUE
    gone = dead()
    while gone and living(root) and time.monotonic() < until:
        time.sleep(LOOK)
        gone = {id: who for id, who in dead().items() if id in gone}
    others = living(root)
    for id, (pid, host) in gone.items():
        problem = f"its process ({pid} on {host}) has ended and has not been signed off"
        if not host:  # only what it holds tells of it
            problem = "it still holds tasks or keys and is not on record, as what was restored from a backup"
        yield Finding(
            code="dead_worker",
            subject=f"worker {id}",
            problem=problem + (", although another program runs here" if others else ""),
            remedy="Look into the log of that program for what keeps it from doing so."
            if others
            else "The next start of the program takes up what it left.",
            level=Level.PROBLEM if others else Level.NOTICE,
        )


def _uploads(inspection: Inspection, root: Path) -> Iterable[Finding]:
    for id, offset in inspection.uploads():
        bad = look_at_part(id, offset, root)
        if bad is not None and inspection.open_uploads([id]):  # else it has ended while we looked
            yield bad
    yield from look_at_parts(root, open_ones=inspection.open_uploads, now=time.time())


def _look_at_files(inspection: Inspection, report: Report, bar: Bar) -> None:
    """Compare the rows of files with the disk, in both directions."""
    root = report.root
    bar.label = "folders"
    bar.show(0.0)
    elsewhere: dict[str, Finding] = {}
    for finding in look_at_folders(
        root,
        known=inspection.known_files,
        lives=lambda owner: is_held(root / "workers" / f"{owner}.lock"),
        now=time.time(),
    ):
        if finding.repair is Repair.PUT_BACK:
            elsewhere[Path(finding.target).name] = finding
        else:
            report.findings.append(finding)
    bar.label = "files"
    part = 0.0

    def advance(count: int) -> None:
        report.bytes += count
        bar.show(part, bytes_text(report.bytes))

    for file, part in inspection.files(report.findings.append):  # noqa: B007 - read by `advance`
        report.files += 1
        bad = _look(file, report, advance)
        if bad is None or inspection.file(file.id) is None:  # it was deleted while we looked
            continue
        lying = elsewhere.get(file.id)
        if lying is not None and bad.code == "missing_file":
            if is_intact(root / lying.target, file.size, file.digest):
                continue  # only its place is wrong
            del elsewhere[file.id]
            report.findings.append(
                replace(lying, repair=None, remedy="Its bytes are not those that were stored: it cannot be put back.")
            )
        needed = inspection.tasks_of(file.id, NAMED)
        tasks = ", ".join(f"{id} ({state})" for id, state in needed)
        report.findings.append(replace(bad, problem=f"{bad.problem}; needed by {tasks}") if tasks else bad)
    report.findings += elsewhere.values()


def _look(file: CheckedFile, report: Report, advance: Callable[[int], None]) -> Finding | None:
    if file.content is None:
        return look_at_file(file.id, file.size, None if report.quick else file.digest, report.root, advance)
    if report.quick or digest_of(file.content) == file.digest:
        return None
    return Finding(
        code="damaged_file",
        subject=f"file {file.id}",
        problem="the bytes in its row do not have the digest that was stored",
        remedy="Bring it back from a backup and retry the tasks that need it.",
    )


def _remove(report: Report, leftovers: Iterable[int], orphans: Iterable[int]) -> None:
    root, now = report.root, time.time()

    def is_dead(owner: str) -> bool:
        return not is_held(root / "workers" / f"{owner}.lock")

    owners = {report.findings[place].target: place for place in leftovers}
    for _ in sweep_staging(root, lambda owner: owner not in owners or not is_dead(owner)):
        pass
    report.done |= {place: "removed" for owner, place in owners.items() if not (root / "staging" / owner).exists()}
    ids = {report.findings[place].target: place for place in orphans}
    if ids:
        with inspecting(root / "afterwards.db", report.findings.append) as inspection:
            if inspection is not None:
                for id in remove_orphans(ids, root, inspection.known_files, now=now):
                    report.done[ids[id]] = "removed"


def _remove_parts(report: Report, places: Iterable[int]) -> None:
    parts = {place: report.root / report.findings[place].target for place in places}
    if not parts:
        return
    with inspecting(report.root / "afterwards.db", report.findings.append) as inspection:
        if inspection is not None:
            for _ in sweep_uploads(report.root, inspection.open_uploads, now=time.time()):
                pass
    report.done |= {place: "removed" for place, part in parts.items() if not part.exists()}


def _row(root: Path, id: str) -> tuple[int, str, bool] | None:
    with inspecting(root / "afterwards.db", lambda _: None) as inspection:
        return None if inspection is None else inspection.file(id)
