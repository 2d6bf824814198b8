"""What `@task` takes, what it refuses, and what it leaves as it was."""

import math
from typing import Any

import pytest

from afterwards._domain import options
from afterwards._domain.attempts import Backoff
from afterwards._domain.options import PLAIN, named, options_of, task


@pytest.fixture(autouse=True)
def _names(monkeypatch):
    monkeypatch.setattr(options, "_named", {})


def plain() -> str:
    return "plain"


def other() -> None: ...


async def coroutine() -> None: ...


@pytest.fixture(autouse=True)
def _untouched():
    yield
    for function in (plain, other, coroutine):
        vars(function).pop(options.ATTRIBUTE, None)


def test_a_decorated_function_stays_the_function_it_was():
    """So that it can be called, tested and imported like any other."""
    decorated = task(retries=2)(plain)

    assert decorated is plain
    assert decorated() == "plain"
    assert options_of(plain).retries == 2


def test_without_the_decorator_a_function_has_the_defaults():
    assert options_of(other) is PLAIN
    assert (PLAIN.retries, PLAIN.max_interruptions, PLAIN.queue, PLAIN.priority) == (0, 3, "default", 0)


def test_every_option_is_kept():
    task(retries=1, backoff=2, max_backoff=4, timeout=5, max_interruptions=6, queue="q", priority=-7)(coroutine)

    found = options_of(coroutine)
    assert found.backoff == Backoff(first=2, longest=4)
    assert (found.retries, found.timeout, found.max_interruptions) == (1, 5, 6)
    assert (found.queue, found.priority) == ("q", -7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "with space"},
        {"name": "os:system"},
        {"name": "x" * 101},
        {"name": 3},
        {"retries": -1},
        {"retries": 1.5},
        {"retries": 10**30},
        {"backoff": 0},
        {"backoff": math.nan},
        {"backoff": math.inf, "max_backoff": math.inf},
        {"backoff": 1e300, "max_backoff": 1e300},
        {"backoff": 2, "max_backoff": 1},
        {"max_backoff": math.inf},
        {"backoff": "1"},
        {"timeout": 0},
        {"timeout": math.nan},
        {"timeout": "soon"},
        {"max_interruptions": 0},
        {"max_interruptions": 2.5},
        {"queue": ""},
        {"queue": "q" * 101},
        {"queue": None},
        {"priority": 2**31},
        {"priority": "high"},
        {"priority": 1.5},
    ],
    ids=repr,
)
def test_values_out_of_range_are_refused_with_their_name(wrong: dict[str, Any]):
    """When the program starts, and not in the middle of the night when the first attempt fails."""
    with pytest.raises(ValueError, match=rf"@task\(({'|'.join(wrong)})=.*is wanted here"):
        task(**wrong)


def test_a_timeout_on_a_plain_function_is_refused_with_both_remedies():
    with pytest.raises(ValueError, match=r"async def.*leave the timeout out"):
        task(timeout=1)(plain)


def test_a_name_leads_to_its_function():
    task(name="send-invoice")(plain)

    assert named("send-invoice") is plain
    assert named("unknown") is None


def test_two_functions_cannot_share_a_name():
    """Stored tasks could not tell them apart."""
    task(name="shared")(plain)

    with pytest.raises(ValueError, match=r"test_options:other and by .*test_options:plain"):
        task(name="shared")(other)


def test_a_reload_makes_the_same_function_again():
    """It is another object with the same name, and the newest counts."""
    task(name="again")(plain)

    def made_again() -> None: ...

    made_again.__module__, made_again.__qualname__ = plain.__module__, plain.__qualname__
    task(name="again")(made_again)

    assert named("again") is made_again
