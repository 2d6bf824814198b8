import os
import time

from fastapi import BackgroundTasks, FastAPI

app = FastAPI()


def _until_let_go(where: str):
    with open(f"{where} began", "a"):
        pass
    while not os.path.exists("let go"):
        time.sleep(0.01)


async def blocks_the_loop():
    _until_let_go("async")


def blocks_a_thread():
    _until_let_go("def")


@app.post("/async")
async def add_async(background_tasks: BackgroundTasks):
    background_tasks.add_task(blocks_the_loop)


@app.post("/def")
async def add_def(background_tasks: BackgroundTasks):
    background_tasks.add_task(blocks_a_thread)


def in_the_endpoint(pid: int):
    with open("pids", "a") as file:
        file.write(f"{pid} {os.getpid()}\n")


@app.post("/pid")
async def pid(background_tasks: BackgroundTasks):
    background_tasks.add_task(in_the_endpoint, os.getpid())
    return {"pid": os.getpid()}


@app.get("/ping")
def ping():
    return "pong"
