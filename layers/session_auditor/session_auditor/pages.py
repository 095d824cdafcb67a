"""How the board looks: HTML for a CloudWatch custom widget.

Plain data in, text out. The console keeps no script and few attributes, so there is none: what can be clicked
is an element followed by its cwdb-action. Every value is escaped in `_text`; all styles are below one class.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from html import escape
from json import dumps
from typing import NamedTuple

from session_auditor.model import Fault as FleetFault
from session_auditor.model import Gap, Life, Presence
from session_auditor.stories import (
    CAUSES,
    END_REASONS,
    PRESENCES,
    Told,
    hours,
    moment,
    span,
    state_of,
    story,
    violations_of,
)
from session_auditor.views import Fault, On, Row, Status, levels
from session_auditor.wording import zone_name

ROWS_LIMIT = 200
LINES_LIMIT = 40
GAPS_LIMIT = 5
FAULTS_LIMIT = 5
HUB_FAULTS_LIMIT = 10
# Policies that are named of one session.
POLICIES_LIMIT = 2
SLOTS = 96
DAY = timedelta(days=1)


class View(StrEnum):
    """What the board shows."""

    LIVE = "live"
    FLEET = "fleet"
    USER = "user"
    EXPLAIN = "explain"


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is shown: the function that an action calls, the console's theme, the reader's time zone.

    `width` is the widget's, in pixels: what there is no room for is left out, the least of it first.
    """

    endpoint: str
    dark: bool
    zone: tzinfo
    now: datetime
    width: int = 1_200


class Where(NamedTuple):
    """A target of a hub; `name` is that of its account, "" if that is not known."""

    account_id: str
    region: str
    name: str = ""

    @property
    def words(self) -> str:
        """What people call it."""
        return f"{self.name or self.account_id} {self.region}".strip()

    @property
    def parameters(self) -> dict[str, str]:
        """What an action has to say of it; nothing where there is but one."""
        return {"account": self.account_id, "region": self.region} if self.account_id else {}


# The one target that there is.
HERE = Where("", "")


@dataclass(frozen=True, slots=True)
class Glance:
    """A target of a hub at a glance, and what is wrong with its audit."""

    where: Where
    status: Status
    faults: Sequence[Fault]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, its cells as HTML; left out where the widget is narrower than `from_width`."""

    name: str
    cells: Sequence[str]
    number: bool = False
    from_width: int = 0


# The words of the form's states; who violates a policy has one, too, wherever its user is.
VIOLATING = "violating"
STATES: Mapping[str, frozenset[Presence]] = {
    "everybody": frozenset(Presence),
    "away": frozenset([Presence.DISCONNECTED, Presence.NEVER_CONNECTED]),
    "connected": frozenset([Presence.CONNECTED]),
    VIOLATING: frozenset(Presence),
}


@dataclass(frozen=True, slots=True)
class Search:
    """What somebody typed into the form: parts of names, whatever their case; nothing asks for everything."""

    user: str = ""
    fleet: str = ""
    state: str = ""
    account: str = ""

    def wants_of(self, where: Where) -> bool:
        """Return whether sessions of a target are searched for, by the number or the name of its account."""
        return any(self.account.casefold() in each.casefold() for each in (where.account_id, where.name))

    def wants(self, row: Row) -> bool:
        """Return whether a row is searched for."""
        session = row.session
        return (
            self.user.casefold() in session.user_id.casefold()
            and self.fleet.casefold() in session.scope.fleet.casefold()
            and row.presence in STATES.get(self.state, STATES["everybody"])
            and (self.state != VIOLATING or bool(row.policies))
        )


def live_page(
    status: Status,
    faults: Sequence[Fault],
    fleets: str,
    found: Sequence[Row],
    *,
    search: Search,
    place: Place,
) -> str:
    """Return the first page: totals, what is wrong, the fleets (`fleet_table`), and who was searched for."""
    head = [
        _totals(status, place),
        _faults(status, faults, place),
        _fleet_faults(status.faulted, place),
        fleets,
    ]
    return _page([*head, _form(search, place), _sessions(found, place)], place)


def hub_page(
    glances: Sequence[Glance],
    rows: Sequence[tuple[Where, Row]],
    found: Sequence[tuple[Where, Row]],
    *,
    search: Search,
    place: Place,
) -> str:
    """Return the first page of a hub: totals of its targets, what is wrong where, fleets, and sessions.

    `rows` are all that live, `found` those that were searched for.
    """
    head = [
        _hub_totals(glances),
        _hub_faults(glances, place),
        _hub_fleets(rows, place),
        _form(search, place, several=True),
    ]
    return _page([*head, _sessions([row for _, row in found], place, [where for where, _ in found])], place)


def fleet_page(
    fleet: str,
    rows: Sequence[Row],
    ended: Iterable[Life],
    errors: Sequence[FleetFault],
    place: Place,
    *,
    where: Where = HERE,
) -> str:
    """Return a fleet: its errors, its last day as a line, and who is on.

    `ended` are the day's other sessions.
    """
    on = [*((row.start, None) for row in rows), *((life.start, life.end) for life in ended)]
    day = levels(on, place.now - DAY, place.now, SLOTS)
    connected = sum(row.presence is Presence.CONNECTED for row in rows)
    facts = f"{len(rows):,} live, {connected:,} connected; most at once in 24 hours: {max(day):,}"
    head = [
        _title(f"Fleet {fleet}", place, where),
        _fleet_faults(errors, place, where),
        f"<p>{_text(facts)}</p>",
    ]
    return _page([*head, _line(day, "wide"), _sessions(rows, place, [where] * len(rows))], place)


def user_page(
    user: str, rows: Sequence[Row], lives: Sequence[Life], days: int, place: Place, *, where: Where = HERE
) -> str:
    """Return a user: the live sessions, and those that ended within so many days."""
    past = _past(sorted(lives, key=lambda life: life.start, reverse=True)[:ROWS_LIMIT], place, where)
    head = [_title(f"User {user}", place, where), _sessions(rows, place, [where] * len(rows))]
    return _page([*head, f"<h3>Ended within {days} days</h3>", past], place)


def life_page(told: Told, place: Place) -> str:
    """Return the life of a session, for a pop-up."""
    life, lines = told.life, list(story(told, place.now, place.zone))
    columns = [
        Column("At", [moment(line.at, place.zone, place.now) for line in lines]),
        Column("What", [line.what for line in lines]),
        Column("", [f'<span class="{line.tone}">{_text(line.words)}</span>' for line in lines]),
    ]
    who = life.user_id or "a user that is not known"
    facts = [*life.scope, life.authentication_type, life.instance_id, life.session_id]
    used = [hours(seconds) or "0h 00m" for seconds in (life.connected_seconds, life.alone_seconds)]
    head = [
        f"<h2>{_text(who)}</h2>",
        f"<p>{_text(', '.join(fact for fact in facts if fact))}</p>",
        f"<p><strong>{_text(state_of(told, place.now, place.zone))}</strong></p>",
        *(f'<p class="fault">{_text(each)}</p>' for each in violations_of(told, place.now, place.zone)),
        f"<p>connected {used[0]}, nobody {used[1]}</p>",
    ]
    return _page([*head, _table(columns, place)], place)


def problem_page(sentence: str, remedy: str, place: Place) -> str:
    """Return what went wrong, and what to do."""
    said = f'<p class="fault"><strong>{_text(sentence)}</strong> {_text(remedy)}</p>'
    return _page([said, _button("Back", {"view": View.LIVE}, place)], place)


def fleet_table(rows: Iterable[Row], ended: Iterable[Life], place: Place) -> str:
    """Return the busiest fleets of the last day, each with a line of how many were on."""
    live: defaultdict[str, list[Row]] = defaultdict(list)
    kinds: dict[str, str] = {}
    day: defaultdict[str, list[On]] = defaultdict(list)
    for life in ended:
        fleet = life.scope.fleet
        day[fleet].append((life.start, life.end))
        kinds[fleet] = life.fleet_type or kinds.get(fleet, "")
    for row in rows:
        fleet = row.session.scope.fleet
        live[fleet].append(row)
        day[fleet].append((row.start, None))
        kinds[fleet] = row.remembered.fleet_type or kinds.get(fleet, "")
    drawn = {fleet: levels(on, place.now - DAY, place.now, SLOTS) for fleet, on in day.items()}
    busiest = sorted(drawn, key=lambda fleet: (-max(drawn[fleet]), -len(live[fleet]), fleet))
    shown = busiest[:LINES_LIMIT]
    connected = [sum(row.presence is Presence.CONNECTED for row in live[fleet]) for fleet in shown]
    columns = [
        Column("Fleet", [_fleet(each, place) for each in shown]),
        Column("Type", [_text(kinds[fleet].lower().replace("_", "-")) for fleet in shown], from_width=700),
        Column("Live", [f"{len(live[fleet]):,}" for fleet in shown], number=True),
        Column("Connected", [f"{number:,}" for number in connected], number=True, from_width=560),
        Column("Most", [f"{max(drawn[fleet]):,}" for fleet in shown], number=True),
        Column("24 hours", [_line(drawn[fleet], "spark") for fleet in shown]),
    ]
    more = len(busiest) - LINES_LIMIT
    return _table(columns, place) + (f"<p>And {more:,} more fleets.</p>" if more > 0 else "")


def _page(parts: Iterable[str], place: Place) -> str:
    theme = "dark" if place.dark else "light"
    zone = f'<p class="remark">Times in {_text(zone_name(place.now.astimezone(place.zone)))}</p>'
    return f'<div class="asa {theme}"><style>{STYLE}</style>{"".join(parts)}{zone}</div>'


def _totals(status: Status, place: Place) -> str:
    swept = f"{span(place.now - status.swept)} ago" if status.swept else "never"
    tiles = [
        ("live", status.live, ""),
        ("connected", status.totals[Presence.CONNECTED], "good"),
        ("away", status.away, "warn" if status.away else ""),
        ("abandoned", status.abandoned, "bad" if status.abandoned else ""),
        *([("violating", status.violating, "bad")] if status.violating else []),
        ("not listed", len(status.degraded), "bad" if status.degraded else ""),
    ]
    return _tiles(tiles, f'<div class="tile"><b>{_text(swept)}</b><span>swept</span></div>')


def _tiles(tiles: Iterable[tuple[str, int, str]], last: str = "") -> str:
    cells = "".join(
        f'<div class="{f"tile {tone}".strip()}"><b>{number:,}</b><span>{name}</span></div>'
        for name, number, tone in tiles
    )
    return f'<div class="tiles">{cells}{last}</div>'


def _hub_totals(glances: Sequence[Glance]) -> str:
    statuses = [each.status for each in glances]
    away = sum(status.away for status in statuses)
    abandoned = sum(status.abandoned for status in statuses)
    violating = sum(status.violating for status in statuses)
    overdue = sum(Fault.NO_SWEEP in each.faults for each in glances)
    degraded = sum(Fault.DEGRADED in each.faults for each in glances)
    return _tiles(
        [
            ("live", sum(status.live for status in statuses), ""),
            ("connected", sum(status.totals[Presence.CONNECTED] for status in statuses), "good"),
            ("away", away, "warn" if away else ""),
            ("abandoned", abandoned, "bad" if abandoned else ""),
            *([("violating", violating, "bad")] if violating else []),
            ("targets", len(glances), ""),
            ("overdue", overdue, "bad" if overdue else ""),
            ("degraded", degraded, "bad" if degraded else ""),
        ]
    )


def _hub_faults(glances: Iterable[Glance], place: Place) -> str:
    said = [
        f"{_text(each.where.words)}: {_text(sentence)}"
        for each in glances
        if each.faults
        for sentence in _wrong(each.status, each.faults, place)
    ]
    fleets = [
        f"{_text(each.where.words)}: {_fleet_fault(fault, place, each.where)}"
        for each in glances
        for fault in each.status.faulted
    ]
    said = _first(said, "more are in appstream-auditor status.")
    said += _first(fleets, "more fleets have errors.")
    return "".join(f'<p class="fault">{each}</p>' for each in said)


def _first(said: Sequence[str], more: str) -> list[str]:
    rest = len(said) - HUB_FAULTS_LIMIT
    return [*said[:HUB_FAULTS_LIMIT], *([f"{rest:,} {more}"] if rest > 0 else [])]


def _hub_fleets(rows: Iterable[tuple[Where, Row]], place: Place) -> str:
    live: defaultdict[tuple[Where, str], list[Row]] = defaultdict(list)
    for where, row in rows:
        live[where, row.session.scope.fleet].append(row)
    fullest = sorted(live, key=lambda each: (-len(live[each]), each))
    shown = fullest[:LINES_LIMIT]
    connected = [sum(row.presence is Presence.CONNECTED for row in live[each]) for each in shown]
    columns = [
        Column("Target", [_text(where.words) for where, _ in shown]),
        Column("Fleet", [_fleet(fleet, place, where) for where, fleet in shown]),
        Column("Live", [f"{len(live[each]):,}" for each in shown], number=True),
        Column("Connected", [f"{number:,}" for number in connected], number=True, from_width=560),
    ]
    more = len(fullest) - LINES_LIMIT
    return _table(columns, place) + (f"<p>And {more:,} more fleets.</p>" if more > 0 else "")


def _faults(status: Status, faults: Sequence[Fault], place: Place) -> str:
    return "".join(f'<p class="fault">{_text(each)}</p>' for each in _wrong(status, faults, place))


def _wrong(status: Status, faults: Sequence[Fault], place: Place) -> Iterator[str]:
    if Fault.NO_SWEEP in faults:
        ago = f"ended {span(place.now - status.swept)} ago" if status.swept else "is still to come"
        yield f"The last sweep {ago}, so this may have changed. appstream-auditor doctor says why."
    yield from (_gap(gap, place) for gap in status.degraded[:GAPS_LIMIT])
    if len(status.degraded) > GAPS_LIMIT:
        yield f"{len(status.degraded) - GAPS_LIMIT} more are not listed."
    if Fault.EVENTS_WAIT in faults:
        yield f"{status.pending:,} events wait for the event bus: nobody was told of them yet."


def _gap(gap: Gap, place: Place) -> str:
    stack, fleet = gap.scope
    since = moment(gap.since, place.zone, place.now)
    if not stack:
        return f"No stack could be read since {since}: {gap.reason}."
    return f"Stack {stack}, fleet {fleet} could not be listed since {since}: {gap.reason}."


def _fleet_faults(faults: Sequence[FleetFault], place: Place, where: Where = HERE) -> str:
    said = [_fleet_fault(fault, place, where) for fault in faults[:FAULTS_LIMIT]]
    if len(faults) > FAULTS_LIMIT:
        said.append(f"{len(faults) - FAULTS_LIMIT} more fleets have errors.")
    return "".join(f'<p class="fault">{each}</p>' for each in said)


def _fleet(fleet: str, place: Place, where: Where = HERE) -> str:
    return _action(_text(fleet), {"view": View.FLEET, "fleet": fleet} | where.parameters, place)


def _fleet_fault(fault: FleetFault, place: Place, where: Where) -> str:
    fleet = _fleet(fault.fleet, place, where)
    since, codes = moment(fault.since, place.zone, place.now), fault.codes.replace(",", ", ")
    return f"AppStream names errors of fleet {fleet} since {since}: {_text(codes)}."


def _form(search: Search, place: Place, *, several: bool = False) -> str:
    options = "".join(
        f'<option value="{name}"{" selected" if name == search.state else ""}>{name}</option>'
        for name in STATES
    )
    account = f'<input name="account" placeholder="account" value="{_text(search.account)}">'
    fields = (
        f'<input name="user" placeholder="user" value="{_text(search.user)}">'
        f'<input name="fleet" placeholder="fleet" value="{_text(search.fleet)}">'
        f'<select name="state">{options}</select>{account if several else ""}'
    )
    return f'<form class="search">{fields}{_button("Search", {"view": View.LIVE}, place)}</form>'


def _sessions(rows: Sequence[Row], place: Place, wheres: Sequence[Where] = ()) -> str:
    if not rows:
        return "<p>Nobody is on.</p>"
    shown = rows[:ROWS_LIMIT]
    targets = wheres[:ROWS_LIMIT] or [HERE] * len(shown)
    sessions = [row.session for row in shown]
    away = [row.away(place.now) for row in shown]
    policies = [_policies(row) for row in shown]
    columns = [
        *([Column("Target", [_text(where.words) for where in targets])] if len(set(wheres)) > 1 else []),
        Column(
            "User",
            [_user(each.user_id, place, where) for each, where in zip(sessions, targets, strict=True)],
        ),
        Column(
            "State",
            [
                _explain(*_state(row), row.session.id, place, where=where)
                for row, where in zip(shown, targets, strict=True)
            ],
        ),
        Column("Policy", policies),
        Column(
            "Away",
            [span(each) if each else "" for each in away],
            number=True,
            # The names of policies take its room.
            from_width=420 if any(policies) else 0,
        ),
        Column(
            "Ends",
            [moment(row.deadline.at, place.zone, place.now) for row in shown],
            number=True,
            from_width=480,
        ),
        Column("In", [_left(row, place) for row in shown], number=True),
        Column("Why", [CAUSES[row.deadline.cause] for row in shown], from_width=900),
        Column("Fleet", [_text(each.scope.fleet) for each in sessions], from_width=500),
        Column("Host", [_text(each.instance_id) for each in sessions], from_width=800),
        Column("Address", [_text(each.eni_private_ip_address) for each in sessions], from_width=1_000),
    ]
    more = len(rows) - ROWS_LIMIT
    rest = f"<p>And {more:,} more, less urgent: search, or ask <code>appstream-auditor sessions</code>.</p>"
    return _table(columns, place) + (rest if more > 0 else "")


def _user(user_id: str, place: Place, where: Where) -> str:
    if not user_id:
        return "(not known)"
    return _action(_text(user_id), {"view": View.USER, "user": user_id} | where.parameters, place)


def _policies(row: Row) -> str:
    names = row.policies
    more = f" +{len(names) - POLICIES_LIMIT}" if len(names) > POLICIES_LIMIT else ""
    return "".join(f"<b>{_text(name)}</b>" for name in names[:POLICIES_LIMIT]) + more


def _left(row: Row, place: Place) -> str:
    ends = row.deadline.at
    return "" if ends is None else span(ends - place.now) if ends > place.now else "overdue"


def _past(lives: Sequence[Life], place: Place, where: Where) -> str:
    if not lives:
        return "<p>None.</p>"
    days = [f"{life.end:%Y-%m-%d}" if life.end else "" for life in lives]
    told = [
        _explain("its life", "over", life.session_id, place, where=where, ended=day)
        for life, day in zip(lives, days, strict=True)
    ]
    columns = [
        Column("Started", [moment(life.start, place.zone, place.now) for life in lives]),
        Column("Ended", [moment(life.end, place.zone, place.now) for life in lives]),
        Column("Connected", [hours(life.connected_seconds) for life in lives], number=True),
        Column("Nobody", [hours(life.alone_seconds) for life in lives], number=True, from_width=560),
        Column("Ended by", [END_REASONS[life.reason] for life in lives], from_width=800),
        Column("Fleet", [_text(life.scope.fleet) for life in lives], from_width=700),
        Column("", told),
    ]
    return _table(columns, place)


def _state(row: Row) -> tuple[str, str]:
    """Return the words of a state, and the class of its colour."""
    words = PRESENCES[row.presence]
    if not row.watched:
        return f"{words}?", "unknown"
    return words, "abandoned" if row.abandoned else words.replace(" ", "-")


def _title(words: str, place: Place, where: Where) -> str:
    words = f"{words}, {where.words}" if where.parameters else words
    return f"<h2>{_text(words)} {_button('Back', {'view': View.LIVE}, place)}</h2>"


def _explain(words: str, css: str, session_id: str, place: Place, *, where: Where, ended: str = "") -> str:
    parameters = {"view": View.EXPLAIN, "session": session_id} | ({"ended": ended} if ended else {})
    parameters |= where.parameters
    return _action(f'<span class="state {css}">{words}</span>', parameters, place, display="popup")


def _button(words: str, parameters: Mapping[str, str], place: Place) -> str:
    return _action(words, parameters, place, css="btn")


def _action(
    words: str,
    parameters: Mapping[str, str],
    place: Place,
    *,
    display: str = "widget",
    css: str = "link",
) -> str:
    """Return an element that asks for another page; the action has to follow it directly."""
    called = f'<cwdb-action action="call" display="{display}" endpoint="{_text(place.endpoint)}">'
    return f'<a class="{css}">{words}</a>{called}{_text(dumps(parameters))}</cwdb-action>'


def _line(day: Sequence[int], css: str) -> str:
    """Return how many were on as a line; its height is the most there were."""
    most, last = max(day) or 1, len(day) - 1
    points = " ".join(f"{slot},{20 - 18 * level / most:.1f}" for slot, level in enumerate(day))
    return (
        f'<svg class="{css}" viewBox="0 0 {last} 20" preserveAspectRatio="none">'
        f'<polygon points="0,20 {points} {last},20"></polygon><polyline points="{points}"></polyline></svg>'
    )


def _table(columns: Iterable[Column], place: Place) -> str:
    # A column without anything in it says nothing.
    kept = [column for column in columns if column.from_width <= place.width and any(column.cells)]
    css = [' class="n"' if column.number else "" for column in kept]
    head = "".join(f"<th{kind}>{column.name}</th>" for kind, column in zip(css, kept, strict=True))
    rows = zip(*(column.cells for column in kept), strict=True)
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{cell}</td>' for kind, cell in zip(css, row, strict=True))}</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(value: str) -> str:
    """Escape text of unknown origin; what does not print is replaced."""
    if not value.isprintable():
        value = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in value)
    return escape(value)


STYLE = """\
.asa{font:14px/1.4 "Amazon Ember",Arial,sans-serif;padding:4px}
.asa.light{color:#16191f;--dim:#545b64;--line:#d5dbdb;--good:#1d8102;--warn:#b15c00;--bad:#d13212}
.asa.light{--link:#0073bb;--fill:#0073bb22;--tile:#f2f3f3}
.asa.dark{color:#e9ebed;--dim:#a9b3bd;--line:#414d5c;--good:#6aaf35;--warn:#f89256;--bad:#ff7a6b}
.asa.dark{--link:#6cb5e8;--fill:#6cb5e822;--tile:#1f2a38}
.asa h2{font-size:20px;margin:4px 0 8px}
.asa h3{font-size:16px;margin:12px 0 4px}
.asa p{margin:4px 0}
.asa .tiles{display:flex;flex-wrap:wrap;gap:8px;margin-bottom:8px}
.asa .tile{background:var(--tile);border-radius:6px;padding:6px 14px;min-width:84px}
.asa .tile b{display:block;font-size:30px;line-height:1.15;font-weight:600}
.asa .tile span{color:var(--dim)}
.asa .tile.good b{color:var(--good)}
.asa .tile.warn b{color:var(--warn)}
.asa .tile.bad b{color:var(--bad)}
.asa .fault{border-left:4px solid var(--bad);background:var(--tile);padding:6px 10px;overflow-wrap:anywhere}
.asa table{border-collapse:collapse;width:100%;margin:4px 0 10px}
.asa th{text-align:left;color:var(--dim);font-weight:600}
.asa th,.asa td{border-bottom:1px solid var(--line);padding:4px 16px 4px 0;overflow-wrap:break-word}
.asa .n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.asa a.link{color:var(--link);cursor:pointer;text-decoration:none}
.asa .state.connected{color:var(--good)}
.asa .state.disconnected,.asa .state.never-connected{color:var(--warn)}
.asa .state.abandoned{color:var(--bad);font-weight:700}
.asa .state.unknown{color:var(--dim)}
.asa td b{display:block;min-width:90px;color:var(--bad);font-weight:400;overflow-wrap:anywhere}
.asa .search{display:flex;flex-wrap:wrap;gap:6px;margin:6px 0}
.asa .search input,.asa .search select{background:transparent;color:inherit;padding:4px 8px}
.asa .search input,.asa .search select{border:1px solid var(--line);border-radius:4px}
.asa .search option{color:#16191f}
.asa svg{display:block}
.asa svg.spark{width:100%;min-width:110px;max-width:420px;height:24px}
.asa svg.wide{width:100%;height:80px}
.asa polygon{fill:var(--fill)}
.asa polyline{fill:none;stroke:var(--link);stroke-width:1.5;vector-effect:non-scaling-stroke}
.asa .remark{color:var(--dim)}
.asa .coming{color:var(--warn)}
"""
