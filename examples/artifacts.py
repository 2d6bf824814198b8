"""Tasks make files, and a later task takes them without a copy.

afterwards run examples.artifacts:app
curl -F file=@README.md 127.0.0.1:8000/texts             # answers with the task; its document shows the file
curl -X POST 127.0.0.1:8000/archives/ID-OF-THE-FILE
"""

import csv
import io
import shutil
from collections import Counter
from pathlib import Path

from fastapi import FastAPI, UploadFile

from afterwards import Afterwards, BackgroundTasks, File, output, workdir

app = FastAPI()
afterwards = Afterwards(app)


def count_words(file: UploadFile) -> File:
    """Write a table of the words in a text."""
    words = Counter(file.file.read().decode().lower().split())
    with output("words.csv", content_type="text/csv") as table:
        lines = csv.writer(text := io.TextIOWrapper(table, newline=""))
        lines.writerows(words.most_common())
        text.detach()  # which also writes what it still holds
    return table.file


def pack(table: File) -> Path:
    """Archive a file with a tool that wants folders and paths."""
    folder = workdir() / "archive"
    folder.mkdir()
    shutil.copy(table.path(), folder / "words.csv")
    return Path(shutil.make_archive(str(workdir() / "words"), "zip", folder))


@app.post("/texts", status_code=202)
async def take_text(file: UploadFile, background_tasks: BackgroundTasks) -> dict[str, str]:
    return {"status": background_tasks.add_task(count_words, file).url}


@app.post("/archives/{file}", status_code=202)
async def make_archive(file: str, background_tasks: BackgroundTasks) -> dict[str, str]:
    table = await afterwards.file(file)  # answers 404 when there is none
    return {"status": background_tasks.add_task(pack, table).url}
