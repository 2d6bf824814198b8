from fastapi import BackgroundTasks, FastAPI, UploadFile

app = FastAPI()


def save_file(file: UploadFile):
    with open(f"saved_{file.filename}", "wb") as target:
        target.write(file.file.read())


@app.post("/upload")
async def upload(file: UploadFile, background_tasks: BackgroundTasks):
    background_tasks.add_task(save_file, file)
    return {"message": "File upload started"}
