"""Names of files in headers: whatever a sender called it, the header is one line and the name saves one plain file."""

import re
import unicodedata
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from afterwards._domain.labels import LONGEST, disposition, label, safe_name

HEADER = re.compile(
    r"(?P<kind>attachment|inline); filename=\"(?P<plain>[^\"\\%;]+)\"(?:; filename\*=UTF-8''(?P<full>[!-~]+))?"
)


def saved(header):
    """The name under which a client saves it, that knows RFC 6266."""
    found = HEADER.fullmatch(header)
    assert found is not None, header
    return found["plain"] if found["full"] is None else unquote(found["full"], errors="strict")


def test_a_name_is_kept_as_far_as_it_is_text():
    """What cannot be stored is shown to be missing; a long name keeps its end, where its extension is."""
    assert label("../../etc/passwd") == "../../etc/passwd"
    assert label("a\0b") == "a�b"
    assert label("\udc80.png") == "?.png"
    assert label("x" * 70_000 + ".png", 255) == "x" * 251 + ".png"
    assert len(label("x" * 70_000)) == 65_536


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("report.pdf", "report.pdf"),
        ("Quarterly report (final).pdf", "Quarterly report (final).pdf"),
        ("größe.txt", "größe.txt"),
        ("报告.pdf", "报告.pdf"),
        ("👩‍💻.png", "👩‍💻.png"),
        ('a"b.txt', "a_b.txt"),
        ("100%.txt", "100%.txt"),
        ("it's.txt", "it's.txt"),
        ("a;b=c.txt", "a;b=c.txt"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..\\..\\boot.ini", "_.._boot.ini"),
        ("C:\\Windows\\x.exe", "C__Windows_x.exe"),
        ("file:stream", "file_stream"),
        (".bashrc", "_bashrc"),
        ("..", ""),
        (".", ""),
        ("...", ""),
        ("", ""),
        (None, ""),
        ("   ", ""),
        ("a\r\nSet-Cookie: x=1", "aSet-Cookie_ x=1"),
        ("a\0b", "ab"),
        ("a\x7f\x85\u2028\u2029b", "ab"),
        ("photo\u202egpj.exe", "photogpj.exe"),  # reads "photoexe.jpg" where marks of direction are obeyed
        ("\ufeffx.txt", "x.txt"),
        ("a\ud800\udfffb", "ab"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("COM1.tar.gz", "_COM1.tar.gz"),
        ("LPT\u00b9", "_LPT\u00b9"),
        ("Console.txt", "Console.txt"),
        ("trailing. . .", "trailing"),
        ("<script>alert(1)</script>.html", "_script_alert(1)__script_.html"),
    ],
)
def test_a_name_is_made_harmless_and_otherwise_kept(name, expected):
    assert safe_name(name) == expected
    assert saved(disposition(name, "instead")) == (expected or "instead")


def test_a_long_name_keeps_its_extension():
    for long in ("a" * 65_536 + ".pdf", "ü" * 40_000 + ".pdf", "a" * 10_000_000 + ".pdf"):
        name = safe_name(long)

        assert name.endswith(".pdf")
        assert LONGEST - 3 <= len(name.encode()) <= LONGEST
    assert len(safe_name("." * 5 + "x" * 65_536).encode()) <= LONGEST
    assert len(safe_name("a." + "x" * 65_536).encode()) <= LONGEST


def test_a_plain_name_is_written_once_and_another_one_twice():
    assert disposition("a.pdf", "x") == 'attachment; filename="a.pdf"'
    assert disposition("a.png", "x", inline=True) == 'inline; filename="a.png"'
    assert disposition("é.pdf", "x") == "attachment; filename=\"e.pdf\"; filename*=UTF-8''%C3%A9.pdf"
    assert disposition("报告.pdf", "x") == "attachment; filename=\"__.pdf\"; filename*=UTF-8''%E6%8A%A5%E5%91%8A.pdf"


@given(st.text(st.characters(exclude_categories=()), max_size=300))
@example("\uff02; filename=x.exe")  # becomes a quote when it is taken apart
@example("\u2100")
@example("\ufe52\ufe52/x")
def test_any_name_makes_one_harmless_line(name):
    header = disposition(name, "instead")
    found = saved(header)

    assert header.isascii()
    assert header.isprintable()
    assert len(header) < 1200
    assert found == unicodedata.normalize("NFC", found)
    assert not set(found) & set('/\\:*?"<>|')
    assert found == found.strip(". ")
    assert len(found.encode()) <= LONGEST + 1
    assert not any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in found)
    assert not any(unicodedata.bidirectional(one) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI") for one in found)
