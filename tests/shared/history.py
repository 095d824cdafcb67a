"""Plays observations through the core as a sweep does, with a dictionary for a table.

Times are minutes after START. What it gives back are the events as consumers read them.
"""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from session_auditor.model import (
    Event,
    Facts,
    Failure,
    Fleet,
    Life,
    Listing,
    Options,
    Scope,
    Session,
    Snapshot,
    Stored,
    Target,
    TargetId,
)
from session_auditor.plan import plan_sessions, plan_target
from session_auditor.policies import NO_DOCUMENT, Document
from session_auditor.timeline import life_of

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
TARGET = TargetId("aws", "123456789012", "eu-west-1")
SCOPE = Scope("office", "cad")
CONNECTED, AWAY = "CONNECTED", "NOT_CONNECTED"
# Many minutes between two sweeps are no hole: for tests of other rules.
PATIENT = Options(hole=timedelta(days=1))


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def session(connection: str = CONNECTED, session_id: str = "s-1", **fields: Any) -> Session:
    """A session that started with minute 1 and may last ten hours."""
    defaults: dict[str, Any] = {
        "scope": SCOPE,
        "user_id": "jane.doe@example.com",
        "state": "ACTIVE",
        "authentication_type": "SAML",
        "start_time": at(0.5),
        "max_expiration_time": at(600),
    }
    return Session(id=session_id, connection_state=connection, **(defaults | fields))


@dataclass
class History:
    """A target, its snapshot, every event so far, and the lives that are over."""

    options: Options = PATIENT
    timeout: int | None = 3600
    policies: Document = NO_DOCUMENT
    snapshot: Snapshot = field(default_factory=Snapshot)
    events: list[Event] = field(default_factory=list)
    over: list[Life] = field(default_factory=list)

    def observe(
        self,
        minute: float,
        *sessions: Session,
        failed: dict[Scope, str] | None = None,
        scopes: frozenset[Scope] = frozenset([SCOPE]),
        **listing: Any,
    ) -> list[dict[str, Any]]:
        """Make a sweep at that minute; return its events as (detail-type, detail)."""
        seen = Listing(
            begin=at(minute),
            observed_at=at(minute),
            sessions={each.id: each for each in sessions},
            scopes=scopes,
            failed={scope: Failure(reason) for scope, reason in (failed or {}).items()},
            **{"facts": Facts({scope.fleet: Fleet(self.timeout, "ON_DEMAND") for scope in scopes})} | listing,
        )
        which: dict[str, Any] = {"options": self.options, "target_id": TARGET, "sweep_id": f"sweep-{minute}"}
        plan = plan_sessions(self.snapshot, seen, self.policies, **which)
        target = plan_target(self.snapshot, seen, {}, **which)
        stored = dict(self.snapshot.sessions)
        events: list[Event] = []
        for session_id, (remembered, outbox) in plan.writes.items():
            waiting = stored[session_id].outbox if session_id in stored else ()
            events += outbox[len(waiting) :]
            if remembered is None or remembered.ending:
                del stored[session_id]
                if remembered and remembered.ending:
                    self.over.append(life_of(remembered, remembered.ending.before))
            else:
                stored[session_id] = Stored(remembered, (), 1)
        events += target.outbox[len(self.snapshot.outbox) :]
        self.snapshot = replace(
            self.snapshot, target=target.target, scopes=target.scopes, sessions=stored, facts=target.facts
        )
        self.events += events
        return [
            {"type": event.detail_type.removeprefix("AppStream ")} | json.loads(event.detail)
            for event in events
        ]

    @property
    def target(self) -> Target:
        assert self.snapshot.target
        return self.snapshot.target


def told(events: list[dict[str, Any]]) -> list[str]:
    """Sum events up: their type, and the threshold or the reason they carry."""
    lines = []
    for event in events:
        data = event["data"]
        extra = [data.get("deadline", {}).get("cause", "")] if event["type"] == "Session Expiring" else []
        extra += [str(data[key]) for key in ("thresholdMinutes", "endReason", "reason") if key in data]
        lines.append(" ".join([event["type"].removeprefix("Session "), *extra]))
    return lines
