"""The other control: our server, answering before the commit. The time between the two is what a kill must hit."""

import asyncio
from typing import Any

from afterwards._engine.intake import Intake
from crash.program import app as app

_store = Intake.store


async def _later(self: Intake, plan: Any, *args: Any, **options: Any) -> None:
    claims, plan.claims = plan.claims, []  # or they would run at once, on no record at all

    async def store() -> None:
        await asyncio.sleep(0.15)
        plan.claims = claims
        await _store(self, plan, *args, **options)
        plan.start()

    _running.add(asyncio.ensure_future(store()))


_running: set[Any] = set()
Intake.store = _later  # type: ignore[method-assign]
