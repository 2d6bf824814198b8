"""Stores what running attempts tell, a few times a second."""

from afterwards._engine.clock import Clock
from afterwards._engine.runner import Runner, ignore_lost
from afterwards._store.contract import CallbackReply, Store, Tell

ROUND = 0.25  # seconds: at most four progress events a second from one attempt


class Teller:
    """Carries progress and log lines from the attempts to the store."""

    def __init__(self, *, store: Store, runner: Runner, clock: Clock) -> None:
        self._store = store
        self._runner = runner
        self._clock = clock

    async def round(self) -> float | None:
        """Store what has been told since the last round."""
        told = False
        for attempt in list(self._runner.active.values()):
            for note in attempt.take(self._clock.now()):
                self._store.submit(Tell(note), CallbackReply(ignore_lost))
                told = True
        return ROUND if told else None  # woken by the next one who tells something
