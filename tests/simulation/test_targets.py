"""Several targets on several containers: messages twice, late or at once, and accounts that come and go.

The same sessions stream in each target, so that whatever is mixed up is told of the wrong one. Each target is
judged by the oracle for itself.
"""

import random
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from session_auditor.directory import AccountList, Directory, merge, parents_due, targets, wanted
from session_auditor.model import TargetId
from tests.simulation.appstream import ACCOUNT_ID, REGION
from tests.simulation.aws import Blow, Call, Fault
from tests.simulation.hub import Delivery, Hub
from tests.simulation.scenarios import failing, start
from tests.simulation.test_interleavings import drawn
from tests.simulation.trial import TALLY, Trial

SPOKE, OTHER = "111111111111", "222222222222"
FAR = "us-east-1"
# The hub's own account in two regions, a spoke in two, and one in one.
TARGETS = ((ACCOUNT_ID, REGION), (ACCOUNT_ID, FAR), (SPOKE, REGION), (SPOKE, FAR), (OTHER, REGION))
WORKERS = 3
IDENTITIES = "abc"


def opened(hub: Hub, *identities: str) -> None:
    """Let these stream in each target, on one of two fleets, and sweep it once by each container."""
    for trial in hub.trials.values():
        trial.cloud.world.fleet("f1", "s1")
        trial.cloud.world.fleet("f2", "s1")
    a_minute(hub)
    hub.clock.advance(30)
    for trial in hub.trials.values():
        for identity in identities:
            start(trial, identity, ago=5)
    for _ in hub.workers:
        a_minute(hub)


def a_minute(hub: Hub, *without: TargetId) -> list[Delivery]:
    """Let a minute pass, and sweep each target; the containers take turns."""
    hub.clock.advance(60 - hub.clock.now % 60)
    minute = int(hub.clock.now // 60)
    return [
        hub.deliver((minute + place) % len(hub.workers), hub.message(target))
        for place, target in enumerate(hub.trials)
        if target not in without
    ]


def outcomes(delivery: Delivery) -> dict[str, int]:
    """Return how the sweeps of an invocation ended, and how often."""
    found: dict[str, int] = delivery.result["outcomes"]
    return found


def told(hub: Hub) -> Counter[str]:
    """Return how often each type of event was published, repeats left out."""
    types = {entry["Detail"]: entry["DetailType"] for entry in hub.eventbridge.accepted}
    return Counter(each.removeprefix("AppStream ") for each in types.values())


def calls(delivery: Delivery) -> list[Call]:
    """Return every call of an invocation."""
    return [*delivery.calls, *(call for part in delivery.parts.values() for call in part.calls)]


@pytest.mark.parametrize(
    ("late", "outcome", "reads"),
    [
        pytest.param(61, "VOID", 0, id="older than a minute"),
        pytest.param(60, "LEFT_OUT", 1, id="a minute old, swept since"),
        pytest.param(0, "LEFT_OUT", 1, id="due just when the last sweep began"),
        pytest.param(-1, "COMPLETED", 1, id="due after it"),
    ],
)
def test_what_a_message_costs_whose_target_was_swept(late: float, outcome: str, reads: int) -> None:
    with Hub((SPOKE, REGION), workers=2) as hub:
        opened(hub, "a")
        # Until both containers keep what they read.
        a_minute(hub)
        a_minute(hub)
        (target,) = hub.trials
        again = hub.deliver(0, hub.message(target, late))
        assert outcomes(again) == {outcome: 1}
        assert [call.operation for call in calls(again)].count("Query") == reads
        if outcome != "COMPLETED":
            assert len(calls(again)) == reads
        hub.settle()
        hub.check()


@pytest.mark.parametrize("seed", range(24))
def test_a_message_that_two_containers_get_at_once(seed: int) -> None:
    """Both hold what they kept; a third gets the message, too, when they are done."""
    generator = random.Random(seed)  # noqa: S311 - to replay, not to hide
    with Hub((SPOKE, REGION), (OTHER, REGION), workers=WORKERS) as hub:
        opened(hub, "a", "b")
        spoke, other = hub.trials
        for happens in ("disconnect", "end", "connect"):
            a_minute(hub)
            for trial in hub.trials.values():
                getattr(trial.cloud.world, happens)("b" if happens == "end" else "a")
            start(hub.trials[spoke], f"c{happens}")
            hub.clock.advance(60)
            message = hub.message(spoke)
            # The second is asked for another target before, so that they meet at another place.
            before = [hub.message(other)] * (seed % 2)
            hub.together(partial(drawn, generator), (message,), (*before, message))
            TALLY["orders of two messages"] += 1
            assert outcomes(hub.deliver(2, message)) in ({"LEFT_OUT": 1}, {"COMPLETED": 1})
            hub.check(settled=False)
        hub.settle()
        hub.check()


@pytest.mark.parametrize("at", range(2, 10))
def test_a_sweep_that_stalls_while_messages_come_every_fifteen_seconds(at: int) -> None:
    """It has seen who began; when it goes on, others have told of that session's whole life."""
    with Hub((SPOKE, REGION), workers=2) as hub:
        opened(hub, "a")
        (target,) = hub.trials
        world = hub.trials[target].cloud.world
        hub.clock.advance(30)
        start(hub.trials[target], "b", ago=5)
        go_on = hub.stall(at, hub.message(target))
        for number, happens in enumerate(("", "expire", "end")):
            hub.clock.advance(15)
            if happens:
                getattr(world, happens)("b")
            hub.deliver(number % 2, hub.message(target))
        go_on()
        TALLY["stalled sweeps"] += 1
        hub.settle()
        hub.check()
        assert told(hub) == {"Session Started": 2, "Session Ended": 1}


def credentials_end(after: int, *, shut_for: int) -> tuple[Hub, list[Delivery]]:
    """Play minutes: a spoke's credentials end after so many calls of AppStream's, and its role is shut."""
    with Hub((SPOKE, REGION), (SPOKE, FAR), (OTHER, REGION), workers=2) as hub:
        opened(hub, "a", "b")
        hub.roles.end_after[SPOKE] = after
        made = a_minute(hub)
        if shut_for:
            hub.roles.shut.add(SPOKE)
        for _ in range(shut_for):
            made += a_minute(hub)
        hub.roles.shut.clear()
        for _ in range(3):
            made += a_minute(hub)
        hub.settle()
        hub.check()
        return hub, made


# What a sweep asks of AppStream: stacks, fleets, the stack's fleets, two scopes.
@pytest.mark.parametrize("after", range(5))
def test_credentials_that_end_are_renewed_by_the_next_sweep(after: int) -> None:
    hub, made = credentials_end(after, shut_for=0)
    assert told(hub) == {"Session Started": 6}
    expired = {
        number: delivery
        for number, delivery in enumerate(made)
        if any(call.error == "ExpiredTokenException" for call in calls(delivery))
    }
    # Of both regions, as each of the two containers has found out once.
    assert 1 <= len(expired) <= 3
    assert max(expired) < 6, "it is found out within two minutes"
    assert all("AssumeRole" not in map(_operation, calls(each)) for each in made[9:])


@pytest.mark.parametrize("after", range(5))
def test_an_account_that_lets_nobody_in_any_more_is_degraded_once_and_nobody_ends(after: int) -> None:
    hub, _ = credentials_end(after, shut_for=8)
    # Each region once.
    assert told(hub) == {"Session Started": 6, "Audit Degraded": 2, "Audit Recovered": 2}


def _operation(call: Call) -> str:
    return call.operation


def test_accounts_come_and_go_as_they_are_listed() -> None:
    """A complete list without an account costs nothing, nor does a failed one; the second ends the sweeps."""
    both, one = {SPOKE: "desks", OTHER: "render"}, {SPOKE: "desks"}
    lists = [
        AccountList(both),
        AccountList(one),
        AccountList(one, "ThrottlingException"),
        AccountList(both),
        AccountList(one),
        AccountList(one),
        AccountList(one),
        AccountList(both),
        AccountList(both),
    ]
    wants = wanted(["r-root"], [REGION], [])
    directory: Directory = {}
    gone: list[int] = []
    with Hub((SPOKE, REGION), (OTHER, REGION), workers=2) as hub:
        other = hub.trials[TargetId("aws", OTHER, REGION)]
        opened(hub, "a", "b")
        left = iter(lists)
        for minute in count():
            now = datetime.fromtimestamp(hub.clock.now // 60 * 60, UTC)
            if parents_due(wants, directory, now):
                listed = next(left, None)
                if listed is None:
                    break
                directory = {"r-root": merge(directory.get("r-root"), listed, now)}
            swept = targets(wants, directory, "aws")
            if other.target not in swept:
                gone.append(minute)
                if len(gone) == 10:
                    other.cloud.world.end("a")
                    other.cloud.world.disconnect("b")
                    start(other, "c")
            a_minute(hub, *(hub.trials.keys() - set(swept)))
        hub.settle()
        hub.check()
        # From the second list in a row without it to the first with it.
        assert gone == list(range(75, 105))
        assert told(hub)["Session Ended"] == 1
        assert told(hub)["Audit Degraded"] == 0


places = st.integers(0, len(TARGETS) - 1)
workers = st.integers(0, WORKERS - 1)
orders = st.randoms(use_true_random=False)


class Estate(RuleBasedStateMachine):
    """Five targets that are swept by three containers, one way or another."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub(*TARGETS, workers=WORKERS)
        self.hub.__enter__()
        self.gone: set[TargetId] = set()

    @initialize(shut=st.sampled_from(["", SPOKE]))
    def open(self, shut: str) -> None:
        """Let all have the same fleets and sessions, and perhaps one account not be there yet."""
        if shut:
            self.hub.roles.shut.add(shut)
        opened(self.hub, "a", "b")

    def target(self, place: int) -> TargetId:
        """Return a target."""
        return [*self.hub.trials][place]

    def trial(self, place: int) -> Trial:
        """Return what is known of a target."""
        return self.hub.trials[self.target(place)]

    # What happens in the world.

    @rule(
        these=st.sets(places, min_size=1),
        who=st.sampled_from(IDENTITIES),
        what=st.sampled_from(["connect", "disconnect", "end", "expire", "start"]),
    )
    def happen(self, these: Iterable[int], who: str, what: str) -> None:
        """Let the same happen in some targets."""
        for place in sorted(these):
            trial = self.trial(place)
            if who in trial.cloud.world.sessions:
                getattr(trial.cloud.world, "disconnect" if what == "start" else what)(who)
            elif what == "start":
                # An id that comes back is listed where it was: elsewhere it is another.
                start(trial, who, f"s1/{'f1' if who == 'a' else 'f2'}")

    @rule(place=places, what=st.sampled_from([(), ("s1/f1",), ("s1/f1", "s1/f2")]))
    def fail(self, place: int, what: tuple[str, ...]) -> None:
        """From now on these scopes of a target cannot be listed, or all can again."""
        failing(*what)(self.trial(place))

    @rule(account=st.sampled_from([SPOKE, OTHER]), after=st.integers(0, 8))
    def credentials_end(self, account: str, after: int) -> None:
        """Let the credentials of an account end, in the middle of a sweep or between two."""
        self.hub.roles.end_after[account] = after

    @rule(account=st.sampled_from([SPOKE, OTHER]), lets_in=st.booleans())
    def change_the_role(self, account: str, *, lets_in: bool) -> None:
        """Let an account delete its role, which ends its credentials, or have it again."""
        if lets_in:
            self.hub.roles.shut.discard(account)
        else:
            self.hub.roles.shut.add(account)
            self.hub.roles.end(account)

    @rule(place=places, stays=st.booleans())
    def come_and_go(self, place: int, *, stays: bool) -> None:
        """Take a target from the list of those that are swept, or put it back."""
        (self.gone.discard if stays else self.gone.add)(self.target(place))

    @rule(minutes=st.sampled_from([2, 7, 50]))
    def wait(self, minutes: int) -> None:
        """Let nobody be swept for a while."""
        self.hub.clock.advance(60 * minutes)

    # Messages, delivered one way or another.

    @rule(minutes=st.integers(1, 3), order=orders, twice=st.booleans())
    def minutes(self, minutes: int, order: Any, *, twice: bool) -> None:
        """Hand out the messages of some minutes, several at once; some come twice."""
        for _ in range(minutes):
            self.hub.clock.advance(60 - self.hub.clock.now % 60)
            waiting = [self.hub.message(each) for each in self.hub.trials if each not in self.gone]
            waiting += order.sample(waiting, len(waiting) // 2) if twice else []
            order.shuffle(waiting)
            while waiting:
                size = order.randint(1, 3)
                # What could not be listed is swept again by a message that repeats; the oracle takes an
                # invocation for one sweep of a target.
                batch = {each["body"]: each for each in waiting[:size]}
                self.hub.deliver(order.randrange(WORKERS), *batch.values())
                del waiting[:size]
        self.hub.check(settled=False)

    @rule(
        some=st.sets(places, min_size=1, max_size=2),
        sweeps=st.integers(2, WORKERS),
        order=orders,
    )
    def at_once(self, some: Iterable[int], sweeps: int, order: Any) -> None:
        """Hand the same messages to several containers at once."""
        self.hub.clock.advance(60)
        messages = [self.hub.message(self.target(place)) for place in sorted(some)]
        records = [tuple(order.sample(messages, len(messages))) for _ in range(sweeps)]
        self.hub.together(partial(drawn, order), *records)
        TALLY["orders of messages"] += 1
        self.hub.check(settled=False)

    @rule(place=places, at=st.integers(1, 12), others=st.integers(1, 3), who=st.sampled_from(IDENTITIES))
    def stall(self, place: int, at: int, others: int, who: str) -> None:
        """Let a sweep stall while others of its target are made every fifteen seconds, and somebody ends."""
        self.hub.clock.advance(60)
        go_on = self.hub.stall(at, self.hub.message(self.target(place)))
        for worker in range(others):
            self.hub.clock.advance(15)
            self.hub.deliver(worker, self.hub.message(self.target(place)))
            if who in self.trial(place).cloud.world.sessions:
                self.trial(place).cloud.world.expire(who)
        go_on()
        self.hub.check(settled=False)

    @rule(place=places, worker=workers, late=st.sampled_from([0, 1, 20, 59, 61, 3600]))
    def again(self, place: int, worker: int, late: float) -> None:
        """Hand out a message that is late, whether its target was swept since or not."""
        self.hub.deliver(worker, self.hub.message(self.target(place), late))
        self.hub.check(settled=False)

    @rule(
        place=places,
        worker=workers,
        at=st.integers(0, 10),
        blow=st.sampled_from([Blow.DIE_BEFORE, Blow.DIE_AFTER, Blow.FAIL_ONCE]),
    )
    def befall(self, place: int, worker: int, at: int, blow: Blow) -> None:
        """Let a container die in the middle, or a call fail."""
        self.hub.clock.advance(60)
        fault = Fault(at, blow, code="InternalServerError")
        self.hub.deliver(worker, self.hub.message(self.target(place)), faults=(fault,))
        self.hub.check(settled=False)

    def teardown(self) -> None:
        """Let everything recover, and hold every promise against what has happened."""
        TALLY["worlds of a hub"] += 1
        try:
            self.hub.settle()
            self.hub.check()
        finally:
            self.hub.__exit__(None, None, None)


Estate.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=20,
    suppress_health_check=list(HealthCheck),
)
TestHub = Estate.TestCase
