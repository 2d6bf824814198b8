"""Tasks of one request run one after the other, in the order in which they were added.

afterwards run examples.order:app
curl -X POST '127.0.0.1:8000/orders/7?quantity=2'
curl 127.0.0.1:8000/journal
"""

import asyncio

from fastapi import FastAPI

from afterwards import Afterwards, BackgroundTasks

app = FastAPI()
afterwards = Afterwards(app)
journal: list[str] = []


async def reserve(order: int, quantity: int) -> None:
    await asyncio.sleep(0.3)  # slower than what follows, which waits for it all the same
    journal.append(f"{order}: reserved {quantity}")


def write_invoice(order: int) -> None:
    journal.append(f"{order}: invoice written")


async def tell_customer(order: int) -> None:
    journal.append(f"{order}: customer told")


@app.post("/orders/{order}", status_code=202)
async def place(order: int, background_tasks: BackgroundTasks, quantity: int = 1) -> dict[str, list[str]]:
    steps = [
        background_tasks.add_task(reserve, order, quantity=quantity),
        background_tasks.add_task(write_invoice, order),
        background_tasks.add_task(tell_customer, order),
    ]
    return {"tasks": [step.id for step in steps]}


@app.get("/journal")
async def read_journal() -> list[str]:
    return journal
