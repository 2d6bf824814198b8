"""How long a client is waited for: never longer than one stall, and always as long as its rate earns."""

from afterwards._domain.pace import Pace

PACE = Pace(stall=30.0, rate=1_000.0, grace=20.0)


def test_a_client_that_sends_nothing_gets_the_grace():
    assert PACE.patience(0, 0.0) == 20.0
    assert PACE.patience(0, 20.0) == 0.0


def test_what_was_sent_earns_time():
    assert PACE.patience(5_000, 15.0) == 10.0
    assert PACE.patience(5_000, 26.0) == -1.0


def test_one_stall_is_the_most():
    assert PACE.patience(10**9, 0.0) == 30.0
