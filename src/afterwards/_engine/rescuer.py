"""Frees what dead or silent processes held.

A process is dead when its lock can be had, when the machine has been started since, or when its lease has ended.
Any number of rescuers may meet the same worker: the store lets one of them end it.
"""

import logging

from afterwards._domain.tasks import TaskState, WorkerInfo
from afterwards._engine.clock import Clock, boot_id
from afterwards._files.presence import Presence
from afterwards._store.contract import Rescue, Rescued, Store, ask

log = logging.getLogger("afterwards.engine")

ROUND = 0.5  # seconds; with the start of the next attempt well under the promised 2
GRACE = 5_000  # milliseconds after a lease before it counts as ended: the holder stops earlier


class Rescuer:
    """Looks after the other workers."""

    def __init__(self, *, worker: str, store: Store, presence: Presence, clock: Clock) -> None:
        self._worker = worker
        self._store = store
        self._presence = presence
        self._clock = clock

    async def round(self) -> float | None:
        """End every worker that is gone."""
        for worker in self._store.workers():
            if worker.id == self._worker:
                continue
            reason = self._why_gone(worker)
            if reason is None:
                continue
            rescued: list[Rescued] | None = await ask(
                self._store, Rescue(worker=worker.id, now=self._clock.now(), reason=reason)
            )
            if rescued is not None:
                self._presence.forget(worker.id)
                self._tell(worker, reason, rescued)
        return ROUND

    def _why_gone(self, worker: WorkerInfo) -> str | None:
        if worker.boot != boot_id():
            return f"the machine was started again while process {worker.pid} ran it"
        if not self._presence.lives(worker.id):
            return f"process {worker.pid} ended while it ran"
        if worker.lease_until + GRACE < self._clock.boot():
            return f"process {worker.pid} stood still for longer than its lease"
        return None

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
