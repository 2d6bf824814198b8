"""Bytes against names and declared types: what is clear counts, what is not is let be."""

import pytest

from afterwards._domain.spoofing import contradicts


@pytest.mark.parametrize(
    ("found", "declared", "name"),
    [
        ("image/png", "image/png", "a.png"),
        ("image/jpeg", "image/jpg", "a.JPEG"),
        ("image/png", "application/octet-stream", "a"),
        ("image/png", None, None),
        ("text/plain", "text/csv", "a.csv"),
        ("text/plain", "application/json", "a.json"),
        ("text/csv", "application/vnd.ms-excel", "a.csv"),  # what browsers call a CSV on Windows
        ("application/zip", "application/x-zip-compressed", "a.zip"),
        (
            "application/zip",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "a.docx",
        ),
        ("application/xml", "text/xml", "a.xml"),
        ("image/svg+xml", "image/svg+xml", "a.svg"),
        ("video/mp4", "video/quicktime", "a.mov"),
        ("application/gzip", "application/x-gzip", "a.tar.gz"),
        (None, "application/vnd.company.thing", "a.thing"),
        (None, "text/plain", "a.txt"),  # Latin-1 has no mark
        ("text/html", "text/html", "a.html"),
    ],
)
def test_what_may_be_so_is_let_be(found, declared, name):
    assert not contradicts(found, declared=declared, name=name)


@pytest.mark.parametrize(
    ("found", "declared", "name"),
    [
        ("text/html", "image/png", "a.png"),
        ("image/svg+xml", "image/png", "a.png"),
        ("text/html", "text/csv", "a.csv"),
        ("text/html", "text/plain", "a.txt"),
        ("application/pdf", "image/png", "a.png"),
        ("image/png", "application/pdf", None),
        ("image/png", None, "a.pdf"),
        ("image/gif", "image/png", "a.png"),
        ("application/zip", "application/pdf", "a.pdf"),
        ("application/zip", "image/gif", "a.gif"),
        ("application/x-executable", "image/jpeg", "a.jpg"),
        ("application/x-executable", "text/plain", "a.txt"),
        ("text/plain", "image/gif", "a.gif"),  # GIF89a=1;alert(1)
        ("text/plain", "application/zip", "a.zip"),
        (None, "image/png", "a.png"),
        (None, "application/zip", "a.zip"),
        ("image/png", "image/png", "a.pdf"),  # one of the two claims is enough
    ],
)
def test_what_cannot_be_so_is_noticed(found, declared, name):
    assert contradicts(found, declared=declared, name=name)
