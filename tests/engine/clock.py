"""A clock that stands still until a test moves it."""

import asyncio

START = 1_800_000_000_000_000  # a moment in 2027, in microseconds


class FakeClock:
    """Both clocks of the engine, moved together; sleepers wake when their time has come."""

    def __init__(self) -> None:
        self._passed = 0.0  # seconds
        self._sleepers: list[tuple[float, asyncio.Event, asyncio.AbstractEventLoop]] = []

    def now(self) -> int:
        return START + round(self._passed * 1_000_000)

    def boot(self) -> int:
        return 1_000_000 + round(self._passed * 1_000)

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        over = asyncio.Event()
        if seconds is not None:
            self._sleepers.append((self._passed + seconds, over, asyncio.get_running_loop()))
        waits = [asyncio.ensure_future(one.wait()) for one in (event, over)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()

    def advance(self, seconds: float) -> None:
        self._passed += seconds
        due = [one for one in self._sleepers if one[0] <= self._passed]
        self._sleepers = [one for one in self._sleepers if one[0] > self._passed]
        for _, over, loop in due:
            loop.call_soon_threadsafe(over.set)
