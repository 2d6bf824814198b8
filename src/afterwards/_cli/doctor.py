"""`afterwards doctor`: what a check of a data directory prints."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from afterwards._cli.bar import Bar
from afterwards._cli.checkup import Report, check, mend
from afterwards._cli.database import check_place
from afterwards._cli.text import plain, size
from afterwards._domain.amounts import counted
from afterwards._domain.findings import Level


def examined(root: Path, *, quick: bool, repair: bool, as_json: bool) -> tuple[Iterator[str], bool]:
    """Check a data directory; return the lines to print and whether it is healthy now.

    Raises:
        StoreRefused: There is no database, or it cannot be reached; or a repair as another user.
    """
    check_place(root)
    with Bar("data directory") as bar:
        report = check(root, quick=quick, bar=bar)
    if repair:
        mend(report)
    return (_as_json(report) if as_json else as_text(report, repair=repair)), not report.left


def as_text(report: Report, *, repair: bool) -> Iterator[str]:
    """Say each finding in a line, and in the last one what it comes to."""
    for place, finding in enumerate(report.findings):
        what = f"{finding.code}: {finding.subject}: {finding.problem}."
        if place in report.done:
            yield plain(f"REPAIRED {what} It was {report.done[place]}.")
        else:
            word = "PROBLEM " if finding.level is Level.PROBLEM else "notice  "
            again = " This could not be repaired now." if repair and finding.repair is not None else ""
            yield plain(f"{word} {what}{again} {finding.remedy}")
    read = "their digests not compared" if report.quick else f"{size(report.bytes)} read and compared"
    seen = f"{counted(report.tasks, 'task')}, {counted(report.files, 'file')} ({read})"
    left = len(report.left)
    mended = f", {len(report.done)} repaired" if report.done else ""
    if left:
        yield f"{counted(left, 'problem')}{mended}: {seen}"
    else:
        yield f"healthy{mended}: {seen}"


def _as_json(report: Report) -> Iterator[str]:
    findings = [
        {
            "level": finding.level,
            "code": finding.code,
            "subject": finding.subject,
            "problem": finding.problem,
            "remedy": finding.remedy,
            "repairable": finding.repair is not None,
            "repaired": report.done.get(place),
        }
        for place, finding in enumerate(report.findings)
    ]
    document = {
        "data": str(report.root),
        "healthy": not report.left,
        "quick": report.quick,
        "checked": {
            "tasks": report.tasks,
            "files": report.files,
            "bytes": report.bytes,
        },
        "findings": findings,
    }
    yield msgspec.json.encode(document).decode()
