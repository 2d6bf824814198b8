"""Signed links: good for one file, one way of showing it and one time, and for nothing that can be made of them."""

from datetime import timedelta
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterwards._domain import links
from afterwards._domain.ids import new_id
from afterwards._domain.signing import Signer
from afterwards.errors import LinkExpired, LinkRefused

SIGNER = Signer(b"1" * 32)
FILE = new_id()
NOW = 1_700_000_000_000_000
SECOND = 1_000_000


def made(**changes):
    settings = {"expires_in": 60.0, "inline": False, "now": NOW, **changes}
    return links.make(SIGNER, FILE, **settings)


def test_a_link_is_good_until_its_time_and_a_little_longer_for_clocks_that_differ():
    query = made()

    assert links.is_link(query)
    for later in (0, 60, 60 + links.SKEW):
        links.check(SIGNER, FILE, query, now=NOW + later * SECOND)
    with pytest.raises(LinkExpired, match=r"2023-11-14 22:14:20 UTC"):
        links.check(SIGNER, FILE, query, now=NOW + (61 + links.SKEW) * SECOND)


def test_a_link_made_by_a_clock_that_is_ahead_is_good_at_once():
    links.check(SIGNER, FILE, made(now=NOW + 3600 * SECOND), now=NOW)


@pytest.mark.parametrize("inline", [False, True])
def test_nothing_of_a_link_can_be_changed(inline):
    query = made(inline=inline)
    parts = {name: values[0] for name, values in parse_qs(query).items()}
    signature, expires = parts["signature"], parts["expires"]
    other = {**parts, "inline": "1"} if not inline else {key: parts[key] for key in ("expires", "signature")}
    changed = [
        urlencode({**parts, "expires": int(expires) + 1}),
        urlencode({**parts, "expires": "9" * 15}),
        urlencode({**parts, "expires": "9" * 16}),
        urlencode({**parts, "expires": f"0{expires}"}),
        urlencode({**parts, "expires": f"+{expires}"}),
        urlencode({**parts, "expires": f" {expires}"}),
        urlencode({**parts, "expires": expires.replace("1", "\u0661")}),
        urlencode({**parts, "expires": ""}),
        urlencode({**parts, "signature": signature[:-1]}),
        urlencode({**parts, "signature": signature.upper() + "0"}),
        urlencode({**parts, "signature": "0" * 32}),
        urlencode({**parts, "signature": ""}),
        urlencode({**parts, "signature": "é\ud800".encode("utf-8", "surrogatepass")}),
        urlencode({**parts, "inline": "0"}),
        urlencode({**parts, "inline": ""}),
        urlencode(other),
        f"{query}&expires={int(expires) + 9999}",
        f"expires={int(expires) + 9999}&{query}",
        f"{query}&signature={signature}",
        f"{query}&inline=1&inline=1",
        f"signature={signature}",
        f"expires={expires}",
        "signature=&" * 30,
    ]

    links.check(SIGNER, FILE, query, now=NOW)
    for text in changed:
        assert links.is_link(text), text
        with pytest.raises(LinkRefused):
            links.check(SIGNER, FILE, text, now=NOW)


def test_a_link_opens_no_other_file_and_no_other_service():
    query = made()

    with pytest.raises(LinkRefused):
        links.check(SIGNER, new_id(), query, now=NOW)
    with pytest.raises(LinkRefused):
        links.check(Signer(b"2" * 32), FILE, query, now=NOW)


def test_what_signs_a_task_or_a_function_opens_no_file():
    """The key is the same, so the texts must differ in kind."""
    signatures = {
        SIGNER.function(f"{FILE}\n1\nattachment"),
        SIGNER.task(FILE, "1", "attachment"),
        SIGNER.link(FILE, 1, inline=False),
        SIGNER.link(FILE, 1, inline=True),
    }

    assert len(signatures) == 4


def test_what_others_add_to_a_link_changes_nothing():
    """Mail programs add parameters to count clicks."""
    links.check(SIGNER, FILE, f"utm_source=mail&{made()}&x=1", now=NOW)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), timedelta(0), 400_000_000])
def test_a_time_no_link_can_have_is_refused(bad):
    with pytest.raises(ValueError, match="expires_in"):
        links.lifetime(bad)


def test_times_are_seconds_or_a_timedelta():
    assert links.lifetime(timedelta(minutes=1)) == links.lifetime(60) == 60.0


@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_no_query_is_more_than_refused(query):
    for text in (query, f"expires=1&signature={query}", f"expires={query}&signature=a", f"{made()}&inline={query}"):
        links.is_link(text)
        with pytest.raises((LinkRefused, LinkExpired)):
            links.check(SIGNER, FILE, text, now=NOW)
