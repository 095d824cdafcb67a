"""Real events to put on the bus of the local cloud, made by the core from a session's whole life."""

import json
from typing import Any
from uuid import UUID

import pytest

from sandbox.cloud import LocalCloud, Stack
from session_auditor.contract import SOURCE, timestamp
from session_auditor.model import DetailType, Event, Globs, Options, Scope
from session_auditor.policies import read_document
from tests.shared.history import AWAY, SCOPE, TARGET, History, at, session

# A session of the whole life has lasted too long after half an hour.
TOO_LONG = read_document(
    json.dumps(
        {
            "version": 1,
            "timeZone": "UTC",
            "policies": {"too-long": {"kind": "TOO_LONG", "minutes": [30]}},
        }
    )
)
# The most that one call of PutEvents takes.
ENTRIES_LIMIT = 10
# What a SAML identity provider may hand over as the name of a user.
HOSTILE = [
    pytest.param("<!channel> pay @here", id="mentions"),
    pytest.param("<https://evil.example|click me>", id="a link"),
    pytest.param('jane", "text": "owned', id="quotes"),
    pytest.param('\\"}]}]}, {"text": "owned"}', id="a break out of the JSON"),
    pytest.param("line one\nline two\r\nline three\x00", id="newlines"),
    pytest.param("\x1b[31mred\x1b[0m\x07", id="terminal escapes"),
    pytest.param("\u202egnirts\u2066 esrever\u200f", id="bidirectional text"),
    pytest.param("*bold* _it_ ~no~ `code` :smile: &amp;", id="markup"),
    pytest.param("<summary> <id> ${AWS::StackName}", id="placeholders"),
]


def whole_life(scope: Scope = SCOPE, **fields: Any) -> dict[DetailType, Event]:
    """Return an event of every detail-type: a session connects, drops off for 47 minutes, returns and ends.

    It starts at 08:00:30; its fleet ends it an hour after a disconnect, and a policy allows half an hour.
    Then another life of it is left out.
    """
    history = History(policies=TOO_LONG)
    seen = {"scope": scope} | fields
    for minute, codes in ((0, "DOMAIN_JOIN_ERROR_ACCESS_DENIED"), (0.5, "")):
        history.observe(
            minute, scopes=frozenset([scope]), fleets_read=at(minute), fleet_errors={scope.fleet: codes}
        )
    for minute, connection in (
        (1, AWAY),
        (2, "CONNECTED"),
        (3, AWAY),
        (18, AWAY),
        (48, AWAY),
        (50, "CONNECTED"),
    ):
        history.observe(minute, session(connection, **seen), scopes=frozenset([scope]))
    history.options = Options()
    history.observe(56, failed={scope: "ThrottlingException"}, scopes=frozenset([scope]))
    history.observe(57, session(**seen), scopes=frozenset([scope]))
    history.observe(58, session(state="EXPIRED", **seen), scopes=frozenset([scope]))
    again = session(**seen | {"start_time": at(58.5)})
    history.observe(59, again, scopes=frozenset([scope]))
    history.options = Options(stacks=Globs(exclude=("*",)))
    history.observe(60, scopes=frozenset())
    # Of two lives the first is told.
    return {event.detail_type: event for event in reversed(history.events)}


def envelope(event: Event) -> dict[str, Any]:
    """Return the event as EventBridge hands it to rules and targets; its `id` is EventBridge's own."""
    return {
        "version": "0",
        "id": str(UUID(event.event_id)),
        "detail-type": event.detail_type.value,
        "source": SOURCE,
        "account": TARGET.account_id,
        "time": timestamp(event.observed_at),
        "region": TARGET.region,
        "resources": list(event.resources),
        "detail": json.loads(event.detail),
    }


def put(cloud: LocalCloud, stack: Stack, *events: Event) -> None:
    """Put events on the stack's bus as the auditor does; EventBridge sees them in this order."""
    entries: list[Any] = [
        {
            "EventBusName": stack.outputs["SessionBusName"],
            "Source": SOURCE,
            "DetailType": event.detail_type.value,
            "Time": event.observed_at,
            "Resources": list(event.resources),
            "Detail": event.detail,
        }
        for event in events
    ]
    for start in range(0, len(entries), ENTRIES_LIMIT):
        answer = cloud.client("events").put_events(Entries=entries[start : start + ENTRIES_LIMIT])
        assert answer["FailedEntryCount"] == 0
