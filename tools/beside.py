"""Runs make targets beside each other: most tests wait for disks and processes, not for the processor.

    python tools/beside.py TARGET TARGET

The output of each is kept and shown when it has ended, in the order given. Fails when one of them did.
"""

import shutil
import subprocess
import sys
import tempfile


def main(targets: list[str]) -> int:
    """Run them; return the exit status of the first that failed."""
    started = []
    for target in targets:
        output = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as its process
        command = ["make", "--no-print-directory", target]
        started.append((target, output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)))
    status = 0
    for target, output, process in started:
        code = _end(process)
        print(f"== make {target}", flush=True)
        output.seek(0)
        shutil.copyfileobj(output, sys.stdout.buffer)
        sys.stdout.flush()
        status = status or code
    return status


def _end(process: "subprocess.Popen[bytes]") -> int:
    """Wait, also after an interrupt: the processes have got it too, and show what they were in."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
