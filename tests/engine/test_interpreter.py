"""What the engine sets in Python itself, and that it leaves alone what a program has set."""

import gc
import sys
import weakref
from collections.abc import Iterator

import pytest

from afterwards._engine.interpreter import SWITCH, tune_interpreter


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    interval = sys.getswitchinterval()
    gc.unfreeze()
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.enable()


@pytest.mark.parametrize(("chosen", "expected"), [(0.005, SWITCH), (0.001, 0.001), (0.05, 0.05)])
def test_threads_share_the_interpreter_sooner_unless_the_program_has_chosen(chosen, expected):
    sys.setswitchinterval(chosen)

    tune_interpreter()

    assert sys.getswitchinterval() == pytest.approx(expected, rel=0.01)


def test_the_garbage_collector_leaves_alone_what_was_there_at_the_start_and_nothing_later():
    """A look at all of it took 46 ms, in which no request was answered."""
    was_there = [[]]

    tune_interpreter()

    added = [[]]
    seen = gc.get_objects()
    assert not any(one is was_there for one in seen)
    assert any(one is added for one in seen)
    found = gc.get_freeze_count()
    tune_interpreter()
    assert gc.get_freeze_count() <= found  # a second engine of the process does not set aside what the first one left


def test_garbage_from_before_the_start_is_collected_and_not_kept_for_ever():
    class Link:
        def __init__(self) -> None:
            self.itself = self

    dropped = weakref.ref(Link())

    tune_interpreter()

    assert dropped() is None


def test_a_program_that_has_switched_the_collector_off_keeps_it_so():
    gc.disable()
    before = gc.get_freeze_count()

    tune_interpreter()

    assert not gc.isenabled()
    assert gc.get_freeze_count() == before
