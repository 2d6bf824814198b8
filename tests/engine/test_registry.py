"""Functions and their names, both ways."""

import logging

import pytest

from afterwards._domain import options
from afterwards._domain.options import task
from afterwards._domain.signing import Signer
from afterwards._engine.lanes import Lane
from afterwards._engine.registry import Registry
from afterwards.errors import UnstorableFunction
from engine import jobs

SIGNER = Signer(b"k" * 32)


@pytest.fixture
def registry() -> Registry:
    return Registry(SIGNER)


@pytest.fixture(autouse=True)
def _names(monkeypatch):
    monkeypatch.setattr(options, "_named", {})


def stored(*names: str) -> list[tuple[str, str]]:
    return [(name, SIGNER.function(name)) for name in names]


def test_a_name_of_its_own_survives_that_the_function_moves(registry: Registry):
    """Tasks were stored as "invoice"; today the function is called otherwise, in another module."""

    def first() -> None: ...

    def moved() -> None: ...

    first.__qualname__ = "first"
    task(name="invoice")(first)
    assert registry.of(first).name == "invoice"
    options._named.clear()
    task(name="invoice")(moved)

    later = Registry(SIGNER)

    assert later.learn(stored("invoice")) == ("invoice",)
    known = later.named("invoice")
    assert known is not None
    assert known.function is moved


def test_a_name_that_no_imported_module_claims_waits_and_says_how_to_help(registry: Registry, caplog):
    assert registry.learn(stored("invoice")) == ()

    assert registry.missing() == ("invoice",)
    assert "@task(name='invoice')" in caplog.text


def test_functions_are_learned_once_and_warned_about_once(registry: Registry, caplog):
    """The claimer asks in every round."""
    names = stored("engine.jobs:give", "engine.jobs:nothing_of_the_kind", "no.such.module:f")

    assert registry.learn(names) == ("engine.jobs:give",)
    assert registry.learn(names) == ()

    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "no.such.module:f" in warnings[1]
    assert registry.missing() == ("engine.jobs:nothing_of_the_kind", "no.such.module:f")


def test_a_function_that_was_missing_is_known_once_the_program_hands_it_in(registry: Registry, monkeypatch):
    registry.learn(stored("engine.jobs:late"))

    def late() -> None: ...

    late.__module__, late.__qualname__ = "engine.jobs", "late"
    monkeypatch.setattr(jobs, "late", late, raising=False)

    assert registry.of(late).name == "engine.jobs:late"
    assert registry.missing() == ()


def test_each_function_has_its_lane(registry: Registry):
    registry.of(jobs.give)
    registry.of(jobs.give_async)
    registry.of(jobs.call_me)

    assert registry.names(Lane.THREAD) == ("engine.jobs:give",)
    assert registry.names(Lane.LOOP) == ("engine.jobs:give_async", "engine.jobs:call_me")


def test_an_object_that_cannot_be_hashed_is_refused_like_any_other(registry: Registry):
    """Not with "unhashable type" from the inside of a dictionary."""

    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

        def __call__(self) -> None: ...

    with pytest.raises(UnstorableFunction, match="cannot be hashed"):
        registry.of(Equal())
