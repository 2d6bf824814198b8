"""One keep-alive HTTP connection, for the parts that need answers rather than load.

Only what our own servers send: a status line, headers, a body with a length.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, Self


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """Requests one after the other. Raises OSError or IncompleteReadError when the server goes away."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def request(self, method: str, path: str) -> Answer:
        """Send a request without a body."""
        self._head(method, path, 0, "text/plain")
        return await self._answer()

    async def send(self, path: str, length: int, content_type: str, chunks: AsyncIterator[bytes]) -> Answer:
        """POST a body of known length as it comes, never more than a chunk of it in memory."""
        self._head("POST", path, length, content_type)
        async for chunk in chunks:
            self._writer.write(chunk)
            await self._writer.drain()
        return await self._answer()

    def close(self) -> None:
        self._writer.close()

    def _head(self, method: str, path: str, length: int, content_type: str) -> None:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\nContent-Type: {content_type}"
        )
        self._writer.write((head + "\r\n\r\n").encode())

    async def _answer(self) -> Answer:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(first.split()[1]), headers, body)
