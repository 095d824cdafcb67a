"""What another disconnect timeout would have meant: by hand, and held against simulations by the second."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from appstream_auditor.main import cli
from appstream_auditor.timeouts import (
    Absence,
    Judgement,
    Outcome,
    Verdict,
    absences,
    advised,
    judged,
)
from session_auditor.model import EndReason, Life, Options
from tests.shared.history import AWAY, CONNECTED, SCOPE, History, at, session

HOLE = timedelta(minutes=5)
HOUR = 3600


def life(timeline: str, *, end: int, alone: int, reason: EndReason = EndReason.USER_OR_ADMIN) -> Life:
    """A session that was seen from minute 0 to the one in which it ended, swept every minute."""
    return Life(
        session_id="s-1",
        scope=SCOPE,
        start=at(0),
        first_seen=at(0),
        end=at(end),
        ended_after=at(end - 1),
        reason=reason,
        connected_seconds=60 * (end - alone),
        disconnected_seconds=60 * alone,
        events=timeline.count(",") + 1,
        timeline=timeline,
    )


# Away from 10 to 20, back, away from 30 to 75, back, and gone at 100 from a desk.
TWO_LUNCHES = life("0s60,600d60,1200r60,1800d60,4500r60,6000e60", end=100, alone=55)
# Away at 60 and, with a timeout of an hour, ended at 120.
FORGOTTEN = life("0s60,3600d60,4500a60:15,7200e60", end=120, alone=60, reason=EndReason.DISCONNECT_TIMEOUT)
# Nobody came for ten minutes, which is no absence after a disconnect; then away twice, once for four minutes.
LATE = life("0s60,600c60,1200d60,1440r60,1500d60,1800e60", end=30, alone=4 + 5)
LATE = replace(LATE, connected_seconds=11 * 60, never_connected_seconds=10 * 60)
SESSIONS = (TWO_LUNCHES, FORGOTTEN, LATE)


def test_the_absences_of_a_life_as_far_as_polling_tells() -> None:
    assert absences(TWO_LUNCHES, HOLE) == (
        Absence(9 * 60, 11 * 60, returned=True),
        Absence(44 * 60, 46 * 60, returned=True),
    )
    assert absences(FORGOTTEN, HOLE) == (Absence(59 * 60, 61 * 60, returned=False, timed_out=True),)
    assert absences(LATE, HOLE) == (
        Absence(3 * 60, 5 * 60, returned=True),
        Absence(4 * 60, 6 * 60, returned=False),
    )


def test_what_timeouts_would_have_meant_by_hand() -> None:
    minutes = [5, 10, 15, 45, 60, 90]
    found = judged(SESSIONS, [60 * each for each in minutes], HOUR, HOLE)
    assert (found.now, found.sessions, found.left_out, found.returns) == (HOUR, 3, 0, 3)
    assert found.outcomes == (
        # 4 + 39 of the lunches, 54 of the one forgotten, none of the four and five minutes.
        Outcome(300, Verdict.JUDGED, 60 * (4 + 39 + 54), 2),
        # A return after 9 to 11 minutes may have been too late for 10.
        Outcome(600, Verdict.JUDGED, 60 * (34 + 49), 2),
        Outcome(900, Verdict.JUDGED, 60 * (29 + 44), 1),
        Outcome(2700, Verdict.JUDGED, 60 * 14, 1),
        Outcome(3600, Verdict.AS_NOW),
        Outcome(5400, Verdict.LONGER_THAN_NOW),
    )


@pytest.mark.parametrize(
    ("timeout", "now", "outcome"),
    [
        pytest.param(900, None, Outcome(900, Verdict.NOW_NOT_KNOWN), id="the timeout of now is not known"),
        pytest.param(
            3660,
            2 * HOUR,
            Outcome(3660, Verdict.WAS_SHORTER),
            id="it was an hour when somebody was forgotten",
        ),
        pytest.param(
            3600, 2 * HOUR, Outcome(3600, Verdict.JUDGED, 0, 0), id="nothing was seen of less than an hour"
        ),
        # What it saves beside an hour, and not beside twenty minutes, is no news: 4 + 15 + 15.
        pytest.param(300, 1200, Outcome(300, Verdict.JUDGED, 60 * 34, 2), id="it was longer than now"),
    ],
)
def test_what_was_seen_with_another_timeout(timeout: int, now: int | None, outcome: Outcome) -> None:
    assert judged(SESSIONS, [timeout], now, HOLE).outcomes == (outcome,)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(replace(TWO_LUNCHES, connected_seconds=44 * 60), id="a hole: not every second counts"),
        pytest.param(
            replace(TWO_LUNCHES, timeline="0s60,600d60,+2,4500r60,6000e60"), id="entries that are not kept"
        ),
        pytest.param(replace(TWO_LUNCHES, timeline="", events=0), id="an earlier release"),
        pytest.param(replace(TWO_LUNCHES, events=7), id="a letter that a newer release added"),
        pytest.param(
            life("600d60,1200r60,6000e60", end=100, alone=10), id="not seen from its start: the baseline"
        ),
        pytest.param(life("0s301,600d60,1200r60,6000e60", end=100, alone=10), id="its start lies in a hole"),
        pytest.param(
            life("0s,600d60,1200r60,6000e60", end=100, alone=10), id="nobody knows how long it had been there"
        ),
        pytest.param(life("0s60,600d,1200r60,6000e60", end=100, alone=10), id="a window that is not known"),
        pytest.param(replace(TWO_LUNCHES, ended_after=None), id="an end that is not known"),
        pytest.param(replace(TWO_LUNCHES, end=None), id="a life that is not over"),
    ],
)
def test_who_is_left_out(changed: Life) -> None:
    assert absences(changed, HOLE) is None
    found = judged([changed, FORGOTTEN], [900], HOUR, HOLE)
    assert (found.sessions, found.left_out, found.returns) == (1, 1, 0)
    assert found.outcomes == (Outcome(900, Verdict.JUDGED, 44 * 60, 0),)
    alone = judged([changed], [900], HOUR, HOLE)
    assert alone.outcomes == (Outcome(900, Verdict.NO_SESSION),)


def judgement(*known: tuple[int, int, int], returns: int = 400, now: int | None = HOUR) -> Judgement:
    """What timeouts of so many minutes would have saved, in minutes, and lost."""
    outcomes = (Outcome(60 * minutes, Verdict.JUDGED, 60 * saved, lost) for minutes, saved, lost in known)
    return Judgement(now, 200, 0, returns, tuple(outcomes))


BY = "(by 200 sessions and 400 returns)"


@pytest.mark.parametrize(
    ("given", "timeout", "sentence"),
    [
        pytest.param(
            judgement((5, 900, 80), (15, 500, 3), (30, 100, 0)),
            15,
            f"15 min instead of 60 min would have saved 8h 20m or more, and lost 3 returns or fewer {BY}",
            id="the shortest that loses fewer than one in a hundred",
        ),
        pytest.param(
            judgement((5, 900, 80), (15, 500, 4), (30, 100, 0)),
            30,
            f"30 min instead of 60 min would have saved 1h 40m or more, and lost no return {BY}",
            id="four of 400 are one in a hundred",
        ),
        pytest.param(
            judgement((5, 900, 80), (15, 500, 4)),
            None,
            f"leave 60 min: shorter ones that save hours would have lost 1 % of the returns or more {BY}",
            id="none",
        ),
        pytest.param(
            judgement((5, 0, 0), (15, 0, 0)),
            None,
            f"leave 60 min: a shorter one would have saved nothing {BY}",
            id="nothing to save",
        ),
        pytest.param(
            judgement((5, 900, 0), returns=1),
            5,
            "5 min instead of 60 min would have saved 15h 00m or more, and lost no return (by 200 sessions "
            "and 1 return, which is little to go by)",
            id="few returns",
        ),
        pytest.param(
            judgement((5, 900, 0), now=90),
            5,
            f"5 min instead of 90 s would have saved 15h 00m or more, and lost no return {BY}",
            id="a timeout that is no whole minutes",
        ),
        pytest.param(
            judgement(now=None), None, "no advice: its present timeout is not known", id="not known"
        ),
        pytest.param(
            judgement((5, 900, 0))._replace(sessions=0, left_out=3),
            None,
            "no advice: no session tells all that happened to it",
            id="nobody to go by",
        ),
        pytest.param(
            judgement()._replace(outcomes=(Outcome(HOUR, Verdict.AS_NOW),)),
            None,
            "no advice: none of these timeouts can be judged by what was seen",
            id="none shorter",
        ),
    ],
)
def test_what_follows(given: Judgement, timeout: int | None, sentence: str) -> None:
    assert advised(given) == (timeout and 60 * timeout, sentence)


@pytest.mark.parametrize("words", ["", "0", "5,", "5,601", "1.5", "soon", "²", "9" * 5000])
def test_what_is_no_timeout(words: str) -> None:
    asked = CliRunner().invoke(cli, ["what-if", "--disconnect-timeout", words])
    assert (asked.exit_code, "whole minutes from 1 to 600" in asked.stderr) == (2, True)


# Brute force over everything that a timeline leaves open: to the second, where it happened.

moments = st.lists(st.integers(1, 40), min_size=2, max_size=6, unique=True).map(sorted)


@given(times=moments, windows=st.lists(st.integers(1, 6), min_size=7, max_size=7), timeout=st.integers(1, 30))
def test_bounds_are_those_of_every_moment_that_a_window_leaves_open(
    times: list[int], windows: list[int], timeout: int
) -> None:
    now = 35
    *changes, end = times
    letters = ["d" if number % 2 == 0 else "r" for number in range(len(changes))]
    seen = [(0, "s", windows[0]), *zip(changes, letters, windows[1:], strict=False), (end, "e", windows[6])]
    alone = sum(back - left for left, back in zip(changes[::2], [*changes[1::2], end], strict=False))
    found = judged(
        [
            replace(
                life(
                    ",".join(f"{second}{letter}{window}" for second, letter, window in seen), end=1, alone=0
                ),
                end=at(0) + timedelta(seconds=end),
                ended_after=at(0) + timedelta(seconds=end - windows[6]),
                connected_seconds=end - alone,
                disconnected_seconds=alone,
            )
        ],
        [timeout],
        now,
        HOLE,
    )
    saved = lost = 0
    for (left, _, left_window), (back, letter, back_window) in pairwise(seen):
        if (left, "d") not in [(second, each) for second, each, _ in seen]:
            continue
        # It was before `left` and not before the sweep that still saw the other state had begun.
        lengths = [
            max(0, back_second - left_second)
            for left_second in range(left - left_window, left + 1)
            for back_second in range(back - back_window, back + 1)
        ]
        beyond = [sum(1 for second in range(each) if timeout <= second < now) for each in lengths]
        saved += min(beyond)
        lost += letter == "r" and any(each > timeout for each in lengths)
    assert found.outcomes == (Outcome(timeout, Verdict.JUDGED, saved, lost),)


# Brute force over what truly happened, with the auditor looking on every minute.

states = st.lists(st.integers(60, 900), min_size=1, max_size=7)


@given(lengths=states, first=st.booleans(), begin=st.integers(1, 60), timeout=st.integers(2, 12))
def test_never_more_saved_nor_fewer_lost_than_in_truth(
    lengths: list[int], first: bool, begin: int, timeout: int
) -> None:
    """A state lasts a minute at least; what comes and goes between two sweeps, polling never sees."""
    ends = [begin + sum(lengths[: number + 1]) for number in range(len(lengths))]
    history = History(options=Options(), timeout=None)
    history.observe(0)
    second = 60
    while not history.over:
        state = next((number for number, end in enumerate(ends) if second < end), None)
        if state is None:
            history.observe(second / 60)
        else:
            connected = (state % 2 == 0) == first
            seen = CONNECTED if connected else AWAY
            history.observe(second / 60, session(seen, start_time=at(begin / 60), max_expiration_time=None))
        second += 60
    (over,) = history.over
    found = judged([over], [60 * timeout], 10 * HOUR, HOLE)
    assert found.left_out == 0
    saved, lost = in_truth(lengths, first=first, timeout=60 * timeout)
    (outcome,) = found.outcomes
    assert outcome.saved is not None
    assert outcome.lost is not None
    assert outcome.saved <= saved
    assert outcome.lost >= lost
    # Each absence is known to two windows of a minute; an end to two sweeps more.
    assert saved - outcome.saved <= 2 * 60 * len(lengths) + 120


def in_truth(lengths: Sequence[int], *, first: bool, timeout: int) -> tuple[int, int]:
    """Return the seconds that nobody was there beyond the timeout, and the returns after it."""
    saved = lost = away = 0
    was_there = False
    for number, length in enumerate(lengths):
        connected = (number % 2 == 0) == first
        for _ in range(length):
            if connected:
                lost += was_there and away > timeout
                away, was_there = 0, True
            elif was_there:
                away += 1
                saved += away > timeout
    return saved, lost


def test_nothing_is_claimed_of_a_hole() -> None:
    """Away before it and away after it: its user may have worked in between."""
    for gap, left_out in ((1, 0), (10, 1)):
        history = History(options=Options(), timeout=None)
        history.observe(0)
        for minute in (1, 2):
            history.observe(minute, session())
        for minute in (*range(3, 8), *range(7 + gap, 30)):
            history.observe(minute, session(AWAY))
        for minute in (30, 31):
            history.observe(minute)
        found = judged(history.over, [300], HOUR, HOLE)
        assert (found.sessions, found.left_out) == (1 - left_out, left_out)
