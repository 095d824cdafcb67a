"""Events as a channel's function gets them, and what its rule lets through."""

from typing import Any

from samtranslator.yaml_helper import yaml_parse

from sandbox.cloud import ROOT
from session_auditor.contract import SOURCE
from session_auditor.model import DetailType

ACCOUNT, REGION = "123456789012", "eu-west-1"


def envelope(
    number: int = 1,
    detail_type: DetailType = DetailType.EXPIRING,
    *,
    stack: str = "office",
    fleet: str = "cad",
    user: str = "",
    minute: int = 0,
    region: str = REGION,
    policy: str = "after-hours",
    codes: str = "DOMAIN_JOIN_ERROR_ACCESS_DENIED",
) -> dict[str, Any]:
    """An event as EventBridge delivers it."""
    user = user or f"user{number}@example.com"
    told: dict[str, Any] = {"summary": f"The session of “{user}” on stack {stack}, fleet {fleet} ends soon"}
    if detail_type in {DetailType.AUDIT_DEGRADED, DetailType.AUDIT_RECOVERED}:
        told = {
            "stackName": stack,
            "fleetName": fleet,
            "since": "2026-03-02T13:30:00Z",
            "summary": f"Sessions on stack {stack}, fleet {fleet} could not be listed",
        }
    elif detail_type in {DetailType.FLEET_FAULTED, DetailType.FLEET_RECOVERED}:
        told = {
            "stackName": "",
            "fleetName": fleet,
            "since": "2026-03-02T13:30:00Z",
            "codes": codes,
            "summary": f"Fleet {fleet} has errors: {codes}",
        }
    else:
        told["session"] = {
            "id": f"s-{number}",
            "userId": user,
            "stackName": stack,
            "fleetName": fleet,
            "startTime": "2026-03-02T08:30:00Z",
        }
        if detail_type in {DetailType.POLICY_VIOLATED, DetailType.POLICY_CLEARED}:
            told["policy"] = {"name": policy, "kind": "OUTSIDE_HOURS", "since": "2026-03-02T13:30:00Z"}
        told["deadline"] = {"at": "2026-03-02T15:00:00Z", "cause": "MAX_DURATION", "minutesLeft": 60}
    return {
        "source": SOURCE,
        "detail-type": detail_type.value,
        "resources": [f"arn:aws:appstream:{region}:{ACCOUNT}:fleet/{fleet}"],
        "detail": {
            "metadata": {
                "eventId": f"{number:032x}",
                "accountId": ACCOUNT,
                "region": region,
                "observedAt": f"2026-03-02T14:{minute:02}:00Z",
            },
            "data": told,
        },
    }


def patterns() -> dict[str, dict[str, Any]]:
    """Return the rule's pattern by the level of Notices."""
    template = ROOT / "functions" / "notifier" / "template.yaml"
    pattern = yaml_parse(template.read_text())["Resources"]["Events"]["Properties"]["EventPattern"]
    _, quiet, rest = pattern["Fn::If"]
    _, normal, rest = rest["Fn::If"]
    _, everything, _ = rest["Fn::If"]
    return {"quiet": quiet, "normal": normal, "everything": everything}
