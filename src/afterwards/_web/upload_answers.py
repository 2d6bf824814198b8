"""What is answered about uploads: the state as headers of each protocol, the document, and what went wrong."""

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import msgspec
from starlette.responses import Response

from afterwards._domain import upload_headers as headers
from afterwards._domain.checksums import FIELD_ALGORITHMS, TUS_ALGORITHMS
from afterwards._domain.files import Verdict
from afterwards._domain.uploads import Upload, UploadState
from afterwards._web.problems import NOSNIFF, problem
from afterwards.errors import BodyTooLarge, Error, UploadTooLarge
from afterwards.errors.uploads import UnsupportedChecksum, UploadError, WrongMediaType, WrongOffset

# What scripts of other sites may read, where the application lets them ask at all.
EXPOSED = (
    "Location, Upload-Offset, Upload-Length, Upload-Complete, Upload-Limit, Upload-Expires, Upload-Metadata, "
    "Upload-Concat, Upload-Defer-Length, Upload-Draft-Interop-Version, Tus-Resumable, Tus-Version, Tus-Extension, "
    "Tus-Max-Size, Tus-Checksum-Algorithm, Repr-Digest, Retry-After"
)
COMMON = {
    **NOSNIFF,
    "Tus-Resumable": headers.TUS_VERSION,
    "Cache-Control": "no-store",
    "Access-Control-Expose-Headers": EXPOSED,
}


class FileLink(msgspec.Struct, frozen=True, kw_only=True):
    """The stored file of a finished upload."""

    id: str
    href: str
    verdict: Verdict | None  # of a scanner; None: there is none here


class UploadDocument(msgspec.Struct, frozen=True, kw_only=True):
    """An upload: how far it is, and where its file is."""

    id: str
    name: str | None
    content_type: str | None
    state: UploadState
    size: int | None  # None: not known yet
    offset: int  # so many bytes are on stable storage
    complete: bool
    created_at: datetime
    expires_at: datetime | None  # None: with the last task that has its file
    links: dict[str, str]
    file: FileLink | None  # once it is finished


def document(upload: Upload, base: str) -> bytes:
    """Return the document of an upload.

    Args:
        upload: Which.
        base: The path of our routes as the client sees it.
    """
    finished = upload.state is UploadState.FINISHED
    href = f"{base}/files/{upload.id}"
    file = FileLink(id=upload.id, href=href, verdict=upload.verdict) if finished else None
    return msgspec.json.encode(
        UploadDocument(
            id=upload.id,
            name=upload.name,
            content_type=upload.content_type,
            state=upload.state,
            size=upload.length,
            offset=upload.offset,
            complete=upload.is_complete,
            created_at=_time(upload.created_at),
            expires_at=None if upload.until is None else _time(upload.until),
            links={"self": f"{base}/uploads/{upload.id}"} | ({"file": file.href} if file else {}),
            file=file,
        )
    )


def limits(max_size: int | None, *, expires_at: int | None = None, now: int = 0) -> str:
    """Return `Upload-Limit`."""
    found = [] if max_size is None else [f"max-size={max_size}"]
    if expires_at is not None:
        found.append(f"max-age={max(0, (expires_at - now) // 1_000_000)}")
    return ", ".join(found) or "min-size=0"


def state(upload: Upload, *, limit: str, old: bool = False) -> dict[str, str]:
    """Return the headers that tell how far an upload is.

    Args:
        upload: Which.
        limit: Its `Upload-Limit`.
        old: For clients of the drafts that called `Upload-Complete` the other way round.
    """
    found = {**COMMON, "Upload-Offset": str(upload.offset), "Upload-Limit": limit}
    complete = upload.is_complete
    found["Upload-Incomplete" if old else "Upload-Complete"] = "?1" if complete is not old else "?0"
    if upload.length is not None:
        found["Upload-Length"] = str(upload.length)
    elif upload.state is UploadState.OPEN:
        found["Upload-Defer-Length"] = "1"
    if upload.metadata:
        found["Upload-Metadata"] = upload.metadata
    if upload.concat is not None:
        found["Upload-Concat"] = upload.concat
    if upload.until is not None:
        found["Upload-Expires"] = format_datetime(_time(upload.until), usegmt=True)
    return found


def server(max_size: int | None) -> dict[str, str]:
    """Return the headers that tell what this server can do."""
    found = {
        **COMMON,
        "Tus-Version": headers.TUS_VERSION,
        "Tus-Extension": ",".join(headers.TUS_EXTENSIONS),
        "Tus-Checksum-Algorithm": ",".join(TUS_ALGORITHMS),
        "Upload-Limit": limits(max_size),
        "Accept-Patch": f"{headers.TUS_BODY}, {headers.PARTIAL_BODY}",
        "Want-Repr-Digest": ", ".join(
            f"{name}={len(FIELD_ALGORITHMS) - at}" for at, name in enumerate(FIELD_ALGORITHMS)
        ),
    }
    if max_size is not None:
        found["Tus-Max-Size"] = str(max_size)
    return found


def refused(error: Error, path: str, *, hide: str, upload: Upload | None, max_size: int | None) -> Response:
    """Turn an error into an answer of any of the protocols.

    Args:
        error: What was raised.
        path: What was asked for.
        hide: A folder that the answer must not name.
        upload: What is known of the upload.
        max_size: Of an upload.
    """
    answer = problem(error, path, hide=hide)
    more: dict[str, Any] = {}
    for name, value in COMMON.items():
        answer.headers[name] = value
    if upload is None or not upload.is_complete:
        answer.headers["Upload-Complete"] = "?0"
    if isinstance(error, WrongOffset):
        answer.headers["Upload-Offset"] = str(error.offset)
        more = {"expected-offset": error.offset, "provided-offset": error.given}
    if isinstance(error, BodyTooLarge | UploadTooLarge):
        answer.headers["Upload-Limit"] = limits(max_size)
    if isinstance(error, WrongMediaType):
        answer.headers["Accept-Patch"] = f"{headers.TUS_BODY}, {headers.PARTIAL_BODY}"
    if isinstance(error, UnsupportedChecksum):
        answer.headers["Tus-Checksum-Algorithm"] = ",".join(TUS_ALGORITHMS)
    if error.code == "unsupported_tus_version":
        answer.headers["Tus-Version"] = headers.TUS_VERSION
    if isinstance(error, UploadError) and error.type is not None:
        more["type"] = error.type
    if more:
        answer.body = msgspec.json.encode(msgspec.json.decode(answer.body) | more)
        answer.headers["Content-Length"] = str(len(answer.body))
    return answer


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds // 1000 / 1000, UTC)
