"""Makes backups without end, each time in a child to be killed: `python -m crash.backing TARGET`.

For each line on standard input a child begins, and its process id is printed. A fork, because an interpreter takes a
second to start; this process has neither threads nor an open database.
"""

import os
import sys
from pathlib import Path

from afterwards._cli.backup import backed_up


def main(target: str) -> None:
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            while True:
                backed_up(Path(os.environ["AFTERWARDS_DATA"]), Path(target), copy=True, as_json=True)
        print(child, flush=True)
        os.waitpid(child, 0)
        print("dead", flush=True)


main(sys.argv[1])
