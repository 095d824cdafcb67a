"""Five hundred targets and twenty workers: how soon a change is told, and how much those that hang delay.

The dispatcher's handler asks; queue and workers are the benchmark's model, which assumes what a sweep takes,
and in which order Lambda hands messages on.
"""

import pytest

from benchmarks.delays import (
    ASSUMED,
    GIVEN_UP,
    GOALS,
    NO_TIME,
    TARGETS,
    VOID,
    asked,
    delays,
    lateness,
    quantile,
    swept,
)

MINUTES = 8
SLOW = ASSUMED._replace(swept=0.5)
HANGING = frozenset(range(0, TARGETS, 20))
# A schedule is kept at once, or at the end of its minute.
KEPT = [pytest.param(0.0, id="in time"), pytest.param(59.9, id="late")]


@pytest.mark.parametrize("late", KEPT)
@pytest.mark.parametrize("sweep_every", GOALS)
def test_the_intervals_alone_leave_time_for_the_rest_of_the_way(sweep_every: int, late: float) -> None:
    hops = NO_TIME._replace(scheduler=late)
    found = delays(swept(asked(sweep_every, hops, minutes=MINUTES), hops), MINUTES)
    goals = GOALS[sweep_every]
    # Half of the interval, and all of it; DelaySeconds are whole.
    assert quantile(found, 50) <= sweep_every / 2 + 1 < goals[0]
    assert found[-1] <= sweep_every + 2 < goals[1]


@pytest.mark.parametrize("sweep_every", [60, 30])
def test_one_in_twenty_that_hangs_delays_the_others_by_less_than_an_interval(sweep_every: int) -> None:
    messages = asked(sweep_every, SLOW, HANGING, MINUTES)
    late = lateness(swept(messages, SLOW, HANGING))
    assert quantile(late, 95) < sweep_every
    assert late[-1] < VOID
    assert len(late) == sum(each.target not in HANGING for each in messages), "nobody is left out"


def test_what_hangs_delays_the_others_below_a_minute_as_little() -> None:
    messages = asked(15, ASSUMED, HANGING, MINUTES)
    late = lateness(swept(messages, ASSUMED, HANGING))
    assert quantile(late, 95) < 15
    assert late[-1] < VOID
    # Asked every fifteen seconds they would need more workers than there are.
    assert sum(each.target in HANGING for each in messages) == len(HANGING) * MINUTES
    assert len(HANGING) * GIVEN_UP / 15 > 20


@pytest.mark.parametrize("sweep_every", [60, 30])
def test_without_any_that_hangs_nobody_waits_for_long(sweep_every: int) -> None:
    late = lateness(swept(asked(sweep_every, SLOW, minutes=MINUTES), SLOW))
    assert quantile(late, 50) <= 2
    assert late[-1] <= 10
