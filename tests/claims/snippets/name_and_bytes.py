from fastapi import BackgroundTasks, FastAPI, UploadFile

app = FastAPI()


def save_file(filename: str, content: bytes):
    with open(f"uploaded_{filename}", "wb") as file:
        file.write(content)


@app.post("/upload")
async def upload(file: UploadFile, background_tasks: BackgroundTasks):
    content = await file.read()
    background_tasks.add_task(save_file, file.filename, content)
    return {"message": "File received, saving in the background"}
