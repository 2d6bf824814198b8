"""`kill -9` of the server at random moments under load: what was accepted must be done, once unless interrupted.

Clients keep a ledger of every task whose 202 they read. After each kill the server starts again on the same folder.
Time to move is from that start to the next run of a task that the kill interrupted. In the end every task of the ledger
must have succeeded, none may be open, and a body that ran more often than once must have that many interruptions on
record.

Only the process is killed, not the machine: what a disk does in a power cut is not measured here.
"""

import asyncio
import random
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks import ledger
from benchmarks.app_data import data_of
from benchmarks.children import Child, ChildFailed, answers, free_port
from benchmarks.figures import Part, percentile
from benchmarks.run import WEB_START, Run, say
from benchmarks.task import Trace, runs, traces
from benchmarks.wire import Connection

CLIENTS = 8
PAUSE = 0.01  # seconds between an answer and the next request of a client: enough load, a history that can be checked
LONGEST = 0.6  # seconds a server lives at most once it answers
PATIENCE = 10.0  # seconds a patient life waits for the first task left behind
FINISH = 60.0  # seconds for what is open after the last start
SPAN = 1_000_000  # numbers a client may use in one life


def measure(run: Run) -> Part:
    part = Part(name="crash")
    kills = run.size(200, 20)
    chance = random.Random(run.seed)
    with run.folder("crash") as folder:
        accepted: dict[int, str] = {}
        starts: list[int] = []  # ns, of each life in turn
        port = free_port()
        for life in range(kills):
            _one_life(run, folder, port, chance.uniform(0.05, LONGEST), accepted, starts)
            if (life + 1) % 20 == 0:
                say(f"crash {life + 1}/{kills}: {len(accepted)} accepted, {runs(folder)} runs begun")
        starts.append(time.monotonic_ns())
        with run.ours(folder, "serve", str(port)) as child:
            child.until(lambda: answers(port), within=WEB_START, what="accepting connections")
            finish = ledger.settled(data_of(folder), child, within=FINISH)
        _judge(part, folder, accepted)
        again = _begun_again(traces(folder), starts)
    part.remarks.append(f"seed {run.seed}; after the last kill everything was final within {finish:.1f} s")
    part.remarks.append(f"no loss in {kills} kills would bound its chance per kill below {3 / kills:.1%} (95 %, 3/n)")
    if not again:
        raise ChildFailed("no kill met a running task, so nothing was shown: was the load too low?")
    part.add("afterwards", "restart to interrupted task, p50", "s", [percentile(again, 0.5)])
    part.add("afterwards", "restart to interrupted task, p95", "s", [percentile(again, 0.95)])
    part.promise(f"slowest of {len(again)} interrupted tasks to run again after a restart", max(again), "s", at_most=2)
    return part


def _one_life(run: Run, folder: Path, port: int, lives: float, accepted: dict[int, str], starts: list[int]) -> None:
    """Start, load, kill. Every second life is patient: it begins to count when a task left behind has begun again.

    The others are killed in their recovery as well, which a server that is always waited for never meets.
    """
    life, begun = len(starts), runs(folder)
    patient = _is_patient(life) and ledger.still_open(data_of(folder)) > 0
    starts.append(time.monotonic_ns())
    child = run.ours(folder, "serve", str(port))
    try:
        child.until(lambda: answers(port), within=WEB_START, what="accepting connections", every=0.005)
        if patient:
            oldest = life * CLIENTS * SPAN
            child.until(
                lambda: any(trace.number < oldest for trace in traces(folder)[begun:]),
                within=PATIENCE,
                what="running a task that the kill left behind",
            )
        asyncio.run(_load_until_killed(port, child, lives, accepted, life))
    finally:
        child.kill()


def _is_patient(life: int) -> bool:
    return life % 2 == 1


async def _load_until_killed(port: int, child: Child, lives: float, accepted: dict[int, str], life: int) -> None:
    clients = [asyncio.create_task(_client(port, life * CLIENTS + index, accepted)) for index in range(CLIENTS)]
    await asyncio.sleep(lives)
    child.process.kill()
    await asyncio.gather(*clients)


def _begun_again(found: list[Trace], starts: list[int]) -> list[float]:
    """Seconds from a patient start to the next run of each task that the kill before it interrupted.

    Counted from the first start after the interrupted run, through further kills if need be: what comes back slowly
    counts in full.
    """
    seconds = []
    last: dict[int, int] = {}
    for trace in found:
        if trace.number in last:
            life = bisect_right(starts, last[trace.number])
            if life < len(starts) and _is_patient(life) and trace.began > starts[life]:
                seconds.append((trace.began - starts[life]) / 1e9)
        last[trace.number] = trace.began
    return seconds


async def _client(port: int, client: int, accepted: dict[int, str]) -> None:
    """Post numbered tasks until the server is gone; only what was answered 202 enters the ledger."""
    number = client * SPAN
    try:
        connection = await Connection.to(port)
        while True:
            number += 1
            answer = await connection.request("POST", f"/linger/{number}")
            if answer.status == 202:
                accepted[number] = answer.json()["id"]
            await asyncio.sleep(PAUSE)
    except (OSError, asyncio.IncompleteReadError):
        return  # the kill: this request has no answer, so it is not in the ledger


def _judge(part: Part, folder: Path, accepted: dict[int, str]) -> None:
    """Compare the ledger, the bodies' own log and the database."""
    with closing(ledger.open_database(data_of(folder))) as connection:
        rows: list[Any] = connection.execute("SELECT id, state, interruptions FROM task").fetchall()
        query = "SELECT task.id, count(*) FROM attempt JOIN task ON task.seq = attempt.task GROUP BY task.seq"
        counted: list[Any] = connection.execute(query).fetchall()
        ended: list[Any] = connection.execute("SELECT state, count(*) FROM attempt GROUP BY state").fetchall()
    tasks = {id: (state, interruptions) for id, state, interruptions in rows}
    attempts: dict[str, int] = dict(counted)
    begun = Counter(trace.number for trace in traces(folder))
    lost = [number for number, id in accepted.items() if id not in tasks or not begun[number]]
    unfinished = [id for id in accepted.values() if id in tasks and tasks[id][0] != "succeeded"]
    stuck = [id for id, (state, _) in tasks.items() if state in ledger.OPEN]
    repeats = {number: times for number, times in begun.items() if times > 1}
    unexplained = [
        number for number, times in repeats.items() if number in accepted and times - 1 > tasks[accepted[number]][1]
    ]
    beyond = [number for number, id in accepted.items() if begun[number] > attempts.get(id, 0)]
    findings: dict[str, Sequence[object]] = {
        "accepted tasks lost": lost,
        "accepted tasks that did not succeed": unfinished,
        "tasks stuck": stuck,
        "repeats without an interruption on record": unexplained,
        "runs without an attempt on record": beyond,
    }
    for what, found in findings.items():
        part.promise(what, len(found), "", at_most=0)
        if found:
            part.remarks.append(f"{what}: {found[:5]}")
    part.remarks.append(
        f"{len(accepted)} accepted, {len(tasks)} stored, {len(repeats)} ran again; attempts ended: {dict(ended)}"
    )
