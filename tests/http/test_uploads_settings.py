"""What a program, an endpoint and the environment say about files coming in."""

from datetime import timedelta
from typing import Annotated

import pytest
from fastapi import Body, Depends, Header, UploadFile
from starlette.requests import Request

from afterwards import Afterwards, Uploads, uploads
from afterwards._domain.limits import Limits, Quota
from afterwards._web.settings import declared_by


def test_nothing_but_the_number_of_files_is_limited_by_default():
    """A program that says nothing takes what it took before."""
    said = Uploads()

    assert said.limits == Limits(max_files=1_000)
    assert said.quota == Quota()
    assert not said.quota.asks
    assert not said.says_something


def test_sizes_are_numbers_or_texts():
    said = Uploads(max_file="5 MB", max_request=7, max_owner="2 GiB", max_total="1 TB", reserve="64 MiB")

    assert said.limits == Limits(max_file=5_000_000, max_request=7)
    assert said.quota == Quota(max_owner=2 << 30, max_total=10**12)
    assert said.reserved == 64 << 20
    assert said.says_something


def test_what_the_program_leaves_open_the_environment_may_say(monkeypatch):
    """Who runs a program limits it without changing it; what the program says goes before."""
    environment = {
        "MAX_FILE": "5 MB",
        "MAX_FILES": "3",
        "MAX_OWNER_FILES": "10",
        "ACCEPT": "image/*, application/pdf",
        "DENY": "image/svg+xml",
        "MISMATCH": "refuse",
        "RESERVE": "1048576",
        "MAX_REQUEST": "",
    }
    for name, value in environment.items():
        monkeypatch.setenv(f"AFTERWARDS_{name}", value)

    said = Uploads(max_files=4)

    assert said.limits == Limits(
        max_file=5_000_000,
        max_files=4,
        accept=("image/*", "application/pdf"),
        deny=("image/svg+xml",),
        mismatch="refuse",
    )
    assert said.quota == Quota(max_owner_files=10)
    assert said.reserved == 1 << 20


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("MAX_FILE", "ten MB", r"AFTERWARDS_MAX_FILE='ten MB': bytes from 0"),
        ("MAX_FILES", "many", r"AFTERWARDS_MAX_FILES='many': a whole number from 0"),
        ("ACCEPT", "png", r"AFTERWARDS_ACCEPT='png': 'png' is no media type"),
        ("MISMATCH", "maybe", r'AFTERWARDS_MISMATCH=\'maybe\': "allow" or "refuse"'),
    ],
)
def test_a_wrong_environment_is_named(monkeypatch, name, value, wanted):
    monkeypatch.setenv(f"AFTERWARDS_{name}", value)

    with pytest.raises(ValueError, match=wanted):
        Uploads()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"files": "private"}, r"Afterwards\(files='private'\): \"open\" or \"signed\" is wanted here"),
        (
            {"prefix": "afterwards"},
            r"Afterwards\(prefix='afterwards'\): a path, such as \"/afterwards\", is wanted here",
        ),
        (
            {"keep": timedelta(0)},
            r"Afterwards\(keep=.*\): a timedelta longer than nothing, such as timedelta\(days=7\)",
        ),
        ({"keep": "7d"}, r"Afterwards\(keep='7d'\): a timedelta"),
        ({"concurrency": 0}, r"Afterwards\(concurrency=0\): a whole number from 1, such as 100, is wanted here"),
        ({"threads": "4"}, r"Afterwards\(threads='4'\): a whole number from 1"),
        ({"drain": -1}, r"Afterwards\(drain=-1\): a number of seconds from 0, such as 10, is"),
        (
            {"uploads": {"max_file": 3}},
            r"Afterwards\(uploads={'max_file': 3}\): Uploads\(...\), .* is wanted here, not dict",
        ),
    ],
)
def test_what_an_installation_cannot_use_is_named(given, wanted):
    """What was given, what is wanted and an example, in a sentence."""
    with pytest.raises((ValueError, TypeError), match=wanted):
        Afterwards(**given)


def _takes_a_body(item: Annotated[dict, Body()]) -> None: ...
def _takes_a_file(file: UploadFile) -> None: ...
def _hides_a_body(inner: Annotated[None, Depends(_takes_a_body)]) -> None: ...


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"max_file": "5 parsecs"}, r"Uploads\(max_file='5 parsecs'\): bytes from 0 .* are wanted here"),
        ({"max_file": -1}, r"Uploads\(max_file=-1\)"),
        ({"max_request": 1.5}, r"Uploads\(max_request=1.5\)"),
        ({"max_files": None}, r"Uploads\(max_files=None\): a whole number from 0"),
        ({"max_files": True}, r"Uploads\(max_files=True\): a whole number from 0"),
        ({"max_owner_files": "3"}, r"Uploads\(max_owner_files='3'\): a whole number"),
        ({"reserve": "1 %"}, r"Uploads\(reserve='1 %'\)"),
        ({"accept": "image/*"}, r"Uploads\(accept='image/\*'\): media types such as \["),
        ({"accept": ["image"]}, r"'image' is no media type"),
        ({"deny": [".exe"]}, r"'.exe' is no media type"),
        ({"deny": None}, r"Uploads\(deny=None\)"),
        ({"mismatch": True}, r'Uploads\(mismatch=True\): "allow" or "refuse"'),
        ({"before": Depends(_takes_a_body)}, r"Uploads\(before=.*a list such as \[Depends\(current_user\)\]"),
        ({"before": [_takes_a_file]}, r"is no Depends\(...\) or Security\(...\)"),
        ({"before": [Depends(_takes_a_body)]}, r"_takes_a_body takes item from the body"),
        ({"before": [Depends(_hides_a_body)]}, r"_takes_a_body takes item from the body"),
        ({"owner": Depends(_takes_a_file)}, r"_takes_a_file takes file from the body"),
        ({"owner": "ann"}, r"Uploads\(owner='ann'\): Depends\(...\), or a function"),
        ({"allow": "all"}, r"Uploads\(allow='all'\): Depends"),
        ({"scan": "clamscan"}, r"Uploads\(scan='clamscan'\): a function"),
    ],
)
def test_a_wrong_setting_is_named(given, wanted):
    """At the start of the program, not at the first upload."""
    with pytest.raises(ValueError, match=wanted):
        Uploads(**given)


def test_an_endpoint_says_only_what_differs():
    general = Uploads(max_file="5 MB", max_files=3, accept=["image/*"])

    @uploads(max_file=None, accept=["application/pdf"])
    def endpoint(file: UploadFile) -> None: ...

    assert declared_by(endpoint).limits(general) == Limits(max_file=None, max_files=3, accept=("application/pdf",))


def test_an_endpoint_is_named_with_its_mistake():
    with pytest.raises(ValueError, match=r"@uploads\(max_file='big'\): bytes from 0"):
        uploads(max_file="big")
    with pytest.raises(ValueError, match=r"right above the function"):
        uploads(max_file=1)("not a function")


def test_dependencies_may_ask_for_headers_and_other_dependencies():
    def user(token: Annotated[str, Header()], request: Request) -> str:
        return token

    def owner(name: Annotated[str, Depends(user)]) -> str:
        return name

    said = Uploads(before=[Depends(user)], owner=Depends(owner))

    assert len(said.before) == 1


def test_settings_are_values():
    """Nobody changes the limits of a running program by accident."""
    said = Uploads(max_file=5)

    with pytest.raises(AttributeError):
        said.max_file = 6
    assert said == Uploads(max_file="5 B")
