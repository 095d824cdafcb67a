"""How often a target is swept, and when: evenly, never two hundred at once, and nobody is forgotten."""

from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_auditor.model import WHOLE_TARGET, AuthenticationMode, Gap, Target, TargetId
from session_auditor.tempo import (
    COMMON_MULTIPLE,
    IDLE,
    MINUTE,
    Pace,
    Tempo,
    due_times,
    is_overdue,
    tempo,
    why_overdue,
)
from tests.shared.history import at

EVERY = (15, 30, 60, 120, 180)
INTERVALS = (*EVERY, IDLE)
NOW = at(0)
# What may open a hole, in seconds.
HOLE = 300

ids = st.builds(
    TargetId,
    st.just("aws"),
    st.from_regex("[0-9]{12}", fullmatch=True),
    st.sampled_from(["eu-west-1", "us-east-1", "eusc-de-east-1"]),
)
begins = st.integers(0, 10**6).map(lambda seconds: NOW + timedelta(seconds=seconds))


def swept(
    seconds: float = 2,
    *,
    settled: bool = True,
    idle: timedelta | None = None,
    gap: str = "",
    begin: datetime = NOW,
) -> Target:
    """A target whose last sweep took so long."""
    mode = AuthenticationMode.UNFILTERED if settled else AuthenticationMode.UNKNOWN
    gaps = (Gap(WHOLE_TARGET, NOW, None, gap),) if gap else ()
    since = None if idle is None else NOW - idle
    end = begin + timedelta(seconds=seconds)
    return Target(begin, begin, end, mode, gaps=gaps, idle_since=since)


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("target", "every", "expected"),
    [
        pytest.param(swept(), 60, Tempo(60, Pace.ASKED), id="as asked"),
        pytest.param(swept(), 15, Tempo(15, Pace.ASKED), id="below a minute, settled"),
        pytest.param(swept(settled=False), 15, Tempo(60, Pace.UNSETTLED), id="below a minute, not settled"),
        pytest.param(swept(settled=False), 120, Tempo(120, Pace.ASKED), id="not settled, seldom anyway"),
        pytest.param(None, 30, Tempo(60, Pace.UNSETTLED), id="unknown"),
        pytest.param(swept(30), 60, Tempo(60, Pace.ASKED), id="half the interval is not slow"),
        pytest.param(swept(31), 60, Tempo(120, Pace.SLOW), id="slow: twice"),
        pytest.param(swept(8), 15, Tempo(30, Pace.SLOW), id="slow below a minute"),
        pytest.param(swept(50), 15, Tempo(120, Pace.SLOW), id="slow: twice and twice again"),
        pytest.param(swept(290), 60, Tempo(120, Pace.SLOW), id="slow: two minutes at most"),
        pytest.param(swept(290), 180, Tempo(180, Pace.ASKED), id="no more often than is asked"),
        pytest.param(swept(idle=DAY), 60, Tempo(240, Pace.IDLE), id="idle for a day"),
        pytest.param(swept(idle=DAY), 180, Tempo(240, Pace.IDLE), id="idle, seldom anyway"),
        pytest.param(swept(idle=DAY / 2), 60, Tempo(60, Pace.ASKED), id="idle for half a day"),
        pytest.param(
            swept(gap="AccessDenied"), 15, Tempo(60, Pace.UNREADABLE), id="below a minute, unreadable"
        ),
        # A sweep that lists nothing ends, but leaves the begin of the last that did.
        pytest.param(swept(7200, gap="AccessDenied"), 60, Tempo(60, Pace.ASKED), id="unreadable is not slow"),
    ],
)
def test_how_often(target: Target | None, every: int, expected: Tempo) -> None:
    assert tempo(target, every, NOW, types_given=False) == expected


def test_types_that_the_settings_name_are_settled() -> None:
    assert tempo(None, 15, NOW, types_given=True) == Tempo(15, Pace.ASKED)


@given(
    st.builds(
        swept,
        st.floats(0, 10**4),
        settled=st.booleans(),
        idle=st.sampled_from([None, DAY / 2, DAY]),
        gap=st.sampled_from(["", "AccessDenied"]),
    ),
    st.sampled_from(EVERY),
)
def test_no_interval_opens_a_hole(target: Target, every: int) -> None:
    seconds = tempo(target, every, NOW, types_given=False).seconds
    assert every <= seconds < HOLE
    assert seconds in INTERVALS


def test_the_times_of_intervals_are_among_those_of_their_parts() -> None:
    assert all(COMMON_MULTIPLE % seconds == 0 for seconds in INTERVALS)


@given(ids, st.sampled_from(INTERVALS), begins)
def test_a_target_is_due_evenly_whatever_second_minutes_begin_at(
    target: TargetId, seconds: int, begin: datetime
) -> None:
    minutes = [begin + timedelta(minutes=number) for number in range(24)]
    times = [due for minute in minutes for due in due_times(target, seconds, minute)]
    assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(seconds=seconds)}
    assert times[0] - begin < timedelta(seconds=seconds)
    assert minutes[-1] + timedelta(minutes=1) - times[-1] <= timedelta(seconds=seconds)


@given(ids, begins, st.lists(st.sampled_from(INTERVALS), min_size=40, max_size=40))
def test_whoever_changes_the_interval_waits_for_no_longer_than_the_new_one(
    target: TargetId, begin: datetime, intervals: list[int]
) -> None:
    """A target's interval can change with each sweep, and is looked up once a minute."""
    last: datetime | None = None
    seconds = intervals[0]
    for number, after_sweep in enumerate(intervals):
        times = list(due_times(target, seconds, begin + timedelta(minutes=number)))
        for due in times:
            assert last is None or due - last <= timedelta(seconds=max(seconds, MINUTE))
            last = due
        if times:
            seconds = after_sweep


@given(ids, st.sampled_from(INTERVALS), begins)
def test_the_seconds_of_a_target_never_move(target: TargetId, seconds: int, begin: datetime) -> None:
    """Another container, another day: the same."""
    day = timedelta(days=1)
    again = [due - day for due in due_times(target, seconds, begin + day)]
    assert again == list(due_times(target, seconds, begin))


@pytest.mark.parametrize(("seconds", "a_minute"), [(60, 500), (15, 2000), (240, 125)])
def test_many_targets_are_spread_over_the_interval(seconds: int, a_minute: int) -> None:
    each = [TargetId("aws", f"{number:012d}", "eu-west-1") for number in range(500)]
    times = [due for minute in range(4) for id_ in each for due in due_times(id_, seconds, at(minute))]
    assert len(times) == a_minute * 4
    assert max(Counter(times).values()) <= 4 * a_minute // 60


@pytest.mark.parametrize(
    ("target", "minutes", "overdue", "why"),
    [
        pytest.param(None, 0, True, "NOTHING_KNOWN", id="never swept"),
        pytest.param(swept(), 3, False, "UNKNOWN", id="three intervals"),
        pytest.param(swept(), 3.1, True, "UNKNOWN", id="more than three intervals"),
        pytest.param(swept(gap="AccessDenied"), 30, True, "AccessDenied", id="unreadable"),
        pytest.param(
            Target(None, gaps=swept(gap="REGION_DISABLED").gaps), 0, True, "REGION_DISABLED", id="never read"
        ),
    ],
)
def test_overdue(target: Target | None, minutes: float, overdue: bool, why: str) -> None:
    assert is_overdue(target, 60, at(minutes)) is overdue
    assert why_overdue(target) == why
