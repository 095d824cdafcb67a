"""Deliberate breakages of the auditor, each killed by a promise: what would not be noticed is not proved.

A mutant is an edit of the source, with which the modules are loaded for as long as it takes to kill it.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from tests.simulation import invariants, test_containers, test_crashes, test_interleavings, test_stalls
from tests.simulation.aws import Cloud
from tests.simulation.invariants import Broken, event_id, session_of
from tests.simulation.scenarios import SCENARIOS, Moment, Scenario, arrive, each, office
from tests.simulation.test_crashes import replay, settle
from tests.simulation.trial import KILLED

PACKAGE = Path(__file__).parents[2] / "layers" / "session_auditor" / "session_auditor"
# In the order in which they import each other.
MODULES = ("coverage", "comparison", "events", "table", "appstream", "snapshots", "publisher", "sweep")

# Given a scenario, and a `cloud` to play it in.
Play = Callable[..., None]


def day(scenario: Scenario, cloud: Cloud) -> None:
    """Play a scenario with nothing in the way."""
    trial = replay(scenario, cloud, lambda _trial, _number: None)
    settle(trial)
    trial.check()


def day_with_a_poison(scenario: Scenario, cloud: Cloud) -> None:
    """Play a scenario in which the bus refuses every event of one session, for good."""
    del scenario
    poisoned = Scenario(
        "a poison session",
        (
            Moment(0, office),
            Moment(60, arrive("a", "b", "c", "d")),
            Moment(60, each("disconnect", "a", "b", "c", "d")),
            Moment(60, each("expire", "a", "b")),
        ),
    )
    cloud.eventbridge.refuses = lambda entry, _: "MalformedDetail" if session_of(entry) == "b" else None
    day(poisoned, cloud)
    told = {session_of(entry) for entry in cloud.eventbridge.accepted}
    if told != {"a", "c", "d"}:
        raise Broken(f"a poison session held others up: of {sorted(told)} alone was told")


def same_day_twice(scenario: Scenario, cloud: Cloud) -> None:
    """Play a scenario twice: the same history gives the same ids."""

    def ids(cloud: Cloud) -> list[str]:
        day(scenario, cloud)
        return [event_id(entry) for entry in cloud.eventbridge.accepted]

    with Cloud() as another:
        once = ids(another)
    if once != ids(cloud):
        raise Broken("the same history gave other ids")


@dataclass(frozen=True)
class Mutant:
    """A breakage: what in which module becomes what, how it is played, and the promise that falls.

    `first` is the scenario to begin with: one that is known to kill it, so that it need not be searched for.
    """

    name: str
    module: str
    old: str
    new: str
    play: Play
    killer: str
    first: str = ""


MUTANTS = [
    Mutant(
        "no condition on the write",
        "table",
        "    if version == 0:\n",
        "    return {}\n    if version == 0:\n",
        test_interleavings.test_every_order_of_two_sweeps,
        "one_id_per_transition",
        first="a user who drops twice",
    ),
    Mutant(
        "read after listing",
        "sweep",
        "                comparison = compare(snapshot, listing, self.policy)\n",
        "                snapshot = self.snapshots.load(begin)\n"
        "                comparison = compare(snapshot, listing, self.policy)\n",
        test_interleavings.test_two_sweeps_while_the_world_changes_at_every_place,
        "published_is_expected",
    ),
    Mutant(
        "clear before publish",
        "sweep",
        "            published = self.publisher.publish(",
        "            ids = frozenset(event.event_id for lane in lanes for event in lane)\n"
        "            snapshot = self.snapshots.clear(snapshot, ids, {}, clock())\n"
        "            published = self.publisher.publish(",
        test_crashes.test_every_crash_point,
        "published_is_committed",
    ),
    Mutant(
        "random event id",
        "events",
        "    return sha256(dumps(identity).encode()).hexdigest()[:32]\n",
        '    return __import__("secrets").token_hex(16)\n',
        same_day_twice,
        "same_day_twice",
    ),
    Mutant(
        "partial list believed",
        "appstream",
        "            elif result.failure:\n",
        "            elif False:\n",
        test_crashes.test_every_crash_point,
        "published_is_expected",
    ),
    Mutant(
        "one miss ends",
        "comparison",
        "    return None if before.missed else (replace(before, missed=missed), ())\n",
        "    return _end(before, listing, last_seen, missed.at, hole=missed.hole)\n",
        day,
        "published_is_expected",
    ),
    Mutant(
        "threshold not remembered",
        "comparison",
        "                after = replace(after, max_duration_warned=tightest)\n",
        "                pass\n",
        day,
        "every_threshold_once",
    ),
    Mutant(
        "reconnect keeps the deadline",
        "comparison",
        "    if running and remembered.presence is Presence.DISCONNECTED and timeout is not None:\n",
        "    if running and remembered.disconnects and timeout is not None:\n",
        day,
        "published_is_expected",
    ),
    Mutant(
        "batch stops at the first failure",
        "publisher",
        "                        _settle(lane, code, published)\n",
        "                        if code:\n"
        "                            published.stopped = code\n"
        "                            return published\n"
        "                        _settle(lane, code, published)\n",
        day_with_a_poison,
        "outbox_is_empty",
    ),
    Mutant(
        "unlimited retry of a refused entry",
        "publisher",
        "    if refusal in TRANSIENT:\n",
        "    if refusal:\n",
        day_with_a_poison,
        "outbox_is_empty",
    ),
    Mutant(
        "sequence reset",
        "events",
        "    first = after.sequence - len(transition.changes) + 1\n",
        "    first = 1\n",
        day,
        "published_is_expected",
    ),
    Mutant(
        "baseline emitted",
        "comparison",
        "    started = (Change(DetailType.STARTED),) if policy.baseline_events or not baseline else ()\n",
        "    started = (Change(DetailType.STARTED),)\n",
        day,
        "published_is_expected",
    ),
    Mutant(
        "a clear takes later events with it",
        "snapshots",
        "            rest = tuple(event for event in stored.outbox if event.event_id not in settled)\n",
        "            rest = () if settled & {event.event_id for event in stored.outbox} else stored.outbox\n",
        test_crashes.test_every_crash_point,
        "published_is_committed",
        first="a baseline that is told",
    ),
    Mutant(
        "versions begin anew with an id that comes back",
        "snapshots",
        "version + 1 if known else int(remembered.first_seen.timestamp())",
        "version + 1",
        partial(test_stalls.test_a_sweep_wakes_up_late, bus="fails"),
        "published_is_committed",
        first="an id that comes back",
    ),
    Mutant(
        "two misses at once end",
        "comparison",
        "MISSING_FOR = timedelta(seconds=30)\n",
        "MISSING_FOR = timedelta(0)\n",
        test_interleavings.test_every_order_of_two_sweeps,
        "published_is_expected",
    ),
    Mutant(
        "a hole counts as observed",
        "comparison",
        "    return since if hole_end is None else max(since, hole_end)\n",
        "    return since\n",
        day,
        "published_is_expected",
    ),
    Mutant(
        "an end within a hole is explained",
        "comparison",
        "    elif hole or (unwatched and before.presence in _NEVER_SEEN_CONNECTED):\n",
        "    elif False:\n",
        day,
        "published_is_expected",
    ),
    Mutant(
        "a partial listing ends a hole",
        "coverage",
        "            running = scope not in self.listing.failed and self.policy.wants(scope)\n",
        "            running = True\n",
        day,
        "published_is_expected",
    ),
    Mutant(
        "a changed filter forgets",
        "comparison",
        "        if _out_of_view(before, listing, policy) and not before.sequence:\n",
        "        if _out_of_view(before, listing, policy):\n",
        day,
        "published_is_expected",
    ),
    Mutant(
        "a topology that is refused is empty",
        "sweep",
        "            if summary.outcome is Outcome.FAILED:\n",
        "            if False:\n",
        day,
        "published_is_expected",
    ),
    Mutant(
        "degraded at the first failure",
        "coverage",
        "    hole_is_open = since is not None and listing.begin - since > coverage.policy.hole\n",
        "    hole_is_open = True\n",
        day,
        "published_is_expected",
    ),
    Mutant(
        "a type that is refused costs the scope",
        "appstream",
        "                if error.reason == REFUSED_TYPE and not sessions:\n",
        "                if False:\n",
        day,
        "published_is_expected",
    ),
    Mutant(
        "a kept snapshot is believed unseen",
        "snapshots",
        "(kept.version, kept.target) == (snapshot.version, snapshot.target)",
        "True",
        test_containers.test_another_container_between_two_sweeps_of_a_warm_one,
        "snapshot_is_world",
        first="a baseline that is told",
    ),
]


@contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """Load the auditor with the breakage in it; then give every module back the very objects it had."""
    modules = {name: vars(import_module(f"session_auditor.{name}")) for name in MODULES}
    before = {name: dict(names) for name, names in modules.items()}
    try:
        for name, names in modules.items():
            path = PACKAGE / f"{name}.py"
            source = path.read_text()
            if name == mutant.module:
                assert source.count(mutant.old) == 1, f"the mutant's place in {path.name} has changed"
                source = source.replace(mutant.old, mutant.new)
            exec(compile(source, str(path), "exec"), names)  # noqa: S102
        yield
    finally:
        for name, names in modules.items():
            names.clear()
            names.update(before[name])


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_killed(mutant: Mutant) -> None:
    with mutated(mutant), pytest.raises(Broken) as caught:
        play_every_scenario(mutant.play, mutant.first)
    KILLED[mutant.name] = killer_of(caught.value)
    assert KILLED[mutant.name] == mutant.killer, str(caught.value)


def play_every_scenario(play: Play, first: str) -> None:
    for scenario in sorted(SCENARIOS, key=lambda scenario: scenario.name != first):
        with Cloud() as cloud:
            play(scenario, cloud=cloud)


def killer_of(broken: BaseException) -> str:
    """Name the promise that fell: the innermost function of the invariants, or of this file."""
    first = broken.__cause__ or broken
    frames = traceback.extract_tb(first.__traceback__)
    files = {invariants.__file__, __file__}
    return next(frame.name for frame in reversed(frames) if frame.filename in files)


@pytest.mark.parametrize("play", [day_with_a_poison, same_day_twice], ids=lambda play: play.__name__)
def test_the_auditor_itself_survives(play: Play) -> None:
    with Cloud() as cloud:
        play(SCENARIOS[0], cloud)
