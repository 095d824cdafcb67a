"""Sums and peaks as `history` shows them: by day and month of the reader's zone, by fleet, user and hour."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from zoneinfo import ZoneInfo

import pytest

from appstream_auditor.answers import Named, SumRow
from appstream_auditor.errors import Exit, QuestionError
from appstream_auditor.history import Asked, Grouping, money_notes, prices_in, sum_columns, summed
from appstream_auditor.money import CANNOT_KNOW, Price, Prices
from appstream_auditor.printing import fitting
from appstream_auditor.targets import Place
from session_auditor.model import Globs, Life
from tests.shared.history import SCOPE, TARGET

BERLIN = ZoneInfo("Europe/Berlin")


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


def life(user: str, start: datetime, end: datetime | None, fleet: str = "cad", connected: int = 600) -> Life:
    return Life(
        session_id=f"{user}-{start:%d%H}",
        scope=SCOPE._replace(fleet=fleet),
        start=start,
        first_seen=start,
        end=end,
        user_id=user,
        connected_seconds=connected,
        disconnected_seconds=60,
        never_connected_seconds=30,
    )


# Over midnight, over the switch to summer time on the 29th, and one that lives.
LIVES = [
    life("ann", at(27, 8), at(27, 16)),
    life("bob", at(27, 22, 30), at(28, 1)),
    life("ann", at(28, 8), at(28, 9), fleet="gis"),
    life("cyd", at(28, 23), None),
]
NOW = at(29, 12)
ASKED = Asked(at(26, 23), NOW)


# 0.60 an hour running and 0.12 stopped: a minute with nobody costs a cent, of which 0.008 are avoidable.
LARGE = Price(running=Decimal("0.60"), stopped=Decimal("0.12"))
PRICES = Prices(version=1, currency="EUR", prices={"large": LARGE})


def rows(
    by: Grouping,
    asked: Asked = ASKED,
    zone: ZoneInfo = BERLIN,
    lives: Sequence[Life] = LIVES,
    prices: Prices | None = None,
) -> list[SumRow]:
    return summed(Named(TARGET), lives, asked, by, now=NOW, zone=zone, prices=prices)


def test_by_day_a_session_belongs_to_its_end_and_counts_at_once_on_every_day() -> None:
    assert [(row.name, row.sessions, row.peak, row.peak_at) for row in rows(Grouping.DAY)] == [
        ("2026-03-27", 1, 1, at(27, 8)),
        ("2026-03-28", 2, 1, at(27, 23)),
        ("2026-03-29", 1, 1, at(28, 23)),
    ]


def test_by_month() -> None:
    (march,) = rows(Grouping.MONTH)
    assert (march.name, march.sessions, march.connected_seconds) == ("2026-03", 4, 2400)
    assert (march.alone_seconds, march.never_connected_seconds) == (360, 120)


def test_by_fleet_and_user() -> None:
    assert [(row.name, row.sessions, row.peak) for row in rows(Grouping.FLEET)] == [
        ("cad", 3, 1),
        ("gis", 1, 1),
    ]
    assert [(row.name, row.connected_seconds) for row in rows(Grouping.USER)] == [
        ("ann", 1200),
        ("bob", 600),
        ("cyd", 600),
    ]


def test_by_hour_who_was_on_in_it() -> None:
    found = {row.name: (row.sessions, row.peak) for row in rows(Grouping.HOUR) if row.peak}
    assert found["2026-03-27 23:00"] == (1, 1)
    assert [name for name in found if name.startswith("2026-03-27")] == [
        f"2026-03-27 {hour:02}:00" for hour in (*range(9, 17), 23)
    ]


def test_who_still_lives_counts_only_where_the_time_asked_for_is_not_over() -> None:
    asked = Asked(at(27, 0), at(29, 0))
    assert (
        sum(row.sessions for row in summed(Named(TARGET), LIVES, asked, Grouping.USER, now=NOW, zone=UTC))
        == 3
    )


def test_who_is_asked_for() -> None:
    def wanted(asked: Asked) -> list[str]:
        return [life.user_id for life in LIVES if asked.wants(life)]

    assert wanted(Asked(at(28, 1), at(28, 8))) == []
    assert wanted(Asked(at(28, 0), at(28, 8, 1))) == ["bob", "ann"]
    assert wanted(Asked(at(27, 0), NOW, user="a*")) == ["ann", "ann"]
    assert wanted(Asked(at(27, 0), NOW, fleets=Globs(exclude=("cad",)))) == ["ann"]
    assert wanted(Asked(NOW - timedelta(minutes=1), NOW)) == ["cyd"]


class TestMoney:
    """Amounts of the hours with nobody, by what sums are made for."""

    # A minute after a disconnect and half of one before anybody came: three half minutes each.
    LIVES = tuple(
        replace(each, instance_type=kind, fleet_type="ON_DEMAND", max_sessions=number)
        for each, kind, number in zip(LIVES, ["large", "large", "huge", ""], [0, 3, 0, 0], strict=True)
    )

    @pytest.mark.parametrize(
        ("by", "amounts"),
        [
            pytest.param(
                Grouping.FLEET,
                {"cad": ("0.0200", "0.0160", 1, ("",)), "gis": ("0.0000", "0.0000", 1, ("huge",))},
                id="by fleet",
            ),
            pytest.param(
                Grouping.USER,
                {
                    "ann": ("0.0150", "0.0120", 1, ("huge",)),
                    "bob": ("0.0050", "0.0040", 0, ()),
                    "cyd": ("0.0000", "0.0000", 1, ("",)),
                },
                id="by user",
            ),
            pytest.param(Grouping.MONTH, {"2026-03": ("0.0200", "0.0160", 2, ("", "huge"))}, id="by month"),
            pytest.param(
                Grouping.DAY,
                {
                    "2026-03-27": ("0.0150", "0.0120", 0, ()),
                    "2026-03-28": ("0.0050", "0.0040", 1, ("huge",)),
                    "2026-03-29": ("0.0000", "0.0000", 1, ("",)),
                },
                id="by day",
            ),
        ],
    )
    def test_by_hand(self, by: Grouping, amounts: dict[str, tuple[str, str, int, tuple[str, ...]]]) -> None:
        found = rows(by, lives=self.LIVES, prices=PRICES)
        assert {
            row.name: (
                str(row.alone_cost),
                str(row.avoidable_cost),
                row.unpriced_sessions,
                row.unpriced_types,
            )
            for row in found
        } == amounts
        assert {row.currency for row in found} == {"EUR"}

    def test_what_they_leave_out_stands_beside_them(self) -> None:
        first, *rest = money_notes(rows(Grouping.FLEET, lives=self.LIVES, prices=PRICES))
        assert first.startswith("2 sessions are unpriced, and in no amount: no price of huge; AppStream, or")
        assert tuple(rest) == CANNOT_KNOW

    def test_without_prices_there_is_no_amount_and_nothing_to_say(self) -> None:
        found = rows(Grouping.FLEET, lives=self.LIVES)
        assert {(row.currency, row.alone_cost, row.unpriced_sessions) for row in found} == {("", None, None)}
        assert money_notes(found) == ()

    def test_the_columns_of_a_terminal_with_80(self) -> None:
        found = rows(Grouping.FLEET, lives=self.LIVES, prices=PRICES)
        shown = fitting(sum_columns(found, Grouping.FLEET, NOW, UTC, place=Place.NOTHING), 80)
        assert [column.name for column in shown] == [
            *("FLEET", "SESSIONS", "CONNECTED", "NOBODY", "NEVER"),
            *("NOBODY EUR", "AVOIDABLE EUR", "UNPRICED"),
        ]
        assert [column.cells[0] for column in shown[-3:]] == ["0.02", "0.02", "1"]

    def test_a_thousand_and_more(self) -> None:
        (row,) = rows(Grouping.MONTH, lives=self.LIVES[:1], prices=PRICES)
        dear = row.model_copy(update={"alone_cost": Decimal("1234567.8950")})
        shown = sum_columns([dear], Grouping.MONTH, NOW, UTC, place=Place.NOTHING)
        assert [column.cells for column in shown if column.name == "NOBODY EUR"] == [["1,234,567.90"]]

    @pytest.mark.parametrize("by", [None, Grouping.HOUR])
    def test_single_sessions_and_hours_have_none(self, by: Grouping | None) -> None:
        with pytest.raises(QuestionError, match="needs --by user, fleet, day or month") as error:
            prices_in(BytesIO(b"{}"), by)
        assert error.value.exit_code == Exit.USAGE
