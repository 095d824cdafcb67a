"""How events read: their form, their ids, and that nothing a user is called can do harm."""

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_auditor.contract import committed_event, json_schema
from session_auditor.model import DetailType, Globs, Options, Scope
from session_auditor.wording import harmless
from tests.shared.events import TOO_LONG
from tests.shared.history import AWAY, SCOPE, TARGET, History, at, session

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def a_whole_life(**fields: Any) -> History:
    """One event at least of every detail-type."""
    history = History(policies=TOO_LONG)
    history.observe(0, fleets_read=at(0), fleet_errors={"cad": "DOMAIN_JOIN_NERR_PASSWORD_EXPIRED"})
    history.observe(0.5, fleets_read=at(0.5), fleet_errors={"cad": ""})
    history.observe(1, session(AWAY, **fields), session(session_id="other", **fields))
    history.observe(2, session(**fields))
    history.observe(3, session(AWAY, **fields))
    history.observe(50, session(AWAY, **fields))
    history.observe(51, session(**fields))
    history.options = Options()
    history.observe(57, session(**fields), failed={SCOPE: "ThrottlingException"})
    history.observe(58, session(**fields))
    history.observe(59, session(state="EXPIRED", **fields))
    history.observe(60, session(**fields))
    history.options = Options(stacks=Globs(exclude=("*",)))
    history.observe(61, scopes=frozenset())
    return history


def fields_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in fields_of(each)]
    return [value]


def test_a_whole_life_has_every_detail_type() -> None:
    assert {event.detail_type for event in a_whole_life().events} == set(DetailType)


@pytest.mark.parametrize("detail_type", DetailType)
def test_events_keep_the_published_schema(detail_type: DetailType) -> None:
    schema = json.loads((SCHEMAS / f"{detail_type.value.replace(' ', '-')}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    histories = (a_whole_life(), a_whole_life(user_id="", start_time=None, max_expiration_time=None))
    events = [event for history in histories for event in history.events if event.detail_type is detail_type]
    assert events
    for event in events:
        validator.validate(json.loads(event.detail))


@pytest.mark.parametrize("detail_type", DetailType)
def test_published_schemas_are_those_of_the_models(detail_type: DetailType) -> None:
    published = json.loads((SCHEMAS / f"{detail_type.value.replace(' ', '-')}.json").read_text())
    assert published == json_schema(detail_type), "run `make schemas` and commit what changes"


def test_every_field_is_present_never_null_never_an_array() -> None:
    shapes: dict[DetailType, set[tuple[str, ...]]] = {}
    for event in (*a_whole_life().events, *a_whole_life(user_id="", start_time=None).events):
        detail = json.loads(event.detail)
        assert not [leaf for leaf in fields_of(detail) if leaf is None or isinstance(leaf, list)]
        names = tuple(sorted(re.findall(r'"(\w+)":', event.detail)))
        shapes.setdefault(event.detail_type, set()).add(names)
    assert {detail_type: len(each) for detail_type, each in shapes.items()} == dict.fromkeys(DetailType, 1)


def test_a_detail_by_example() -> None:
    history = History()
    history.observe(0)
    history.observe(1, session(instance_id="i-0abc", eni_id="eni-0abc", eni_private_ip_address="10.0.0.7"))
    (event,) = history.observe(3, session(AWAY, instance_id="i-0abc"))
    assert event == {
        "type": "Session Disconnected",
        "metadata": {
            "eventId": history.events[-1].event_id,
            "schemaVersion": 1,
            "accountId": "123456789012",
            "region": "eu-west-1",
            "sweepId": "sweep-3",
            "observedAt": "2026-03-02T08:03:00Z",
            "previousObservedAt": "2026-03-02T08:01:00Z",
            "sequence": 2,
        },
        "data": {
            "session": {
                "id": "s-1",
                "userId": "jane.doe@example.com",
                "stackName": "office",
                "fleetName": "cad",
                "state": "ACTIVE",
                "connectionState": "NOT_CONNECTED",
                "authenticationType": "SAML",
                "startTime": "2026-03-02T08:00:30Z",
                "maxExpirationTime": "2026-03-02T18:00:00Z",
                "instanceId": "i-0abc",
                "eniId": "",
                "eniPrivateIpAddress": "",
                "instanceDrainStatus": "",
            },
            "previous": {"state": "ACTIVE", "connectionState": "CONNECTED"},
            "deadline": {"at": "2026-03-02T09:03:00Z", "cause": "DISCONNECT_TIMEOUT", "minutesLeft": 60},
            "usage": {
                "ageSeconds": 150,
                "connectedSeconds": 120,
                "disconnectedSeconds": 0,
                "disconnects": 1,
            },
            "fleet": {
                "instanceType": "",
                "fleetType": "ON_DEMAND",
                "platform": "",
                "maxSessionsPerInstance": 0,
            },
            "tags": {},
            "summary": "User “jane.doe@example.com” disconnected on stack office, fleet cad; "
            "the session ends at 09:03 UTC (disconnect timeout)",
        },
    }


def test_resources_are_the_arns_of_fleet_and_stack() -> None:
    fleet = "arn:aws:appstream:eu-west-1:123456789012:fleet/cad"
    for event in a_whole_life().events:
        of_a_fleet = event.detail_type in {DetailType.FLEET_FAULTED, DetailType.FLEET_RECOVERED}
        stack = () if of_a_fleet else ("arn:aws:appstream:eu-west-1:123456789012:stack/office",)
        assert event.resources == (fleet, *stack)


@pytest.mark.parametrize("detail_type", DetailType)
def test_a_committed_event_comes_back_whole(detail_type: DetailType) -> None:
    for event in a_whole_life().events:
        if event.detail_type is detail_type:
            assert committed_event(TARGET, detail_type, event.detail) == event


@pytest.mark.parametrize("detail", ["", "{}", "[]", "7", '{"metadata": {}, "data": []}', "{"])
def test_what_is_not_an_event_is_a_value_error(detail: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        committed_event(TARGET, DetailType.STARTED, detail)


HOSTILE = [
    pytest.param("<!channel>", id="slack mention"),
    pytest.param('","admin":true,"x":"', id="json break"),
    pytest.param("jane\nERROR all is lost", id="newline"),
    pytest.param('=HYPERLINK("http://evil")', id="spreadsheet formula"),
    pytest.param("<img src=x onerror=alert(1)>&amp;", id="html"),
    pytest.param("\x1b[2J\x1b]0;owned\x07", id="terminal escape"),
    pytest.param("\u202egpj.exe\u2066", id="bidirectional"),
    pytest.param("corp\\jane `rm -rf`", id="backslash and backtick"),
    pytest.param("[Reset your password](https://evil.example/login)", id="markdown link"),
    pytest.param("@here *now* ~or~ |never|", id="mention and emphasis"),
    pytest.param("bob” on stack prod, fleet hr has ended: by its user. “eve", id="our own sentence"),
    pytest.param("a" * 128, id="as long as AWS allows"),
    pytest.param("\U0001f600" * 128, id="as wide as UTF-8 allows"),
]


@pytest.mark.parametrize("user_id", HOSTILE)
def test_hostile_user_ids_do_no_harm(user_id: str) -> None:
    for event in a_whole_life(user_id=user_id).events:
        detail = json.loads(event.detail)
        summary = detail["data"]["summary"]
        assert 0 < len(summary) <= 200
        assert not set(summary) & set('<>&"\\`[]*~|')
        assert "://" not in summary
        assert not re.search(r"(?<!\w)@|@(?!\w)", summary)
        if "session" in detail["data"]:
            assert (summary.count("“"), summary.count("”")) == (1, 1)
        assert not [each for each in summary if unicodedata.category(each)[0] == "C"]
        assert summary[0].isalpha()
        if "session" in detail["data"]:
            assert detail["data"]["session"]["userId"] == user_id


@pytest.mark.parametrize(
    "user_id",
    [
        pytest.param("", id="left out"),
        pytest.param("\u3164", id="Hangul filler"),
        pytest.param("\u200b\ufeff", id="zero width"),
        pytest.param("\u115f\u1160\uffa0", id="half-width fillers"),
        pytest.param("\ufe0f\U000e0100", id="variation selectors"),
        pytest.param("\u2800 \u00ad", id="empty Braille cell and soft hyphen"),
    ],
)
def test_a_user_id_without_a_visible_character_counts_as_absent(user_id: str) -> None:
    summaries = [
        json.loads(event.detail)["data"]["summary"] for event in a_whole_life(user_id=user_id).events
    ]
    assert all(line.startswith(("A user ", "A session ", "Sessions on ", "Fleet ")) for line in summaries)


@given(st.text(), st.text(min_size=1), st.text(min_size=1))
def test_whatever_a_user_or_a_fleet_is_called_the_schema_holds(user_id: str, stack: str, fleet: str) -> None:
    history = History()
    history.observe(0, scopes=frozenset())
    history.observe(1, session(user_id=user_id, scope=Scope(stack, fleet)))
    for event in history.events:
        jsonschema.Draft202012Validator(json_schema(event.detail_type)).validate(json.loads(event.detail))
        assert event.detail.isascii(), "a text of wider characters takes twice the memory, or four times"


@given(st.text(), st.integers(4, 60))
def test_harmless_text_is_printable_and_short(text: str, limit: int) -> None:
    line = harmless(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    assert harmless(line, limit) == line


@pytest.mark.parametrize(
    ("minute", "expected"),
    [
        pytest.param(
            540,
            "The session of “jane.doe@example.com” on stack office, fleet cad ends in 1 h, at 18:00 UTC "
            "(maximum duration)",
            id="an hour",
        ),
        pytest.param(
            511,
            "",
            id="nothing yet",
        ),
    ],
)
def test_summary_of_expiring(minute: int, expected: str) -> None:
    history = History()
    history.observe(0)
    history.observe(1, session())
    assert [event["data"]["summary"] for event in history.observe(minute, session())] == [expected] * bool(
        expected
    )


def test_an_end_on_another_day_is_told_with_its_date() -> None:
    history = History()
    history.observe(0)
    (_, disconnected) = (
        history.observe(1, session()),
        history.observe(2, session(AWAY, max_expiration_time=None)),
    )
    assert "at 09:02 UTC" in disconnected[0]["data"]["summary"]
    history = History(timeout=36000)
    history.observe(900)
    history.observe(901, session(max_expiration_time=None))
    (disconnected_late,) = history.observe(902, session(AWAY, max_expiration_time=None))
    assert "ends at 2026-03-03 09:02 UTC" in disconnected_late["data"]["summary"]
    assert at(0).day == 2
