"""The days that are played: small worlds that between them show every transition and every rule.

A scenario is a list of moments. At each one some seconds pass, the world changes, and a sweep is made.
The tests let faults fall on the sweep of any moment.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.simulation.oracle import Rules
from tests.simulation.trial import POLICIES, Trial

Change = Callable[[Trial], None]
MINUTE = 60
# For days in which many minutes pass between two sweeps: at this interval that alone is no hole.
PATIENCE = {"SWEEP_EVERY": "3600"}
PATIENT = Rules(hole=2 * 3600 + 50)
RULED = {"POLICIES_PARAMETER": POLICIES}
TAGGED = {"TAG_KEYS": "team"}


@dataclass(frozen=True)
class Moment:
    """Time passes, the world changes, a sweep is made."""

    seconds: float = MINUTE
    change: Change = lambda _: None


@dataclass(frozen=True)
class Scenario:
    """A day: its name, its moments, and how the auditor is set up for it."""

    name: str
    moments: tuple[Moment, ...]
    environment: dict[str, str] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)


def start(
    trial: Trial,
    identity: str,
    scope: str = "s1/f1",
    ago: float = 30,
    whose: str = "",
    **attributes: object,
) -> None:
    """Let a user of a name that would be noticed start to stream; `whose` is a session of the same user."""
    stack, fleet = scope.split("/")
    user = f"user-of-{whose or identity}@example.com"
    trial.users.add(user)
    at = trial.cloud.clock.now - ago
    trial.cloud.world.start(identity, stack, fleet, at=at, user=user, **attributes)  # type: ignore[arg-type]


def office(trial: Trial) -> None:
    """Set up one stack with one fleet, on which nobody streams."""
    trial.cloud.world.fleet("f1", "s1")


def first_day(trial: Trial) -> None:
    """Set up an office where three already stream, of whom one is not connected."""
    office(trial)
    start(trial, "old", ago=3600)
    start(trial, "idle", ago=3600, connected=False)
    start(trial, "short", ago=3600, hours=1.05)


def arrive(*identities: str, **attributes: object) -> Change:
    """Let users start to stream."""

    def change(trial: Trial) -> None:
        for identity in identities:
            start(trial, identity, **attributes)  # type: ignore[arg-type]

    return change


def each(verb: str, *identities: str) -> Change:
    """Let the same happen to several streaming sessions."""

    def change(trial: Trial) -> None:
        for identity in identities:
            getattr(trial.cloud.world, verb)(identity)

    return change


def all_of(*changes: Change) -> Change:
    """Let several things happen."""

    def change(trial: Trial) -> None:
        for one in changes:
            one(trial)

    return change


def world(verb: str, *arguments: object, **attributes: object) -> Change:
    """Let something happen to stacks and fleets."""
    return lambda trial: getattr(trial.cloud.world, verb)(*arguments, **attributes)


def failing(*scopes: str, operation: str = "DescribeSessions", after_a_page: bool = False) -> Change:
    """From now on these scopes, or stacks, cannot be listed (whole); none lets all recover."""

    def change(trial: Trial) -> None:
        def fails(called: str, params: object) -> str | None:
            assert isinstance(params, dict)
            named = "/".join(params[name] for name in ("StackName", "FleetName") if name in params)
            fails_now = (
                called == operation and named in scopes and ("NextToken" in params or not after_a_page)
            )
            return "ThrottlingException" if fails_now else None

        trial.cloud.appstream.fails = fails

    return change


def deploy(**environment: str) -> Change:
    """Change the settings."""
    return lambda trial: trial.deploy(**environment)


def denied(operation: str) -> Change:
    """From now on an operation is refused."""

    def change(trial: Trial) -> None:
        trial.cloud.appstream.fails = lambda called, _: (
            "AccessDeniedException" if called == operation else None
        )

    return change


def refusing(*types: str) -> Change:
    """AppStream does not take these AuthenticationTypes."""

    def change(trial: Trial) -> None:
        trial.cloud.appstream.refused_types = frozenset(types)

    return change


def policies(zone: str = "UTC", hours: str = "mon-sun 00:00 24:00", **named: dict[str, Any]) -> Change:
    """Let an administrator store policies; hours are days, begin and end."""
    days, begin, end = hours.split()
    document = {
        "version": 1,
        "timeZone": zone,
        "hours": {"office": {"days": days, "from": begin, "to": end}},
        "policies": {name.replace("_", "-"): policy for name, policy in named.items()},
    }
    return world("write_document", POLICIES, document)


def too_long(*minutes: int, **filters: Any) -> dict[str, Any]:
    """Return a policy that no session lasts longer."""
    return {"kind": "TOO_LONG", "minutes": list(minutes)} | filters


AFTER_HOURS: dict[str, Any] = {"kind": "OUTSIDE_HOURS", "hours": "office", "graceMinutes": 2}
BROKEN = '{"version": 1, "timeZone": "UTC", "policies": {"too-long": {"kind": "TOO_LONG", "minutes": []}}}'


def begin_at(moment: str) -> Change:
    """Let it be later, before anything has happened."""
    return lambda trial: _wait_until(trial, datetime.fromisoformat(moment).timestamp())


def _wait_until(trial: Trial, at: float) -> None:
    trial.wait(at - trial.cloud.clock.now)


def drain(*identities: str, status: str = "DRAINING") -> Change:
    """Let the hosts of sessions drain, or not."""

    def change(trial: Trial) -> None:
        for identity in identities:
            trial.cloud.world.change(identity, InstanceDrainStatus=status)

    return change


def small_pages(trial: Trial) -> None:
    """Let AppStream answer with one session a page."""
    trial.cloud.appstream.most_a_page = 1


SCENARIOS = (
    Scenario(
        "a session's life",
        (
            Moment(0, office),
            Moment(MINUTE, arrive("a", connected=False)),
            Moment(MINUTE, each("connect", "a")),
            Moment(MINUTE, each("disconnect", "a")),
            Moment(MINUTE, each("connect", "a")),
            Moment(MINUTE, each("end", "a")),
            Moment(),
        ),
    ),
    Scenario(
        "a baseline, and what it still tells",
        (
            Moment(0, first_day),
            Moment(),
            Moment(15 * MINUTE),
            Moment(MINUTE, each("end", "old", "short")),
            Moment(),
        ),
        PATIENCE,
        PATIENT,
    ),
    Scenario(
        "a baseline that is told",
        (Moment(0, first_day), Moment(), Moment(MINUTE, each("end", "old"))),
        {"BASELINE_EVENTS": "true"},
        Rules(baseline_events=True),
    ),
    Scenario(
        "several at once",
        (
            Moment(0, office),
            Moment(MINUTE, arrive("a", "b", "c")),
            Moment(MINUTE, all_of(each("disconnect", "a", "b"), each("expire", "c"), arrive("d"))),
            Moment(MINUTE, all_of(each("connect", "a"), each("end", "c", "d"))),
            Moment(MINUTE, all_of(each("end", "b"), arrive("e"))),
            Moment(),
        ),
    ),
    Scenario(
        "a user who forgets, up to the timeout",
        (
            Moment(0, all_of(world("fleet", "f1", "s1", disconnect_timeout=5400), arrive("a"))),
            Moment(MINUTE, each("disconnect", "a")),
            Moment(16 * MINUTE),
            Moment(20 * MINUTE),
            Moment(25 * MINUTE),
            Moment(20 * MINUTE),
            Moment(5 * MINUTE),
            Moment(6 * MINUTE, each("end", "a")),
        ),
        PATIENCE,
        PATIENT,
    ),
    Scenario(
        "a user who drops twice",
        (
            Moment(0, all_of(world("fleet", "f1", "s1", disconnect_timeout=1800), arrive("a"))),
            Moment(MINUTE, each("disconnect", "a")),
            Moment(16 * MINUTE),
            Moment(MINUTE, each("connect", "a")),
            Moment(MINUTE, each("disconnect", "a")),
            Moment(16 * MINUTE),
            Moment(10 * MINUTE),
            Moment(5 * MINUTE, each("end", "a")),
        ),
        PATIENCE,
        PATIENT,
    ),
    Scenario(
        "a session that hits its maximum",
        (
            Moment(0, all_of(office, arrive("a", hours=2.0, connected=False))),
            Moment(50 * MINUTE),
            Moment(11 * MINUTE),
            Moment(45 * MINUTE, each("connect", "a")),
            Moment(10 * MINUTE),
            Moment(MINUTE),
            Moment(4 * MINUTE, each("end", "a")),
        ),
        PATIENCE,
        PATIENT,
    ),
    Scenario(
        "a gap of hours",
        (
            Moment(0, all_of(office, arrive("a", "b", hours=3.0), arrive("c", connected=False))),
            Moment(MINUTE, each("disconnect", "a")),
            Moment(176 * MINUTE, all_of(each("end", "a"), arrive("d", ago=9000))),
            Moment(),
        ),
    ),
    Scenario(
        "a scope that fails and recovers",
        (
            Moment(
                0, all_of(world("fleet", "f1", "s1"), world("fleet", "f2", "s1"), arrive("a", scope="s1/f1"))
            ),
            Moment(MINUTE, arrive("b", scope="s1/f2")),
            Moment(MINUTE, all_of(failing("s1/f2"), each("end", "b"), each("disconnect", "a"))),
            Moment(MINUTE, arrive("c", scope="s1/f2")),
            Moment(MINUTE, each("connect", "a")),
            Moment(MINUTE, failing()),
            Moment(),
        ),
    ),
    Scenario(
        "a scope that fails at first",
        (
            Moment(0, all_of(office, arrive("a", ago=600), failing("s1/f1"))),
            Moment(MINUTE, arrive("b", ago=10)),
            Moment(MINUTE, failing()),
            Moment(MINUTE, each("end", "a", "b")),
        ),
    ),
    Scenario(
        "a failed listing between two misses",
        (
            Moment(0, all_of(office, arrive("a", "b"))),
            Moment(MINUTE, each("end", "a")),
            Moment(MINUTE, failing("s1/f1")),
            Moment(MINUTE, failing()),
        ),
    ),
    Scenario(
        "fleets that appear and vanish",
        (
            Moment(
                0,
                all_of(
                    world("fleet", "f1", "s1", "s2"), arrive("a", scope="s1/f1"), arrive("b", scope="s2/f1")
                ),
            ),
            Moment(MINUTE, all_of(world("fleet", "f2", "s2"), arrive("c", scope="s2/f2"))),
            Moment(MINUTE, world("remove_stack", "s1")),
            Moment(MINUTE, world("remove_fleet", "f2")),
            Moment(),
        ),
    ),
    Scenario(
        "a stack whose fleets cannot be listed",
        (
            Moment(
                0,
                all_of(
                    world("fleet", "f1", "s1", "s2"), arrive("a", scope="s1/f1"), arrive("b", scope="s2/f1")
                ),
            ),
            Moment(
                MINUTE, all_of(failing("s2", operation="ListAssociatedFleets"), each("disconnect", "a", "b"))
            ),
            Moment(MINUTE, each("end", "b")),
            Moment(MINUTE, failing()),
            Moment(),
        ),
    ),
    Scenario(
        "an id that comes back",
        (
            Moment(0, office),
            Moment(MINUTE, arrive("a")),
            Moment(MINUTE, each("end", "a")),
            Moment(),
            Moment(MINUTE, arrive("a")),
            Moment(MINUTE, each("expire", "a")),
            Moment(),
        ),
    ),
    Scenario(
        "what AWS leaves out",
        (
            Moment(0, office),
            Moment(MINUTE, arrive("a", hours=None, connected=None, authentication=None)),
            Moment(MINUTE, each("connect", "a")),
            Moment(
                MINUTE, lambda trial: trial.cloud.world.change("a", without=["ConnectionState", "StartTime"])
            ),
            Moment(MINUTE, each("disconnect", "a")),
            Moment(
                MINUTE,
                lambda trial: trial.cloud.world.change("a", State="REBOOTING", ConnectionState="SLEEPING"),
            ),
            Moment(MINUTE, each("connect", "a")),
            Moment(MINUTE, each("end", "a")),
        ),
    ),
    Scenario(
        "a pause in which everybody may have worked",
        (
            Moment(0, all_of(world("fleet", "f1", "s1", disconnect_timeout=3600), arrive("old", ago=3600))),
            Moment(MINUTE, all_of(arrive("away"), arrive("never", "gone", connected=False))),
            Moment(MINUTE, each("disconnect", "away", "old")),
            Moment(120 * MINUTE, all_of(each("end", "gone"), arrive("new", ago=600, connected=False))),
            Moment(),
            Moment(4 * MINUTE, each("end", "new")),
            Moment(4 * MINUTE),
            Moment(4 * MINUTE, each("connect", "never")),
            Moment(4 * MINUTE, each("end", "never", "old")),
            Moment(),
        ),
    ),
    Scenario(
        "a scope that cannot be listed for long",
        (
            Moment(0, all_of(world("fleet", "f1", "s1", "s2", disconnect_timeout=900), arrive("a", "b"))),
            Moment(MINUTE, all_of(each("disconnect", "a"), arrive("c", scope="s2/f1"))),
            Moment(MINUTE, failing("s1/f1")),
            Moment(4 * MINUTE, each("disconnect", "c")),
            Moment(4 * MINUTE),
            Moment(4 * MINUTE, each("end", "b")),
            Moment(4 * MINUTE, failing()),
            Moment(),
            Moment(4 * MINUTE),
            Moment(4 * MINUTE, each("end", "a")),
            Moment(),
        ),
    ),
    Scenario(
        "a scope that is listed by half for long",
        (
            Moment(0, all_of(world("fleet", "f1", "s1", disconnect_timeout=900), small_pages)),
            Moment(MINUTE, arrive("a", "b")),
            Moment(MINUTE, failing("s1/f1", after_a_page=True)),
            Moment(4 * MINUTE, each("disconnect", "a")),
            Moment(4 * MINUTE),
            Moment(11 * MINUTE),
            Moment(4 * MINUTE, failing()),
            Moment(4 * MINUTE),
            Moment(4 * MINUTE),
            Moment(4 * MINUTE, each("end", "a")),
        ),
    ),
    Scenario(
        "a filter that changes, and changes back",
        (
            Moment(0, all_of(world("fleet", "f1", "s1", "s2"), arrive("old", ago=3600))),
            Moment(MINUTE, all_of(arrive("a"), arrive("b", scope="s2/f1"))),
            Moment(MINUTE, all_of(each("disconnect", "a"), failing("s1/f1"))),
            Moment(4 * MINUTE),
            Moment(4 * MINUTE),
            Moment(MINUTE, all_of(failing(), deploy(STACK_FILTER="*,!s1"))),
            Moment(MINUTE, each("connect", "a")),
            Moment(10 * MINUTE, all_of(each("disconnect", "a"), deploy(STACK_FILTER="*"))),
            Moment(MINUTE, each("end", "a")),
            Moment(),
        ),
    ),
    Scenario(
        "a list of types that is narrowed, and widened again",
        (
            Moment(0, all_of(office, deploy(AUTHENTICATION_TYPES="API,SAML"))),
            Moment(MINUTE, all_of(arrive("a"), arrive("b", authentication="SAML", connected=False))),
            Moment(MINUTE, deploy(AUTHENTICATION_TYPES="API")),
            Moment(MINUTE),
            Moment(MINUTE, deploy(AUTHENTICATION_TYPES="API,SAML")),
            Moment(MINUTE, each("end", "a", "b")),
            Moment(),
        ),
    ),
    Scenario(
        "a topology that cannot be read",
        (
            Moment(0, all_of(office, arrive("a"))),
            Moment(MINUTE, all_of(arrive("b"), denied("DescribeStacks"))),
            Moment(4 * MINUTE, each("end", "a")),
            Moment(4 * MINUTE),
            Moment(MINUTE, failing()),
            Moment(),
        ),
    ),
    Scenario(
        "types that there are not",
        (
            Moment(0, all_of(office, deploy(AUTHENTICATION_TYPES="auto"), refusing("AWS_AD"))),
            Moment(MINUTE, arrive("a", "b")),
            Moment(MINUTE, each("end", "a")),
            Moment(MINUTE, arrive("c", authentication="SAML")),
            Moment(MINUTE, each("end", "c")),
            Moment(),
        ),
    ),
    Scenario(
        "a session that changes hands, and its attributes",
        (
            Moment(0, office),
            Moment(MINUTE, arrive("a", "b")),
            Moment(MINUTE, lambda trial: trial.cloud.world.hand_over("a", "somebody-else@example.com")),
            Moment(MINUTE, lambda trial: trial.cloud.world.change("b", InstanceDrainStatus="DRAINING")),
            Moment(MINUTE, each("end", "a", "b")),
        ),
    ),
    Scenario(
        "fleets that fail and mend",
        (
            Moment(
                0,
                all_of(
                    world("fleet", "f1", "s1", MaxSessionsPerInstance=4),
                    world("fleet", "f2", "s1", InstanceType="stream.standard.large"),
                    world("tag", "stack", "s1", team="a"),
                    world("tag", "fleet", "f1", team="b"),
                ),
            ),
            Moment(MINUTE, all_of(world("fault", "f1", "DOMAIN_JOIN_ERROR"), arrive("a", scope="s1/f2"))),
            Moment(
                MINUTE,
                all_of(
                    world("fault", "f1", "DOMAIN_JOIN_ERROR", "A_ROLE"),
                    world("fault", "f2", "A_ROLE"),
                    world("tag", "fleet", "f1"),
                ),
            ),
            Moment(MINUTE, all_of(world("fault", "f1"), denied("DescribeFleets"))),
            Moment(MINUTE, all_of(denied("GetResources"), world("tag", "fleet", "f1", team="c"))),
            Moment(MINUTE, all_of(failing(), world("remove_fleet", "f2"), world("fault", "f1", "A_ROLE"))),
            Moment(),
        ),
        TAGGED,
    ),
    Scenario(
        "an evening after hours",
        (
            # 01:00 in Berlin. Nobody is to stream from 01:10, or 01:12 with grace, to 02:00.
            Moment(0, all_of(office, policies("Europe/Berlin", "mon-sun 02:00 01:10", late=AFTER_HOURS))),
            Moment(11 * MINUTE, arrive("a")),
            Moment(2 * MINUTE, arrive("b")),
            Moment(20 * MINUTE, each("disconnect", "a")),
            Moment(MINUTE, each("end", "b")),
            Moment(26 * MINUTE),
            Moment(MINUTE, each("end", "a")),
        ),
        PATIENCE | RULED,
        PATIENT,
    ),
    Scenario(
        "an evening on which clocks are put forward",
        (
            Moment(
                0,
                all_of(
                    # 01:55 in Berlin; 02:00 is 03:00, and 03:20 is twenty-five minutes from now.
                    begin_at("2026-03-29T00:55:00Z"),
                    all_of(office, policies("Europe/Berlin", "sat,sun 04:10 03:20", late=AFTER_HOURS)),
                    arrive("a", "b"),
                ),
            ),
            Moment(20 * MINUTE),
            Moment(8 * MINUTE, each("end", "b")),
            Moment(46 * MINUTE),
            Moment(2 * MINUTE, each("end", "a")),
        ),
        PATIENCE | RULED,
        PATIENT,
    ),
    Scenario(
        "an evening on which clocks are put back",
        (
            Moment(
                0,
                all_of(
                    # 02:25 in Berlin, for the first time.
                    begin_at("2026-10-25T00:25:00Z"),
                    all_of(office, policies("Europe/Berlin", "sat,sun 03:15 02:30", late=AFTER_HOURS)),
                    arrive("a"),
                ),
            ),
            Moment(15 * MINUTE),
            Moment(52 * MINUTE),
            Moment(42 * MINUTE),
            Moment(2 * MINUTE, each("end", "a")),
        ),
        PATIENCE | RULED,
        PATIENT,
    ),
    Scenario(
        "a user with sessions in two scopes, of which one fails",
        (
            Moment(
                0,
                all_of(
                    world("fleet", "f1", "s1"),
                    world("fleet", "f2", "s1"),
                    policies(two={"kind": "TOO_MANY_SESSIONS", "limit": 2}),
                    arrive("b", scope="s1/f2", whose="a"),
                ),
            ),
            Moment(MINUTE, arrive("c", "d", whose="a")),
            Moment(MINUTE, all_of(failing("s1/f2"), each("end", "b"), arrive("e", whose="a", ago=3600))),
            Moment(MINUTE, failing()),
            Moment(),
            Moment(MINUTE, all_of(failing("s1/f1"), each("end", "d", "e"))),
            Moment(MINUTE, failing()),
        ),
        RULED,
    ),
    Scenario(
        "sessions that are too long",
        (
            Moment(0, all_of(office, small_pages, policies(long=too_long(10, 20, fleets="f1")), arrive("a"))),
            Moment(11 * MINUTE, all_of(arrive("b", ago=3600), failing("s1/f1", after_a_page=True))),
            Moment(MINUTE, failing()),
            Moment(10 * MINUTE, arrive("c", ago=700)),
            Moment(MINUTE, each("expire", "a", "b")),
            Moment(MINUTE, each("end", "c")),
        ),
        PATIENCE | RULED,
        PATIENT,
    ),
    Scenario(
        "hosts that drain, and a pause",
        (
            Moment(0, all_of(office, small_pages, policies(host={"kind": "DRAINING", "minutes": [5]}))),
            Moment(MINUTE, all_of(arrive("a", "b"), drain("a"))),
            Moment(4 * MINUTE),
            Moment(2 * MINUTE, drain("b")),
            Moment(10 * MINUTE),
            Moment(4 * MINUTE),
            Moment(2 * MINUTE),
            Moment(MINUTE, all_of(drain("a", "b", status="ACTIVE"), failing("s1/f1", after_a_page=True))),
            Moment(MINUTE, all_of(failing(), each("end", "a"))),
        ),
        RULED,
    ),
    Scenario(
        "policies that are edited, broken, and removed",
        (
            Moment(0, all_of(office, policies(long=too_long(10)), arrive("a", ago=1800))),
            Moment(MINUTE, policies(long=too_long(10, 90))),
            Moment(MINUTE, all_of(world("break_document", POLICIES, BROKEN), arrive("b", ago=900))),
            Moment(MINUTE, all_of(world("remove_parameter", POLICIES), each("end", "b"))),
            Moment(MINUTE, policies(long=too_long(60), other=too_long(30))),
            Moment(MINUTE, deploy(POLICIES_PARAMETER="")),
            Moment(MINUTE, deploy(POLICIES_PARAMETER=POLICIES)),
        ),
        RULED,
    ),
    Scenario(
        "a policy for those of a tag, and a filter",
        (
            Moment(
                0,
                all_of(
                    world("fleet", "f1", "s1"),
                    world("tag", "fleet", "f1", team="a", other="x"),
                    policies(long=too_long(10, tags={"team": "a*"})),
                ),
            ),
            Moment(MINUTE, arrive("a", ago=1800)),
            Moment(MINUTE, all_of(denied("GetResources"), world("tag", "fleet", "f1", other="x"))),
            Moment(MINUTE, failing()),
            Moment(MINUTE, world("tag", "stack", "s1", team="ab")),
            Moment(MINUTE, deploy(STACK_FILTER="*,!s1")),
            Moment(MINUTE, deploy(STACK_FILTER="*")),
        ),
        TAGGED | RULED,
    ),
)

# In these, rules differ from those of another day, and nothing of what crashes and overlaps could tell apart.
OF_THE_SAME_STEPS = {
    "an evening on which clocks are put forward",
    "an evening on which clocks are put back",
    "sessions that are too long",
    "a policy for those of a tag, and a filter",
}
DISTURBED = tuple(each for each in SCENARIOS if each.name not in OF_THE_SAME_STEPS)
