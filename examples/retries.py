"""A task that fails is tried again only where you ask for it; one that takes too long is cancelled.

afterwards run examples.retries:app
curl -X POST 127.0.0.1:8000/reports
afterwards tasks list
"""

import asyncio

from fastapi import FastAPI

from afterwards import Afterwards, BackgroundTasks, current_task, task

app = FastAPI()
afterwards = Afterwards(app)


@task(retries=2, backoff=0.2)
def fetch_rates() -> str:
    """Fails twice and succeeds the third time."""
    running = current_task()
    if running is not None and running.attempt < 3:
        raise ConnectionError(f"no answer in attempt {running.attempt}")
    return "1 EUR = 1.08 USD"


@task(timeout=0.3)
async def ask_slow_service() -> None:
    """Would take a minute; its timeout ends it, and it counts as failed."""
    await asyncio.sleep(60)


def without_retries() -> None:
    """Fails for good at once: nothing is repeated behind your back."""
    raise ValueError("wrong figures")


@app.post("/reports", status_code=202)
async def report(background_tasks: BackgroundTasks) -> dict[str, str]:
    return {
        "rates": background_tasks.options(parallel=True).add_task(fetch_rates).id,
        "slow": background_tasks.options(parallel=True).add_task(ask_slow_service).id,
        "figures": background_tasks.options(parallel=True).add_task(without_retries).id,
    }
