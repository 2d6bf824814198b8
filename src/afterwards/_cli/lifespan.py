"""The application of a program that has none: it starts and stops an installation that only works."""

from typing import Any

from afterwards.fastapi import Afterwards


class Bare:
    """Speaks the ASGI lifespan protocol for an `Afterwards()` without an application."""

    def __init__(self, installation: Afterwards) -> None:
        self._installation = installation

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Start, wait for the end, stop."""
        if scope["type"] != "lifespan":
            raise RuntimeError("this program has no application to answer requests: start it with `afterwards worker`")
        await receive()
        await self._installation.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._installation.stop()
        await send({"type": "lifespan.shutdown.complete"})
