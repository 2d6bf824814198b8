"""The variables of the environment that Afterwards reads, so that one that is misspelt is not ignored in silence."""

import difflib
from collections.abc import Iterable

PREFIX = "AFTERWARDS_"
KNOWN = frozenset(
    f"{PREFIX}{name}"
    for name in (
        # of every program
        *("DATA", "DRAIN", "TOKEN"),
        *("KEEP", "KEEP_FAILED", "KEEP_UPLOADS", "KEEP_ARTIFACTS"),
        *("MAX_FILE", "MAX_REQUEST", "MAX_FILES", "MAX_OWNER", "MAX_OWNER_FILES", "MAX_TOTAL", "MAX_TOTAL_FILES"),
        *("RESERVE", "ACCEPT", "DENY", "MISMATCH"),
        # of the command line
        *("HOST", "PORT", "WORKERS", "PROCESSES", "CONCURRENCY", "THREADS", "STRICT", "LOG_FORMAT"),
        # from one process of ours to another
        *("LAUNCH", "RUN"),
    )
)


def misspelt(names: Iterable[str]) -> list[tuple[str, str | None]]:
    """Return each name that looks like ours and is none, with the nearest that is; None: nothing is near."""
    unknown = sorted(name for name in names if name.upper().startswith(PREFIX) and name not in KNOWN)
    return [(name, _nearest(name.upper().removeprefix(PREFIX))) for name in unknown]


def _nearest(name: str) -> str | None:
    near = difflib.get_close_matches(name, [known.removeprefix(PREFIX) for known in sorted(KNOWN)], 1)
    return f"{PREFIX}{near[0]}" if near else None
