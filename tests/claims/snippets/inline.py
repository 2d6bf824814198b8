from fastapi import FastAPI, UploadFile

app = FastAPI()


@app.post("/upload")
async def upload(file: UploadFile):
    content = await file.read()
    heavy_processing(content)  # noqa: F821 - as it was printed
    return {"message": "processing done"}
