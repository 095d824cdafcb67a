"""Sums and peaks as `history` shows them: by day and month of the reader's zone, by fleet, user and hour."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from appstream_auditor.answers import Named, SumRow
from appstream_auditor.history import Asked, Grouping, summed
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


def rows(by: Grouping, asked: Asked = ASKED, zone: ZoneInfo = BERLIN) -> list[SumRow]:
    return summed(Named(TARGET), LIVES, asked, by, now=NOW, zone=zone)


def test_by_day_a_session_belongs_to_its_end_and_counts_at_once_on_every_day() -> None:
    assert [(row.name, row.sessions, row.peak, row.peak_at) for row in rows(Grouping.DAY)] == [
        ("2026-03-27", 1, 1, at(27, 8)),
        ("2026-03-28", 2, 1, at(27, 23)),
        ("2026-03-29", 1, 1, at(28, 23)),
    ]


def test_by_month() -> None:
    (march,) = rows(Grouping.MONTH)
    assert (march.name, march.sessions, march.connected_seconds, march.alone_seconds) == (
        "2026-03",
        4,
        2400,
        360,
    )


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
