"""`sessions`: who is on now, from the table or from AppStream itself.

The rows are those of `views`; this module asks for them and lays them out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

from rich.text import Text

from appstream_auditor.answers import Named, SessionRow, session_row
from appstream_auditor.deployment import Deployment
from appstream_auditor.errors import asking, refusal
from appstream_auditor.printing import Column
from appstream_auditor.targets import Place, place_columns
from session_auditor.errors import TopologyError
from session_auditor.listing import SessionLister
from session_auditor.model import (
    AuthenticationMode,
    Listing,
    Options,
    Presence,
    Snapshot,
    Stored,
    Target,
    Violation,
)
from session_auditor.plan import plan_sessions, plan_target
from session_auditor.stories import CAUSES, PRESENCES, moment, span
from session_auditor.topology import TopologyReader
from session_auditor.views import Filter, Row, Sort, live, ranking

# Whoever asks AppStream itself waits at a terminal.
ASKING_SECONDS = 120
WORKERS = 8


class Live(NamedTuple):
    """The rows of a target that are asked for, of how many, and what has to be said beside them.

    `seen` is when they were listed; `whole` unless something was not.
    """

    target: Named
    rows: tuple[Row, ...]
    total: int
    seen: datetime | None
    notes: list[str]
    whole: bool = True


def from_table(deployment: Deployment, wanted: Filter, clock: Callable[[], datetime]) -> Live:
    """Return the live sessions as the last sweep left them; raise QuestionError."""
    reader = deployment.reader
    snapshot = reader.snapshot(reader.target_alone())
    now = clock()
    rows = live(snapshot, now, deployment.options.hole)
    target = snapshot.target
    last = target.last_end if target else None
    notes = []
    if last is None:
        notes.append("nothing was ever swept: is the schedule enabled? `appstream-auditor doctor` tells")
    elif now - last > deployment.options.hole:
        notes.append(f"the last sweep ended {span(now - last)} ago; `appstream-auditor doctor` tells why")
    notes += [
        f"stack {gap.scope.stack}, fleet {gap.scope.fleet} could not be listed: {gap.reason}"
        for gap in (target.gaps if target else ())
        if gap.announced and gap.failing
    ]
    found = tuple(row for row in rows if wanted.wants(row, now))
    return Live(deployment.named, found, len(rows), last, notes)


def from_appstream(deployment: Deployment, wanted: Filter, clock: Callable[[], datetime]) -> Live:
    """Return the sessions that AppStream lists now, with what the table remembers of them.

    A user is asked for by UserId with each AuthenticationType, since AppStream refuses one without; a host by
    InstanceId; anything else by whole stacks and fleets. Raises QuestionError.
    """
    reader = deployment.reader
    snapshot = reader.snapshot(reader.target_alone())
    options = replace(deployment.options, stacks=wanted.stacks, fleets=wanted.fleets)
    target = snapshot.target or Target(first_begin=clock())
    only: dict[str, str] = {}
    if wanted.user != "*" and not set(wanted.user) & set("*?["):
        only = {"UserId": wanted.user}
        if options.authentication_types is None:
            target = replace(target, authentication=AuthenticationMode.BY_TYPE)
    elif wanted.host.startswith("i-"):
        only = {"InstanceId": wanted.host}
    lister = lister_of(deployment, only)
    listing = listed(lister, replace(snapshot, target=target), options, clock)
    notes = [
        f"stack {scope.stack}, fleet {scope.fleet} could not be listed: {failure.reason}"
        for scope, failure in sorted(listing.failed.items())
    ]
    rows = _found(deployment, snapshot, listing, options)
    seen = listing.observed_at
    found = tuple(row for row in rows if wanted.wants(row, seen))
    return Live(deployment.named, found, len(rows), seen, notes, not listing.failed)


def lister_of(
    deployment: Deployment, only: Mapping[str, str], keep_for: timedelta = timedelta()
) -> SessionLister:
    """Return what lists a target's sessions with the caller's credentials; raise QuestionError.

    `only` are further parameters of each call. The topology is kept for `keep_for`.
    """
    with asking("appstream"):
        client = deployment.appstream()
        topology = TopologyReader(client, workers=WORKERS, keep_for=keep_for)
        return SessionLister(client, topology, workers=WORKERS, user_id=str, only=only)


def listed(
    lister: SessionLister, snapshot: Snapshot, options: Options, clock: Callable[[], datetime]
) -> Listing:
    """Return what AppStream lists now; raise QuestionError."""
    begin = clock()

    def time_left() -> float:
        return ASKING_SECONDS - (clock() - begin).total_seconds()

    with asking("appstream"):
        try:
            return lister.list(snapshot, options, begin, clock, time_left)
        except TopologyError as error:
            raise refusal(error.reason, "appstream:DescribeStacks") from None


def _found(deployment: Deployment, snapshot: Snapshot, listing: Listing, options: Options) -> tuple[Row, ...]:
    """Return rows of what was listed: what a sweep would find out, but for nothing being written."""
    kept = {name: stored for name, stored in snapshot.sessions.items() if name in listing.sessions}
    before = replace(snapshot, sessions=kept)
    target_id, sweep_id = deployment.target_id, "none"
    plan = plan_sessions(before, listing, options=options, target_id=target_id, sweep_id=sweep_id)
    target = plan_target(before, listing, {}, options=options, target_id=target_id, sweep_id=sweep_id).target
    # What was listed was seen, whatever else of its scope could not be.
    target = replace(target, gaps=())
    # Who violates a policy is a sweep's to say, which sees all sessions of a user: what it found stays.
    after = kept | {
        name: Stored(replace(write.remembered, violations=_violations(kept, name)), (), 1)
        for name, write in plan.writes.items()
        if write.remembered
    }
    return live(Snapshot(target=target, sessions=after), listing.observed_at, options.hole)


def _violations(known: Mapping[str, Stored], session_id: str) -> tuple[Violation, ...]:
    return known[session_id].remembered.violations if session_id in known else ()


def shown(found: Iterable[Live], sort: Sort, now: datetime) -> tuple[SessionRow, ...]:
    """Return the rows of all targets in one order."""
    rows = [(row, each.target) for each in found for row in each.rows]
    rows.sort(key=lambda each: each[1])
    rank = ranking(sort, now)
    return tuple(
        session_row(target, row, now) for row, target in sorted(rows, key=lambda each: rank(each[0]))
    )


def notes_of(found: Iterable[Live], place: Place) -> Iterator[str]:
    """Return what has to be said beside the rows, of which target if there are several."""
    for each in found:
        for note in each.notes:
            yield note if place is Place.NOTHING else f"{each.target.words}: {note}"


def columns(rows: Sequence[SessionRow], now: datetime, zone: tzinfo | None, *, place: Place) -> list[Column]:
    """Return the columns of the table; where there is no room for all, those of the highest rank go first."""

    def each(text: Callable[[SessionRow], str | Text]) -> list[str | Text]:
        return [text(row) for row in rows]

    violated = Column("POLICY", each(lambda row: row.policies.replace(",", ", ")), rank=1, elastic=True)
    found = [
        Column("USER", each(lambda row: row.user_id or "(not known)"), rank=0, elastic=True),
        Column("STATE", each(_state), rank=0),
        Column("AWAY", each(lambda row: _span(row.away_seconds)), rank=1, right=True),
        Column("ENDS", each(lambda row: moment(row.ends_at, zone, now)), rank=1, right=True),
        Column("IN", each(_left), rank=2, right=True),
        *([violated] if any(row.policies for row in rows) else []),
        Column("WHY", each(lambda row: CAUSES[row.cause]), rank=7),
        Column("STACK", each(lambda row: row.stack_name), rank=6),
        Column("FLEET", each(lambda row: row.fleet_name), rank=2),
        Column("SESSION", each(lambda row: row.session_id), rank=3, cut=8),
        Column("HOST", each(lambda row: row.instance_id), rank=5),
        Column("ADDRESS", each(lambda row: row.eni_private_ip_address), rank=8),
        Column("STARTED", each(lambda row: moment(row.start_time, zone, now)), rank=9, right=True),
    ]
    return [*place_columns(rows, place), *found]


def _state(row: SessionRow) -> Text:
    words = PRESENCES[row.presence]
    if not row.watched:
        # What is not listed may have changed since.
        return Text(f"{words}?", "dim")
    if row.abandoned_minutes:
        return Text(words, "red")
    return Text(words, "green" if row.presence is Presence.CONNECTED else "yellow")


def _left(row: SessionRow) -> str:
    if row.ends_in_seconds is None:
        return ""
    # It is past its end, and still listed.
    return span(timedelta(seconds=row.ends_in_seconds)) if row.ends_in_seconds else "overdue"


def _span(seconds: int) -> str:
    return span(timedelta(seconds=seconds)) if seconds else ""
