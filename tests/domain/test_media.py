"""What browsers are told: nothing that they would run, whatever a row or a sniffer says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterwards._domain.media import BYTES, may_be_shown, served_type


@pytest.mark.parametrize(
    "active",
    [
        "text/html",
        "TEXT/HTML; charset=utf-8",
        "application/xhtml+xml",
        "image/svg+xml",
        "text/xml",
        "application/xml",
        "application/rss+xml",
        "text/javascript",
        "application/javascript",
        "text/css",
        "text/xsl",
        "application/wasm",
        "application/x-shockwave-flash",
        "application/java-archive",
        "message/rfc822",
        "multipart/related",
        "application/x-executable",
        "model/vrml",
        "nonsense",
        "image/png\r\nX: y",
        "image/",
        "/png",
        "",
        None,
    ],
)
def test_what_browsers_run_goes_out_as_plain_bytes(active):
    assert served_type(active) == BYTES
    assert not may_be_shown(served_type(active))


@pytest.mark.parametrize(
    ("type", "served"),
    [
        ("image/png", "image/png"),
        ("Image/PNG", "image/png"),
        ("application/pdf", "application/pdf"),
        ("video/mp4", "video/mp4"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("text/csv", "text/csv; charset=utf-8"),
        ("text/x-python", "text/plain; charset=utf-8"),
        ("application/json", "application/json"),
        (
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ),
    ],
)
def test_what_is_only_looked_at_keeps_its_type(type, served):
    assert served_type(type) == served


def test_only_pictures_and_plain_text_may_be_shown():
    types = ("image/png", "image/jpeg", "text/plain", "application/pdf", "text/csv", "image/tiff")
    assert [one for one in types if may_be_shown(served_type(one))] == ["image/png", "image/jpeg", "text/plain"]


@given(st.text(max_size=40))
def test_any_type_makes_a_harmless_header(type):
    served = served_type(type)

    assert served.isascii()
    assert served.isprintable()
    assert "html" not in served
    assert "script" not in served
    assert not served.partition(";")[0].endswith("xml")
