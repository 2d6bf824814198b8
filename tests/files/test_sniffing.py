"""What files are, by their bytes: names and spoofed starts make nothing of them that they are not."""

import io
import tarfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterwards._domain.media import served_type
from afterwards._files.sniffing import START, sniff


def zipped(*names: str, first: tuple[str, bytes] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        if first is not None:
            archive.writestr(zipfile.ZipInfo(first[0]), first[1])
        for name in names:
            archive.writestr(name, "x" * 50)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"), io.BytesIO())
    return buffer.getvalue()


OFFICE = "application/vnd.openxmlformats-officedocument."
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0"
SCRIPT = b"<script>alert(document.domain)</script>"


@pytest.mark.parametrize(
    ("start", "name", "type"),
    [
        (PNG, "a.png", "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", None, "image/jpeg"),
        (b"GIF89a\1\0\1\0\x80\0\0", None, "image/gif"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", None, "image/webp"),
        (b"RIFF\x24\0\0\0WAVEfmt ", None, "audio/wav"),
        (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0", None, "image/bmp"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", None, "image/avif"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", None, "image/heic"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", None, "video/mp4"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", None, "video/quicktime"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\x82\x84webm", None, "video/webm"),
        (b"ID3\3\0\0\0\0\x0f\x76", None, "audio/mpeg"),
        (b"\xff\xfb\x90\x64\0\0", None, "audio/mpeg"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", None, "application/pdf"),
        (b"%PDF-1.7\nplain", "a.html", "application/pdf"),
        (zipped("a.txt"), "a.docx", "application/zip"),  # a name alone makes no document
        (zipped("[Content_Types].xml", "word/document.xml"), "a.bin", OFFICE + "wordprocessingml.document"),
        (zipped("[Content_Types].xml", "xl/workbook.xml"), None, OFFICE + "spreadsheetml.sheet"),
        (zipped("META-INF/MANIFEST.MF", "A.class"), None, "application/java-archive"),
        (zipped("c.xml", first=("mimetype", b"application/epub+zip")), None, "application/epub+zip"),
        (
            zipped("content.xml", first=("mimetype", b"application/vnd.oasis.opendocument.text")),
            None,
            "application/vnd.oasis.opendocument.text",
        ),
        (tarred(), None, "application/x-tar"),
        (b"\x1f\x8b\x08\0\0\0", None, "application/gzip"),
        (b"SQLite format 3\0\x10\0", None, "application/vnd.sqlite3"),
        (b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff", "a.png", "application/vnd.microsoft.portable-executable"),
        (b"\x7fELF\2\1\1\0", None, "application/x-executable"),
        (b"\0asm\1\0\0\0", None, "application/wasm"),
        (b"\xca\xfe\xba\xbe\0\0\0\x34", None, "application/java"),  # from puremagic's table
        (b"hello world\n", None, "text/plain"),
        ("größe\n".encode(), None, "text/plain"),
        ("\ufeffhi".encode("utf-16-le"), None, "text/plain"),
        (b"BMW is a car", "car.bmp", "text/plain"),
        (b"a,b\n1,2\n", "a.csv", "text/csv"),
        (b"a,b\n1,2\n", "a.txt", "text/plain"),
        (b'{"a": 1}', None, "application/json"),
        (b"{ not json", None, "text/plain"),
        (b"#!/bin/sh\n", "a.txt", "text/x-script"),
        (b"alert(1)", "a.js", "text/javascript"),
        (b"<!DOCTYPE html><html>", "a.csv", "text/html"),
        (b"  \n<HTML><body>", "a.txt", "text/html"),
        (SCRIPT, "a.png", "text/html"),
        ("\ufeff<html>".encode("utf-16-le"), "a.txt", "text/html"),
        (b"a,b\n" + SCRIPT, "a.html", "text/html"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)">', "a.png", "image/svg+xml"),
        (b'<?xml version="1.0"?>\n<!-- x --><svg onload="alert(1)"/>', "a.png", "image/svg+xml"),
        (b'<?xml version="1.0"?><?xml-stylesheet href="a.xsl"?><a/>', "a.txt", "application/xml"),
        (b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">', None, "application/xhtml+xml"),
        (bytes(range(128, 256)) + b"\0\1\2", "a.png", None),
        (bytes(300), None, None),
        (b"", "a.png", None),
    ],
)
def test_bytes_say_what_a_file_is(start, name, type):
    assert sniff(start, name) == type


POLYGLOTS = [
    (carrier + filler + active, name)
    for carrier in (
        b"",
        b"GIF89a",
        b"GIF89a=1/*",
        PNG,
        b"%PDF-1.7\n",
        b"\xff\xd8\xff\xe0",
        b"BM",
        b"PK\3\4",
        b"ID3",
        b"II*\0",
    )
    for filler in (b"", b"\n" * 10, b" " * 3)
    for active in (SCRIPT, b"<svg onload=alert(1)>", b"*/alert(1)//", b"<?xml version='1.0'?><x/>", b"<!doctype html>")
    for name in ("a.html", "a.svg", "a.png", "a.csv", "a.js", "a.pdf", None)
]


def test_no_polyglot_is_served_as_something_a_browser_runs():
    """H6: it may pass for an image, and then it is served as an image; it never becomes a document with scripts."""
    assert len(POLYGLOTS) > 900
    for content, name in POLYGLOTS:
        served = served_type(sniff(content, name))

        assert served.partition(";")[0] not in ("text/html", "image/svg+xml", "application/xml", "text/javascript")
        assert "xml" not in served.replace("openxmlformats", "")


def test_a_text_that_is_cut_inside_a_character_is_still_text():
    assert sniff(("a" * (START - 1) + "é").encode()[:START], None) == "text/plain"


@given(st.binary(max_size=200), st.text(st.characters(exclude_categories=()), max_size=20))
def test_any_bytes_and_any_name_have_an_answer(start, name):
    found = sniff(start, name)

    assert found is None or (found.count("/") == 1 and found == found.lower())
