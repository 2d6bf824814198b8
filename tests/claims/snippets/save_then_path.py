from fastapi import BackgroundTasks, FastAPI, UploadFile

app = FastAPI()


def process_file(path: str):
    with open(path, "rb") as source, open("processed", "ab") as target:
        target.write(source.read())


@app.post("/upload")
async def upload(file: UploadFile, background_tasks: BackgroundTasks):
    path = f"saved_{file.filename}"
    with open(path, "wb") as target:  # noqa: ASYNC230
        target.write(await file.read())
    background_tasks.add_task(process_file, path)
    return {"message": "processing started"}
