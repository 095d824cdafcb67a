"""The example events of examples/consumers/rules: what the auditor would say, not what somebody typed.

Each comes out of a short history that the core itself compared and worded. Run as a module it writes them
anew; the patterns beside them are written by hand.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sandbox.cloud import ROOT
from session_auditor.model import DetailType, Facts, Fleet, Options, Scope, Session
from session_auditor.policies import read_document
from tests.shared.events import envelope
from tests.shared.history import AWAY, PATIENT, SCOPE, History, at, session

RULES = ROOT / "examples" / "consumers" / "rules"
LAB = Scope("lab", "render")
SCOPES = frozenset([SCOPE, LAB])
TAGGED = replace(PATIENT, tag_keys=("department", "notify"))
POLICIES = read_document((ROOT / "examples" / "policies" / "session-limits.json").read_text())
Look = tuple[float, *tuple[Session, ...]]


def facts(timeout: int = 3600) -> Facts:
    """The fleets are tagged with their departments; on the stack lab nobody wants to be told anything."""
    cad = Fleet(
        timeout, "ON_DEMAND", "stream.graphics.g4dn.xlarge", "WINDOWS_SERVER_2022", 1, {"department": "sales"}
    )
    render = replace(cad, type="ALWAYS_ON", tags={"department": "it"})
    return Facts({"cad": cad, "gpu-cad": cad, "render": render}, {"lab": {"notify": "off"}})


def told(detail_type: DetailType, *looks: Look, timeout: int = 3600) -> dict[str, Any]:
    """Play looks at AppStream, (minute, sessions), after an empty first one; return the last such event."""
    history = History(TAGGED, policies=POLICIES)
    history.observe(0, facts=facts(timeout))
    for minute, *sessions in looks:
        history.observe(minute, *sessions, scopes=SCOPES, facts=facts(timeout))
    return envelope([event for event in history.events if event.detail_type is detail_type][-1])


def started(**fields: Any) -> dict[str, Any]:
    return told(DetailType.STARTED, (1, session(**fields)))


def abandoned(minute: float, **fields: Any) -> dict[str, Any]:
    looks = (1, session(**fields)), (2, session(AWAY, **fields)), (minute, session(AWAY, **fields))
    return told(DetailType.ABANDONED, *looks, timeout=36000)


def baseline() -> dict[str, Any]:
    history = History(replace(TAGGED, baseline_events=True))
    history.observe(0, session(start_time=at(-30)), facts=facts())
    return envelope(history.events[-1])


def violated(policy: str) -> dict[str, Any]:
    """A user has three sessions, which two policies forbid where the fleet is one of `gpu-`."""
    scope = Scope("office", "gpu-cad")
    history = History(TAGGED, policies=POLICIES)
    history.observe(0, facts=facts())
    sessions = [session(session_id=f"s-{number}", scope=scope, start_time=at(number)) for number in (1, 2, 3)]
    history.observe(4, *sessions, scopes=frozenset([scope]), facts=facts())
    violations = [envelope(each) for each in history.events if each.detail_type is DetailType.POLICY_VIOLATED]
    return next(each for each in violations if each["detail"]["data"]["policy"]["name"] == policy)


def fleet(*codes: str) -> dict[str, Any]:
    """Errors that AppStream names of a fleet, sweep by sweep, "" for none; return the last event of it."""
    history = History(TAGGED)
    for minute, named in enumerate(codes):
        history.observe(minute, facts=facts(), fleets_read=at(minute), fleet_errors={"cad": named})
    return envelope(history.events[-1])


def coverage(detail_type: DetailType) -> dict[str, Any]:
    history = History(replace(TAGGED, hole=Options().hole))
    history.observe(0, facts=facts())
    for minute in range(1, 7):
        history.observe(minute, failed={SCOPE: "InternalServiceException"}, facts=facts())
    history.observe(7, facts=facts())
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
    "one-department": (started(), started(scope=LAB)),
    "not-opted-out": (started(), started(scope=LAB)),
    "policy-by-name": (violated("two-at-most"), violated("one-workstation")),
    "fleet-faulted": (
        fleet("DOMAIN_JOIN_ERROR_ACCESS_DENIED"),
        fleet("DOMAIN_JOIN_ERROR_ACCESS_DENIED", ""),
    ),
    "domain-join-failed": (
        fleet("DOMAIN_JOIN_ERROR_ACCESS_DENIED,IGW_NOT_ATTACHED"),
        fleet("IGW_NOT_ATTACHED"),
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
