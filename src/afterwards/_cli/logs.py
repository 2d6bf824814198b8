"""How `afterwards run` and `afterwards worker` log: one event a line, as text or as JSON.

Whatever a message holds stays on its line: line breaks and other control characters are escaped, and the lines of a
traceback are indented, so that no client can forge a line of the log or steer the terminal that shows it.
"""

import json
import logging
import logging.config
from datetime import UTC, datetime
from typing import Any

from afterwards._cli.text import plain
from afterwards._engine.context import current_task

TEXT, JSON = "text", "json"

# What every record has; anything else came with `extra`. color_message repeats uvicorn's message with escape codes.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class TextFormatter(logging.Formatter):
    """Time, level, logger, message, and the task that it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, and indented lines for its traceback."""
        at = datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")[:23]
        task = _task(record)
        about = "" if task is None else f" [task {plain(str(task[0]))} attempt {plain(str(task[1]))}]"
        message, trace = _said(self, record)
        line = f"{at} {record.levelname:<8} {record.name}: {plain(message)}{about}"
        return "\n    ".join([line, *(plain(part) for part in trace.splitlines())])


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the fields of `extra` beside the usual ones."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        fields: dict[str, Any] = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        task = _task(record)
        if task is not None:
            fields["task"], fields["attempt"] = task
        fields["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields["level"] = record.levelname
        fields["logger"] = record.name
        fields["message"], trace = _said(self, record)
        if trace:
            fields["error"] = trace
        order = ("time", "level", "logger", "message")
        return json.dumps({key: fields.pop(key) for key in order} | fields, default=repr)


def _task(record: logging.LogRecord) -> tuple[Any, Any] | None:
    """Find which task a record is about: it says so, or a task logged it."""
    if hasattr(record, "task"):
        return record.task, getattr(record, "attempt", "?")
    running = current_task()
    return None if running is None else (running.id, running.attempt)


def _said(formatter: logging.Formatter, record: logging.LogRecord) -> tuple[str, str]:
    """Return a record's message and its traceback."""
    message, parts = record.getMessage().rstrip("\n"), []
    if record.name == "uvicorn.error" and message.startswith("Traceback (most recent call last)"):
        message, parts = "the program's own start-up or shutdown failed", [message]  # uvicorn has it as text only
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    return message, "\n".join(parts)


def settings(kind: str) -> dict[str, Any]:
    """Return what `logging.config.dictConfig`, and uvicorn, take: INFO and above to standard error.

    uvicorn's access lines go to standard output, as they do without us.
    """
    formatter = "afterwards._cli.logs.JsonFormatter" if kind == JSON else "afterwards._cli.logs.TextFormatter"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {
            "events": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"},
            "access": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stdout"},
        },
        "root": {"level": "INFO", "handlers": ["events"]},
        "loggers": {
            "uvicorn": {"level": "INFO"},
            "uvicorn.access": {"level": "INFO", "handlers": ["access"], "propagate": False},
            "watchfiles": {"level": "WARNING"},  # counts every change of every file at INFO
        },
    }


def configure(kind: str) -> None:
    """Set logging up for this process."""
    logging.config.dictConfig(settings(kind))
