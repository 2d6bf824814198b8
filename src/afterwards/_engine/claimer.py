"""Takes queued tasks for the free places of this process, and begins what has become due.

It asks only when a place is free, and only for functions this program has. It is woken by commits of its own process
and by a hint from others; a look at the store's version once a second is the truth behind both.
"""

import asyncio
import logging
from collections.abc import Callable

from afterwards._domain.attempts import SECOND
from afterwards._domain.tasks import Claim
from afterwards._engine.clock import Clock
from afterwards._engine.lanes import Lane, Lanes
from afterwards._engine.registry import Registry
from afterwards._engine.runner import Runner
from afterwards._store.contract import ClaimTasks, Know, Store, ask

log = logging.getLogger("afterwards.engine")

LOOK = 1.0  # seconds between looks at the store's version
GATHER = 0.001  # seconds to let freed places gather while tasks wait: one claim for many is much cheaper


class Claimer:
    """Claims, and hands the claims to the runner."""

    def __init__(
        self,
        *,
        worker: str,
        store: Store,
        registry: Registry,
        lanes: Lanes,
        runner: Runner,
        clock: Clock,
        left_over: Callable[[], None],
    ) -> None:
        self._worker = worker
        self._store = store
        self._registry = registry
        self._lanes = lanes
        self._runner = runner
        self._clock = clock
        self._left_over = left_over
        self._version: int | None = None
        self._looked = 0  # when at it, on the boot clock in milliseconds
        self._due: int | None = None
        self._hinted = True
        self.stopped = False
        self.backlog: dict[Lane, bool] = dict.fromkeys(Lane, False)  # tasks of a lane wait for a place

    def hint(self) -> None:
        """Say that something may have been queued."""
        self._hinted = True

    async def round(self) -> float | None:
        """Claim for every free place."""
        if self.stopped:
            return None
        if not self._look():
            return self._pause()
        hinted, self._hinted = self._hinted, False
        try:
            return await self._claim(hinted)
        except BaseException:
            self._hinted = self._hinted or hinted  # the next round has the same to look for
            raise

    def wants(self, lane: Lane) -> bool:
        """Tell whether a freed place of a lane is worth a round, because tasks wait for it."""
        return self.backlog[lane]

    async def _claim(self, hinted: bool) -> float | None:
        if hinted:
            await self._learn()
        elif not self._many_free():
            await asyncio.sleep(GATHER)
        if self._is_stopped():  # looked at again after the waits above: from here to the store there is none
            return None
        taken = {lane: self._lanes.take_all(lane) for lane in self._lanes.sizes}
        lanes = {lane: (self._registry.names(lane), number) for lane, number in taken.items() if number}
        asked = {lane: wanted for lane, wanted in lanes.items() if wanted[0]}
        claims: list[Claim] = []
        try:
            if asked:
                command = ClaimTasks(worker=self._worker, lanes=tuple(asked.values()), now=self._clock.now())
                claims = await ask(self._store, command)
        finally:
            got = dict.fromkeys(Lane, 0)
            for claim in claims:
                known = self._registry.named(claim.name)
                got[known.lane if known else Lane.THREAD] += 1
            for lane, number in taken.items():
                self._lanes.give_back(lane, number - got[lane])
        had_backlog = any(self.backlog.values())
        for lane, number in taken.items():
            if number:
                self.backlog[lane] = lane in asked and got[lane] == number
            elif self._lanes.sizes[lane] and self._registry.names(lane):
                self.backlog[lane] = True  # there was no place to ask for: the next one that is freed asks
        self._runner.start([(claim, None) for claim in claims])
        if hinted or self._is_due():
            self._due = self._store.next_due() if asked else None  # what is due is queued by a claim
        if any(self.backlog.values()) and (hinted or not had_backlog):
            self._left_over()
        return self._pause()

    def _is_stopped(self) -> bool:
        """Look anew: a type checker believes that what was false a moment ago still is."""
        return self.stopped

    def _look(self) -> bool:
        """Look whether there is a reason to claim."""
        if self._any_free() and self._clock.boot() - self._looked < LOOK * 1000:
            return True  # while there is work, our own commits change the version too
        self._looked = self._clock.boot()
        version = self._store.version()
        if version != self._version:
            self._version, self._hinted = version, True
        return self._hinted or self._is_due() or self._any_free()

    def _is_due(self) -> bool:
        return self._due is not None and self._due <= self._clock.now()

    def _any_free(self) -> bool:
        return any(waiting and self._lanes.free(lane) for lane, waiting in self.backlog.items())

    async def _learn(self) -> None:
        unknown = [function for function in self._store.functions() if self._registry.is_new(function[0])]
        # On a thread: it imports modules of the program, and the lease must be renewed meanwhile.
        new = await asyncio.to_thread(self._registry.learn, unknown) if unknown else ()
        if new:
            await ask(self._store, Know(worker=self._worker, names=new))

    def _many_free(self) -> bool:
        return any(
            self._lanes.free(lane) * 4 >= self._lanes.sizes[lane] for lane, waiting in self.backlog.items() if waiting
        )

    def _pause(self) -> float:
        if self._any_free():
            return 0.0
        if self._due is None:
            return LOOK
        return min(LOOK, max(0.0, (self._due - self._clock.now()) / SECOND))
