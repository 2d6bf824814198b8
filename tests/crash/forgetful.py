"""The control: the same server with the framework's own background tasks, which die with their process."""

from fastapi import BackgroundTasks, FastAPI, UploadFile

from crash import work

app = FastAPI()


@app.post("/plain", status_code=202)
async def plain(key: str, pause: float, tasks: BackgroundTasks) -> str:
    tasks.add_task(work.plain, key, pause)
    return key


@app.post("/coroutine", status_code=202)
async def coroutine(key: str, pause: float, tasks: BackgroundTasks) -> str:
    tasks.add_task(work.coroutine, key, pause)
    return key


@app.post("/upload", status_code=202)
async def upload(key: str, file: UploadFile, tasks: BackgroundTasks) -> str:
    tasks.add_task(work.plain, key, 0.05)
    return key
