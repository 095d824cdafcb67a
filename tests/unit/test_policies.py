"""The policies document: read whole or not at all, and whatever is wrong is named with a remedy."""

import json
import re
from copy import deepcopy
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_auditor.errors import PoliciesError
from session_auditor.model import Globs, PolicyKind, Scope, UserIdMode
from session_auditor.policies import (
    DOCUMENT_BYTES,
    Document,
    Draining,
    Hours,
    OutsideHours,
    TooLong,
    TooManySessions,
    json_schema,
    read_document,
)

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "policies"
DOCUMENT: dict[str, Any] = {
    "version": 1,
    "timeZone": "Europe/Berlin",
    "hours": {"office": {"days": "mon-fri", "from": "07:00", "to": "19:00", "skip": ["2026-12-25"]}},
    "policies": {
        "after-hours": {
            "kind": "OUTSIDE_HOURS",
            "hours": "office",
            "graceMinutes": 30,
            "fleets": "!render-*",
        },
        "two-at-most": {"kind": "TOO_MANY_SESSIONS", "limit": 2, "tags": {"department": "sales"}},
        "too-long": {"kind": "TOO_LONG", "minutes": [720, 600]},
        "draining": {"kind": "DRAINING", "minutes": [30], "stacks": "prod-*, !prod-test"},
    },
}
KINDS = "OUTSIDE_HOURS, TOO_MANY_SESSIONS, TOO_LONG, DRAINING"
MINUTES = "a list of one to ten whole minutes from 1 to 99999, such as [600, 720]"
GLOBS = (
    "names or globs as one text, with commas between and ! before what to exclude, such as prod-*,!prod-test"
)
DAYS = "days and ranges of days with commas between, each day once, such as mon-fri,sun"
ZONE = "the IANA name of the time zone that governs the hours, such as Europe/Berlin"
NAME = "a letter, then up to 39 letters, digits, - or _"
EDITIONS = {
    "after-hours": "a70f0b92",
    "two-at-most": "ce58d24d",
    "too-long": "cf1a4e7f",
    "draining": "b9a6dde8",
}
# Stands for a field that is taken out.
GONE = object()


def with_change(place: str, value: object) -> str:
    """Return the document with one value changed, as text."""
    document = deepcopy(DOCUMENT)
    *path, last = place.split(".")
    parent = document
    for name in path:
        parent = parent[name]
    if value is GONE:
        del parent[last]
    else:
        parent[last] = value
    return json.dumps(document)


def problem(text: str, **known: Any) -> str:
    with pytest.raises(PoliciesError) as caught:
        read_document(text, **known)
    return str(caught.value)


def test_a_document_is_read_in_order_of_names() -> None:
    document = read_document(json.dumps(DOCUMENT))
    assert list(document.policies) == ["after-hours", "draining", "too-long", "two-at-most"]
    hours = Hours(
        days=(0, 1, 2, 3, 4),
        begin=7 * 60,
        end=19 * 60,
        skip=frozenset([date(2026, 12, 25)]),
        zone=ZoneInfo("Europe/Berlin"),
        text="mon-fri 07:00-19:00 Europe/Berlin",
    )
    assert [replace(each, edition="") for each in document.policies.values()] == [
        OutsideHours(
            name="after-hours",
            fleets=Globs(exclude=("render-*",)),
            hours=hours,
            grace=timedelta(minutes=30),
        ),
        Draining(
            name="draining", stacks=Globs(include=("prod-*",), exclude=("prod-test",)), thresholds=(30,)
        ),
        TooLong(name="too-long", thresholds=(600, 720)),
        TooManySessions(name="two-at-most", tags=(("department", Globs(include=("sales",))),), limit=2),
    ]
    assert [(each.kind, each.thresholds) for each in document.policies.values()] == [
        (PolicyKind.OUTSIDE_HOURS, (0,)),
        (PolicyKind.DRAINING, (30,)),
        (PolicyKind.TOO_LONG, (600, 720)),
        (PolicyKind.TOO_MANY_SESSIONS, (0,)),
    ]


def test_no_policies_are_a_document_too() -> None:
    assert read_document('{"version": 1, "timeZone": "UTC", "policies": {}}') == Document()


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        pytest.param("sun", (6,), id="a day"),
        pytest.param("mon-fri,sun", (0, 1, 2, 3, 4, 6), id="a range and a day"),
        pytest.param("sat-mon", (0, 5, 6), id="over the end of the week"),
        pytest.param("tue-mon", (0, 1, 2, 3, 4, 5, 6), id="the whole week"),
        pytest.param("fri , mon", (0, 4), id="blanks, in any order"),
        pytest.param("wed-wed", (2,), id="a range of one day"),
    ],
)
def test_days(days: str, expected: tuple[int, ...]) -> None:
    policy = read_document(with_change("hours.office.days", days)).policies["after-hours"]
    assert isinstance(policy, OutsideHours)
    assert policy.hours.days == expected
    assert policy.hours.text == f"{days.replace(' ', '')} 07:00-19:00 Europe/Berlin"


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        pytest.param("07:00", "19:00", (420, 1140), id="within a day"),
        pytest.param("00:00", "24:00", (0, 1440), id="the whole day"),
        pytest.param("07:00", "24:00", (420, 1440), id="until midnight"),
        pytest.param("07:00", "00:00", (420, 1440), id="until midnight, said otherwise"),
        pytest.param("22:00", "06:00", (1320, 1800), id="over midnight"),
    ],
)
def test_times(begin: str, end: str, expected: tuple[int, int]) -> None:
    document = deepcopy(DOCUMENT)
    document["hours"]["office"] |= {"from": begin, "to": end}
    policy = read_document(json.dumps(document)).policies["after-hours"]
    assert isinstance(policy, OutsideHours)
    assert (policy.hours.begin, policy.hours.end) == expected


OFFICE = {"days": "mon-fri", "from": "07:00", "to": "19:00"}


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        pytest.param("version", 2, "version: is 2; should be the version of this format, 1", id="version"),
        pytest.param(
            "version", True, "version: is true; should be the version of this format, 1", id="version, a bool"
        ),
        pytest.param("timeZone", GONE, f"timeZone: is missing; should be {ZONE}", id="no zone"),
        pytest.param(
            "timeZone",
            "Europe/Berln",
            'timeZone: no such time zone "Europe/Berln"; should be an IANA name, such as Europe/Berlin',
            id="unknown zone",
        ),
        pytest.param(
            "timeZone",
            "Europe",
            'timeZone: no such time zone "Europe"; should be an IANA name, such as Europe/Berlin',
            id="a folder of zones",
        ),
        pytest.param(
            "timeZone",
            "../../etc/passwd",
            'timeZone: no such time zone "../../etc/passwd"; should be an IANA name, such as Europe/Berlin',
            id="a zone that is a path",
        ),
        pytest.param("timeZone", None, f"timeZone: is null; should be {ZONE}", id="zone, null"),
        pytest.param(
            "time_zone",
            "UTC",
            "time_zone: no such field; known: $schema, hours, policies, timeZone, version",
            id="unknown field",
        ),
        pytest.param("hours", [], "hours: is a list of 0; should be an object of hours by name", id="hours"),
        pytest.param(
            "hours.office",
            "9 to 5",
            'hours.office: is "9 to 5"; should be an object with days, from, to, skip',
            id="hours, a text",
        ),
        pytest.param(
            "hours.the office",
            OFFICE,
            f'hours.the office: is "the office"; should be {NAME}',
            id="hours' name",
        ),
        pytest.param(
            "hours.office.until",
            "19:00",
            "hours.office.until: no such field; known: days, from, skip, to",
            id="unknown field of hours",
        ),
        pytest.param(
            "hours.office.days",
            "mon-fry",
            f'hours.office.days: is "mon-fry"; should be {DAYS}',
            id="no day",
        ),
        pytest.param(
            "hours.office.days",
            "mon-fri,fri",
            'hours.office.days: "fri" is there twice; keep one',
            id="a day twice",
        ),
        pytest.param("hours.office.days", "", f'hours.office.days: is ""; should be {DAYS}', id="no days"),
        pytest.param(
            "hours.office.from",
            "7:00",
            'hours.office.from: is "7:00"; should be a time from 00:00 to 23:59, such as 07:00',
            id="no time",
        ),
        pytest.param(
            "hours.office.from",
            "24:00",
            'hours.office.from: is "24:00"; should be a time from 00:00 to 23:59, such as 07:00',
            id="from the end of a day",
        ),
        pytest.param(
            "hours.office.to",
            "19:60",
            'hours.office.to: is "19:60"; should be a time from 00:00 to 24:00, such as 19:00',
            id="no such minute",
        ),
        pytest.param(
            "hours.office.to",
            "07:00",
            'hours.office.to: is "07:00", as from is; whole days are from 00:00 to 24:00',
            id="from is to",
        ),
        pytest.param(
            "hours.office.skip",
            ["2026-02-30"],
            'hours.office.skip: is "2026-02-30"; should be a list of dates on which no hours begin, such as '
            "2026-12-25",
            id="no such date",
        ),
        pytest.param(
            "hours.office.skip",
            ["20261225"],
            'hours.office.skip: is "20261225"; should be a list of dates on which no hours begin, such as '
            "2026-12-25",
            id="a date in another form",
        ),
        pytest.param(
            "hours.office.skip",
            ["2026-12-25", "2026-12-25"],
            'hours.office.skip: "2026-12-25" is there twice; keep one',
            id="a date twice",
        ),
        pytest.param(
            "policies",
            GONE,
            "policies: is missing; should be an object of policies by name",
            id="no policies",
        ),
        pytest.param(
            "policies.2nd",
            {"kind": "TOO_LONG", "minutes": [1]},
            f'policies.2nd: is "2nd"; should be {NAME}',
            id="name of a policy",
        ),
        pytest.param(
            "policies.too-long",
            [600],
            "policies.too-long: is a list of 1; should be an object with a kind",
            id="a policy that is a list",
        ),
        pytest.param(
            "policies.too-long.kind",
            "TOO_LATE",
            f'policies.too-long.kind: no such kind "TOO_LATE"; known: {KINDS}',
            id="unknown kind",
        ),
        pytest.param(
            "policies.too-long.kind",
            None,
            f"policies.too-long.kind: no such kind null; known: {KINDS}",
            id="kind, null",
        ),
        pytest.param(
            "policies.too-long.kind",
            GONE,
            f"policies.too-long.kind: is missing; should be one of {KINDS}",
            id="no kind",
        ),
        pytest.param(
            "policies.after-hours.hours",
            "ofice",
            'policies.after-hours.hours: no such hours "ofice"; known: office',
            id="unknown hours",
        ),
        pytest.param(
            "hours",
            {},
            'policies.after-hours.hours: no such hours "office"; known: none',
            id="no hours at all",
        ),
        pytest.param(
            "policies.after-hours.graceMinutes",
            -1,
            "policies.after-hours.graceMinutes: is -1; should be whole minutes from 0 to 99999 after the end "
            "of hours",
            id="grace",
        ),
        pytest.param(
            "policies.two-at-most.limit",
            0,
            "policies.two-at-most.limit: is 0; should be a whole number from 1 to 99999",
            id="limit",
        ),
        pytest.param(
            "policies.two-at-most.limit",
            "2",
            'policies.two-at-most.limit: is "2"; should be a whole number from 1 to 99999',
            id="limit, a text",
        ),
        pytest.param(
            "policies.two-at-most.minutes",
            [5],
            "policies.two-at-most.minutes: no such field; known: fleets, kind, limit, stacks, tags",
            id="field of another kind",
        ),
        pytest.param(
            "policies.too-long.minutes",
            600,
            f"policies.too-long.minutes: is 600; should be {MINUTES}",
            id="minutes, not in a list",
        ),
        pytest.param(
            "policies.too-long.minutes",
            [0, 100_000],
            f"policies.too-long.minutes: is 0; should be {MINUTES}",
            id="minutes out of bounds",
        ),
        pytest.param(
            "policies.too-long.minutes",
            [10**4000],
            f"policies.too-long.minutes: is 1{'0' * 38}…; should be {MINUTES}",
            id="a huge number",
        ),
        pytest.param(
            "policies.too-long.minutes",
            [1.5],
            f"policies.too-long.minutes: is 1.5; should be {MINUTES}",
            id="minutes, a fraction",
        ),
        pytest.param(
            "policies.too-long.minutes",
            [],
            f"policies.too-long.minutes: is a list of 0; should be {MINUTES}",
            id="no minutes",
        ),
        pytest.param(
            "policies.too-long.minutes",
            list(range(1, 12)),
            f"policies.too-long.minutes: is a list of 11; should be {MINUTES}",
            id="eleven thresholds",
        ),
        pytest.param(
            "policies.too-long.minutes",
            [600, 720, 600],
            "policies.too-long.minutes: 600 is there twice; keep one",
            id="a threshold twice",
        ),
        pytest.param(
            "policies.draining.stacks",
            ["prod-*"],
            f"policies.draining.stacks: is a list of 1; should be stacks: {GLOBS}",
            id="stacks, a list",
        ),
        pytest.param(
            "policies.two-at-most.tags",
            "department",
            f'policies.two-at-most.tags: is "department"; should be values by tag key, each {GLOBS}',
            id="tags, a text",
        ),
        pytest.param(
            "policies.two-at-most.tags.department",
            {},
            f"policies.two-at-most.tags.department: is an object; should be values by tag key, each {GLOBS}",
            id="tags' value",
        ),
        pytest.param(
            "policies.too-long.\ud800",
            1,
            'policies.too-long: "?" holds half a character, a lone surrogate; write it whole',
            id="a lone surrogate as a field",
        ),
        pytest.param(
            "timeZone",
            "\ud800",
            'timeZone: no such time zone "?"; should be an IANA name, such as Europe/Berlin',
            id="a lone surrogate as a zone",
        ),
        pytest.param(
            "policies.after-hours.hours",
            "\x1b[31m\u202e" + 'x"' * 40,
            f"""policies.after-hours.hours: is "?[31m?{"x'" * 16}x…"; """
            "should be the name of hours of this document, such as office",
            id="a value that would write on the terminal",
        ),
    ],
)
def test_what_is_wrong_is_named(place: str, value: object, expected: str) -> None:
    assert problem(with_change(place, value)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "", "document: no JSON at line 1, column 1 (Expecting value); correct it there", id="empty"
        ),
        pytest.param(
            '{"version":\n 1,\n "timeZone": }',
            "document: no JSON at line 3, column 14 (Expecting value); correct it there",
            id="no JSON",
        ),
        pytest.param(
            "[]",
            "document: is a list of 0; should be an object with $schema, version, timeZone, hours, policies",
            id="a list",
        ),
        pytest.param(
            "9" * 5_000, "document: holds a number with too many digits; numbers end at 99999", id="a number"
        ),
        pytest.param(
            " " * 8_193,
            "document: has 8193 bytes; at most 8192 fit, so leave out what is not needed",
            id="too large",
        ),
        pytest.param(
            '"' + "ü" * 4_096 + '"',
            "document: has 8194 bytes; at most 8192 fit, so leave out what is not needed",
            id="too large in bytes",
        ),
        pytest.param(
            '{"version": 1, "timeZone": "UTC", "policies": {"a": {"kind": "TOO_LONG", "minutes": [1]},'
            ' "a": {"kind": "DRAINING", "minutes": [1]}}}',
            "policies.a: is there twice; keep one",
            id="a policy twice",
        ),
        pytest.param(
            '{"version": 1, "timeZone": "UTC", "policies": {"a": {"kind": "TOO_LONG", "kind": "DRAINING"}}}',
            "policies.a.kind: is there twice; keep one",
            id="a kind twice",
        ),
        pytest.param(
            '{"version": 1, "version": 1, "timeZone": "UTC", "policies": {}}',
            "version: is there twice; keep one",
            id="a field twice",
        ),
        pytest.param(
            '{"version": 1, "timeZone": "UTC", "policies": {"a": {"kind": "TOO_LONG", "minutes": [NaN]}}}',
            f"policies.a.minutes: is NaN; should be {MINUTES}",
            id="no number",
        ),
    ],
)
def test_what_is_no_document_is_named(text: str, expected: str) -> None:
    assert problem(text) == expected


def test_three_problems_are_said_at_once() -> None:
    document = deepcopy(DOCUMENT) | {"version": 0, "x": 1, "y": 1, "z": 1}
    fields = "known: $schema, hours, policies, timeZone, version"
    assert problem(json.dumps(document)) == (
        f"version: is 0; should be the version of this format, 1; x: no such field; {fields}; "
        f"y: no such field; {fields}"
    )


def test_an_error_is_bounded() -> None:
    document = deepcopy(DOCUMENT) | {f"{'x' * 100}{number}": 1 for number in range(20)}
    document["hours"] |= {f"hours-of-the-very-long-name-{number}": OFFICE for number in range(40)}
    assert problem(json.dumps(document)).startswith(f"{'x' * 39}…: no such field; known: ")
    document = {name: document[name] for name in DOCUMENT}
    document["policies"]["after-hours"]["hours"] = "x"
    assert len(problem(json.dumps(document))) == 500


def test_pairs_of_policy_and_threshold_are_bounded() -> None:
    document = deepcopy(DOCUMENT)
    document["policies"]["too-long"]["minutes"] = list(range(1, 11))
    document["policies"]["draining"]["minutes"] = list(range(1, 9))
    assert len(read_document(json.dumps(document)).policies) == 4
    document["policies"]["draining"]["minutes"].append(9)
    assert problem(json.dumps(document)) == (
        "policies: 21 pairs of policy and threshold; at most 20 fit, so take some out"
    )


class TestSettings:
    """What the settings contradict, as far as they are known."""

    def test_a_tag_key_has_to_be_one_that_is_read(self) -> None:
        text = json.dumps(DOCUMENT)
        assert read_document(text, tag_keys=["department", "site"]) == read_document(text)
        assert problem(text, tag_keys=["site", "cost"]) == (
            'policies.two-at-most.tags: TagKeys has no "department"; known: cost, site'
        )
        assert problem(text, tag_keys=()) == (
            'policies.two-at-most.tags: TagKeys has no "department"; known: none'
        )

    def test_users_cannot_be_counted_without_their_ids(self) -> None:
        text = json.dumps(DOCUMENT)
        for mode in (UserIdMode.PLAIN, UserIdMode.HASH):
            assert read_document(text, user_id_mode=mode) == read_document(text)
        assert problem(text, user_id_mode=UserIdMode.OMIT) == (
            "policies.two-at-most.kind: TOO_MANY_SESSIONS needs user ids; "
            "set UserIdMode to plain or hash, or take it out"
        )


@pytest.mark.parametrize(
    ("scope", "tags", "expected"),
    [
        pytest.param(Scope("prod-a", "cad"), {"site": "berlin"}, True, id="all match"),
        pytest.param(Scope("test", "cad"), {"site": "berlin"}, False, id="another stack"),
        pytest.param(Scope("prod-a", "render-1"), {"site": "berlin"}, False, id="an excluded fleet"),
        pytest.param(Scope("prod-a", "cad"), {"site": "paris"}, False, id="another value"),
        pytest.param(Scope("prod-a", "cad"), {}, False, id="no tag"),
    ],
)
def test_filters(scope: Scope, tags: dict[str, str], expected: bool) -> None:
    policy = {
        "kind": "TOO_LONG",
        "minutes": [1],
        "stacks": "prod-*",
        "fleets": "!render-*",
        "tags": {"site": "berlin,bonn"},
    }
    document = read_document(with_change("policies.too-long", policy))
    assert document.policies["too-long"].matches(scope, tags) is expected


def test_a_tag_that_is_absent_counts_as_empty() -> None:
    document = read_document(with_change("policies.two-at-most.tags.department", "!sales"))
    assert document.policies["two-at-most"].matches(Scope("a", "b"), {})


def edition(place: str = "version", value: object = 1, name: str = "after-hours") -> str:
    return read_document(with_change(place, value)).policies[name].edition


class TestEdition:
    """Eight digits that tell one wording from another, by what it means."""

    def test_it_is_the_same_in_every_release(self) -> None:
        # An upgrade that changes these says POLICY_CHANGED of violations that are over with its first sweep.
        assert {name: edition(name=name) for name in DOCUMENT["policies"]} == EDITIONS

    @pytest.mark.parametrize(
        ("place", "value", "name"),
        [
            pytest.param("hours.office.days", "tue-fri,mon", "after-hours", id="days"),
            pytest.param("hours.office.skip", ["2026-12-25"], "after-hours", id="dates"),
            pytest.param("policies.too-long.minutes", [600, 720], "too-long", id="minutes"),
            pytest.param("policies.draining.stacks", "!prod-test,prod-*,prod-*", "draining", id="globs"),
            pytest.param("policies.other", {"kind": "DRAINING", "minutes": [1]}, "draining", id="others"),
            pytest.param("timeZone", "UTC", "too-long", id="a zone that it does not need"),
        ],
    )
    def test_another_way_to_say_the_same_is_the_same(self, place: str, value: object, name: str) -> None:
        assert edition(place, value, name) == edition(name=name)

    @pytest.mark.parametrize(
        ("place", "value", "name"),
        [
            pytest.param("timeZone", "Europe/Paris", "after-hours", id="zone"),
            pytest.param("hours.office.days", "mon-sat", "after-hours", id="days"),
            pytest.param("hours.office.from", "07:30", "after-hours", id="from"),
            pytest.param("hours.office.to", "07:30", "after-hours", id="to"),
            pytest.param("hours.office.skip", [], "after-hours", id="skip"),
            pytest.param("policies.after-hours.graceMinutes", 31, "after-hours", id="grace"),
            pytest.param("policies.after-hours.fleets", "render-*", "after-hours", id="filter"),
            pytest.param("policies.two-at-most.limit", 3, "two-at-most", id="limit"),
            pytest.param("policies.two-at-most.tags.site", "x", "two-at-most", id="tags"),
            pytest.param("policies.too-long.minutes", [600], "too-long", id="minutes"),
            pytest.param("policies.too-long.kind", "DRAINING", "too-long", id="kind"),
        ],
    )
    def test_another_meaning_is_another(self, place: str, value: object, name: str) -> None:
        assert edition(place, value, name) != edition(name=name)


texts = st.text(st.characters(), max_size=12) | st.sampled_from(
    [
        "TOO_LONG",
        "OUTSIDE_HOURS",
        "mon-fri",
        "07:00",
        "24:00",
        "office",
        "UTC",
        "2026-12-25",
        "prod-*,!x",
        "\ud800",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in _places(each, (*path, key)))]


@st.composite
def nearly_good(draw: st.DrawFn) -> Any:
    """A good document of which something is replaced, or that has a field more."""
    document = {"root": deepcopy(DOCUMENT)}
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.sampled_from(_places(document)[1:]))
        parent: Any = document
        for key in place[:-1]:
            parent = parent[key]
        key = place[-1]
        if isinstance(parent, dict) and draw(st.booleans()):
            key = draw(texts) if len(place) > 1 else key
        parent[key] = draw(values)
    return document["root"]


def _read_or_named(text: str) -> Document | None:
    try:
        return read_document(text, tag_keys=["department"], user_id_mode=UserIdMode.PLAIN)
    except PoliciesError as error:
        said = str(error)
        assert 0 < len(said) <= 500
        assert said.isprintable()
        assert ": " in said
        return None


@given(values | nearly_good())
def test_whatever_json_holds_is_read_or_named(value: Any) -> None:
    _read_or_named(json.dumps(value))


@given(st.text(st.characters(), max_size=200) | st.text('[]{}":,0\\ud8 ', max_size=DOCUMENT_BYTES))
def test_whatever_a_parameter_holds_is_read_or_named(text: str) -> None:
    _read_or_named(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 4_000 + "]" * 4_000, id="lists"),
        pytest.param('{"a":' * 1_300 + "1" + "}" * 1_300, id="objects"),
        pytest.param('{"hours":' * 900, id="cut off"),
        pytest.param('{"version":' + "[" * 4_000 + "]" * 4_000 + "}", id="within a field"),
    ],
)
def test_no_depth_is_too_deep(text: str) -> None:
    # How deep is too deep for Python itself depends on its release and on who calls.
    assert _read_or_named(text) is None


SCHEMA = jsonschema.Draft202012Validator(json_schema())


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert SCHEMA.is_valid(DOCUMENT)


@given(nearly_good())
def test_what_is_read_well_an_editor_finds_good(value: Any) -> None:
    if _read_or_named(json.dumps(value)):
        SCHEMA.validate(value)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        pytest.param("version", 2, id="version"),
        pytest.param("timeZone", GONE, id="no zone"),
        pytest.param("policies.2nd", {"kind": "TOO_LONG", "minutes": [1]}, id="name"),
        pytest.param("policies.too-long.kind", "TOO_LATE", id="kind"),
        pytest.param("policies.too-long.minutes", [0], id="minutes"),
        pytest.param("policies.too-long.minutes", [1, 1], id="a threshold twice"),
        pytest.param("policies.too-long.grace", 1, id="unknown field"),
        pytest.param("hours.office.days", "monday", id="days"),
        pytest.param("hours.office.from", "24:00", id="from"),
        pytest.param("hours.the office", OFFICE, id="hours' name"),
    ],
)
def test_an_editor_finds_most_mistakes_itself(place: str, value: object) -> None:
    assert not SCHEMA.is_valid(json.loads(with_change(place, value)))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_examples_are_good(path: Path) -> None:
    text = path.read_text()
    assert read_document(text, user_id_mode=UserIdMode.PLAIN).policies
    document = json.loads(text)
    SCHEMA.validate(document)
    assert (path.parent / document["$schema"]).resolve() == ROOT / "docs/schemas/policies.json"
    # Beyond that a parameter of the standard tier holds no more.
    assert len(text.encode()) <= 4_096


def test_the_docs_are_right() -> None:
    docs = (ROOT / "docs" / "policies.md").read_text()
    (text,) = re.findall(r"```json\n(.*?)```", docs, re.DOTALL)
    document = json.loads(text)
    SCHEMA.validate(document)
    assert {each.kind for each in read_document(text).policies.values()} == set(PolicyKind)
    document["policies"]["after-hours"]["hours"] = "ofice"
    assert f"\n{problem(json.dumps(document))}\n" in docs
    assert re.findall(r"^\| `([A-Z_]+)` \|", docs, re.MULTILINE) == list(PolicyKind)
