"""A small load client for machines without wrk: `python -m benchmarks.client PORT PATH CONNECTIONS SECONDS`.

One protocol object a connection, request bytes made once, no parsing beyond the status and the length: it shares the
machine with the server it measures. It stops sending at the end of the time and waits for every answer.
"""

import asyncio
import json
import sys
import time
from typing import cast

from benchmarks.figures import percentile


class Poster(asyncio.Protocol):
    """Sends the next request when the last was answered."""

    def __init__(self, request: bytes, ends: float, latencies: list[float]) -> None:
        self.request = request
        self.ends = ends
        self.latencies = latencies
        self.bad = 0
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buffer = b""
        self._sent = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods, not by its class
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        mark = self._buffer.lower().find(b"content-length:", 0, head)
        length = int(self._buffer[mark + 15 : self._buffer.find(b"\r", mark)]) if mark >= 0 else 0
        if len(self._buffer) < head + 4 + length:
            return
        self.latencies.append(time.perf_counter() - self._sent)
        self.bad += self._buffer[9:10] != b"2"
        self._buffer = b""
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.finished.done():
            self.bad += 1
            self.finished.set_result(None)

    def _send(self) -> None:
        self._sent = time.perf_counter()
        if self._sent >= self.ends:
            self.finished.set_result(None)
            self._transport.close()
        else:
            self._transport.write(self.request)


async def post(port: int, path: str, connections: int, seconds: float) -> dict[str, float]:
    """Load the server and sum up."""
    loop = asyncio.get_running_loop()
    request = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n\r\n".encode()
    latencies: list[float] = []
    begin = time.perf_counter()
    posters = [Poster(request, begin + seconds, latencies) for _ in range(connections)]
    for poster in posters:
        await loop.create_connection(lambda made=poster: made, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*(poster.finished for poster in posters))
    return {
        "requests": len(latencies),
        "seconds": time.perf_counter() - begin,
        "bad": sum(poster.bad for poster in posters),
        "p50": percentile(latencies, 0.5) * 1000,
        "p99": percentile(latencies, 0.99) * 1000,
    }


def main() -> None:
    port, path, connections, seconds = sys.argv[1:5]
    try:
        import uvloop
    except ImportError:
        run = asyncio.run  # slower, still a fair comparison: every side of a run meets the same client
    else:
        run = uvloop.run
    print(json.dumps(run(post(int(port), path, int(connections), float(seconds)))))


if __name__ == "__main__":
    main()
