"""Text for terminals and log lines: nothing that came from a client may steer either."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

# C0, delete, C1, the two Unicode line breaks, the marks that turn the direction of text, and lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def plain(text: str) -> str:
    """Return the text on one line, with every control character escaped."""
    return _UNSAFE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def absolute(at: int) -> str:
    """Show a stored time in this machine's zone."""
    return datetime.fromtimestamp(at / 1_000_000, UTC).astimezone().isoformat(" ", "seconds")


def relative(at: int, now: int) -> str:
    """Show how far a stored time is from now: `3 min ago`, `in 2 h`."""
    seconds = abs(now - at) / 1_000_000
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= size), (1, "s"))
    amount = f"{int(seconds // size)} {unit}"
    return f"in {amount}" if at > now else f"{amount} ago"


def duration(microseconds: int) -> str:
    """Show how long something took."""
    seconds = microseconds / 1_000_000
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def size(count: int) -> str:
    """Show a number of bytes."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, shrink: int) -> list[str]:
    """Lay rows out in columns.

    Args:
        head: The names of the columns.
        rows: The cells; control characters in them are escaped.
        width: Columns the terminal has; None: as wide as it gets.
        shrink: The column whose cells are cut at their left when a row is too wide; its end says more than its start.
    """
    cells = [list(head), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    if width is not None:
        over = sum(widths) + 2 * (len(head) - 1) - width
        widths[shrink] = max(8, widths[shrink] - max(0, over))
    lines = []
    for row in cells:
        row[shrink] = _cut(row[shrink], widths[shrink])
        lines.append("  ".join(cell.ljust(widths[column]) for column, cell in enumerate(row)).rstrip())
    return lines


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else "…" + cell[len(cell) - width + 1 :]
