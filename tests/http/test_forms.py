"""The form parser beside starlette's own: the same parts from the same bytes, however they are cut into blocks."""

import asyncio
import random
from collections.abc import AsyncGenerator
from tempfile import SpooledTemporaryFile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from afterwards._web.forms import Form

Seen = list[tuple[str, Any]]


def seen(form: FormData) -> Seen:
    """Everything that a program can see of a form."""
    found: Seen = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            found.append((name, (value.filename, value.size, value.headers.raw, value.file.tell(), value.file.read())))
            value.file.close()
        else:
            found.append((name, value))
    return found


def by_starlette(content_type: str, body: bytes, **limits: int) -> Seen | str:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(Headers({"content-type": content_type}), stream(), **limits)
    try:
        return seen(asyncio.run(parser.parse()))
    except MultiPartException as error:
        return error.message
    except FormParserError:  # an older starlette lets the parser's own error through
        return "Invalid multipart data."


def by_ours(content_type: str, blocks: list[Any], **limits: int) -> Seen | str:
    files: list[Any] = []

    def open_file() -> Any:
        files.append(SpooledTemporaryFile())  # noqa: SIM115 - closed below
        return files[-1]

    try:
        form = Form(content_type, open_file, **limits)
        buffer = bytearray(1 << 16)
        for block in blocks:
            if len(block) <= len(buffer):  # as from a socket: the memory is used again for the next block
                buffer[: len(block)] = block
                view = memoryview(buffer)[: len(block)]
                form.feed(buffer if len(block) == len(buffer) else view)
            else:
                form.feed(block)
        return seen(form.finish())
    except MultiPartException as error:
        for file in files:
            file.close()
        return error.message


BOUNDARIES = st.text("abcXYZ019'()+_,-./:=?", min_size=1, max_size=70)


@st.composite
def bodies(draw: Any) -> tuple[str, bytes, list[bytes]]:
    """A form whose parts are full of what looks like delimiters, and a way to cut it."""
    boundary = draw(BOUNDARIES)
    mark = b"\r\n--" + boundary.encode()
    pieces = st.one_of(
        st.binary(max_size=40),
        st.integers(1, len(mark)).map(lambda length: mark[:length]),
        st.sampled_from([b"\r", b"\n", b"\r\n", b"--", b"\r\n\r\n", b"--" + boundary.encode(), bytes(70_000)]),
    )
    body = b""
    for number in range(draw(st.integers(0, 4))):
        content = b"".join(draw(st.lists(pieces, max_size=12)))
        while mark in content:
            content = content.replace(mark, b"")
        name = draw(st.sampled_from(["a", "b", "ü", "x y"]))
        filename = draw(st.sampled_from([None, "", "f.txt", "ü.png", "../x", 'q\\"q']))
        header = f'Content-Disposition: form-data; name="{name}"'
        header += "" if filename is None else f'; filename="{filename}"'
        header += f"\r\nX-Number: {number}" if draw(st.booleans()) else ""
        body += mark[2:] + b"\r\n" + header.encode() + b"\r\n\r\n" + content + b"\r\n"
    body += mark[2:] + b"--" + draw(st.sampled_from([b"", b"\r\n", b"epilogue"]))
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=8)))
    blocks = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    return f'multipart/form-data; boundary="{boundary}"', body, blocks


@settings(max_examples=400, deadline=None)
@given(bodies())
def test_the_same_parts_as_starlette_however_the_body_is_cut(drawn: tuple[str, bytes, list[bytes]]):
    content_type, body, blocks = drawn

    assert by_ours(content_type, blocks) == by_starlette(content_type, body)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 400))
def test_the_same_verdict_on_noise(noise: bytes, cut: int):
    """Nothing but starlette's complaint, or its parts; a body without an end is where we are stricter."""
    body = b"--b\r\n" + noise if cut % 2 else noise
    expected = by_starlette("multipart/form-data; boundary=b", body)
    found = by_ours("multipart/form-data; boundary=b", [body[:cut], body[cut:]])

    assert found == expected or (body and found == "The multipart body ends before its final boundary.")


HEAD = 'Content-Disposition: form-data; name="a"'


@pytest.mark.parametrize(
    ("content_type", "header", "content"),
    [
        ("multipart/form-data; boundary=b; charset=latin-1", HEAD, b"\xfc"),
        ("multipart/form-data; boundary=b; charset=utf-8", HEAD, b"\xfc"),
        ("multipart/form-data; boundary=b; charset=no-such", HEAD, "ü".encode()),
        ("multipart/form-data; boundary=b; charset=base64", HEAD, b"eA=="),
        ("multipart/form-data; boundary=b", "Content-Disposition: form-data; name=a; name=c", b"x"),
        ("multipart/form-data; boundary=b", HEAD + "; filename*=UTF-8''%e2%82%ac.txt", b"x"),
        ("multipart/form-data; boundary=b", HEAD + "; filename=old.txt; filename*=UTF-8''%e2%82%ac.txt", b"x"),
        ("multipart/form-data; boundary=b", HEAD + "\r\nContent-Disposition: form-data; name=second", b"x"),
        ("multipart/form-data; boundary=b", 'content-disposition: form-data; NAME="a"; FileName="f"', b"x"),
        ("multipart/form-data; boundary=b", "Content-Disposition: form-data", b"x"),
        ("multipart/form-data; boundary=b", "X: y", b"x"),
        ("multipart/form-data; boundary=b; boundary=c", HEAD, b"x"),
        ("multipart/form-data", HEAD, b"x"),
    ],
)
def test_odd_heads_are_read_as_starlette_reads_them(content_type: str, header: str, content: bytes):
    body = b"--b\r\n" + header.encode() + b"\r\n\r\n" + content + b"\r\n--b--\r\n"

    assert by_ours(content_type, [body]) == by_starlette(content_type, body)


@pytest.mark.parametrize(
    ("charset", "sent"),
    [("utf-7", "+2AA-"), ("unicode_escape", "\\ud800\\0"), ("punycode", "a-9"), ("idna", "xn--a"), ("undefined", "a")],
)
def test_what_is_no_charset_makes_no_text(charset: str, sent: str):
    """Escapes would make lone surrogates, which nothing can store, and take the square of their length."""
    body = f"--b\r\n{HEAD}\r\n\r\n{sent}\r\n--b--\r\n".encode()

    assert by_ours(f"multipart/form-data; boundary=b; charset={charset}", [body]) == [("a", sent)]


@pytest.mark.parametrize("limit", ["max_files", "max_fields", "max_part_size"])
@pytest.mark.parametrize("value", [0, 1, 2, 100])
def test_limits_are_starlettes(limit: str, value: int):
    parts = [HEAD + '; filename="f"', HEAD, HEAD + '; filename="g"', HEAD]
    body = b"".join(b"--b\r\n" + one.encode() + b"\r\n\r\nxx\r\n" for one in parts) + b"--b--\r\n"
    content_type = "multipart/form-data; boundary=b"

    assert by_ours(content_type, [body], **{limit: value}) == by_starlette(content_type, body, **{limit: value})


def test_bulk_is_handed_on_as_it_lies_in_the_block():
    """Large files are not copied on the way to their file."""
    given: list[Any] = []

    class Taking:
        def write(self, block: Any) -> None:
            given.append(type(block))

        def seek(self, _: int) -> None: ...

    form = Form("multipart/form-data; boundary=b", Taking)
    form.feed(b'--b\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\nx')
    block = bytearray(random.Random(1).randbytes(262_144))
    block[-1:] = b"x"
    form.feed(block)
    form.feed(b"\r\n--b--")
    form.finish()

    assert bytearray in given
