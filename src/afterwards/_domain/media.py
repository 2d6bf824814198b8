"""What a browser is told about bytes that came from somewhere: only types that it will not run.

The list names what is allowed, not what is dangerous: a type nobody thought of goes out as plain bytes.
"""

import re

BYTES = "application/octet-stream"

_TOKEN = re.compile(r"[a-z0-9][a-z0-9.+_-]*/[a-z0-9][a-z0-9.+_-]*")
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:[ \t]*;[ -~]*)?", re.ASCII)
_FAMILIES = ("image/", "audio/", "video/", "font/")
_DOCUMENTS = ("application/vnd.openxmlformats-officedocument.", "application/vnd.oasis.opendocument.")
_PLAIN = {
    "application/epub+zip",
    "application/gzip",
    "application/json",
    "application/msword",
    "application/ogg",
    "application/pdf",
    "application/rtf",
    "application/vnd.apache.parquet",
    "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint",
    "application/vnd.rar",
    "application/vnd.sqlite3",
    "application/x-7z-compressed",
    "application/x-bzip2",
    "application/x-tar",
    "application/x-xz",
    "application/zip",
    "application/zstd",
}
_TEXTS = {"text/csv", "text/tab-separated-values", "text/markdown", "text/calendar", "text/vcard"}
_ACTIVE_TEXTS = {"text/html", "text/xml", "text/xsl", "text/javascript", "text/css", "text/ecmascript"}

# May be shown in a browser's window, when asked for. Not PDF: it has scripts, and no viewer opens it in a sandbox.
_SHOWN = {"image/avif", "image/bmp", "image/gif", "image/jpeg", "image/png", "image/webp", "text/plain"}


def served_type(type: str | None) -> str:
    """Return the Content-Type to serve a file with.

    Args:
        type: What its bytes say; None when they say nothing.
    """
    if type is None:
        return BYTES
    type = type.partition(";")[0].strip().lower()
    if _TOKEN.fullmatch(type) is None or type in _ACTIVE_TEXTS:
        return BYTES
    if type.startswith("text/"):
        return f"{type if type in _TEXTS else 'text/plain'}; charset=utf-8"
    if type.endswith(("+xml", "/xml")):  # an SVG image is a document with scripts
        return BYTES
    return type if type in _PLAIN or type.startswith((*_FAMILIES, *_DOCUMENTS)) else BYTES


def may_be_shown(served: str) -> bool:
    """Tell whether a file served as this type may open in a window instead of being saved."""
    return served.partition(";")[0] in _SHOWN


def media_type(text: str | None) -> str | None:
    """Return what somebody says a file is, if it is a media type: it becomes a header again."""
    text = (text or "").strip()
    return text if len(text) <= 255 and _MEDIA_TYPE.fullmatch(text) else None
