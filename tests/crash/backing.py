"""Makes backups without end, each time in a child to be killed: `python -m crash.backing TARGET`.

For each line on standard input a child begins, and its process id is printed. A number in the line: the child makes one
backup, and kills itself before so many calls that reach the disk have been made. A fork, because an interpreter takes
a second to start; this process has neither threads nor an open database.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from afterwards._cli.backup import backed_up
from afterwards._files.disk import Disk


def dying(call: Any, left: list[int]) -> Any:
    def counted(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments)

    return counted


def back_up(target: Path, calls: str) -> None:
    data = Path(os.environ["AFTERWARDS_DATA"])
    while not calls:
        backed_up(data, target, copy=True, as_json=True)
    left = [int(calls)]
    for name in ("sync_file", "sync_folder", "rename", "make_folder"):
        setattr(Disk, name, dying(getattr(Disk, name), left))
    backed_up(data, target, copy=True, as_json=True)


def main(target: str) -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            back_up(Path(target), line.strip())
            os._exit(0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print("dead" if os.WIFSIGNALED(status) else f"ended with {os.waitstatus_to_exitcode(status)}", flush=True)


main(sys.argv[1])
