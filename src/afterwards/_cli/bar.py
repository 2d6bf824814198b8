"""A progress bar on standard error, for what takes longer than a second, where somebody watches."""

import shutil
import sys
import time
from types import TracebackType

PATIENCE = 1.0  # seconds before anything is shown
PAUSE = 0.1  # seconds between two drawings


class Bar:
    """Draws how far something is. In a pipe or a log file it draws nothing."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._stream = sys.stderr
        self._watched = self._stream.isatty()
        self._next = time.monotonic() + PATIENCE
        self._drawn = False

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def show(self, part: float, text: str = "") -> None:
        """Say how far it is, from 0 to 1, and what there is to say beside that."""
        if not self._watched or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PAUSE
        part = min(1.0, max(0.0, part))
        done = int(part * 24)
        line = f"{self.label} [{'#' * done}{'.' * (24 - done)}] {part:4.0%} {text}"
        self._stream.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
        self._stream.flush()
        self._drawn = True

    def clear(self) -> None:
        """Take the bar away, so that what is printed next begins at the start of its line."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False
