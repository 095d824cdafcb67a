"""The days that are played: small worlds that between them show every transition and every rule.

A scenario is a list of moments. At each one some seconds pass, the world changes, and a sweep is made.
The tests let faults fall on the sweep of any moment.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.oracle import Rules
from tests.simulation.trial import Trial

Change = Callable[[Trial], None]
MINUTE = 60
# For days in which many minutes pass between two sweeps: at this interval that alone is no hole.
PATIENCE = {"SWEEP_SCHEDULE": "rate(60 minutes)"}
PATIENT = Rules(hole=2 * 3600 + 50)


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


def start(trial: Trial, identity: str, scope: str = "s1/f1", ago: float = 30, **attributes: object) -> None:
    """Let a user of a name that would be noticed start to stream."""
    stack, fleet = scope.split("/")
    user = f"user-of-{identity}@example.com"
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
)
