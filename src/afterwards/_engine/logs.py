"""Captures what a task logs: every record that its program's loggers let through also goes to the task.

A handler on the root logger, which belongs to nobody. It sets no level: what is logged stays the program's choice.
"""

import logging
import time

from afterwards._engine.context import running


class Capture(logging.Handler):
    """Hands records of a running task to that task, and leaves all others alone."""

    def __init__(self) -> None:
        super().__init__()
        self._text = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's message, with its traceback, for the task that logged it."""
        attempt = running.get()
        if attempt is not None:
            try:
                attempt.log(time.time_ns() // 1000, record.levelname, record.name, self._text.format(record))
            except Exception:  # noqa: BLE001 - a message that cannot be formatted is logging's own affair
                self.handleError(record)
        # A root logger with a handler no longer prints warnings by itself: keep what a program without any had.
        root = logging.getLogger()
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and root.handlers == [self]:
            last.handle(record)


_capture = Capture()


def capture() -> None:
    """Begin to capture; doing it twice changes nothing."""
    root = logging.getLogger()
    if _capture not in root.handlers:
        root.addHandler(_capture)
