"""What may come in: decisions at their edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterwards._domain.limits import (
    Limits,
    Quota,
    Room,
    TypeVerdict,
    Usage,
    ask_disk,
    ask_quota,
    default_reserve,
    is_pattern,
    judge_declared,
    judge_type,
    matches,
    refusal,
)

FEW = st.integers(0, 20)


@pytest.mark.parametrize(
    ("stored", "under_way", "asked", "room"),
    [
        (60, 0, 40, Room.FITS),
        (60, 0, 41, Room.FULL),
        (60, 1, 40, Room.BUSY),
        (0, 60, 40, Room.FITS),
        (0, 61, 40, Room.BUSY),
        (0, 0, 101, Room.FULL),
        (100, 0, 0, Room.FITS),
    ],
)
@pytest.mark.parametrize("unit", ["bytes", "files"])
@pytest.mark.parametrize("whose", ["owner", "total"])
def test_each_limit_holds_to_its_last_byte(stored, under_way, asked, room, unit, whose):
    """Full means that waiting for others does not help; busy means that it does."""
    setting = f"max_{whose}" + ("_files" if unit == "files" else "")
    amounts = {f"{whose}": Usage(**{unit: stored}), f"{whose}_under_way": Usage(**{unit: under_way})}

    answer = ask_quota(Quota(**{setting: 100}), Usage(**{unit: asked}), **{"total": Usage(), **amounts})

    assert answer.room is room
    assert answer.setting == ("" if room is Room.FITS else setting)


def test_nobody_has_no_quota_of_an_owner():
    """An upload that nobody owns counts for the total only."""
    quota = Quota(max_owner=10, max_total=100)

    assert ask_quota(quota, Usage(bytes=50), total=Usage(bytes=50)).room is Room.FITS
    assert ask_quota(quota, Usage(bytes=51), total=Usage(bytes=50)).setting == "max_total"


@given(limit=FEW, stored=FEW, under_way=FEW, asked=FEW)
def test_what_fits_never_exceeds_the_limit(limit, stored, under_way, asked):
    answer = ask_quota(
        Quota(max_total=limit), Usage(bytes=asked), total=Usage(bytes=stored), total_under_way=Usage(bytes=under_way)
    )

    assert (answer.room is Room.FITS) == (stored + under_way + asked <= limit)
    assert (answer.room is Room.FULL) == (stored + asked > limit)


def test_full_is_told_rather_than_busy():
    """Who waits for others and then meets a limit that never moves has waited for nothing."""
    answer = ask_quota(
        Quota(max_total=100, max_owner=10),
        Usage(bytes=20),
        total=Usage(),
        total_under_way=Usage(bytes=90),
        owner=Usage(),
    )

    assert (answer.room, answer.setting) == (Room.FULL, "max_owner")
    assert refusal(answer, Usage(bytes=20)).code == "quota_exceeded"


def test_the_message_has_the_values():
    answer = ask_quota(Quota(max_owner=1000), Usage(bytes=600), total=Usage(), owner=Usage(bytes=500))

    assert str(refusal(answer, Usage(bytes=600))).startswith(
        "500 bytes of yours are stored here, at most 1,000 may be (max_owner), and this upload needs 600."
    )


@pytest.mark.parametrize(
    ("free", "under_way", "asked", "room"),
    [(110, 0, 10, Room.FITS), (110, 1, 10, Room.BUSY), (110, 0, 11, Room.FULL), (99, 0, 0, Room.FULL)],
)
def test_the_reserve_of_a_disk_is_never_used(free, under_way, asked, room):
    assert ask_disk(free=free, reserve=100, under_way=under_way, asked=asked) is room


def test_a_small_disk_has_a_small_reserve():
    """A quarter of a gigabyte on a disk of 16 MiB would refuse everything."""
    assert default_reserve(1 << 40) == 256 << 20
    assert default_reserve(16 << 20) == (16 << 20) // 20


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ("image/png", TypeVerdict.TAKEN),
        ("application/pdf", TypeVerdict.TAKEN),
        ("image/svg+xml", TypeVerdict.DENIED),
        ("text/html", TypeVerdict.NOT_ACCEPTED),
        (None, TypeVerdict.NOT_ACCEPTED),
    ],
)
def test_only_the_bytes_make_a_file_acceptable(found, verdict):
    """What client and name say is asked by `mismatch` and by nothing else."""
    limits = Limits(accept=("image/*", "application/pdf"), deny=("image/svg+xml",))

    assert judge_type(limits, found, declared="image/png", name="x.png") is verdict


def test_bytes_that_say_nothing_can_be_accepted_by_name():
    limits = Limits(accept=("application/octet-stream",))

    assert judge_type(limits, None, declared=None, name=None) is TypeVerdict.TAKEN
    assert judge_type(Limits(accept=("*/*",)), None, declared=None, name=None) is TypeVerdict.TAKEN
    assert judge_type(Limits(), None, declared=None, name=None) is TypeVerdict.TAKEN


@pytest.mark.parametrize(
    ("declared", "verdict"),
    [
        (None, TypeVerdict.TAKEN),
        ("application/octet-stream", TypeVerdict.TAKEN),
        ("IMAGE/PNG; charset=x", TypeVerdict.TAKEN),
        ("text/html", TypeVerdict.NOT_ACCEPTED),
        ("image/gif", TypeVerdict.DENIED),
    ],
)
def test_a_declared_type_refuses_only_when_it_is_clear(declared, verdict):
    """A client that says nothing is asked again by its bytes."""
    assert judge_declared(Limits(accept=("image/*",), deny=("image/gif",)), declared) is verdict


def test_a_pattern_is_a_type_a_family_or_all():
    assert all(is_pattern(one) for one in ("image/png", "image/*", "*/*", "application/vnd.ms-excel", "image/svg+xml"))
    assert not any(
        is_pattern(one) for one in ("png", ".png", "image", "image/", "*", "*/png", "im*/png", "image/p*", 1)
    )
    assert matches("image/png", ("image/*",))
    assert not matches("image/png", ("text/*", "image/gif"))
