"""One file per peer: the smallest program in which a peer does what Afterwards does.

Each is run as `python -m benchmarks.peers.NAME VERB`, in the peers' own environment, with the folder of the measurement
and the address of its server (Redis, PostgreSQL) in the environment: see `command.py` for the verbs.
"""
