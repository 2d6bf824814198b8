"""Answers with a stored file, whole or in parts, so that browsers save it and never run it.

`file_response` is all that a route needs. The file is opened before the answer starts, so what is wrong with it is a
problem document and not a broken answer; what goes wrong later breaks the connection, because `Content-Length` has
been sent and the client must notice. How the bytes travel is decided message by message: a server that knows
`_files/outgoing.Handover` sends them itself, for any other one they are read in blocks on a thread.
"""

import asyncio
import base64
import logging
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from afterwards._domain.conditions import Answer, Version, decide, is_same
from afterwards._domain.files import Verdict
from afterwards._domain.ids import is_id
from afterwards._domain.labels import disposition
from afterwards._domain.media import may_be_shown, served_type
from afterwards._domain.ranges import Span, wanted
from afterwards._files.outgoing import Handover, Outgoing, Piece
from afterwards._files.pools import Pool
from afterwards._files.sniffing import START, sniff
from afterwards._files.stored import StoredFile
from afterwards._files.sums import Sums
from afterwards._web.problems import NOSNIFF
from afterwards.errors import DamagedFile, FileHeld, FileInfected, MissingFile, PreconditionFailed, UnknownFile

if TYPE_CHECKING:
    from afterwards._web.system import System

log = logging.getLogger("afterwards")

BLOCK = 1 << 18  # bytes read and sent at once where no server takes the file; so much of it is in memory
PATIENCE = 60.0  # seconds a client may take for one block of them

# What surrounds every byte that came from somebody (OWASP's secure headers). same-site: pages of another port or
# subdomain may show an image; pages of strangers may not. no-transform: a range must mean the same bytes every time.
_HARMLESS = {
    **NOSNIFF,
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-site",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache, no-transform",
}
_SHA_256 = re.compile(r"(?:^|,)[ \t]*sha-256[ \t]*(?:=[ \t]*(\d+))?[ \t]*(?=[;,]|$)", re.IGNORECASE)

_readers = Pool("download", 8)
_sums = Sums()


async def file_response(system: "System", request: Request, id: str, *, inline: bool = False) -> Response:
    """Answer a GET or HEAD with a stored file. Who may have it is for the caller to decide before.

    Args:
        system: Whose file it is.
        request: Its conditions, `Range` and `Want-Repr-Digest` are honoured.
        id: Of the file; a text from outside is fine.
        inline: Let a browser show it, if it is of a kind that is only looked at.

    Raises:
        UnknownFile: There is none of this id, or none any more.
        FileHeld, FileInfected: A scan has not ended, or ended badly.
        MissingFile, DamagedFile: There should be one, and it is not as it was stored.
        PreconditionFailed, RangeRefused: It is there, but not so.
    """
    if not is_id(id):
        raise UnknownFile(file=id[:80])
    found = await system.engine.read(_open, system, id)
    try:
        return await _answer(found, request, inline=inline)
    except BaseException:
        found.file.close()
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    file: Outgoing
    type: str  # as it is served


def _open(system: "System", id: str) -> _Found:
    """Find the row, open the file and see what it is: one visit to a thread."""
    row = system.store.file(id)
    if row is None:
        raise UnknownFile(file=id)
    if row.verdict == Verdict.HELD:
        raise FileHeld(file=id)
    if row.verdict == Verdict.INFECTED:
        raise FileInfected(file=id)
    stored = msgspec.convert(row, StoredFile, from_attributes=True)
    try:
        file = Outgoing(stored, system.root)
        try:
            type = stored.type or sniff(file.read(Span(0, min(START, stored.size))), stored.name)
        except BaseException:
            file.close()
            raise
    except MissingFile:
        if system.store.file(id) is None:  # pruned while we looked
            raise UnknownFile(file=id) from None
        raise
    return _Found(file=file, type=served_type(type))


async def _answer(found: _Found, request: Request, *, inline: bool) -> Response:
    stored, headers = found.file.stored, request.headers
    # Nothing of a file ever changes, and its id says when it was made.
    version = Version(tag=f'"{stored.digest.rpartition(":")[2]}"', modified=int(stored.id[:11], 16) // 1000)
    answer = decide(version, headers.getlist)
    if answer is Answer.FAILED:
        raise PreconditionFailed(file=stored.id, tag=version.tag)
    shared = {**_HARMLESS, "ETag": version.tag, "Last-Modified": version.date, "Accept-Ranges": "bytes"}
    if answer is Answer.NOT_MODIFIED:
        found.file.close()
        return Response(status_code=304, headers=shared)
    inline = inline and may_be_shown(found.type)
    shared["Content-Disposition"] = disposition(stored.name, stored.id, inline=inline)
    if headers.get("accept-encoding", "identity") != "identity":
        shared["Content-Encoding"] = "identity"  # or a GZipMiddleware would pack it, and no range would fit any more
    spans = _spans(request, version, stored.size)
    if _wants_sum(headers.getlist("want-repr-digest")):
        sum = base64.b64encode(await _sums.sha256(found.file)).decode()
        shared["Repr-Digest"] = f"sha-256=:{sum}:"
    if spans is None:
        return Download(found.file, _pieces([Span(0, stored.size)]), {**shared, "Content-Type": found.type})
    if len(spans) == 1:
        part = {"Content-Type": found.type, "Content-Range": spans[0].of(stored.size)}
        return Download(found.file, _pieces(spans), {**shared, **part}, status=206)
    boundary = secrets.token_hex(16)
    several = {"Content-Type": f"multipart/byteranges; boundary={boundary}"}
    pieces = _multipart(spans, stored.size, found.type, boundary)
    return Download(found.file, pieces, {**shared, **several}, status=206)


def _spans(request: Request, version: Version, size: int) -> list[Span] | None:
    header, condition = request.headers.get("range"), request.headers.get("if-range")
    if header is None or request.method != "GET" or (condition is not None and not is_same(version, condition)):
        return None
    return wanted(header, size)


def _wants_sum(lines: list[str]) -> bool:
    """Read Want-Repr-Digest (RFC 9530): a weight of 0 means no. BLAKE3 has no name there; it is the ETag."""
    found = [weight for line in lines for weight in _SHA_256.findall(line)]
    return bool(found) and (found[-1] or "1").strip("0") != ""


def _pieces(spans: list[Span]) -> list[Piece]:
    return [span for span in spans if span.size]


def _multipart(spans: list[Span], size: int, type: str, boundary: str) -> list[Piece]:
    pieces: list[Piece] = []
    for span in spans:
        head = f"\r\n--{boundary}\r\nContent-Type: {type}\r\nContent-Range: {span.of(size)}\r\n\r\n"
        pieces += [head.encode(), span]
    return [*pieces, f"\r\n--{boundary}--\r\n".encode()]


class Download(Response):
    """A body made of pieces of one file. Whatever becomes of it, the file is closed."""

    def __init__(self, file: Outgoing, pieces: list[Piece], headers: dict[str, str], *, status: int = 200) -> None:
        super().__init__(status_code=status, headers={**headers, "Content-Length": str(_length(pieces))})
        self._file = file
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] == "HEAD" or not self._pieces:
                await send(_body(b""))
            elif self._file.descriptor is None:
                await send(_body(b"".join(map(self._content, self._pieces))))
            elif not await self._by_server(scope, send):
                await self._in_blocks(scope, receive, send)
        finally:
            self._file.close()

    def _content(self, piece: Piece) -> bytes:
        return self._file.read(piece) if isinstance(piece, Span) else piece

    async def _by_server(self, scope: Scope, send: Send) -> bool:
        """Let the server send the file, if it can and the offer reaches it."""
        if Handover.KEY not in (scope.get("extensions") or {}):
            return False
        offer = Handover(self._file, self._pieces)
        await send({**_body(b"", more=True), Handover.KEY: offer})
        if offer.withdraw():
            return False
        await send(_body(b""))
        return True

    async def _in_blocks(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read and send, one block after the other, until the client has all or has left."""
        left = asyncio.ensure_future(_left(receive))
        try:
            for piece in self._pieces:
                for block in _blocks(piece):
                    content = await _readers.run(self._content, block)
                    if left.done():
                        return
                    async with asyncio.timeout(PATIENCE):
                        await send(_body(content, more=True))
            await send(_body(b""))
        except TimeoutError:
            text = "a client of %s took less than %d bytes in %g s of a download, so the connection is closed"
            log.warning(text, scope["path"], BLOCK, PATIENCE)
        except DamagedFile as error:
            log.error("%s was cut off: %s", scope["path"], error)
            raise
        finally:
            left.cancel()


def _length(pieces: list[Piece]) -> int:
    return sum(piece.size if isinstance(piece, Span) else len(piece) for piece in pieces)


def _body(content: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


def _blocks(piece: Piece) -> Iterable[Piece]:
    if not isinstance(piece, Span):
        return [piece]
    return (Span(start, min(piece.end, start + BLOCK)) for start in range(piece.start, piece.end, BLOCK))


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
