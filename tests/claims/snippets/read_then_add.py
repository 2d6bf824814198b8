from fastapi import BackgroundTasks, FastAPI, UploadFile

app = FastAPI()


def heavy_processing(content: bytes):
    with open("processed", "ab") as file:
        file.write(content)


@app.post("/upload")
async def upload(file: UploadFile, background_tasks: BackgroundTasks):
    content = await file.read()
    background_tasks.add_task(heavy_processing, content)
    return {"message": "processing started"}
