"""Text for terminals: columns that fit, times people read, and nothing from a client that steers."""

import logging

import pytest

from afterwards._cli.logs import JsonFormatter, TextFormatter
from afterwards._cli.text import duration, plain, relative, size, table

HOUR = 3_600_000_000  # microseconds


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b2J", "\\x9b2J"),
        ("line\u2028break", "line\\u2028break"),
        ("\u202eexe.txt", "\\u202eexe.txt"),
        ("\udc80", "\\udc80"),
        ("Grüße 🎉", "Grüße 🎉"),
    ],
)
def test_control_characters_are_escaped(given, shown):
    """Escape codes, line breaks and marks that turn the text around, in whatever form they come."""
    assert plain(given) == shown


def test_times_are_relative_in_one_unit():
    """What a person wants to know first."""
    assert relative(0, 5_000_000) == "5 s ago"
    assert relative(0, 3 * HOUR) == "3 h ago"
    assert relative(2 * 24 * HOUR, 0) == "in 2 d"
    assert relative(7, 7) == "0 s ago"


def test_durations_and_sizes_have_units():
    """Never a bare number."""
    assert [duration(value) for value in (5_000, 1_500_000, 300_000_000, 2 * HOUR)] == [
        "5 ms",
        "1.5 s",
        "5.0 min",
        "2 h 0 min",
    ]
    assert [size(value) for value in (0, 1023, 1024, 5 << 20)] == ["0 B", "1023 B", "1.0 KiB", "5.0 MiB"]


def test_a_table_is_cut_at_the_left_of_one_column():
    """The end of a function's name says more than the package it is in."""
    lines = table(("ID", "NAME"), [("1", "package.module:function"), ("2", "f\n")], 20, shrink=1)

    assert lines == ["ID  NAME", "1   …module:function", "2   f\\n"]


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_a_record_stays_on_its_line(formatter):
    """A client that sends a line break must not be able to write a line of the log."""
    record = logging.makeLogRecord({"name": "a", "levelname": "INFO", "msg": "one\n%s", "args": ("two\x1b",)})

    line = formatter.format(record)

    assert "\n" not in line
    assert "\x1b" not in line


def test_a_traceback_is_indented():
    """Its text comes from the exception, and that from anywhere."""
    try:
        raise ValueError("one\n2026-01-01 00:00:00.000 INFO forged")
    except ValueError as error:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": (type(error), error, error.__traceback__)})

    first, *rest = TextFormatter().format(record).splitlines()

    assert "failed" in first
    assert all(line.startswith("    ") for line in rest)
    assert any("forged" in line for line in rest)
