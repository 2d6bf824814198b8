"""Says what a file is by looking at its first bytes.

The kinds people upload most are told apart here, the rest by puremagic's table. A name decides only between kinds that
the bytes allow alike: which sort of text, or which office document a ZIP archive is. So a name makes nothing of a file
that its bytes do not, and what is told here is a fact to decide by, never a promise that a file is harmless: a file can
be two things at once. What browsers are told is another matter, see `_domain/media.py`.
"""

import codecs
import re
from functools import cache

START = 4096  # bytes worth reading; more does not say more

# (offset, bytes, type); of several the first one counts.
_MARKS = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBPVP", "image/webp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"\0\0\1\0", "image/vnd.microsoft.icon"),
    (0, b"\x1f\x8b\x08", "application/gzip"),
    (0, b"BZh", "application/x-bzip2"),
    (0, b"\xfd7zXZ\0", "application/x-xz"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (257, b"ustar", "application/x-tar"),
    (0, b"OggS\0", "application/ogg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"ID3", "audio/mpeg"),
    (8, b"WAVEfmt ", "audio/wav"),
    (8, b"AVI LIST", "video/x-msvideo"),
    (0, b"SQLite format 3\0", "application/vnd.sqlite3"),
    (0, b"PAR1", "application/vnd.apache.parquet"),
    (0, b"\0asm", "application/wasm"),
    (0, b"\x7fELF", "application/x-executable"),
    (0, b"MZ", "application/vnd.microsoft.portable-executable"),
    (0, b"wOFF", "font/woff"),
    (0, b"wOF2", "font/woff2"),
    (0, b"OTTO\0", "font/otf"),
)
_BRANDS = {  # of ISO media files: the four bytes behind "ftyp"
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
_OFFICE = "application/vnd.openxmlformats-officedocument."
_ZIPPED = {  # by what the archive has inside, and by the name where that leaves a choice
    "docx": _OFFICE + "wordprocessingml.document",
    "xlsx": _OFFICE + "spreadsheetml.sheet",
    "pptx": _OFFICE + "presentationml.presentation",
}
_OPEN_DOCUMENT = re.compile(rb"mimetype(application/(?:vnd\.oasis\.opendocument\.[a-z-]+|epub\+zip))")
_TEXTS = {
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "json": "application/json",
    "geojson": "application/json",
    "md": "text/markdown",
    "js": "text/javascript",
    "mjs": "text/javascript",
    "css": "text/css",
    "ics": "text/calendar",
    "vcf": "text/vcard",
}
_SVG = re.compile(rb"<svg[\s>/]", re.IGNORECASE)
_HTML = re.compile(
    rb"<(?:!doctype\s+html|html|head|body|script|iframe|frameset|object|embed|form|style|title|table|meta|link|base"
    rb"|img|div|h1|font|br|a|b|p)(?:[\s>/]|$)",
    re.IGNORECASE,
)
_NOT_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # what WHATWG's sniffing calls binary data bytes
_LEAST = 4  # bytes that must match in puremagic's table: two or three are found by chance
_NAMES = {  # one name for each kind, the registered one
    "application/x-gzip": "application/gzip",
    "application/font-woff": "font/woff",
    "application/x-font-ttf": "font/ttf",
    "application/x-font-otf": "font/otf",
    "application/x-sqlite3": "application/vnd.sqlite3",
    "application/rtf": "application/rtf",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/x-midi": "audio/midi",
    "audio/mid": "audio/midi",
    "image/x-icon": "image/vnd.microsoft.icon",
    "image/x-ms-bmp": "image/bmp",
}


def sniff(start: bytes, name: str | None) -> str | None:
    """Return the media type of a file, without parameters; None when its bytes say nothing.

    Args:
        start: Its first bytes, `START` of them if it has so many.
        name: What its sender calls it.
    """
    start = start[:START]
    if not start:
        return None
    extension = _extension(name)
    if start.startswith(b"PK\x03\x04"):
        return _zipped(start, extension)
    if start.startswith(b"%PDF-"):
        return "application/pdf"
    if _is_text(start):
        return _text(start, extension)
    for offset, mark, found in _MARKS:
        if start.startswith(mark, offset):
            return found
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12], "video/mp4")
    if start.startswith(b"\x1aE\xdf\xa3"):
        return "video/webm" if b"webm" in start[:64] else "video/x-matroska"
    if start.startswith(b"BM") and start[6:10] == b"\0\0\0\0":
        return "image/bmp"
    if start[0] == 0xFF and start[1:2] in (b"\xfb", b"\xf3", b"\xf2"):
        return "audio/mpeg"
    return _by_table(start, extension)


def _extension(name: str | None) -> str:
    return "" if name is None or "." not in name else name[-16:].rpartition(".")[2].lower()


def _zipped(start: bytes, extension: str) -> str:
    if (found := _OPEN_DOCUMENT.search(start, 30, 200)) is not None:
        return found[1].decode()
    if b"[Content_Types].xml" in start or b"_rels/.rels" in start:
        for mark, kind in ((b"word/", "docx"), (b"xl/", "xlsx"), (b"ppt/", "pptx")):
            if mark in start:
                return _ZIPPED[kind]
        return _ZIPPED.get(extension, "application/zip")
    return "application/java-archive" if b"META-INF/" in start else "application/zip"


def _is_text(start: bytes) -> bool:
    """Tell whether it is UTF-8, cut anywhere, or marked as UTF-16, and has no bytes that no text has."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    if _NOT_TEXT.search(start) is not None:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start, final=False)
    except UnicodeDecodeError:
        return False
    return True


def _text(start: bytes, extension: str) -> str:
    """What browsers would run comes first, so that no name hides it."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        start = start[2:].replace(b"\0", b"")
    body = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if _SVG.search(body) is not None and body.startswith(b"<"):
        return "image/svg+xml"
    if body.startswith(b"<?xml"):
        return "application/xhtml+xml" if b"http://www.w3.org/1999/xhtml" in body else "application/xml"
    if _HTML.search(body) is not None and (body.startswith(b"<") or extension in ("html", "htm", "xhtml")):
        return "text/html"
    if body.startswith(b"{\\rtf"):
        return "application/rtf"
    if body.startswith(b"%!PS"):
        return "application/postscript"
    if body.startswith(b"#!"):
        return "text/x-script"
    if extension in _TEXTS:
        return _TEXTS[extension]
    looks_json = body[:1] in (b"{", b"[") and re.match(rb'[\[{]\s*(?:["\[\]{}\d-]|true|false|null)', body) is not None
    return "application/json" if looks_json else "text/plain"


_Row = tuple[bytes, str, str]  # mark, type, usual extension


@cache
def _table() -> tuple[tuple[int, dict[bytes, list[_Row]]], ...]:
    """Marks of puremagic's with a type, by where they stand and how they begin.

    Loading them takes some 15 ms, so it waits until they are needed; looking one by one would take 0.3 ms a file.
    """
    from puremagic.main import magic_header_array  # `puremagic` itself shows it in 1.x only

    table: dict[int, dict[bytes, list[_Row]]] = {}
    for row in magic_header_array:
        mark = bytes(row.byte_match)
        if not row.mime_type or "/" not in row.mime_type or len(mark) < _LEAST or row.offset < 0:
            continue
        if mark.strip(b"\0"):
            begins = table.setdefault(int(row.offset), {}).setdefault(mark[:_LEAST], [])
            begins.append((mark, str(row.mime_type).strip().lower(), str(row.extension).lstrip(".")))
    return tuple(table.items())


def _by_table(start: bytes, extension: str) -> str | None:
    """Take the longest mark; the name decides between equally long ones."""
    found: str | None = None
    length = 0
    for offset, begins in _table():
        for mark, type, usual in begins.get(start[offset : offset + _LEAST], ()):
            if len(mark) < length or not start.startswith(mark, offset):
                continue
            if len(mark) > length or usual == extension:
                found, length = type, len(mark)
    if found is None or found.startswith("text/"):
        return None
    return _NAMES.get(found, found)
