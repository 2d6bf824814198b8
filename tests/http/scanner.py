"""A scanner as a program: reads a file from its input, exits with 0 when it is clean and with 1 when it is not."""

import sys

MARK = b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE"

if __name__ == "__main__":
    if MARK in sys.stdin.buffer.read():
        print("EICAR test string FOUND")
        sys.exit(1)
