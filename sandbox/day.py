"""A working day of a small company, as a script: who comes, who drops off, who forgets to log off.

Its administrator has two policies, and a fleet that cannot join its domain for an hour. Every line says what
happens in AppStream and, in the words of the event contract, what has to be told of it. The second is written
down here by hand, so that the demo can hold the auditor to it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

from sandbox.appstream.models import AppStreamBackend, Fault, Fleet, StreamingSession

DAY = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
CAD, GIS, RENDER = ("office", "cad"), ("office", "gis"), ("lab", "render")
SCOPES = (CAD, GIS, RENDER)
# Ended sessions stay away two sweeps before that is believed, so the day ends some minutes after them.
BEGIN, END = "07:58", "17:40"
# The administrator's document: what must not be. Tags tell who works by the hours.
TAGS = {"office": {"department": "planning"}, "lab": {"department": "research"}}
POLICIES: Mapping[str, Any] = {
    "version": 1,
    "timeZone": "UTC",
    "hours": {"office": {"days": "mon-fri", "from": "07:00", "to": "17:00"}},
    "policies": {
        "after-hours": {
            "kind": "OUTSIDE_HOURS",
            "hours": "office",
            "graceMinutes": 30,
            "tags": {"department": "planning"},
        },
        "two-at-most": {"kind": "TOO_MANY_SESSIONS", "limit": 2},
    },
}
# Whose session shows the whole of a story: left, told of as abandoned and about to end, ended.
FORGOTTEN = "farid"


@dataclass(frozen=True)
class Step:
    """Something that happens in AppStream at a time of day, and the events it has to cause."""

    at: datetime
    act: Callable[[AppStreamBackend], None]
    tells: tuple[str, ...] = ()


def time_of_day(text: str) -> datetime:
    hours, minutes = text.split(":")
    return DAY + timedelta(hours=int(hours), minutes=int(minutes))


def expected(steps: Iterable[Step]) -> Counter[str]:
    """Count what has to be told by the end of the day, by detail-type."""
    return Counter(f"AppStream {each}" for step in steps for each in step.tells)


def login(
    at: str,
    session: str,
    scope: tuple[str, str],
    *more: str,
    lasts: timedelta = 14 * HOUR,
    connected: bool = True,
) -> Step:
    """Begin a session; a user's second one has a number behind the name."""
    start = time_of_day(at)

    def act(appstream: AppStreamBackend) -> None:
        appstream.sessions[session] = StreamingSession(
            session_id=f"{session}-{start:%H%M}",
            user_id=f"{session.rstrip('0123456789')}@example.com",
            stack_name=scope[0],
            fleet_name=scope[1],
            connection_state="CONNECTED" if connected else "NOT_CONNECTED",
            authentication_type="SAML",
            start_time=start,
            max_expiration_time=start + lasts,
            instance_id=f"i-{crc32(session.encode()):08x}",
        )

    return Step(start, act, ("Session Started", *more))


def connection(at: str, user: str, state: str, *tells: str) -> Step:
    def act(appstream: AppStreamBackend) -> None:
        appstream.sessions[user].connection_state = state

    return Step(time_of_day(at), act, tells)


def connects(at: str, user: str) -> Step:
    return connection(at, user, "CONNECTED", "Session Connected")


def drops(at: str, user: str, *more: str) -> Step:
    return connection(at, user, "NOT_CONNECTED", "Session Disconnected", *more)


def returns(at: str, user: str) -> Step:
    return connection(at, user, "CONNECTED", "Session Reconnected")


def ends(at: str, user: str, *more: str) -> Step:
    def act(appstream: AppStreamBackend) -> None:
        appstream.ended.append((appstream.sessions.pop(user), time_of_day(at)))

    return Step(time_of_day(at), act, (*more, "Session Ended"))


def looks_in(at: str, user: str, scope: tuple[str, str], *, seconds: int) -> Step:
    """Come after the sweep of that minute, and go before the next: nothing can be told of it."""
    came, begin = login(at, user, scope), time_of_day(at) + timedelta(seconds=15)

    def act(appstream: AppStreamBackend) -> None:
        came.act(appstream)
        session = replace(appstream.sessions.pop(user), start_time=begin)
        appstream.ended.append((session, begin + timedelta(seconds=seconds)))

    return Step(begin, act)


def listing_fails(at: str, until: str, fleet: str) -> tuple[Step, Step]:
    fault = Fault("InternalServiceException", fleet_name=fleet)
    return (
        Step(time_of_day(at), lambda appstream: appstream.faults.append(fault), ("Audit Degraded",)),
        Step(time_of_day(until), lambda appstream: appstream.faults.remove(fault), ("Audit Recovered",)),
    )


def fails(at: str, until: str, fleet: str, code: str, message: str) -> tuple[Step, Step]:
    def break_it(appstream: AppStreamBackend) -> None:
        appstream.fleets[fleet].errors[code] = message

    def mend_it(appstream: AppStreamBackend) -> None:
        appstream.fleets[fleet].errors.clear()

    return (
        Step(time_of_day(at), break_it, ("Fleet Faulted",)),
        Step(time_of_day(until), mend_it, ("Fleet Recovered",)),
    )


def opening(appstream: AppStreamBackend) -> None:
    """Put the fleets in place, and the session that was there before the audit: a baseline is silent."""
    for stack, fleet in SCOPES:
        appstream.add_scope(stack, Fleet(fleet, disconnect_timeout=3600))
        appstream.stacks[stack].tags = TAGS[stack]
    login("06:00", "night.shift", RENDER).act(appstream)


EARLY = {
    "alice": "08:01",
    "bruno": "08:04",
    "chiara": "08:04",
    "deniz": "08:11",
    "elena": "08:17",
    FORGOTTEN: "08:30",
}
LATE = {"grace": "09:02", "hiro": "09:15", "ivan": "09:15"}
EXPIRED_PASSWORD = ("DOMAIN_JOIN_NERR_PASSWORD_EXPIRED", "The password of the account has expired.")
LUNCH = {
    "alice": ("12:02", "12:31"),
    "bruno": ("12:02", "12:40"),
    "deniz": ("12:02", "12:40"),
    "elena": ("12:10", "12:22"),
}

STEPS = sorted(
    [
        *(login(at, user, CAD if number % 2 else GIS) for number, (user, at) in enumerate(EARLY.items())),
        *(login(at, user, RENDER) for user, at in LATE.items()),
        # A session is asked for, and its user connects two minutes later.
        login("08:20", "jonas", CAD, connected=False),
        connects("08:22", "jonas"),
        # Nobody ever connects to this one.
        login("09:30", "kiosk", GIS, connected=False),
        Step(time_of_day("09:45"), lambda _: None, ("Session Abandoned",)),
        Step(time_of_day("10:30"), lambda _: None, ("Session Abandoned",)),
        ends("10:40", "kiosk"),
        # The network blinks.
        drops("10:15", "chiara"),
        returns("10:19", "chiara"),
        # Somebody has the wrong fleet, and leaves at once.
        looks_in("11:20", "nora", CAD, seconds=30),
        # Lunch; whoever is away for a quarter of an hour leaves a machine running.
        *(
            drops(
                away,
                user,
                *(["Session Abandoned"] if time_of_day(back) - time_of_day(away) > HOUR / 4 else []),
            )
            for user, (away, back) in LUNCH.items()
        ),
        *(returns(back, user) for user, (_, back) in LUNCH.items()),
        # For some minutes a fleet cannot be listed; who leaves meanwhile is told of afterwards.
        *listing_fails("13:30", "13:40", "render"),
        ends("13:34", "ivan"),
        # Off to a meeting and home, the session forgotten: ended when its fleet's hour is over.
        drops("14:00", FORGOTTEN, "Session Abandoned", "Session Expiring", "Session Expiring"),
        ends("15:00", FORGOTTEN),
        # Three sessions at once, where two are allowed: the third is too many, until the second ends.
        login("14:00", "hiro2", CAD, lasts=8 * HOUR),
        login("14:28", "hiro3", GIS, "Session Policy Violated", lasts=8 * HOUR),
        ends("14:59", "hiro2", "Session Policy Cleared"),
        ends("15:44", "hiro3"),
        # The password has expired with which a fleet's new hosts join their domain.
        *fails("14:25", "15:25", "cad", *EXPIRED_PASSWORD),
        # A session that reaches its maximum, warned of an hour, a quarter and five minutes before.
        login("08:00", "lucia", GIS, lasts=8 * HOUR),
        ends("16:00", "lucia", *["Session Expiring"] * 3),
        # Everybody goes home, but one stays longer than half an hour after hours.
        *(ends("17:29", user) for user in ("alice", "bruno", "chiara", "deniz", "grace", "hiro", "jonas")),
        ends("17:34", "elena", "Session Policy Violated", "Session Policy Cleared"),
    ],
    key=lambda step: step.at,
)
