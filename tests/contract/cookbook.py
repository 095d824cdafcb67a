"""The example events of examples/consumers/rules: what the auditor would say, not what somebody typed.

Each comes out of a short history that the core itself compared and worded. Run as a module it writes them
anew; the patterns beside them are written by hand.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sandbox.cloud import ROOT
from session_auditor.model import DetailType, Options, Scope, Session
from tests.shared.events import envelope
from tests.shared.history import AWAY, SCOPE, History, at, session

RULES = ROOT / "examples" / "consumers" / "rules"
LAB = Scope("lab", "render")
Look = tuple[float, *tuple[Session, ...]]


def told(detail_type: DetailType, *looks: Look, timeout: int = 3600) -> dict[str, Any]:
    """Play looks at AppStream, (minute, sessions), after an empty first one; return the last such event."""
    history = History(timeout=timeout)
    history.observe(0)
    for minute, *sessions in looks:
        history.observe(minute, *sessions, scopes=frozenset([SCOPE, LAB]))
    return envelope([event for event in history.events if event.detail_type is detail_type][-1])


def started(**fields: Any) -> dict[str, Any]:
    return told(DetailType.STARTED, (1, session(**fields)))


def abandoned(minute: float, **fields: Any) -> dict[str, Any]:
    looks = (1, session(**fields)), (2, session(AWAY, **fields)), (minute, session(AWAY, **fields))
    return told(DetailType.ABANDONED, *looks, timeout=36000)


def baseline() -> dict[str, Any]:
    history = History(options=replace(Options(), baseline_events=True))
    history.observe(0, session(start_time=at(-30)))
    return envelope(history.events[-1])


def coverage(detail_type: DetailType) -> dict[str, Any]:
    history = History(options=Options())
    history.observe(0)
    for minute in range(1, 7):
        history.observe(minute, failed={SCOPE: "InternalServiceException"})
    history.observe(7)
    return envelope(next(event for event in history.events if event.detail_type is detail_type))


# By the name of a rule's folder: an event that its pattern matches, and one that it does not.
EXAMPLES: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one-stack": (started(), started(scope=LAB)),
    "saml-users": (started(), started(authentication_type="API")),
    "user-domain": (started(user_id="kim@Partner.example"), started(user_id="kim@partner.example.net")),
    "user-who-left": (
        started(user_id="contractor-7@example.com"),
        started(user_id="contractor@example.com"),
    ),
    "sign-in-method": (started(authentication_type="USERPOOL"), started()),
    "other-fleets": (started(scope=LAB), started()),
    "no-baseline": (started(), baseline()),
    "expiring-while-connected": (
        told(DetailType.EXPIRING, (1, session()), (595, session())),
        told(DetailType.EXPIRING, (1, session()), (2, session(AWAY)), (57, session(AWAY))),
    ),
    "disconnected-for-an-hour": (abandoned(63), abandoned(18)),
    "draining-held-open": (
        abandoned(18, instance_id="i-0abc", instance_drain_status="DRAINING"),
        abandoned(18, instance_id="i-0abc", instance_drain_status="ACTIVE"),
    ),
    "ended-early": (
        told(DetailType.ENDED, (1, session()), (240,), (241,)),
        told(DetailType.ENDED, (1, session()), (601,)),
    ),
    "audit-coverage-lost": (coverage(DetailType.AUDIT_DEGRADED), coverage(DetailType.AUDIT_RECOVERED)),
}


def text(event: Mapping[str, Any]) -> str:
    return json.dumps(event, indent=2) + "\n"


if __name__ == "__main__":
    for name, (matches, does_not) in EXAMPLES.items():
        (RULES / name).mkdir(parents=True, exist_ok=True)
        (RULES / name / "matches.json").write_text(text(matches))
        (RULES / name / "does-not-match.json").write_text(text(does_not))
