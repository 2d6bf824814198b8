"""The headers of tus 1.0.0 and of the IETF's resumable uploads: read from requests, written for answers.

A value that is not as its protocol says is refused: RFC 9651 lets a structured field that is none count as missing,
or the message as malformed, and a file must not be taken for whole because its `Upload-Complete` could not be read.
"""

import re
from base64 import b64decode
from email.message import Message
from urllib.parse import unquote

from afterwards._domain.checksums import FIELD_ALGORITHMS, TUS_ALGORITHMS, fits
from afterwards._domain.ids import is_id
from afterwards._domain.labels import label
from afterwards.errors.uploads import BadUploadHeader, UnsupportedChecksum

TUS_VERSION = "1.0.0"
TUS_EXTENSIONS = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "checksum",
    "expiration",
    "termination",
    "concatenation",
)
TUS_BODY = "application/offset+octet-stream"
PARTIAL_BODY = "application/partial-upload"
OLDEST_INTEROP = 3  # draft -01 of the IETF, which the clients of iOS 17 speak
NEWEST_INTEROP = 8  # drafts -07 to -12
OLD_NAME_INTEROP = 3  # up to here `Upload-Complete` was `Upload-Incomplete`
UNTYPED_INTEROP = 5  # up to here the body of a PATCH had no media type of its own
LONGEST = 16_384  # characters of metadata
LONGEST_NAME = 4_096
MOST_PARTS = 1_000  # uploads that one can be made of

_NUMBER = re.compile("[0-9]{1,15}")  # of structured fields; and a petabyte is enough for tus
_BARE = (  # RFC 9651, section 3.3: numbers, strings, tokens, bytes, booleans, dates, display strings
    r"""(?:-?[0-9]{1,15}(?:\.[0-9]{1,3})?|"(?:[ !#-\[\]-~]|\\["\\])*"|[A-Za-z*][!#$%&'*+.^_`|~\w:/-]*"""
    r"""|:[A-Za-z0-9+/=]*:|\?[01]|@-?[0-9]{1,15}|%"(?:[ !#$&-~]|%[0-9a-f]{2})*")"""
)
_BOOLEAN = re.compile(rf"\?([01])(?:; *[a-z*][a-z0-9_.*-]*(?:={_BARE})?)*", re.ASCII)
_KEY = re.compile(r"[!-+\--~]+")  # visible ASCII without a comma
_EXTENDED_NAME = re.compile(r"""filename\*\s*=\s*(utf-8|iso-8859-1)'[^']*'([^;\s"]+)""", re.IGNORECASE)
_DIGEST = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):(?:;[ -~]*)?")


def number(name: str, text: str | None) -> int | None:
    """Read a number of bytes; None when there is none.

    Raises:
        BadUploadHeader: It is not a whole number from 0.
    """
    if text is None:
        return None
    if _NUMBER.fullmatch(text.strip()) is None:
        raise BadUploadHeader(f"{name}: {text[:100]!r} is not a whole number of bytes from 0. Send one.")
    return int(text)


def boolean(name: str, text: str | None) -> bool | None:
    """Read `?1` or `?0`, whatever parameters it has (RFC 9651); None when there is none.

    Raises:
        BadUploadHeader: It is neither.
    """
    if text is None:
        return None
    found = _BOOLEAN.fullmatch(text.strip(" \t"))
    if found is None:
        raise BadUploadHeader(f"{name}: {text[:100]!r} is neither ?1, which means yes, nor ?0. Send one of them.")
    return found[1] == "1"


def metadata(text: str | None) -> dict[str, str]:
    """Read `Upload-Metadata`: keys with values in base64.

    Raises:
        BadUploadHeader: It is not of that form.
    """
    found: dict[str, str] = {}
    if text is None or not text.strip():
        return found
    if len(text) > LONGEST:
        raise BadUploadHeader(
            f"Upload-Metadata has {len(text):,} characters, at most {LONGEST:,} are taken. Send less."
        )
    for pair in text.split(","):
        key, _, value = pair.strip().partition(" ")
        if _KEY.fullmatch(key) is None or key in found:
            raise BadUploadHeader(
                f"Upload-Metadata has the key {key[:100]!r} twice, or it is none. Send each key once: KEY BASE64, ..."
            )
        try:
            found[key] = b64decode(value.strip(), validate=True).decode(errors="replace")
        except ValueError:
            raise BadUploadHeader(
                f"Upload-Metadata: the value of {key[:100]!r} is not base64. Encode each value."
            ) from None
    return found


def part_ids(text: str) -> list[str]:
    """Read the uploads that `Upload-Concat: final;URL URL` names.

    Raises:
        BadUploadHeader: It names none, too many, or something else.
    """
    ids = [unquote(url.split("?")[0].rstrip("/")).rpartition("/")[2] for url in text.removeprefix("final;").split()]
    if not ids or len(ids) > MOST_PARTS or len(text) > LONGEST or not all(is_id(id) for id in ids):
        raise BadUploadHeader(
            f"Upload-Concat: {text[:100]!r} is neither `partial` nor `final;` with the addresses of 1 to "
            f"{MOST_PARTS:,} uploads of this server, separated by spaces."
        )
    return ids


def checksum(text: str | None) -> tuple[str, str] | None:
    """Read `Upload-Checksum`: an algorithm and a checksum in base64.

    Raises:
        UnsupportedChecksum: The algorithm is not known here, or the value cannot be its checksum.
    """
    if text is None:
        return None
    algorithm, _, value = text.strip().partition(" ")
    if algorithm not in TUS_ALGORITHMS or not fits(algorithm, value.strip()):
        raise UnsupportedChecksum(
            f"Upload-Checksum: {text[:200]!r} is not a checksum known here. "
            f"Send ALGORITHM BASE64 with one of {', '.join(TUS_ALGORITHMS)}."
        )
    return algorithm, value.strip()


def digests(name: str, text: str | None) -> dict[str, str]:
    """Read `Repr-Digest` or `Content-Digest` (RFC 9530); what else it has than algorithms known here is passed over.

    Raises:
        UnsupportedChecksum: There is no algorithm known here in it, or a value cannot be its digest.
    """
    if text is None:
        return {}
    found: dict[str, str] = {}
    for member in text.split(","):
        match = _DIGEST.fullmatch(member.strip())
        if match is not None and match[1] in FIELD_ALGORITHMS:
            found[match[1]] = match[2]
    if not found or not all(fits(algorithm, value) for algorithm, value in found.items()):
        raise UnsupportedChecksum(
            f"{name}: {text[:200]!r} has no digest that can be checked here. "
            f"Send ALGORITHM=:BASE64: with one of {', '.join(FIELD_ALGORITHMS)}."
        )
    return found


def wanted_digest(text: str | None) -> str | None:
    """Return the algorithm that `Want-Repr-Digest` prefers among those known here."""
    best: tuple[int, str] | None = None
    for member in (text or "").split(","):
        algorithm, _, preference = member.strip().partition("=")
        if algorithm in FIELD_ALGORITHMS and preference.isascii() and preference.isdecimal() and len(preference) < 3:
            weight = int(preference)
            if weight and (best is None or weight > best[0]):
                best = weight, algorithm
    return best[1] if best else None


def file_name(disposition: str | None) -> str | None:
    """Return the file name of a `Content-Disposition`, in either of its spellings."""
    if disposition is None:
        return None
    if (extended := _EXTENDED_NAME.search(disposition)) is not None:  # RFC 8187: it goes before the plain one
        return label(unquote(extended[2], encoding=extended[1], errors="replace"), LONGEST_NAME)
    message = Message()
    message["content-disposition"] = disposition
    found = message.get_filename()
    return None if found is None else label(found, LONGEST_NAME)
