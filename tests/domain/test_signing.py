"""Signatures: of everything that decides what is run, and of nothing else's."""

from hypothesis import given
from hypothesis import strategies as st

from afterwards._domain.signing import Signer

SIGNER = Signer(b"1" * 32)
ARGUMENTS = '[["a"],{}]'


def test_a_signature_is_32_hexadecimal_digits_and_always_the_same():
    signature = SIGNER.task("id", "module:function", ARGUMENTS)

    assert len(signature) == 32
    assert int(signature, 16) >= 0
    assert signature == Signer(b"1" * 32).task("id", "module:function", ARGUMENTS)


def test_every_part_is_signed():
    """Neither another's arguments, nor another function, nor a copy under another id."""
    signatures = {
        SIGNER.task("id", "module:function", ARGUMENTS),
        SIGNER.task("other", "module:function", ARGUMENTS),
        SIGNER.task("id", "module:other", ARGUMENTS),
        SIGNER.task("id", "module:function", '[["b"],{}]'),
        Signer(b"2" * 32).task("id", "module:function", ARGUMENTS),
    }

    assert len(signatures) == 5


def test_a_signed_task_is_no_signed_function():
    """Or whoever may queue a task could name a function by it."""
    assert SIGNER.function("id\nname\narguments") != SIGNER.task("id", "name", "arguments")


PARTS = st.text(st.characters(exclude_characters="\n"))


@given(st.tuples(PARTS, PARTS, PARTS), st.tuples(PARTS, PARTS, PARTS))
def test_no_two_tasks_share_a_signature(one, other):
    """Parts without a line break, which neither ids nor names nor JSON have, cannot be cut another way."""
    assert (SIGNER.task(*one) == SIGNER.task(*other)) == (one == other)


@given(st.text())
def test_any_text_can_be_signed(name):
    """Also what only a database written by hand contains."""
    assert len(SIGNER.function(name)) == 32
    assert len(SIGNER.task("i", name + "\udc80", "[]")) == 32
