from fastapi import BackgroundTasks, FastAPI, UploadFile

app = FastAPI()


def process_file(file: UploadFile):
    with open("processed", "ab") as target:
        target.write(file.file.read())


@app.post("/upload")
def upload(file: UploadFile, background_tasks: BackgroundTasks):
    background_tasks.add_task(process_file, file)


async def process_later(file: UploadFile):
    content = await file.read()
    with open("processed", "ab") as target:  # noqa: ASYNC230
        target.write(content)


@app.post("/async")
async def upload_async(file: UploadFile, background_tasks: BackgroundTasks):
    background_tasks.add_task(process_later, file)
    return {"filename": file.filename}


@app.post("/many")
async def upload_many(files: list[UploadFile], background_tasks: BackgroundTasks):
    for file in files:
        background_tasks.add_task(process_file, file)
    return {"files": len(files)}


@app.post("/handmade")
async def handmade(file: UploadFile):
    background_tasks = BackgroundTasks()
    background_tasks.add_task(process_file, file)
    return {"message": "processing started"}


@app.post("/wrong")
async def wrong(file: UploadFile, background_tasks: BackgroundTasks):
    background_tasks.add_task(process_file, file.file.read())
    return {"message": "processing started"}
