"""Several uploads of one request go to one task, each with its name, type and size, also after a restart.

afterwards run examples.several_files:app
curl -F files=@README.md -F files=@LICENSE 127.0.0.1:8000/albums/holiday
"""

from fastapi import FastAPI, UploadFile

from afterwards import Afterwards, BackgroundTasks

app = FastAPI()
afterwards = Afterwards(app)


async def bind(album: str, files: list[UploadFile]) -> dict[str, list[dict[str, str | int | None]]]:
    pages = [
        {"name": file.filename, "type": file.content_type, "size": file.size, "read": len(await file.read())}
        for file in files
    ]
    return {album: pages}


@app.post("/albums/{album}", status_code=202)
async def make_album(album: str, files: list[UploadFile], background_tasks: BackgroundTasks) -> dict[str, str]:
    return {"task": background_tasks.add_task(bind, album, files).id}
