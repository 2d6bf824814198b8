"""Frees what dead or silent processes held.

A process is dead when its lock can be had, or when the machine has been started since: then its worker is forgotten.
One that lives and whose lease has ended only loses what it holds; it stays known, so that whatever it does when it goes
on is on record under a worker that somebody looks after. Any number of rescuers may meet the same worker: the store
lets one of them end it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from afterwards._domain.tasks import TaskState, WorkerInfo
from afterwards._engine.clock import Clock, boot_id
from afterwards._files.presence import Presence
from afterwards._store.contract import CallbackReply, FutureReply, Register, Rescue, Rescued, Store
from afterwards.errors import BrokenRule

log = logging.getLogger("afterwards.engine")

ROUND = 0.5  # seconds; with the start of the next attempt well under the promised 2
GRACE = 5_000  # milliseconds after a lease before it counts as ended: the holder stops earlier
DOUBT = 15_000  # milliseconds in which no lease counts as ended, after our own had: a renewal's round, and the grace


class Rescuer:
    """Looks after the other workers."""

    def __init__(
        self,
        *,
        worker: str,
        store: Store,
        presence: Presence,
        clock: Clock,
        then: Callable[[], object] = lambda: None,  # called when something was left by a worker that is gone
    ) -> None:
        self._worker = worker
        self._then = then
        self._store = store
        self._presence = presence
        self._clock = clock
        self._sure_from = 0  # boot time; before it, a lease that has ended says nothing about its holder
        self._silent: dict[str, int] = {}  # workers that have lost what they held, with the lease that ended

    async def round(self) -> float | None:
        """End every worker that is gone."""
        self._presence.renew()
        workers = self._store.workers()
        self._look_at_ourselves(workers)
        for worker in workers:
            if worker.id != self._worker:
                try:
                    await self._look_at(worker)
                except Exception:  # of one worker: the others must not wait for it
                    log.exception("could not tell whether process %d still runs; it is looked at again", worker.pid)
        return ROUND

    def _look_at_ourselves(self, workers: list[WorkerInfo]) -> None:
        """Doubt all leases when our own has ended: the machine slept, or nobody could write."""
        now = self._clock.boot()
        if any(worker.id == self._worker and worker.lease_until < now for worker in workers):
            self._sure_from = now + DOUBT

    async def _look_at(self, worker: WorkerInfo) -> None:
        dead = self._why_dead(worker)
        if dead is not None:
            self._presence.forget(worker.id)  # first: should this process die in between, the row still leads back here
            await self._rescue(worker, dead, keep=False)
            self._silent.pop(worker.id, None)
        elif worker.boot and self._is_silent(worker):  # one that lives and is not known makes itself known again
            await self._rescue(worker, f"process {worker.pid} runs and did not renew its lease in time", keep=True)
            self._silent[worker.id] = worker.lease_until

    async def _rescue(self, worker: WorkerInfo, reason: str, *, keep: bool) -> None:
        reply = FutureReply(asyncio.get_running_loop())
        self._store.submit(Rescue(worker=worker.id, now=self._clock.now(), reason=reason), reply)
        if keep:  # handed over together, so in one transaction
            self._store.submit(Register(worker), CallbackReply(_kept))
        rescued: list[Rescued] | None = await reply.future
        if rescued is not None:
            self._tell(worker, reason, rescued)
            self._then()

    def _why_dead(self, worker: WorkerInfo) -> str | None:
        if worker.boot and worker.boot != boot_id():
            return f"the machine was started again while process {worker.pid} ran it"
        if not self._presence.lives(worker.id):
            return f"process {worker.pid} ended while it ran" if worker.boot else "its process ended while it ran"
        return None

    def _is_silent(self, worker: WorkerInfo) -> bool:
        now = self._clock.boot()
        ended = worker.lease_until + GRACE < now and now >= self._sure_from
        return ended and self._silent.get(worker.id) != worker.lease_until

    def _tell(self, worker: WorkerInfo, reason: str, rescued: list[Rescued]) -> None:
        for one in rescued:
            level = logging.ERROR if one.state is TaskState.QUARANTINED else logging.WARNING
            log.log(
                level,
                "task %s %s: attempt %d was %s (%s); the task is %s now",
                one.name,
                one.id,
                one.attempt,
                "released" if worker.stopped_at is not None else "interrupted",
                reason,
                one.state,
            )


def _kept(answer: Any) -> None:
    if isinstance(answer, BaseException) and not isinstance(answer, BrokenRule):  # broken: it has been made known again
        log.warning("a worker that runs and whose lease had ended could not be kept known: %s", answer)
