"""The board's HTML: what the console keeps, whatever users are called, and no more than it takes."""

import json
import re
from dataclasses import replace
from datetime import UTC, timedelta, timezone, tzinfo
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from session_auditor.model import (
    Event,
    Fault,
    Gap,
    Options,
    PolicyKind,
    Presence,
    Remembered,
    Scope,
    Snapshot,
    Stored,
    Target,
    Violation,
)
from session_auditor.pages import (
    LINES_LIMIT,
    ROWS_LIMIT,
    STATES,
    STYLE,
    Glance,
    Place,
    Search,
    Where,
    fleet_page,
    fleet_table,
    hub_page,
    life_page,
    live_page,
    problem_page,
    user_page,
)
from session_auditor.stories import told_of
from session_auditor.timeline import life_of
from session_auditor.views import Fault as ViewFault
from session_auditor.views import Sort, live, lives, ordered, status
from tests.shared.history import AWAY, CONNECTED, SCOPE, at, session

NOW = at(600)
HOLE = timedelta(minutes=5)
FUNCTION = "appstream-session-auditor-board-BoardFunction-0123456789ab"
ENDPOINT = f"arn:aws:lambda:eu-west-1:123456789012:function:{FUNCTION}"
EVERYBODY = Search()
PLACE = Place(ENDPOINT, dark=False, zone=UTC, now=NOW)
# What the console's sanitizer is known to keep, and this page uses; nothing else may appear.
TAGS = {
    "div": {"class"},
    "style": set(),
    "p": {"class"},
    "h2": set(),
    "h3": set(),
    "b": set(),
    "strong": set(),
    "code": set(),
    "span": {"class"},
    "a": {"class"},
    "table": set(),
    "thead": set(),
    "tbody": set(),
    "tr": set(),
    "th": {"class"},
    "td": {"class"},
    "form": {"class"},
    "input": {"name", "placeholder", "value"},
    "select": {"name"},
    "option": {"value", "selected"},
    "svg": {"class", "viewbox", "preserveaspectratio"},
    "polygon": {"points"},
    "polyline": {"points"},
    "cwdb-action": {"action", "display", "endpoint"},
}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</cwdb-action><b>",
    "&lt;b&gt;",
    "'; drop table --",
    "\u202eevil\x00\x1b[2J",
    "{{constructor}}",
    "</style>",
]


class Reader(HTMLParser):
    """Reads a page as the console does; keeps what it holds."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.actions: list[dict[str, str]] = []
        self.texts: list[str] = []
        self.last_closed = ""
        self.between = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        assert {name for name, _ in attrs} <= TAGS[tag], (tag, attrs)
        if tag == "cwdb-action":
            assert (self.last_closed, self.between) == ("a", ""), "an action follows its element directly"
            self.actions.append({name: str(value) for name, value in attrs})
        if tag != "input":
            self.open.append(tag)
        self.between = ""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.last_closed, self.between = tag, ""

    def handle_data(self, data: str) -> None:
        self.between += data
        if self.open and self.open[-1] == "cwdb-action":
            self.actions[-1]["parameters"] = data
        elif self.open and self.open[-1] != "style":
            self.texts.append(data)


def remembered(number: int, user_id: str = "", **changed: object) -> Remembered:
    minute = float(number % 500)
    presence = [Presence.CONNECTED, Presence.DISCONNECTED, Presence.NEVER_CONNECTED][number % 3]
    known = session(
        CONNECTED if presence is Presence.CONNECTED else AWAY,
        f"3f2a8b1c-1234-4abc-8def-{number:012x}",
        user_id=user_id or f"user{number}@example.com",
        scope=Scope("office", f"fleet-{number % 60}"),
        instance_id=f"i-{number:017x}",
        eni_private_ip_address="10.123.123.123",
        start_time=at(minute),
        max_expiration_time=at(minute + 960),
    )
    found = Remembered(
        known, at(minute), baseline=False, presence=presence, presence_since=at(minute), sequence=1
    )
    return replace(found, timeline="0s60", fleet_type="ON_DEMAND", **changed)  # type: ignore[arg-type]


def violating(found: Remembered, *policies: str) -> Remembered:
    kind = PolicyKind.TOO_LONG
    violations = tuple(Violation(name, kind, 60, NOW, "60", "60", "") for name in policies)
    return replace(found, violations=violations)


def snapshot_of(*found: Remembered, gaps: tuple[Gap, ...] = (), faults: tuple[Fault, ...] = ()) -> Snapshot:
    target = Target(at(0), NOW, NOW - timedelta(seconds=20), gaps=gaps, faults=faults)
    sessions = {each.session.id: Stored(each, (), 1) for each in found}
    return Snapshot(target=target, scopes=frozenset([SCOPE]), sessions=sessions)


def page_of(snapshot: Snapshot, place: Place = PLACE, search: Search = EVERYBODY) -> str:
    rows = ordered(live(snapshot, NOW, HOLE), Sort.URGENCY, NOW)
    glance = status(snapshot, rows)
    fleets = fleet_table(rows, (), place)
    faults = glance.faults(NOW, timedelta(minutes=1))
    found = [row for row in rows if search.wants(row)]
    return live_page(glance, faults, fleets, found, search=search, place=place)


def every_page(snapshot: Snapshot, place: Place, name: str) -> list[str]:
    rows = ordered(live(snapshot, NOW, HOLE), Sort.URGENCY, NOW)
    found = list(lives(snapshot, rows, NOW))
    ended = [replace(life, end=NOW - timedelta(hours=1)) for life in found]
    told = told_of(snapshot, next(iter(snapshot.sessions)), NOW, Options())
    return [
        page_of(snapshot, place, Search(user=name, fleet=name, state=name)),
        fleet_page(name, rows, ended, status(snapshot, rows).faulted, place),
        user_page(name, rows, ended, 30, place),
        life_page(told, place),
        problem_page(name, name, place),
    ]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_hostile_name_is_text_and_nothing_else(name: str, dark: bool) -> None:
    one = remembered(1, name)
    known = replace(
        one.session, scope=Scope(name, name), instance_id=name, eni_private_ip_address=name, id=name
    )
    gap = Gap(Scope(name, name), at(590), at(580), name, announced=True)
    one = violating(replace(one, session=known, fleet_type=name), name)
    snapshot = snapshot_of(one, gaps=(gap,), faults=(Fault(name, NOW, name, 1),))
    shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in name)
    for page in every_page(snapshot, replace(PLACE, dark=dark), name):
        read = Reader(page)
        assert all(json.loads(action["parameters"]) for action in read.actions)
        assert {action["endpoint"] for action in read.actions} <= {ENDPOINT}
        assert all(text.isprintable() for text in read.texts)
        assert any(shown in text for text in read.texts)


@settings(max_examples=50)
@given(name=st.text(max_size=40), width=st.integers(0, 2_000))
def test_whatever_it_is_called_the_page_stays_whole(name: str, width: int) -> None:
    snapshot = snapshot_of(violating(remembered(1, name), name), faults=(Fault(name, NOW, name, 1),))
    for page in every_page(snapshot, replace(PLACE, width=width), name):
        Reader(page)


def test_every_style_is_below_one_class() -> None:
    rules = [rule for rule in STYLE.replace("}", "}\n").splitlines() if rule.strip()]
    selectors = [selector for rule in rules for selector in rule.partition("{")[0].split(",")]
    assert all(re.match(r"\.asa[ .{]|\.asa$", selector.strip()) for selector in selectors)
    assert "@import" not in STYLE
    assert "url(" not in STYLE


def test_ten_thousand_sessions_are_300_kb_at_most_and_say_how_to_see_more() -> None:
    page = page_of(snapshot_of(*(remembered(number) for number in range(10_000))))
    read = Reader(page)
    assert len(page.encode()) <= 300_000
    assert page.count("<tr>") == 2 + LINES_LIMIT + ROWS_LIMIT
    assert "And 9,800 more, less urgent: search, or ask " in read.texts
    assert "And 20 more fleets." in read.texts
    assert {"10,000", "3,334", "6,666"} <= set(read.texts)


def test_a_hub_of_500_targets_fits_as_well() -> None:
    wheres = [
        Where(f"{number:012}", "ap-southeast-1", f"account-of-a-department-{number}") for number in range(500)
    ]
    names = tuple(Fault(f"fleet-{number}", NOW, "DOMAIN_JOIN_ERROR", 1) for number in range(60))
    snapshots = [snapshot_of(*(remembered(number) for number in range(20)), faults=names) for _ in wheres]
    live_in = [live(snapshot, NOW, HOLE) for snapshot in snapshots]
    glances = [
        Glance(where, status(snapshot, rows), (ViewFault.NO_SWEEP,))
        for where, snapshot, rows in zip(wheres, snapshots, live_in, strict=True)
    ]
    rows = [(where, row) for where, some in zip(wheres, live_in, strict=True) for row in some]
    page = hub_page(glances, rows, rows, search=EVERYBODY, place=PLACE)
    read = Reader(page)
    assert len(page.encode()) <= 300_000
    assert {
        "10,000",
        "500",
        "490 more are in appstream-auditor status.",
        "29,990 more fleets have errors.",
    } <= set(read.texts)


@given(name=st.text(max_size=40))
@example(name='<img src=x onerror="alert(1)">')
def test_whatever_an_account_is_called_the_page_stays_whole(name: str) -> None:
    snapshot = snapshot_of(remembered(1), faults=(Fault(name, NOW, name, 1),))
    rows = [(Where("111111111111", "eu-west-1", name), row) for row in live(snapshot, NOW, HOLE)]
    rows += [(Where("222222222222", "eu-west-1"), row) for _, row in rows]
    glances = [Glance(where, status(snapshot, [row]), (ViewFault.NO_SWEEP,)) for where, row in rows]
    Reader(hub_page(glances, rows, rows, search=replace(EVERYBODY, account=name), place=PLACE))


def test_so_they_are_if_each_violates_all_that_a_document_may_hold() -> None:
    policies = [f"{number:a>40}" for number in range(20)]
    sessions = [violating(remembered(number), *policies) for number in range(10_000)]
    faults = tuple(Fault(f"fleet-{number}", NOW, "DOMAIN_JOIN_ERROR_" * 100, 1) for number in range(60))
    page = page_of(snapshot_of(*sessions, faults=faults))
    assert len(page.encode()) <= 300_000
    read = Reader(page)
    assert "55 more fleets have errors." in read.texts
    assert read.texts.count(" +18") == ROWS_LIMIT


@pytest.mark.parametrize(
    ("width", "heads"),
    [
        (1_200, ["User", "State", "Away", "Ends", "In", "Why", "Fleet", "Host", "Address"]),
        (850, ["User", "State", "Away", "Ends", "In", "Fleet", "Host"]),
        (560, ["User", "State", "Away", "Ends", "In", "Fleet"]),
        (360, ["User", "State", "Away", "In"]),
    ],
)
def test_a_narrow_widget_leaves_out_what_matters_least(width: int, heads: list[str]) -> None:
    page = page_of(snapshot_of(remembered(1)), replace(PLACE, width=width))
    (_, table) = re.findall(r"<thead>(.*?)</thead>", page)
    assert re.findall(r"<th[^>]*>(.*?)</th>", table) == heads


class TestPolicies:
    """Who violates a policy is said where anybody does, and nothing of policies elsewhere."""

    one = violating(remembered(0, "ann@example.com"), "after-hours", "too-long")

    @pytest.mark.parametrize("width", [1_200, 360])
    def test_a_column_only_where_there_are_violations(self, width: int) -> None:
        place = replace(PLACE, width=width)
        page, quiet = (page_of(snapshot_of(each), place) for each in (self.one, remembered(0)))
        assert {"Policy", "after-hours", "too-long"} <= set(Reader(page).texts)
        assert "<span>violating</span>" in page
        assert "Policy" not in Reader(quiet).texts
        assert "<span>violating</span>" not in quiet

    def test_how_many_sessions_are_in_a_tile(self) -> None:
        texts = Reader(page_of(snapshot_of(self.one, remembered(1)))).texts
        assert texts[texts.index("violating") - 1] == "1"

    def test_they_can_be_searched_for(self) -> None:
        snapshot = snapshot_of(self.one, remembered(1, "bob@example.com"))
        read = Reader(page_of(snapshot, search=Search(state="violating")))
        asked = [json.loads(action["parameters"]) for action in read.actions]
        assert [each["user"] for each in asked if "user" in each] == ["ann@example.com"]

    def test_a_pop_up_says_how(self) -> None:
        told = told_of(snapshot_of(self.one), self.one.session.id, NOW, Options())
        texts = Reader(life_page(told, PLACE)).texts
        assert "violates policy too-long since 18:00: it has lasted for 1 h" in texts

    def test_where_there_is_little_room_they_take_that_of_how_long_nobody_is_there(self) -> None:
        left = violating(remembered(1), "after-hours")
        page = page_of(snapshot_of(left), replace(PLACE, width=360))
        (_, table) = re.findall(r"<thead>(.*?)</thead>", page)
        assert re.findall(r"<th[^>]*>(.*?)</th>", table) == ["User", "State", "Policy", "In"]


class TestFleets:
    """Fleets of which AppStream names errors stand above the fleets, whether or not anybody is on."""

    fault = Fault("gis", at(590), "DOMAIN_JOIN_ERROR,SUBNET_NOT_FOUND", 2)

    @pytest.mark.parametrize("width", [1_200, 360])
    def test_the_first_page_names_them_with_their_codes(self, width: int) -> None:
        read = Reader(page_of(snapshot_of(faults=(self.fault,)), replace(PLACE, width=width)))
        said = "AppStream names errors of fleet gis since 17:50: DOMAIN_JOIN_ERROR, SUBNET_NOT_FOUND."
        assert said in "".join(read.texts)
        assert {"view": "fleet", "fleet": "gis"} in [json.loads(each["parameters"]) for each in read.actions]

    def test_so_does_the_fleets_own(self) -> None:
        assert "DOMAIN_JOIN_ERROR" in fleet_page("gis", [], [], [self.fault], PLACE)
        assert "AppStream names" not in fleet_page("gis", [], [], [], PLACE)


class TestLive:
    """What the first page says."""

    def test_an_empty_office(self) -> None:
        texts = Reader(page_of(snapshot_of())).texts
        assert "Nobody is on." in texts
        assert texts[:2] == ["0", "live"]

    def test_the_most_urgent_first_with_what_can_be_clicked(self) -> None:
        left = remembered(1, "ann@example.com", disconnect_timeout=43_200)
        read = Reader(page_of(snapshot_of(remembered(0, "bob@example.com"), left)))
        asked = [json.loads(action["parameters"]) for action in read.actions]
        assert [each["user"] for each in asked if "user" in each] == ["ann@example.com", "bob@example.com"]
        assert {each["view"] for each in asked} == {"fleet", "live", "user", "explain"}
        assert {action["display"] for action in read.actions} == {"widget", "popup"}

    def test_a_gap_is_said_in_a_sentence(self) -> None:
        gap = Gap(Scope("lab", "render"), at(590), at(580), "ThrottlingException", announced=True)
        texts = Reader(page_of(snapshot_of(gaps=(gap,)))).texts
        assert "Stack lab, fleet render could not be listed since 17:50: ThrottlingException." in texts

    def test_while_nobody_sweeps_it_says_so(self) -> None:
        snapshot = snapshot_of(remembered(0))
        assert snapshot.target
        late = replace(snapshot, target=replace(snapshot.target, last_begin=at(500), last_end=at(500)))
        texts = Reader(page_of(late)).texts
        assert any(
            text.startswith("The last sweep ended 1h 40m ago, so this may have changed") for text in texts
        )
        assert "connected?" in texts

    def test_events_that_wait_are_said(self) -> None:
        one = remembered(0)
        event = Event("AppStream Session Started", "0" * 32, at(590), (), "{}")  # type: ignore[arg-type]
        waiting = replace(snapshot_of(one), sessions={one.session.id: Stored(one, (event,), 1)})
        assert (
            "1 events wait for the event bus: nobody was told of them yet." in Reader(page_of(waiting)).texts
        )

    @pytest.mark.parametrize(
        ("search", "users"),
        [
            (Search(user="ANN"), ["ann@example.com"]),
            (Search(fleet="FLEET-1"), ["ann@example.com"]),
            (Search(state="connected"), ["bob@example.com"]),
            (Search(state="away"), ["ann@example.com"]),
            (Search(state="nonsense"), ["ann@example.com", "bob@example.com"]),
            (Search(user="nobody"), []),
        ],
    )
    def test_a_search_takes_parts_of_names(self, search: Search, users: list[str]) -> None:
        snapshot = snapshot_of(remembered(0, "bob@example.com"), remembered(1, "ann@example.com"))
        read = Reader(page_of(snapshot, search=search))
        asked = [json.loads(action["parameters"]) for action in read.actions]
        assert [each["user"] for each in asked if "user" in each] == users
        assert tuple(read.texts[:2]) == ("2", "live"), "totals are those of everybody"


def test_states_cover_what_the_form_offers() -> None:
    assert STATES["everybody"] == set(Presence)


@pytest.mark.parametrize(
    ("zone", "name"),
    [(UTC, "UTC"), (timezone(timedelta(hours=2)), "UTC+02:00"), (ZoneInfo("America/Sao_Paulo"), "UTC-03")],
)
def test_every_page_names_the_zone_of_its_times(zone: tzinfo, name: str) -> None:
    for page in every_page(snapshot_of(remembered(1, "ann")), replace(PLACE, zone=zone), "ann"):
        assert Reader(page).texts[-1] == f"Times in {name}"


def test_a_life_in_a_pop_up() -> None:
    one = remembered(1, "ann@example.com", disconnect_timeout=43_200)
    texts = Reader(life_page(told_of(snapshot_of(one), one.session.id, NOW, Options()), PLACE)).texts
    assert texts[0] == "ann@example.com"
    assert "disconnected since 08:01; ends at 20:01, in 2h 01m (disconnect timeout)" in texts
    assert next(text for text in texts if text in {"Started", "Abandoned", "Expiring", "Ended"}) == "Started"
    assert life_of(one, NOW).timeline == "0s60"
