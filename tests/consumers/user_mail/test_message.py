"""Who is mailed and what is said, as plain data; whatever a user may be called."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from user_mail.message import Event, Mail, Settings, Skipped, TooLateError, address_of, filled, mail_of

END = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
NOW = END - timedelta(minutes=14, seconds=50)
SETTINGS = Settings(
    domains=frozenset(["example.com", "mail.example.org"]),
    minutes=frozenset([15, 5]),
    subject="Ends at {time}",
    words="{stack}: {minutes} min, since {why}",
    zone=ZoneInfo("Europe/Berlin"),
)


def event(user_id: str = "ann@example.com", threshold: int = 15, **deadline: Any) -> Event:
    data = {
        "session": {"userId": user_id, "stackName": "office"},
        "deadline": {"at": "2026-03-02T15:00:00Z", "cause": "MAX_DURATION"} | deadline,
        "thresholdMinutes": threshold,
    }
    detail = {"metadata": {"eventId": "0" * 32}, "data": data}
    return Event.model_validate({"detail-type": "AppStream Session Expiring", "detail": detail})


def test_a_user_is_told_in_the_administrators_words() -> None:
    assert mail_of(event(), SETTINGS, NOW) == Mail(
        "Ends at 16:00 CET",
        "office: 14 min, since it reaches its maximum duration",
    )
    left = mail_of(event(cause="DISCONNECT_TIMEOUT"), SETTINGS, NOW)
    assert left.text == "office: 14 min, since nobody is connected to it"


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("ann@example.com", id="plain"),
        pytest.param("Ann.O'Neil+cad_2@Example.COM", id="what companies use"),
        pytest.param("a@mail.example.org", id="the other domain"),
        pytest.param("x" * 64 + "@example.com", id="as long as it may be"),
    ],
)
def test_addresses(address: str) -> None:
    assert address_of(event(address), SETTINGS) == address


@pytest.mark.parametrize(
    "user_id",
    [
        pytest.param("", id="UserIdMode omit"),
        pytest.param("d41d8cd98f00b204e9800998ecf8427e", id="UserIdMode hash"),
        pytest.param("EXAMPLE\\ann", id="a domain user"),
        pytest.param("ann", id="a name"),
        pytest.param("Ann <ann@example.com>", id="a display name"),
        pytest.param("ann@example.com,bob@example.com", id="a list"),
        pytest.param("ann@example.com;bob@example.com", id="a list by semicolon"),
        pytest.param("ann@example.com bob@example.com", id="two"),
        pytest.param("ann@example.com\r\nBcc: bob@example.com", id="a header"),
        pytest.param("ann@example.com\n", id="a line feed"),
        pytest.param(" ann@example.com", id="a blank"),
        pytest.param("ann@example.com\x00", id="a null"),
        pytest.param('"ann b"@example.com', id="quoted"),
        pytest.param("ann(x)@example.com", id="a comment"),
        pytest.param("ann@evil.example@example.com", id="two ats"),
        pytest.param("ann%evil.example@example.com", id="a percent route"),
        pytest.param("@evil.example:ann@example.com", id="a source route"),
        pytest.param("mailto:ann@example.com", id="a URL"),
        pytest.param("\u0430nn@example.com", id="a Cyrillic letter"),
        pytest.param("ann@ex\u0430mple.com", id="a Cyrillic domain"),
        pytest.param("ann\u202e@example.com", id="bidirectional"),
        pytest.param("ann..b@example.com", id="two dots"),
        pytest.param(".ann@example.com", id="a dot first"),
        pytest.param("ann.@example.com", id="a dot last"),
        pytest.param("ann@[127.0.0.1]", id="an address literal"),
        pytest.param("ann@localhost", id="no domain"),
        pytest.param("ann@example.com.", id="a root dot"),
        pytest.param("x" * 65 + "@example.com", id="a long local part"),
        pytest.param("ann@" + "a." * 130 + "com", id="a long address"),
    ],
)
def test_what_is_not_exactly_one_plain_address(user_id: str) -> None:
    assert address_of(event(user_id), SETTINGS) is Skipped.NO_ADDRESS


@pytest.mark.parametrize(
    "domain", ["evil.example", "sub.example.com", "example.com.evil.example", "xexample.com"]
)
def test_nobody_of_another_domain(domain: str) -> None:
    assert address_of(event(f"ann@{domain}"), SETTINGS) is Skipped.OTHER_DOMAIN


@given(
    st.builds(
        "".join, st.lists(st.sampled_from(["ann", ".", "@example.com", ",", "\n", "é", " "]) | st.text())
    )
)
def test_whoever_is_mailed_is_one_plain_address(user_id: str) -> None:
    address = address_of(event(user_id), SETTINGS)
    if not isinstance(address, Skipped):
        assert address == user_id
        assert re.fullmatch(r"[!-~]+", user_id)
        assert user_id.count("@") == 1
        assert not set(user_id) & set(',;:<>()[]"\\')


def test_other_thresholds_are_no_matter() -> None:
    assert address_of(event(threshold=60), SETTINGS) is Skipped.OTHER_THRESHOLD


@pytest.mark.parametrize(
    ("left", "minutes"),
    [(timedelta(seconds=1), "1"), (timedelta(minutes=5), "5"), (timedelta(seconds=119), "1")],
)
def test_minutes_are_those_that_are_left_when_it_is_sent(left: timedelta, minutes: str) -> None:
    mail = mail_of(event(), SETTINGS, END - left)
    assert mail.text.startswith(f"office: {minutes} min")


@pytest.mark.parametrize("late", [timedelta(), timedelta(minutes=1)])
def test_nobody_is_warned_of_what_is_over(late: timedelta) -> None:
    with pytest.raises(TooLateError):
        mail_of(event(), SETTINGS, END + late)


def test_placeholders_are_filled_once_and_nothing_else_is() -> None:
    hostile = {"stack": "{time}%s{0.__class__}${why}", "time": "16:00", "minutes": "5", "why": "x"}
    assert filled("{stack} {time} {other} {0} $time %s", hostile) == (
        "{time}%s{0.__class__}${why} 16:00 {other} {0} $time %s"
    )
