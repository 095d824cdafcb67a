"""Tables as earlier releases left them: every item reads, nothing is told twice, nothing is forgotten.

tables/ holds tables as DynamoDB kept them after a last sweep: those of release 0.1 and of the code between it
and 0.2, which wrote schema 1, and that of release 0.2, in which sessions have schema 2.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from session_auditor.model import Options, Presence, Rule, Scope, Session
from session_auditor.plan import SessionsPlan, TargetPlan, Write
from session_auditor.states import SCHEMA
from tests.shared.history import AWAY, SCOPE, History, at, session, told
from tests.shared.table import table as mocked_table

TABLES = Path(__file__).parent / "tables"
RELEASES = [path.stem for path in sorted(TABLES.glob("*.json"))]
LAB = Scope("lab", "render")
# What AppStream lists in both scopes, the minute after the last sweep of that release.
SESSIONS: tuple[Session, ...] = (
    session(session_id="at-work", start_time=at(-30)),
    session(AWAY, "about-to-end", max_expiration_time=at(100)),
    session(AWAY, "left-behind", max_expiration_time=at(900)),
    session(AWAY, "never-there"),
)


def items(release: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((TABLES / f"{release}.json").read_text())
    return found


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def history(release: str) -> History:
    """What this release reads in the table of an older one."""
    with mocked_table() as table:
        for item in items(release):
            table.put(item)
        return History(options=Options(), timeout=5400, snapshot=table.snapshots().load(at(92)))


def test_every_item_reads(history: History) -> None:
    snapshot = history.snapshot
    assert not snapshot.unreadable
    assert not snapshot.broken
    assert snapshot.scopes == {SCOPE, LAB}
    assert snapshot.version == 106
    assert [gap.scope for gap in history.target.gaps] == [LAB]
    assert {name: stored.remembered.presence for name, stored in snapshot.sessions.items()} == {
        "about-to-end": Presence.DISCONNECTED,
        "at-work": Presence.CONNECTED,
        "going": Presence.CONNECTED,
        "in-the-lab": Presence.CONNECTED,
        "left-behind": Presence.DISCONNECTED,
        "never-there": Presence.NEVER_CONNECTED,
    }


def test_what_fired_stays_fired(history: History) -> None:
    fired = {name: stored.remembered.fired for name, stored in history.snapshot.sessions.items()}
    assert fired == {
        "about-to-end": {Rule.MAX_DURATION: 15},
        "at-work": {},
        "going": {},
        "in-the-lab": {},
        "left-behind": {Rule.DISCONNECT_TIMEOUT: 5, Rule.ABANDONED: 60},
        "never-there": {Rule.ABANDONED: 60},
    }
    both, failed = frozenset([SCOPE, LAB]), {LAB: "ThrottlingException"}
    assert history.observe(92, *SESSIONS, scopes=both, failed=failed) == []
    assert told(history.observe(96, *SESSIONS, scopes=both, failed=failed)) == ["Expiring MAX_DURATION 5"]


def test_what_waited_is_published_as_it_was_committed(release: str, history: History) -> None:
    written = {
        entry["M"]["detail"]["S"] for item in items(release) for entry in item.get("outbox", {"L": []})["L"]
    }
    waiting = {event.detail for each in history.snapshot.sessions.values() for event in each.outbox}
    assert waiting == written
    assert len(waiting) == 3


def test_a_session_is_written_in_the_form_of_this_release(release: str) -> None:
    """An older release leaves such an item alone: it would forget what has fired, and tell it twice."""
    with mocked_table() as table:
        for item in items(release):
            table.put(item)
        snapshots = table.snapshots()
        snapshot = snapshots.load(at(92))
        before = {key: table.item(key)["schema"] for key in ("TARGET", "SESSION#left-behind")}
        stored = snapshot.sessions["left-behind"]
        snapshots.clear(snapshot, frozenset(event.event_id for event in stored.outbox), {}, at(92))
        after = {key: table.item(key)["schema"] for key in ("TARGET", "SESSION#left-behind")}
        assert (before, after) == (
            {"TARGET": {"N": "1"}, "SESSION#left-behind": {"N": "2" if release == "release-0.2" else "1"}},
            {"TARGET": {"N": "1"}, "SESSION#left-behind": {"N": str(SCHEMA)}},
        )
        # Nobody has swept yet, so that an older release may have left it alone cannot be excluded.
        again = table.snapshots().load(at(92)).sessions["left-behind"].remembered
        assert replace(again, unlisted_since=None) == stored.remembered


def test_what_an_older_release_did_not_look_at_is_not_claimed() -> None:
    """Deployed over this one, it sweeps on and leaves newer items alone; then this one is deployed again."""
    with mocked_table() as table:
        written = table.snapshots()
        history = History(options=Options(), timeout=5400)
        history.observe(0)
        for minute in (1, 2):
            history.observe(minute, session(session_id="gone"), session(session_id="left"))
        target = replace(history.target, last_begin=at(2), last_end=at(2))
        snapshot, _ = written.commit(
            written.load(at(2)),
            SessionsPlan(target, {k: Write(v.remembered) for k, v in history.snapshot.sessions.items()}),
            lambda: 60.0,
        )
        written.commit_target(snapshot, TargetPlan(target, frozenset([SCOPE]), ()))
        # What release 0.2 writes of the target, an hour later: it knows no schema of sessions.
        item = table.item("TARGET")
        state = {
            name: value for name, value in json.loads(item["state"]["S"]).items() if name != "sessions_schema"
        } | {"last_begin": "2026-03-02T09:00:00Z", "last_end": "2026-03-02T09:00:00Z"}
        table.put(item | {"state": {"S": json.dumps(state)}})
        snapshots = table.snapshots()
        again = History(options=Options(), timeout=5400, snapshot=snapshots.load(at(61)))
        assert again.snapshot.left_alone
        events = again.observe(61, session(AWAY, "left"))
        events += again.observe(62, session(AWAY, "left"))
        windows = {
            (event["data"]["session"]["id"], event["type"]): event["metadata"]["previousObservedAt"]
            for event in events
        }
        assert windows["left", "Session Disconnected"] == "2026-03-02T08:01:00Z"
        (ended,) = [event["data"] for event in events if event["type"] == "Session Ended"]
        assert (ended["endedAfter"], ended["endReason"]) == ("2026-03-02T08:01:00Z", "UNKNOWN")


@pytest.mark.parametrize("listed", [True, False], ids=["a sweep", "a sweep that could list nothing"])
def test_it_is_known_until_somebody_has_looked(listed: bool) -> None:
    with mocked_table() as table:
        snapshots = table.snapshots()
        history = History()
        history.observe(0)
        history.observe(1, session())
        stored = {k: Write(v.remembered) for k, v in history.snapshot.sessions.items()}
        snapshot, _ = snapshots.commit(
            snapshots.load(at(1)), SessionsPlan(history.target, stored), lambda: 60.0
        )
        snapshots.commit_target(snapshot, TargetPlan(history.target, frozenset([SCOPE]), ()))
        assert not table.snapshots().load(at(2)).left_alone
        item = table.item("TARGET")
        state = json.loads(item["state"]["S"])
        del state["sessions_schema"]
        table.put(item | {"state": {"S": json.dumps(state)}})
        left = table.snapshots()
        snapshot = left.load(at(3))
        assert snapshot.left_alone
        snapshot, _ = left.commit(snapshot, SessionsPlan(history.target, stored), lambda: 60.0)
        target = replace(history.target, last_begin=at(3)) if listed else history.target
        left.commit_target(snapshot, TargetPlan(target, frozenset([SCOPE]), ()))
        assert table.snapshots().load(at(4)).left_alone is not listed
