"""Twenty workers and five hundred targets, some of which hang: how late the others are.

A model of the queue on a simulated clock: times are the dispatcher's, batch and concurrency the template's.
What a sweep takes is assumed, and in which order Lambda hands messages on.
"""

import heapq
from collections.abc import Iterator
from datetime import datetime

import pytest
from samtranslator.yaml_helper import yaml_parse

from sandbox.cloud import ROOT
from session_auditor.model import WHOLE_TARGET, AuthenticationMode, Gap, Target, TargetId
from session_auditor.tempo import due_times, tempo
from tests.shared.history import at

MAPPING = yaml_parse((ROOT / "functions" / "dispatcher" / "template.yaml").read_text())["Resources"][
    "SweepsDue"
]
BATCH = MAPPING["Properties"]["BatchSize"]
WORKERS = MAPPING["Properties"]["ScalingConfig"]["MaximumConcurrency"]
TARGETS = [TargetId("aws", f"{number * 7919:012d}", "eu-west-1") for number in range(500)]
MINUTES = 20
# Seconds: a target that hangs is given up, another is swept.
GIVEN_UP, SWEPT = 15.0, 0.5
# A batch that is short of time leaves its last targets to their next messages.
TIME_LIMIT, MARGIN = 50.0, 15.0
VOID = 60.0

HEALTHY = Target(at(0), at(0), at(0), AuthenticationMode.UNFILTERED)
HANGING = Target(
    at(0), at(0), at(0), AuthenticationMode.UNFILTERED, gaps=(Gap(WHOLE_TARGET, at(0), None, "X"),)
)


def messages(hanging: set[TargetId], sweep_every: int) -> list[tuple[datetime, TargetId]]:
    found = []
    for target in TARGETS:
        known = HANGING if target in hanging else HEALTHY
        seconds = tempo(known, sweep_every, at(0), types_given=True).seconds
        found += [
            (due, target) for minute in range(MINUTES) for due in due_times(target, seconds, at(minute))
        ]
    return sorted(found)


def delays(hanging: set[TargetId], sweep_every: int) -> Iterator[float]:
    """How many seconds after they were due the targets that do not hang are swept; an hour if never."""
    waiting = [((due - at(0)).total_seconds(), target) for due, target in messages(hanging, sweep_every)]
    free = [0.0] * WORKERS
    first = 0
    while first < len(waiting):
        begun = now = max(heapq.heappop(free), waiting[first][0])
        batch = [each for each in waiting[first : first + BATCH] if each[0] <= now]
        first += len(batch)
        for due, target in batch:
            left_out = now - due > VOID or now - begun > TIME_LIMIT - MARGIN
            if target not in hanging:
                yield 3600 if left_out else now - due
            if not left_out:
                now += GIVEN_UP if target in hanging else SWEPT
        heapq.heappush(free, now)


@pytest.mark.parametrize("sweep_every", [60, 30])
def test_one_in_twenty_that_hangs_delays_the_others_by_less_than_an_interval(sweep_every: int) -> None:
    late = sorted(delays(set(TARGETS[::20]), sweep_every))
    assert late[len(late) * 95 // 100] < sweep_every
    assert late[-1] < VOID, "nobody is left out"


@pytest.mark.parametrize("sweep_every", [60, 30])
def test_without_any_that_hangs_nobody_waits_for_long(sweep_every: int) -> None:
    late = sorted(delays(set(), sweep_every))
    assert late[len(late) // 2] <= 2
    assert late[-1] <= 10


def test_what_hangs_does_not_take_the_workers_of_the_others_below_a_minute() -> None:
    """Asked every fifteen seconds they would need more workers than there are."""
    hanging = set(TARGETS[::20])
    assert len(hanging) * GIVEN_UP / 15 > WORKERS
    per_minute = sum(target in hanging for _, target in messages(hanging, 15)) / MINUTES
    assert per_minute * GIVEN_UP / 60 < WORKERS / 2
