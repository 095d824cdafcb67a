"""The world at random, with crashes, sweeps at once and clocks that differ, held against the oracle.

hypothesis draws what happens and shrinks what breaks a promise to the shortest story that still does.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.simulation.aws import Blow, Cloud, Fault, Run
from tests.simulation.oracle import Rules
from tests.simulation.scenarios import BROKEN, denied, failing, refusing
from tests.simulation.test_crashes import settle
from tests.simulation.trial import (
    ENVIRONMENT,
    PARTITION,
    POLICIES,
    SESSION,
    TALLY,
    TARGET_ITEM,
    WORLD,
    Trial,
)

SCOPES = ("s1/f1", "s1/f2", "s2/f2")
IDENTITIES = "abcdefgh"
TIMEOUT = 1800
# What a session or its host may do; in capitals, what AWS says of the host.
HAPPENINGS = ("connect", "disconnect", "disconnect", "expire", "end", "DRAINING", "DRAINING", "ACTIVE")

scopes = st.sampled_from(SCOPES)
identities = st.sampled_from(IDENTITIES)
several = st.sets(identities, min_size=1, max_size=3)
# How many sweeps see what has happened before anything else does.
soon = st.integers(0, 3)
faults = st.builds(
    Fault,
    at=st.integers(0, 14),
    blow=st.sampled_from(Blow),
    code=st.sampled_from(["ThrottlingException", "InternalFailure", "InternalServerError", "NotAuthorized"]),
    mask=st.integers(0, 7),
    seconds=st.sampled_from([0.3, 1.0, 5.5, 20.0]),
)

# Nights on which clocks are put forward and back, and one like any other.
begins = st.sampled_from(["2026-01-01T00:00:00Z", "2026-03-28T23:00:00Z", "2026-10-24T23:00:00Z"])
hours = st.fixed_dictionaries(
    {
        "days": st.sampled_from(["mon-sun", "sat-mon", "sun", "thu,sat"]),
        "from": st.sampled_from(["00:00", "02:30", "03:15"]),
        "to": st.sampled_from(["01:30", "02:15", "24:00"]),
    },
    optional={"skip": st.sampled_from([["2026-03-29"], ["2026-10-25", "2026-01-01"]])},
)
minutes = st.sampled_from([[3], [10], [3, 10], [2, 5, 60]])
# Most policies are about everybody.
filters = st.sampled_from(
    [
        *({}, {}, {}, {}),
        *({"stacks": "s1"}, {"stacks": "!s1"}, {"fleets": "f2"}, {"fleets": "!f2,f*"}),
        *({"tags": {"team": "a"}}, {"tags": {"team": "!a*"}}),
    ]
)
kinds = st.one_of(
    st.fixed_dictionaries(
        {
            "kind": st.just("OUTSIDE_HOURS"),
            "hours": st.just("office"),
            "graceMinutes": st.sampled_from([0, 7, 90]),
        }
    ),
    st.fixed_dictionaries({"kind": st.just("TOO_LONG"), "minutes": minutes}),
    st.fixed_dictionaries({"kind": st.just("DRAINING"), "minutes": minutes}),
    st.fixed_dictionaries({"kind": st.just("TOO_MANY_SESSIONS"), "limit": st.sampled_from([1, 2])}),
)
policies = st.builds(lambda kind, those: kind | those, kinds, filters)
documents = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "timeZone": st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
        "hours": st.fixed_dictionaries({"office": hours}),
        "policies": st.fixed_dictionaries({"p": policies, "q": policies}, optional={"r": policies}),
    }
)


def nothing() -> None:
    """Do nothing: no sweep is stalled."""


class Estate(RuleBasedStateMachine):
    """Three scopes on which eight users come and go while sweeps are made, one way or another."""

    def __init__(self) -> None:
        super().__init__()
        self.cloud = Cloud()
        self.cloud.__enter__()
        self.trial = Trial(self.cloud)
        self.gone_since: dict[str, float] = {}
        # AWS gives an id once; here one may come back, but to its own scope only: elsewhere it is another.
        self.homes: dict[str, str] = {}
        # A session may be missed once by a listing that shifts; twice in a row would end it, as it should.
        self.seen_whole = False
        self.stalled: Callable[[], None] = nothing
        # How many users the sessions are of.
        self.users = len(IDENTITIES)

    @initialize(
        authentication=st.sampled_from(["auto", "API,SAML"]),
        unfiltered_lists_all=st.booleans(),
        a_page=st.sampled_from([1, 2, 50]),
        refused=st.sampled_from([(), ("USERPOOL",), ("AWS_AD", "USERPOOL")]),
        baseline_events=st.booleans(),
        here=st.sets(identities, min_size=2, max_size=4),
        tag_keys=st.sampled_from(["", "team"]),
        document=documents,
        parameter=st.sampled_from([POLICIES, POLICIES, ""]),
        users=st.sampled_from([8, 2]),
        begin=begins,
    )
    def open(
        self,
        *,
        authentication: str,
        unfiltered_lists_all: bool,
        a_page: int,
        refused: tuple[str, ...],
        baseline_events: bool,
        here: set[str],
        tag_keys: str,
        document: dict[str, Any],
        parameter: str,
        users: int,
        begin: str,
    ) -> None:
        """Set the estate up, with some who are there before the auditor is."""
        self.trial.wait(datetime.fromisoformat(begin).timestamp() - self.cloud.clock.now)
        self.users = users
        self.trial.environment = ENVIRONMENT | {
            "AUTHENTICATION_TYPES": authentication,
            "BASELINE_EVENTS": str(baseline_events).lower(),
            "TAG_KEYS": tag_keys,
            "POLICIES_PARAMETER": parameter,
        }
        self.store(document)
        self.trial.rules = Rules(baseline_events=baseline_events)
        self.cloud.appstream.unfiltered_lists_all = unfiltered_lists_all
        self.cloud.appstream.most_a_page = a_page
        refusing(*refused)(self.trial)
        for scope in SCOPES:
            self.open_fleet(scope)
        for identity in sorted(here):
            self.start(identity, SCOPES[0], 600, connected=True, saml=False, hours=2)

    # What happens in the world.

    def among(self, these: Iterable[str], drawn: set[str]) -> list[str]:
        """Return some of these sessions, as they were drawn: what happens should happen to somebody."""
        order = sorted(these)
        return sorted({order[IDENTITIES.index(each) % len(order)] for each in drawn}) if order else []

    def start(
        self, identity: str, scope: str, ago: int, *, connected: bool | None, saml: bool, hours: float | None
    ) -> None:
        """Let a user start to stream unless he does, or the fleet is gone."""
        stack, fleet = self.homes.setdefault(identity, scope).split("/")
        world = self.cloud.world
        if identity in world.sessions or fleet not in world.associations.get(stack, []):
            return
        user = f"user-of-{IDENTITIES[IDENTITIES.index(identity) % self.users]}@example.com"
        self.trial.users.add(user)
        world.start(
            *(identity, stack, fleet),
            at=self.cloud.clock.now - ago,
            user=user,
            hours=hours,
            connected=connected,
            authentication="SAML" if saml else "API",
        )

    @rule(
        who=several,
        scope=scopes,
        ago=st.sampled_from([5, 30, 300]),
        connected=st.sampled_from([True, False, None]),
        saml=st.booleans(),
        hours=st.sampled_from([16, 2, 0.5, None]),
        sweeps=soon,
    )
    def arrive(
        self,
        *,
        who: set[str],
        scope: str,
        ago: int,
        connected: bool | None,
        saml: bool,
        hours: float | None,
        sweeps: int,
    ) -> None:
        """Let users start to stream."""
        for identity in self.among(set(IDENTITIES) - self.cloud.world.sessions.keys(), who):
            self.start(identity, scope, ago, connected=connected, saml=saml, hours=hours)
        self.sweeps(sweeps)

    def happens(self, identity: str, what: str) -> None:
        """Let something happen to a session, or to its host."""
        if what.isupper():
            self.cloud.world.change(identity, InstanceDrainStatus=what)
            return
        getattr(self.cloud.world, what)(identity)
        if what == "disconnect":
            self.gone_since.setdefault(identity, self.cloud.clock.now)
        else:
            self.gone_since.pop(identity, None)

    @rule(who=several, what=st.sampled_from(HAPPENINGS), sweeps=soon)
    def happen(self, who: set[str], what: str, sweeps: int = 0) -> None:
        """Let the same happen to users who stream, or to their hosts."""
        for identity in self.among(self.cloud.world.sessions, who):
            self.happens(identity, what)
        self.sweeps(sweeps)

    @rule(
        identity=identities,
        attributes=st.sampled_from(
            [
                {"UserId": "user-of-somebody-else@example.com"},
                {"ConnectionState": "SLEEPING"},
                {"State": "REBOOTING"},
                {},
            ]
        ),
    )
    def change(self, identity: str, attributes: Mapping[str, Any]) -> None:
        """Let AWS say something else of a user who streams, or nothing of the connection."""
        for each in self.among(self.cloud.world.sessions, {identity}):
            without: Iterable[str] = () if attributes else ("ConnectionState",)
            self.trial.users.add("user-of-somebody-else@example.com")
            self.cloud.world.change(each, without, **attributes)

    @rule(
        fleet=st.sampled_from(["f1", "f2"]),
        codes=st.sets(st.sampled_from(["A", "B"])),
        size=st.integers(0, 2),
        sweeps=soon,
    )
    def fault(self, fleet: str, codes: set[str], size: int, sweeps: int) -> None:
        """Let a fleet have errors, or none, and be of another kind."""
        if fleet in self.cloud.world.fleets:
            self.cloud.world.fault(fleet, *sorted(codes))
            self.cloud.world.change_fleet(fleet, MaxSessionsPerInstance=size)
        self.sweeps(sweeps)

    @precondition(lambda self: self.trial.environment["TAG_KEYS"])
    @rule(
        resource=st.sampled_from([("fleet", "f1"), ("fleet", "f2"), ("stack", "s1")]),
        team=st.sampled_from(["a", "b", ""]),
    )
    def tag(self, resource: tuple[str, str], team: str) -> None:
        """Tag a fleet or a stack, or take its tag away."""
        world = self.cloud.world
        kind, name = resource
        if name in (world.fleets if kind == "fleet" else world.stacks):
            world.tag(kind, name, **({"team": team} if team else {}))

    @precondition(lambda self: self.trial.environment["POLICIES_PARAMETER"])
    @rule(document=documents | documents | st.sampled_from(["", "{}", BROKEN, None]), sweeps=soon)
    def store(self, document: dict[str, Any] | str | None, sweeps: int = 0) -> None:
        """Store policies, or what is no good document, or delete it."""
        world = self.cloud.world
        if document is None:
            world.remove_parameter(POLICIES)
        elif isinstance(document, str):
            world.break_document(POLICIES, document)
        else:
            named = {name: dict(policy) for name, policy in document["policies"].items()}
            for policy in named.values():
                if not self.trial.environment["TAG_KEYS"]:
                    # Policies that name tags are good ones only if these are asked for.
                    policy.pop("tags", None)
            world.write_document(POLICIES, document | {"policies": named})
        self.sweeps(sweeps)

    @rule(parameter=st.sampled_from(["", POLICIES]))
    def change_the_parameter(self, parameter: str) -> None:
        """Deploy without policies, or with them."""
        self.trial.deploy(POLICIES_PARAMETER=parameter)

    @rule(scope=scopes)
    def open_fleet(self, scope: str) -> None:
        """Let a fleet appear on a stack."""
        stack, fleet = scope.split("/")
        self.cloud.world.fleet(fleet, stack, disconnect_timeout=TIMEOUT)

    @rule(scope=scopes, whole=st.sampled_from(["fleet", "stack", "association"]))
    def close(self, scope: str, whole: str) -> None:
        """Let a fleet, a stack or an association vanish, with all that streams there."""
        stack, fleet = scope.split("/")
        world = self.cloud.world
        if whole == "fleet" and fleet in world.fleets:
            world.remove_fleet(fleet)
        elif whole == "stack" and stack in world.stacks:
            world.remove_stack(stack)
        elif fleet in world.associations.get(stack, []):
            world.disassociate(stack, fleet)

    @rule(what=st.sampled_from([(), ("s1/f1",), ("s1/f2", "s2/f2"), ("s1",), ("s1", "s2")]))
    def fail(self, what: Sequence[str]) -> None:
        """From now on these scopes, or these stacks' fleets, cannot be listed, or everything can again."""
        whole_stacks = bool(what) and "/" not in what[0]
        failing(*what, operation="ListAssociatedFleets" if whole_stacks else "DescribeSessions")(self.trial)

    @rule(scope=scopes)
    def fail_by_half(self, scope: str) -> None:
        """From now on a scope is listed up to its first page."""
        failing(scope, after_a_page=True)(self.trial)

    @rule(
        operation=st.sampled_from(
            ["DescribeStacks", "DescribeFleets", "ListAssociatedFleets", "GetResources", "GetParameter"]
        )
    )
    def deny(self, operation: str) -> None:
        """From now on an operation on the topology is refused."""
        denied(operation)(self.trial)

    @rule(stacks=st.sampled_from(["*", "*,!s1", "*,!s2"]))
    def change_the_filter(self, stacks: str) -> None:
        """Deploy with another filter."""
        self.trial.deploy(STACK_FILTER=stacks)
        self.seen_whole = False

    @precondition(lambda self: self.trial.environment["AUTHENTICATION_TYPES"] != "auto")
    @rule(types=st.sampled_from(["API,SAML", "API", "SAML"]))
    def change_the_types(self, types: str) -> None:
        """Deploy with another list of types."""
        self.trial.deploy(AUTHENTICATION_TYPES=types)
        self.seen_whole = False

    @rule(minutes=st.sampled_from([1, 5, 16, 61, 200, 2 * 24 * 60]))
    def wait(self, minutes: int) -> None:
        """Let time pass, up to a gap of days; AWS ends what is overdue."""
        self.trial.wait(minutes * 60)
        now = self.cloud.clock.now
        for identity, record in list(self.cloud.world.sessions.items()):
            maximum = record.get("MaxExpirationTime")
            away = self.gone_since.get(identity, now)
            if (maximum is not None and maximum.timestamp() <= now) or now - away >= TIMEOUT:
                self.cloud.world.end(identity)
                self.gone_since.pop(identity, None)

    # Sweeps, one way or another.

    def made(self, run: Run) -> None:
        """Look at a sweep that is over."""
        self.seen_whole = bool(run.result) and run.result["scopesFailed"] == 0
        self.trial.check(settled=False)

    def sweeps(self, number: int) -> None:
        """Make sweeps with nothing in their way."""
        for _ in range(number):
            self.made(self.trial.wait(60).sweep())

    @rule(number=st.integers(1, 8))
    def sweep(self, number: int) -> None:
        """Let minutes pass."""
        self.sweeps(number)

    @rule(these=st.lists(faults, min_size=1, max_size=2))
    def sweep_under_faults(self, these: Sequence[Fault]) -> None:
        """Make a sweep that something befalls."""
        TALLY["crash points"] += 1
        self.made(self.trial.wait(60).sweep(*these))
        self.seen_whole = False

    @rule(key=st.sampled_from([TARGET_ITEM, *(f"{SESSION}{identity}" for identity in "ab")]))
    def sweep_while_another_transaction_runs(self, key: str) -> None:
        """Make a sweep while somebody else's transaction holds an item."""
        locked = self.cloud.dynamodb.tables["table"].locked
        locked.add((PARTITION, key))
        try:
            self.made(self.trial.wait(60).sweep())
        finally:
            locked.clear()
        self.seen_whole = False

    @rule(skew=st.sampled_from([-45.0, -5.0, 5.0, 45.0]))
    def sweep_with_another_clock(self, skew: float) -> None:
        """Make a sweep in a container whose clock differs."""
        self.made(self.trial.wait(60).sweep(skew=skew))

    @precondition(lambda self: self.seen_whole)
    @rule(after=st.integers(0, 6), who=identities, scope=scopes)
    def sweep_while_pages_shift(self, after: int, who: str, scope: str) -> None:
        """Make a sweep in the middle of whose listing somebody comes to the list's head, or goes."""
        pages = iter(range(1_000))

        def shift(_run: Run, operation: str, _params: Mapping[str, Any]) -> None:
            if operation == "DescribeSessions" and next(pages) == after:
                if who in self.cloud.world.sessions:
                    self.happens(who, "end")
                else:
                    self.start(who, scope, 1, connected=True, saml=False, hours=16)

        self.cloud.hook = shift
        try:
            self.made(self.trial.wait(60).sweep())
        finally:
            self.cloud.hook = None
        self.seen_whole = False

    @rule(sweeps=st.integers(2, 3), order=st.randoms(use_true_random=False), who=several, world=st.booleans())
    def sweeps_at_once(self, sweeps: int, order: Any, who: set[str], world: bool) -> None:
        """Make sweeps at once, while users drop off or not."""
        world = world and self.seen_whole
        change = (lambda: self.happen(who, "disconnect")) if world else None
        self.trial.wait(60).together(lambda going: order.choice(list(going)), change, sweeps)
        assert WORLD < 0
        self.trial.check(settled=False)
        self.seen_whole = False

    @precondition(lambda self: self.seen_whole)
    @rule(at=st.integers(0, 14))
    def a_sweep_stalls(self, at: int) -> None:
        """Let a sweep come to a stand before one of its calls; it may wake up minutes later."""
        self.a_sweep_wakes_up()
        TALLY["stalled sweeps"] += 1
        self.stalled = self.trial.wait(60).stall(at, seconds=300)
        self.seen_whole = False

    @rule()
    def a_sweep_wakes_up(self) -> None:
        """Let the sweep that stalled go on to its end, unless its time is up."""
        self.stalled()
        self.stalled = nothing
        self.trial.check(settled=False)
        self.seen_whole = False

    def teardown(self) -> None:
        """Let everything recover, and hold every promise against what has happened."""
        TALLY["worlds"] += 1
        try:
            self.a_sweep_wakes_up()
            settle(self.trial)
            self.trial.check()
        finally:
            self.cloud.__exit__(None, None, None)


Estate.TestCase.settings = settings(
    max_examples=500,
    stateful_step_count=30,
    suppress_health_check=list(HealthCheck),
)
TestWorld = Estate.TestCase
