"""Requests that the server or a middleware cancels in the middle of a body."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI

from support.data import until
from support.talking import wire
from support.uploads import UPLOADS, upload_server


class Impatient:
    """A middleware that ends what takes too long, as those with a time limit do."""

    running: asyncio.Task[None] | None = None
    loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != UPLOADS:
            return await self._app(scope, receive, send)
        type(self).loop = asyncio.get_running_loop()
        type(self).running = asyncio.ensure_future(self._app(scope, receive, send))
        try:
            await type(self).running
        except asyncio.CancelledError:
            await send({"type": "http.response.start", "status": 504, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})


@pytest.mark.parametrize("ours", [False, True])
def test_a_plain_post_that_is_cancelled_leaves_nothing(tmp_path, ours):
    """Nobody knows its address: it may neither count for a day nor keep its bytes."""
    app = FastAPI()
    app.add_middleware(Impatient)
    with upload_server(tmp_path / "data", ours=ours, app=app) as server:
        with wire(server.port) as one:
            one.start("POST", UPLOADS, {}, 900_000)
            one.send(bytes(500_000))
            until(lambda: any((server.site.data / "uploads").glob("*.part")))
            assert server.site.reads.stored([""])[""].bytes == 900_000
            assert Impatient.loop is not None
            assert Impatient.running is not None
            Impatient.loop.call_soon_threadsafe(Impatient.running.cancel)
            assert one.answer("POST").status == 504
        until(lambda: not any((server.site.data / "uploads").iterdir()))
        assert server.site.reads.stored([""])[""].bytes == 0
