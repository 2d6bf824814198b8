from fastapi import BackgroundTasks, FastAPI, UploadFile

app = FastAPI()


async def measure(file: UploadFile) -> int:
    total = 0
    while chunk := await file.read(1 << 20):
        total += len(chunk)
    return total


@app.post("/upload")
async def upload(file: UploadFile, background_tasks: BackgroundTasks):
    background_tasks.add_task(measure, file)
    return {"message": "processing started"}
