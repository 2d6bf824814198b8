"""Reads what a request about an upload asks for, in whichever protocol: tus 1.0.0, the IETF's drafts, or neither."""

from dataclasses import dataclass
from enum import Enum

from starlette.requests import Request

from afterwards._domain import upload_headers as headers
from afterwards._domain.keys import fingerprint
from afterwards._domain.labels import label
from afterwards._domain.media import media_type
from afterwards._web.appending import Check, declared_length
from afterwards.errors.uploads import BadUploadHeader, WrongLength, WrongMediaType, WrongProtocolVersion

_CREATES = (
    "content-type",
    "content-length",
    "content-disposition",
    "repr-digest",
    "upload-complete",
    "upload-concat",
    "upload-defer-length",
    "upload-incomplete",
    "upload-length",
    "upload-metadata",
)
METHOD_OVERRIDE = "x-http-method-override"
_NO_TYPES = (
    "application/x-www-form-urlencoded",
    headers.TUS_BODY,
    headers.PARTIAL_BODY,
)  # the first is curl's word for any


class Protocol(Enum):
    """How a client speaks."""

    TUS = "tus"
    IETF = "ietf"
    PLAIN = "plain"  # it sends a file and is done


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A request that creates an upload."""

    protocol: Protocol
    interop: int | None  # of the draft that its client speaks
    has_body: bool
    ends: bool | None  # whether the whole comes with it, if it says so
    length: int | None
    concat: str | None = None
    parts: tuple[str, ...] = ()  # of which it is made
    metadata: str | None = None
    name: str | None = None
    content_type: str | None = None
    digests: dict[str, str | None]
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """A request that adds to an upload."""

    protocol: Protocol
    interop: int | None
    offset: int
    length: int | None
    ends: bool | None
    checks: tuple[Check, ...]


def creation(request: Request) -> Creation:
    """Read a request that creates an upload.

    Raises:
        UploadError: It is none.
    """
    if request.headers.get("tus-resumable") is not None:
        return _tus_creation(request)
    found = interop(request)
    ends = _complete(request, found)
    if ends is None:
        return _plain_creation(request)
    given = request.headers
    told = headers.metadata(given.get("upload-metadata"))  # of tus; but what tus-js-client sends with the drafts too
    name, kind = _label(told)
    return Creation(
        protocol=Protocol.IETF,
        interop=found,
        metadata=given.get("upload-metadata"),
        has_body=declared_length(request.scope) != 0,
        ends=ends,
        length=_told_length(request, 0, ends=ends),
        name=headers.file_name(given.get("content-disposition")) or name,
        content_type=_media_type(request) or kind,
        digests=_digests(request),
        checks=_content_digests(request),
    )


def append(request: Request) -> Append:
    """Read a request that adds to an upload.

    Raises:
        UploadError: It is none.
    """
    given = request.headers
    kind = given.get("content-type", "").partition(";")[0].strip().lower()
    found = interop(request)
    if given.get("tus-resumable") is not None or kind == headers.TUS_BODY:
        check_version(request)
        if kind != headers.TUS_BODY:
            raise _wrong_type(kind)
        return Append(
            protocol=Protocol.TUS,
            interop=None,
            offset=_offset(request),
            length=headers.number("Upload-Length", given.get("upload-length")),
            ends=None,
            checks=_tus_checks(request),
        )
    if kind != headers.PARTIAL_BODY and (found is None or found > headers.UNTYPED_INTEROP):
        raise _wrong_type(kind)
    ends = _complete(request, found)
    if ends is None:
        raise BadUploadHeader("Upload-Complete is missing: send ?1 with the last bytes and ?0 with others.")
    offset = _offset(request)
    return Append(
        protocol=Protocol.IETF,
        interop=found,
        offset=offset,
        length=_told_length(request, offset, ends=ends),
        ends=ends,
        checks=_content_digests(request),
    )


def fingerprint_of(request: Request) -> bytes:
    """Return what makes a creation this one and no other: what its headers say. Its body may be long, and is not in."""
    given = [request.headers.get(name, "") for name in _CREATES]
    return fingerprint(request.method, request.url.path, *given)


def check_version(request: Request) -> None:
    """See that a client that speaks tus speaks the version known here.

    Raises:
        WrongProtocolVersion: It does not.
    """
    version = request.headers.get("tus-resumable")
    if version != headers.TUS_VERSION:
        said = "is missing" if version is None else f"is {version[:20]!r}"
        raise WrongProtocolVersion(f"Tus-Resumable {said}; version {headers.TUS_VERSION} is spoken here. Send that.")


def interop(request: Request) -> int | None:
    """Return which of the IETF's drafts a client says it speaks, if it is one known here."""
    text = request.headers.get("upload-draft-interop-version", "").strip()
    version = int(text) if text.isascii() and text.isdecimal() and len(text) < 3 else -1
    return version if headers.OLDEST_INTEROP <= version <= headers.NEWEST_INTEROP else None


def speaks(request: Request) -> bool:
    """Tell whether a client follows a protocol of uploads, so that it will go on at the offset it is told."""
    return "tus-resumable" in request.headers or "upload-draft-interop-version" in request.headers


def _tus_creation(request: Request) -> Creation:
    check_version(request)
    given = request.headers
    concat = given.get("upload-concat")
    parts: tuple[str, ...] = ()
    length = headers.number("Upload-Length", given.get("upload-length"))
    defers = given.get("upload-defer-length")
    if concat is not None and concat.startswith("final;"):
        parts = tuple(headers.part_ids(concat))
        if length is not None:
            raise BadUploadHeader(
                "Upload-Length does not go with `Upload-Concat: final`: its parts have it. Leave it out."
            )
    elif concat not in (None, "partial"):
        headers.part_ids(concat or "")
    elif defers not in (None, "1"):
        raise BadUploadHeader(f"Upload-Defer-Length: {defers[:20]!r} means nothing, only 1 does.")
    elif (length is None) == (defers is None):
        raise BadUploadHeader("Send either Upload-Length with the size in bytes, or `Upload-Defer-Length: 1`.")
    has_body = declared_length(request.scope) != 0
    kind = given.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and kind != headers.TUS_BODY:
        raise _wrong_type(kind)
    told = headers.metadata(given.get("upload-metadata"))
    name, media_type = _label(told)
    return Creation(
        protocol=Protocol.TUS,
        interop=None,
        has_body=has_body,
        ends=None,
        length=length,
        concat=concat,
        parts=parts,
        metadata=given.get("upload-metadata"),
        name=name,
        content_type=media_type,
        digests=_digests(request),
        checks=_tus_checks(request),
    )


def _plain_creation(request: Request) -> Creation:
    given = request.headers
    kind = given.get("content-type", "").partition(";")[0].strip().lower()
    declared = declared_length(request.scope)
    if any(name in given for name in ("upload-length", "upload-defer-length", "upload-concat", "upload-metadata")):
        check_version(request)
    if kind.startswith("multipart/"):
        raise WrongMediaType(
            f"the body is {kind}, and a file is wanted here as it is. Send its bytes alone, or the form to a route of "
            "the application."
        )
    if declared == 0:
        raise BadUploadHeader(
            "the request has neither a body nor a header that says how an upload is to go on. Send the file itself; or "
            "`Tus-Resumable: 1.0.0` with Upload-Length; or `Upload-Complete: ?0`."
        )
    return Creation(
        protocol=Protocol.PLAIN,
        interop=None,
        has_body=True,
        ends=True,
        length=declared,
        name=headers.file_name(given.get("content-disposition")),
        content_type=_media_type(request),
        digests=_digests(request),
        checks=_content_digests(request),
    )


def _label(told: dict[str, str]) -> tuple[str | None, str | None]:
    """Return the name and the media type of a file, by the keys that clients use for them."""
    name = told.get("filename") or told.get("name")
    kind = media_type(told.get("filetype") or told.get("type"))
    return None if name is None else label(name, headers.LONGEST_NAME), kind


def _media_type(request: Request) -> str | None:
    found = media_type(request.headers.get("content-type"))
    return None if found is None or found.partition(";")[0].strip().lower() in _NO_TYPES else found


def _complete(request: Request, version: int | None) -> bool | None:
    if version is not None and version <= headers.OLD_NAME_INTEROP:
        incomplete = headers.boolean("Upload-Incomplete", _one(request, "upload-incomplete"))
        return None if incomplete is None else not incomplete
    return headers.boolean("Upload-Complete", _one(request, "upload-complete"))


def _one(request: Request, name: str) -> str | None:
    """Return a field, its lines put together as RFC 9651 wants them: two are not one item."""
    return ", ".join(request.headers.getlist(name)) if name in request.headers else None


def _told_length(request: Request, offset: int, *, ends: bool) -> int | None:
    """Return the length of the whole that a request of the drafts implies.

    Raises:
        WrongLength: It implies two.
    """
    text = request.headers.get("upload-length")
    length = int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) <= 15 else None
    declared = declared_length(request.scope)
    if not ends or declared is None:
        return length
    if length is not None and length != offset + declared:
        raise WrongLength(
            f"Upload-Length says {length:,} bytes, and the upload is to end with this request, after {offset:,} and "
            f"{declared:,} bytes. Send one or the other."
        )
    return offset + declared


def _offset(request: Request) -> int:
    text = request.headers.get("upload-offset")
    found = headers.number("Upload-Offset", text)
    if found is None:
        raise BadUploadHeader("Upload-Offset is missing: say at which byte of the upload this body begins.")
    return found


def _digests(request: Request) -> dict[str, str | None]:
    found: dict[str, str | None] = {**headers.digests("Repr-Digest", request.headers.get("repr-digest"))}
    wanted = headers.wanted_digest(request.headers.get("want-repr-digest"))
    return found if wanted is None or wanted in found else {**found, wanted: None}


def _content_digests(request: Request) -> tuple[Check, ...]:
    found = headers.digests("Content-Digest", request.headers.get("content-digest"))
    return tuple(Check(header="Content-Digest", algorithm=name, value=value) for name, value in found.items())


def _tus_checks(request: Request) -> tuple[Check, ...]:
    found = headers.checksum(request.headers.get("upload-checksum"))
    one = () if found is None else (Check(header="Upload-Checksum", algorithm=found[0], value=found[1]),)
    return one + _content_digests(request)


def _wrong_type(kind: str) -> WrongMediaType:
    return WrongMediaType(
        f"the body is {kind[:100] or 'of no stated type'}. Send `Content-Type: {headers.TUS_BODY}` with tus, "
        f"`{headers.PARTIAL_BODY}` with the IETF's resumable uploads."
    )
