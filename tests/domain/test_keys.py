"""What is a key and what is none, and which requests are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterwards._domain.keys import LONGEST, BodyDigest, fingerprint, form_parts, key_id, read_key
from afterwards.errors import InvalidKey

BODY = b"--%b\r\nContent-Disposition: form-data; name=a\r\n\r\n--b\x00-\r\n--%b--\r\n"


def of(*pieces: bytes, boundary: bytes = b"") -> bytes:
    digest = BodyDigest(boundary)
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"8e03978e-40d5-43dd-bc93-6894a57f9324", b"8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b'"8e03978e-40d5-43dd-bc93-6894a57f9324"', b"8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b'  "order 5" ;p=1', b"order 5"),
        (b'"a \\"b\\" \\\\c"', b'a "b" \\c'),
        (b'a"b', b'a"b'),
        (b"x" * LONGEST, b"x" * LONGEST),
        (b'"' + b"x" * LONGEST + b'"', b"x" * LONGEST),
    ],
)
def test_a_key_with_and_without_quotes_is_the_same_key(value, key):
    """The draft wants quotes; half of all clients send none."""
    assert read_key([value]) == key


@pytest.mark.parametrize(
    "values",
    [
        [b""],
        [b'""'],
        [b"   "],
        [b"x" * (LONGEST + 1)],
        [b'"' + b"x" * (LONGEST + 1) + b'"'],
        ["schlüssel".encode()],
        [b"a\x7f"],
        [b"a\tb"],
        [b'"open'],
        [b'"a" b'],
        [b'"a\\b"'],
        [b"a", b"a"],
    ],
)
def test_what_is_no_key_is_refused(values):
    """A key that is read wrongly is two tasks, or somebody else's answer."""
    with pytest.raises(InvalidKey):
        read_key(values)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=LONGEST))
def test_every_printable_key_survives_its_quotes(key):
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')

    assert read_key([f'"{escaped}"'.encode()]) == key.encode()


def test_a_key_is_another_one_for_each_caller_and_route():
    """Nothing may be shared by moving a character from one part to the next."""
    ids = {
        key_id(key, caller=caller, route=route, secret=secret)
        for key, caller, route, secret in [
            (b"k", b"ann", "POST /a", b"s"),
            (b"k", b"bob", "POST /a", b"s"),
            (b"k", b"ann", "POST /b", b"s"),
            (b"k", b"annP", "OST /a", b"s"),
            (b"ak", b"ann", "POST /", b"s"),
            (b"k", b"ann", "POST /a", b"t"),
        ]
    }

    assert len(ids) == 6


@given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
def test_two_fingerprints_are_equal_when_their_parts_are(one, other):
    assert (fingerprint(*one) == fingerprint(*other)) == (one == other)


FIELD = st.tuples(
    st.text(max_size=3), st.text(max_size=3) | st.tuples(st.text(max_size=2), st.text(max_size=2), st.text(max_size=2))
)


@given(st.lists(FIELD, max_size=4), st.lists(FIELD, max_size=4))
def test_two_forms_are_written_alike_when_they_are_equal(one, other):
    """A field that looks like a file, or two fields that look like one, are another form."""
    assert (form_parts(one) == form_parts(other)) == (one == other)


@given(st.data())
def test_the_boundary_of_a_body_counts_for_nothing_however_it_is_cut(data):
    """Each try of a client makes a new one, and the network cuts where it likes."""
    digests = set()
    for boundary in (b"q", b"qq", b"----WebKitFormBoundaryx"):
        body = BODY % (boundary, boundary)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=5)))
        pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        digests.add(of(*pieces, boundary=boundary))

    assert len(digests) == 1


def test_any_other_byte_of_a_body_counts():
    body = BODY % (b"xyz", b"xyz")

    assert of(body, boundary=b"xyz") != of(body.replace(b"name=a", b"name=b"), boundary=b"xyz")
    assert of(body) != of(BODY % (b"abc", b"abc"))
    assert of(b"{}") == of(b"{", b"}")
