"""The progress bar: on a terminal, after a second; in a pipe nothing."""

import os
import sys
from typing import TextIO

import pytest

from afterwards._cli import bar as bars
from afterwards._cli.bar import Bar


@pytest.fixture
def terminal():
    """A real one, and a call that gives what has been drawn on it."""
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as stream:
        yield stream, lambda: _drawn(ours, stream)
    os.close(ours)


def _drawn(descriptor: int, stream: TextIO) -> str:
    """All that was written before this call: a terminal hands over late, so it is read up to a mark."""
    stream.write("\x04")
    stream.flush()
    text = ""
    while not text.endswith("\x04"):
        text += os.read(descriptor, 65_536).decode()
    return text.removesuffix("\x04")


def test_what_is_done_within_a_second_draws_nothing(terminal, monkeypatch):
    stream, drawn = terminal
    monkeypatch.setattr(sys, "stderr", stream)

    with Bar("files") as bar:
        bar.show(0.5)

    assert drawn() == ""


def test_what_takes_longer_says_how_far_it_is_and_leaves_its_line_empty(terminal, monkeypatch):
    stream, drawn = terminal
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(bars, "PATIENCE", 0.0)
    monkeypatch.setenv("COLUMNS", "60")

    with Bar("files") as bar:
        bar.show(0.5, "1.5 GiB" + "x" * 80)

    text = drawn()
    assert text.startswith("\r\x1b[Kfiles [############............]  50% 1.5 GiB")
    assert text.endswith("\r\x1b[K")
    assert len(text) <= 60 + 8


def test_a_pipe_gets_nothing(monkeypatch, capsys):
    monkeypatch.setattr(bars, "PATIENCE", 0.0)

    with Bar("files") as bar:
        bar.show(0.5)

    assert capsys.readouterr().err == ""
