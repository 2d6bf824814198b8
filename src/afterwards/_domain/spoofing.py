"""Tells whether a file's bytes contradict what its sender and its name say of it.

Only what is clear counts: a claim that says nothing (`application/octet-stream`, an unknown extension) is contradicted
by no bytes, and texts, which have no mark of their own, only by bytes that are no text, or by markup that browsers
would run.
"""

import mimetypes

_SAYS_NOTHING = frozenset(
    {"", "application/octet-stream", "binary/octet-stream", "application/x-download", "application/force-download"}
)
_SAME = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/x-icon": "image/vnd.microsoft.icon",
    "image/x-ms-bmp": "image/bmp",
    "image/heif": "image/heic",
    "application/x-pdf": "application/pdf",
    "application/x-gzip": "application/gzip",
    "application/x-zip-compressed": "application/zip",
    "application/x-zip": "application/zip",
    "application/x-rar-compressed": "application/vnd.rar",
    "application/x-sqlite3": "application/vnd.sqlite3",
    "application/javascript": "text/javascript",
    "application/x-javascript": "text/javascript",
    "text/xml": "application/xml",
    "text/json": "application/json",
    "text/rtf": "application/rtf",
    "audio/mp3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/x-m4a": "audio/mp4",
    "audio/m4a": "audio/mp4",
    "audio/ogg": "application/ogg",
    "video/ogg": "application/ogg",
}
_RUN_BY_BROWSERS = frozenset({"text/html", "image/svg+xml", "application/xhtml+xml"})
_TEXTS = frozenset(
    {
        "application/json",
        "application/xml",
        "application/xhtml+xml",
        "application/rtf",
        "application/postscript",
        "application/toml",
        "application/yaml",
        "application/x-yaml",
        "application/sql",
        "application/x-sh",
        "application/x-ndjson",
        "image/svg+xml",
    }
)
_IN_ZIP = ("application/vnd.openxmlformats-officedocument.", "application/vnd.oasis.opendocument.")
_ZIPS = frozenset(
    {
        "application/zip",
        "application/epub+zip",
        "application/java-archive",
        "application/vnd.android.package-archive",
        "application/vnd.google-earth.kmz",
        "application/x-xpinstall",
    }
)
_OLD_OFFICE = frozenset({"application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"})
_CONTAINERS = (  # one mark for sound and for pictures, or for a kind and its relatives
    frozenset({"audio/mp4", "video/mp4", "video/quicktime", "video/x-m4v", "image/heic", "image/avif", "video/3gpp"}),
    frozenset({"video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska"}),
    frozenset({"application/ogg", "audio/opus", "audio/vorbis"}),
    frozenset({"application/x-tar", "application/gzip", "application/x-gtar", "application/x-compressed-tar"}),
)
_MARKED = ("image/", "audio/", "video/", "font/")  # of which every file begins with a mark


def contradicts(found: str | None, *, declared: str | None, name: str | None) -> bool:
    """Tell whether a file is clearly not what it is said to be.

    Args:
        found: The type its bytes show, None when they show none.
        declared: The media type its sender gave, perhaps with parameters.
        name: Its name; the extension counts.
    """
    claims = [(declared or "").partition(";")[0].strip().lower()]
    if name:
        claims.append(mimetypes.guess_type("x" + name[-40:].replace("/", "_"), strict=False)[0] or "")
    return any(_is_other(_one_name(found), _one_name(claim)) for claim in claims if claim not in _SAYS_NOTHING)


def _one_name(kind: str | None) -> str:
    return _SAME.get(kind or "", kind or "")


def _is_other(found: str, claim: str) -> bool:
    if found == claim:
        return False
    if _is_text(found):
        if found in _RUN_BY_BROWSERS:
            return claim not in _RUN_BY_BROWSERS and not claim.endswith("xml")
        return not _is_text(claim) and (_is_marked(claim) or claim in _ZIPS)
    if _is_zip(found):
        return not _is_zip(claim) and (_is_text(claim) or _is_marked(claim))
    if any(found in kinds and claim in kinds for kinds in _CONTAINERS):
        return False
    if not found:  # no mark that is known: only what always has one is contradicted
        return _is_marked(claim) or _is_zip(claim)
    return claim not in _OLD_OFFICE or _is_marked(found)  # old office files are told from each other by no table


def _is_text(kind: str) -> bool:
    return kind.startswith("text/") or kind in _TEXTS or kind.endswith(("+json", "+xml"))


def _is_zip(kind: str) -> bool:
    return kind in _ZIPS or kind.endswith("+zip") or kind.startswith(_IN_ZIP)


def _is_marked(kind: str) -> bool:
    return kind == "application/pdf" or (kind.startswith(_MARKED) and kind != "image/svg+xml")
