"""What every exception of Afterwards is; `errors.py` has them all."""


class Error(Exception):
    """The base of every exception raised by Afterwards."""

    code = "error"
