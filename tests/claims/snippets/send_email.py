import os
import time

from fastapi import BackgroundTasks, FastAPI

app = FastAPI()


def send_email_sync(to: str, subject: str):
    while not os.path.exists("mail server is up"):  # a slow mail server
        time.sleep(0.01)
    with open("sent", "a") as outbox:
        outbox.write(f"{to}: {subject}\n")


@app.post("/send-email")
async def send_email(data: dict, background_tasks: BackgroundTasks):
    background_tasks.add_task(send_email_sync, data["to"], data["subject"])
    return {"message": "Email is being sent"}
