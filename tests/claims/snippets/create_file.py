from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI

app = FastAPI()


def create_file(file_name: str, content: str = "", repeat: int = 1):
    with open(file_name, "w") as file:
        file.write(content * repeat)
    print(f"created {file_name}")


@app.post("/first")
async def first(bg: BackgroundTasks, file_name: str = "example.txt", content: str = "hello"):
    bg.add_task(create_file, file_name, content=content, repeat=2)
    return {"message": f"{file_name} is being created"}


@app.post("/keyword")
async def keyword(file_name: str = "example.txt", content: str = "hello", *, bg: BackgroundTasks):
    bg.add_task(create_file, file_name, content=content, repeat=2)
    return {"message": f"{file_name} is being created"}


@app.post("/none")
async def none(file_name: str = "example.txt", content: str = "hello", bg: BackgroundTasks = None):
    bg.add_task(create_file, file_name, content=content, repeat=2)
    return {"message": f"{file_name} is being created"}


@app.post("/annotated")
async def annotated(bg: Annotated[BackgroundTasks, "tasks"], file_name: str = "example.txt", content: str = "hello"):
    bg.add_task(create_file, file_name, content=content, repeat=2)
    return {"message": f"{file_name} is being created"}


def common(bg: BackgroundTasks):
    return bg


@app.post("/dependency")
async def dependency(bg=Depends(common), file_name: str = "example.txt", content: str = "hello"):
    bg.add_task(create_file, file_name, content=content, repeat=2)
    return {"message": f"{file_name} is being created"}


async def note(text: str, **more: str):
    with open("notes", "a") as notes:  # noqa: ASYNC230
        notes.write(" ".join([text, *(f"{key}={value}" for key, value in sorted(more.items()))]) + "\n")


def broken(text: str):
    raise ValueError(f"{text} failed")


@app.post("/several")
async def several(bg: BackgroundTasks):
    bg.add_task(note, "first")
    bg.add_task(broken, "second")
    bg.add_task(note, text="third", func="f", self="s")
    return {"message": "ok"}
