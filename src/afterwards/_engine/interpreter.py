"""Settings of Python itself that decide how soon a busy server gets to each request (docs/decisions 0006 and 0007)."""

import gc
import sys

_DEFAULT = 0.005  # seconds after which Python takes the interpreter from a thread when another waits for it
SWITCH = 0.0003  # what it is set to
_FEW = 1_000  # objects that Python 3.12 sets aside by itself; a program that does so sets aside tens of thousands


def tune_interpreter() -> None:
    """Let threads wait less for each other and for the garbage collector; what a program has chosen itself is kept.

    A `def` task that computes holds up each step of the event loop by the switch interval. What is alive now, mostly
    modules and classes, is never looked at again for circles of garbage.
    """
    if sys.getswitchinterval() == _DEFAULT:
        sys.setswitchinterval(SWITCH)
    if gc.isenabled() and gc.get_freeze_count() < _FEW:
        gc.collect()
        gc.freeze()
