"""Times that people read: in the administrator's zone, which they name, whatever the season."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from session_auditor.wording import local_time
from tests.shared.history import AWAY, PATIENT, SCOPE, START, History, session

BERLIN, SAO_PAULO, KATHMANDU = map(ZoneInfo, ["Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu"])
SPRING = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
AUTUMN = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SCOPE_FAILED = {SCOPE: "ThrottlingException"}


def history_in(zone: tzinfo) -> History:
    return History(options=replace(PATIENT, time_zone=zone))


def warning(zone: tzinfo, deadline: datetime, *, minutes: int = 60) -> str:
    """What the warning of an end says, so many minutes before it."""
    history = history_in(zone)
    minute = (deadline - START) / MINUTE - minutes
    ending = session(start_time=deadline - timedelta(hours=10), max_expiration_time=deadline)
    history.observe(minute - 60)
    history.observe(minute - 1, ending)
    events = history.observe(minute, ending)
    summary: str = events[-1]["data"]["summary"]
    return summary.split(" ends in ")[1]


def whole_life(zone: tzinfo) -> list[dict[str, Any]]:
    """Return events of a life and of a gap, told in a zone."""
    history = history_in(zone)
    history.observe(0)
    history.observe(1, session())
    history.observe(2, session(AWAY))
    history.observe(50, session(AWAY))
    history.options = replace(history.options, hole=timedelta(minutes=5))
    history.observe(56, session(AWAY), failed=SCOPE_FAILED)
    history.observe(57, session(AWAY))
    history.observe(58, session(state="EXPIRED"))
    return [json.loads(event.detail) | {"id": event.event_id} for event in history.events]


@pytest.mark.parametrize(
    ("time", "zone", "expected"),
    [
        pytest.param(START, UTC, "2026-03-02 08:00 UTC", id="UTC"),
        pytest.param(START, ZoneInfo("Etc/UTC"), "2026-03-02 08:00 UTC", id="UTC by another name"),
        pytest.param(START, BERLIN, "2026-03-02 09:00 CET", id="winter"),
        pytest.param(SPRING - MINUTE, BERLIN, "2026-03-29 01:59 CET", id="the last minute of winter"),
        pytest.param(SPRING, BERLIN, "2026-03-29 03:00 CEST", id="the first minute of summer"),
        pytest.param(AUTUMN - MINUTE, BERLIN, "2026-10-25 02:59 CEST", id="the last minute of summer"),
        pytest.param(AUTUMN - 60 * MINUTE, BERLIN, "2026-10-25 02:00 CEST", id="two o'clock"),
        pytest.param(AUTUMN, BERLIN, "2026-10-25 02:00 CET", id="two o'clock once more"),
        pytest.param(START, SAO_PAULO, "2026-03-02 05:00 UTC-03", id="a zone without letters"),
        pytest.param(START, KATHMANDU, "2026-03-02 13:45 UTC+05:45", id="quarters of an hour"),
    ],
)
def test_a_time_names_its_zone(time: datetime, zone: tzinfo, expected: str) -> None:
    assert local_time(time, zone) == expected


@pytest.mark.parametrize(
    ("observed", "deadline", "zone", "expected"),
    [
        pytest.param("22:30", "22:45", UTC, "22:45 UTC", id="the same day"),
        pytest.param("22:30", "23:30", UTC, "23:30 UTC", id="the same day in UTC"),
        pytest.param("22:30", "23:30", BERLIN, "2026-03-03 00:30 CET", id="the next day in Berlin"),
        pytest.param("23:30", "00:30", UTC, "2026-03-03 00:30 UTC", id="the next day in UTC"),
        pytest.param("23:30", "00:30", BERLIN, "01:30 CET", id="the same day in Berlin, the next of UTC"),
        pytest.param("23:30", "00:30", SAO_PAULO, "21:30 UTC-03", id="the same day in Sao Paulo"),
    ],
)
def test_another_day_has_its_date(observed: str, deadline: str, zone: tzinfo, expected: str) -> None:
    seen, ends = (datetime.fromisoformat(f"2026-03-02T{each}Z") for each in (observed, deadline))
    ends += timedelta(days=int(ends < seen))
    assert local_time(ends, zone, on_day_of=seen) == expected


@pytest.mark.parametrize(
    ("deadline", "zone", "expected"),
    [
        pytest.param(START + 420 * MINUTE, UTC, "1 h, at 15:00 UTC (maximum duration)", id="UTC"),
        pytest.param(START + 420 * MINUTE, BERLIN, "1 h, at 16:00 CET (maximum duration)", id="Berlin"),
        # At 01:30 an hour is left until half past three.
        pytest.param(SPRING + 30 * MINUTE, BERLIN, "1 h, at 03:30 CEST (maximum duration)", id="spring"),
        # At 02:30 an hour is left until half past two.
        pytest.param(AUTUMN + 30 * MINUTE, BERLIN, "1 h, at 02:30 CET (maximum duration)", id="autumn"),
        pytest.param(
            datetime(2026, 3, 2, 23, 30, tzinfo=UTC),
            BERLIN,
            "1 h, at 2026-03-03 00:30 CET (maximum duration)",
            id="over midnight",
        ),
        pytest.param(
            START + 420 * MINUTE, SAO_PAULO, "1 h, at 12:00 UTC-03 (maximum duration)", id="Sao Paulo"
        ),
    ],
)
def test_a_warning_speaks_the_zone(deadline: datetime, zone: tzinfo, expected: str) -> None:
    assert warning(zone, deadline) == expected


def test_an_audit_event_speaks_the_zone() -> None:
    degraded, recovered = (each["data"]["summary"] for each in whole_life(BERLIN) if "reason" in each["data"])
    assert degraded.endswith("could not be listed since 2026-03-02 09:56 CET: ThrottlingException")
    assert recovered.endswith("are listed again; they had not been since 2026-03-02 09:56 CET")


def test_nothing_but_the_summary_depends_on_the_zone() -> None:
    told = {zone: whole_life(zone) for zone in (UTC, ZoneInfo("Etc/UTC"), BERLIN, SAO_PAULO)}
    assert json.dumps(told[UTC]) == json.dumps(told[ZoneInfo("Etc/UTC")])
    spoken = [[each["data"].pop("summary") for each in events] for events in told.values()]
    assert spoken[0] != spoken[2] != spoken[3]
    assert told[UTC] == told[BERLIN] == told[SAO_PAULO]


@pytest.mark.parametrize("zone", [BERLIN, SAO_PAULO])
@pytest.mark.parametrize("end", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)])
def test_a_time_that_another_zone_has_not_is_told_all_the_same(zone: tzinfo, end: datetime) -> None:
    """AppStream may answer anything, and no value may stop a sweep."""
    history = History(options=replace(PATIENT, time_zone=zone), timeout=None)
    history.observe(0)
    history.observe(1, session(max_expiration_time=end))
    (disconnected,) = history.observe(2, session(AWAY, max_expiration_time=end))
    assert "; the session ends at " in disconnected["data"]["summary"]
