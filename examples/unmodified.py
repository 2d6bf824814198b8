"""A program that has never heard of Afterwards. Started with `afterwards run`, its tasks survive a crash.

afterwards run examples.unmodified:app
"""

import asyncio
import logging

from fastapi import BackgroundTasks, FastAPI, UploadFile

app = FastAPI()
logger = logging.getLogger(__name__)


async def count_words(file: UploadFile) -> int:
    words = len((await file.read()).split())
    await asyncio.sleep(1)
    logger.info("%s has %d words", file.filename, words)
    return words


@app.post("/texts", status_code=202)
async def take_text(file: UploadFile, background_tasks: BackgroundTasks) -> dict[str, str]:
    background_tasks.add_task(count_words, file)
    return {"message": "thank you"}
