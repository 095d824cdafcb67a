"""What the hours with nobody connected cost: by hand for every fleet type; and what a broken file says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appstream_auditor.money import CANNOT_KNOW, Money, PricesError, money_of, read_prices, remarks, rounded
from session_auditor.model import Life
from tests.shared.history import SCOPE

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
NOW = START + timedelta(hours=12)
LARGE, MEDIUM = "stream.standard.large", "stream.standard.medium"
# A large instance costs 0.60 running and 0.12 stopped, a medium one 0.30 and 0.12.
PRICES = read_prices(
    b"""{"version": 1, "currency": "EUR", "note": "of our contract",
         "prices": {"stream.standard.large": {"running": 0.60, "stopped": "0.12"},
                    "stream.standard.medium": {"running": 0.3, "stopped": 0.12}}}"""
)


def life(
    fleet_type: str,
    lasted: int,
    disconnected: int,
    never: int = 0,
    *,
    instance_type: str = LARGE,
    max_sessions: int = 0,
) -> Life:
    """A session that lasted so many minutes, of which nobody was connected for so many."""
    return Life(
        session_id="s-1",
        scope=SCOPE,
        start=START,
        first_seen=START,
        end=START + timedelta(minutes=lasted),
        fleet_type=fleet_type,
        instance_type=instance_type,
        max_sessions=max_sessions,
        connected_seconds=60 * (lasted - disconnected - never),
        disconnected_seconds=60 * disconnected,
        never_connected_seconds=60 * never,
    )


@pytest.mark.parametrize(
    ("session", "alone", "avoidable"),
    [
        # 2 h x 0.60; 2 h x (0.60 - 0.12)
        pytest.param(life("ON_DEMAND", 480, 120), "1.20", "0.96", id="on-demand"),
        # 90 min, some of them before anybody came: 1.5 h x 0.30; 1.5 h x (0.30 - 0.12)
        pytest.param(
            life("ON_DEMAND", 480, 60, 30, instance_type=MEDIUM),
            "0.45",
            "0.27",
            id="on-demand, never connected",
        ),
        # A quarter of each: 2 h x 0.60 / 4; 2 h x 0.48 / 4
        pytest.param(life("ON_DEMAND", 480, 120, max_sessions=4), "0.30", "0.24", id="on-demand, four share"),
        pytest.param(life("ON_DEMAND", 480, 120, max_sessions=1), "1.20", "0.96", id="on-demand, one of one"),
        pytest.param(life("ALWAYS_ON", 480, 120), "1.20", "0", id="always-on, where no instance stops"),
        pytest.param(life("ALWAYS_ON", 480, 120, max_sessions=8), "0.15", "0", id="always-on, eight share"),
        # 60 min of 100: without them 40 would be charged. 1 h x 0.60
        pytest.param(life("ELASTIC", 100, 60), "0.60", "0.60", id="elastic"),
        # 40 min of 50: without them 10 would be charged as 15, so 35 are avoidable: 35/60 x 0.60
        pytest.param(life("ELASTIC", 50, 40), "0.40", "0.35", id="elastic, down to the least of 15 min"),
        # 14 min are charged as 15, however many of them were used.
        pytest.param(life("ELASTIC", 14, 10), "0.10", "0", id="elastic, below the least"),
        pytest.param(life("ELASTIC", 15, 15), "0.15", "0", id="elastic, exactly the least"),
        pytest.param(life("ELASTIC", 16, 16), "0.16", "0.01", id="elastic, a minute above"),
        pytest.param(life("ON_DEMAND", 480, 0), "0", "0", id="always somebody there"),
    ],
)
def test_what_an_hour_with_nobody_costs(session: Life, alone: str, avoidable: str) -> None:
    assert money_of([session], PRICES, NOW) == Money(Fraction(alone), Fraction(avoidable), 0, ())


@pytest.mark.parametrize(
    ("session", "types"),
    [
        pytest.param(
            life("ON_DEMAND", 480, 120, instance_type="stream.graphics.g4dn.xlarge"),
            ("stream.graphics.g4dn.xlarge",),
            id="no price of its type",
        ),
        pytest.param(life("ON_DEMAND", 480, 120, instance_type=""), ("",), id="of an earlier release"),
        pytest.param(life("", 480, 120), ("",), id="a fleet type that is not known"),
        pytest.param(life("SPOT", 480, 120), ("",), id="one that AWS added"),
    ],
)
def test_what_cannot_be_priced_is_counted_and_not_guessed(session: Life, types: tuple[str, ...]) -> None:
    priced = life("ON_DEMAND", 480, 120)
    assert money_of([session, priced, session], PRICES, NOW) == Money(
        Fraction("1.2"), Fraction("0.96"), 2, types
    )


def test_a_live_session_lasts_until_now() -> None:
    # 720 min until now, 710 of them with nobody: 10 would be charged as 15.
    live = replace(life("ELASTIC", 720, 710), end=None)
    assert money_of([live], PRICES, NOW).avoidable == Fraction("0.6") * 705 / 60


def test_nothing_is_rounded_before_it_is_shown() -> None:
    """A third of a cent, three times, is a cent."""
    minute = life("ON_DEMAND", 480, 1, max_sessions=3)
    found = money_of([minute] * 3, PRICES, NOW)
    assert found.alone == Fraction("0.01")
    assert rounded(Fraction(1, 3)) == Decimal("0.3333")
    assert str(rounded(Fraction(1234567))) == "1234567.0000"


@given(
    fleet_type=st.sampled_from(["ON_DEMAND", "ALWAYS_ON", "ELASTIC"]),
    lasted=st.integers(0, 600),
    share=st.fractions(0, 1),
    more=st.integers(0, 60),
)
def test_never_is_more_avoidable_than_was_paid_and_more_alone_is_no_less(
    fleet_type: str, lasted: int, share: Fraction, more: int
) -> None:
    alone = int(lasted * share)
    found = money_of([life(fleet_type, lasted, alone)], PRICES, NOW)
    assert 0 <= found.avoidable <= found.alone
    longer = money_of([life(fleet_type, lasted + more, alone + more)], PRICES, NOW)
    assert longer.avoidable >= found.avoidable
    assert longer.alone >= found.alone


def test_what_amounts_leave_out_stands_beside_them() -> None:
    assert remarks(0, ()) == CANNOT_KNOW
    first, *rest = remarks(3, {"stream.b", "", "stream.a"})
    assert first == (
        "3 sessions are unpriced, and in no amount: no price of stream.a, stream.b; AppStream, or an earlier "
        "release, did not say what instance or type of fleet it was."
    )
    assert tuple(rest) == CANNOT_KNOW


PRICE = b'{"version": 1, "currency": "USD", "prices": {"a": %s}}'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "no JSON at line 1, column 1 (Expecting value); it should read like", id="empty"),
        pytest.param(b"\xff", "no UTF-8 at byte 1; save it as UTF-8", id="no text"),
        pytest.param(b"[]", 'file: is []; should be {"version": 1', id="no object"),
        pytest.param(b"[" * 9999, "nested too deeply", id="nested too deeply"),
        pytest.param(
            b"{}",
            "version: is missing; should be the version of this format, 1; currency: is missing; should be",
            id="nothing in it",
        ),
        pytest.param(
            PRICE.replace(b"USD", b"$") % b"{}", 'currency: is "$"; should be three capital', id="no currency"
        ),
        pytest.param(PRICE % b"1", 'prices.a: is 1; should be {"running": 0.1', id="one price"),
        pytest.param(PRICE % b'{"running": 1}', "prices.a.stopped: is missing; should be what", id="a price"),
        pytest.param(
            PRICE % b'{"running": -1, "stopped": 0}', "prices.a.running: is -1; should be what", id="negative"
        ),
        pytest.param(
            PRICE % b'{"running": NaN, "stopped": 0}', 'prices.a.running: is "NaN"; should', id="no number"
        ),
        pytest.param(
            PRICE % b'{"running": true, "stopped": 0}', "prices.a.running: is true; should", id="yes or no"
        ),
        pytest.param(
            PRICE % (b'{"running": %s, "stopped": 0}' % (b"9" * 5000)), "a number with too many", id="digits"
        ),
        pytest.param(
            PRICE % b'{"running": 1, "stopped": 2}', "prices.a: stopped is above running", id="turned round"
        ),
        pytest.param(
            PRICE % b'{"running": 1, "stopped": 0, "idle": 1}',
            "prices.a.idle: no such field; known: running, stopped",
            id="a field of nobody's",
        ),
        pytest.param(PRICE % b'{}, "a": {}', "prices.a: is there twice; keep one", id="twice"),
    ],
)
def test_a_broken_file_says_where_and_what_to_do(content: bytes, said: str) -> None:
    with pytest.raises(PricesError) as error:
        read_prices(content)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_an_editor_of_windows_saved_is_read() -> None:
    assert read_prices(b"\xef\xbb\xbf" + PRICE % b'{"running": 1, "stopped": 0}').prices["a"].running == 1


def test_the_example_is_read() -> None:
    example = read_prices((Path(__file__).parents[2] / "examples" / "prices.json").read_bytes())
    assert example.currency == "USD"
    assert "no prices of AWS" in example.note
