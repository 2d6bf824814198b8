"""`python -m afterwards` is the command `afterwards`."""

from afterwards.cli import main

main()
