"""Turns the name that a sender gave a file into a header that is safe to send and a name that is safe to save under.

A name is only ever a label: nothing on the server is named after it. It is kept as it was given, as far as it is text.
Where it goes out it is made harmless for the one who downloads: no path, no line break, nothing that turns the reading
direction round, no name that is a device or is hidden, and no more than a file system takes.
"""

import re
import unicodedata
from urllib.parse import quote

LONGEST = 200  # bytes of a name in UTF-8; most file systems take 255

_JOINERS = "\u200c\u200d"  # invisible like the others, but whole scripts and emoji need them
_PARTS = re.compile(r'[/\\:*?"<>|]')  # what some system takes apart or does not take at all
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|$)", re.IGNORECASE)
_SIMPLE = re.compile(r"[^A-Za-z0-9!#$&+.^_`|~ ()\[\]{}@,=-]")
_KEPT = "!#$&+-.^_`|~"  # RFC 8187's attr-char, beside letters and digits


def label(name: str, longest: int = 65_536) -> str:
    """Return a name as it is kept: as given, but for what no store and no answer can hold, and the end of a long one.

    Lone surrogates come from decoders and from names of files that are no text; some systems end a text at a NUL.
    """
    return name.encode("utf-8", "replace").decode().replace("\0", "\ufffd")[-longest:]


def disposition(name: str | None, instead: str, *, inline: bool = False) -> str:
    """Return a Content-Disposition header (RFC 6266), in ASCII.

    Args:
        name: What the sender called the file.
        instead: The name to save it under where that leaves nothing.
        inline: Let a browser show it.
    """
    label = safe_name(name) or instead
    plain = unicodedata.normalize("NFKD", label)
    plain = _SIMPLE.sub("_", "".join(one for one in plain if not unicodedata.combining(one)))
    kind = "inline" if inline else "attachment"
    if plain == label:
        return f'{kind}; filename="{plain}"'
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(label, safe=_KEPT)}"


def safe_name(name: str | None) -> str:
    """Return a name that can be saved under anywhere; empty when nothing is left of it."""
    if not name:
        return ""
    name = name[-65536:]  # its extension is at its end
    kept = "".join(one for one in name if not _is_hidden(one))
    kept = _PARTS.sub("_", unicodedata.normalize("NFC", kept)).strip(". ")
    if name.lstrip().startswith(".") and kept and not kept.startswith("_"):
        kept = f"_{kept}"
    if _DEVICE.match(kept):
        kept = f"_{kept}"
    return _shortened(kept)


def _is_hidden(one: str) -> bool:
    """Control characters, marks of direction, lone surrogates, private and unassigned ones, line separators."""
    return unicodedata.category(one) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") and one not in _JOINERS


def _shortened(name: str) -> str:
    if len(name.encode()) <= LONGEST:
        return name
    stem, dot, extension = name.rpartition(".")
    end = f".{extension}" if dot and stem and len(extension.encode()) <= 20 else ""
    stem = stem if end else name
    return stem.encode()[: LONGEST - len(end.encode())].decode(errors="ignore").rstrip(". ") + end
