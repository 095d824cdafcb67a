"""Events as EventBridge delivers them, made from the published schemas alone."""

import json
from hashlib import sha256
from pathlib import Path
from re import search
from typing import Any

ROOT = Path(__file__).parents[3]
SCHEMAS: dict[str, dict[str, Any]] = {
    schema["title"]: schema
    for schema in (
        json.loads(path.read_text()) for path in sorted((ROOT / "docs" / "schemas").glob("AppStream-*.json"))
    )
}
OBSERVED_AT = "2026-03-02T10:00:00Z"
TEXTS = ("text", OBSERVED_AT, "0" * 32)
JOIN = "DOMAIN_JOIN_ERROR_ACCESS_DENIED"


def example(schema: dict[str, Any], whole: dict[str, Any]) -> Any:
    """Return a value that the schema allows, with every property that it requires."""
    if "$ref" in schema:
        return example(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    if "enum" in schema:
        return schema["enum"][0]
    match schema["type"]:
        case "object":
            # Tags have whatever names an administrator chose.
            required = schema.get("required", ())
            return {name: example(schema["properties"][name], whole) for name in required}
        case "integer":
            return schema.get("minimum", 0)
        case "boolean":
            return False
        case "string":
            pattern = schema.get("pattern", "")
            return next(each for each in TEXTS if search(pattern, each))
        case other:
            raise AssertionError(f"no example of {other}")


def envelope(detail_type: str, detail: Any) -> dict[str, Any]:
    """Wrap a detail as EventBridge does."""
    return {
        "version": "0",
        "id": "11111111-2222-3333-4444-555555555555",
        "detail-type": detail_type,
        "source": "appstream.auditor",
        "account": "123456789012",
        "time": OBSERVED_AT,
        "region": "eu-west-1",
        "resources": [],
        "detail": detail,
    }


def event(
    kind: str,
    sequence: int,
    session_id: str = "s-1",
    user_id: str = "jane.doe@example.com",
    summary: str = "",
) -> dict[str, Any]:
    """Return an event of a session; its id depends on the session, the kind and the sequence."""
    detail_type = f"AppStream Session {kind}"
    detail = example(SCHEMAS[detail_type], SCHEMAS[detail_type])
    detail["metadata"] |= {"eventId": event_id(session_id, kind, sequence), "sequence": sequence}
    detail["data"]["session"] |= {
        "id": session_id,
        "userId": user_id,
        "stackName": "office",
        "fleetName": "cad",
        "instanceId": "i-1",
    }
    detail["data"]["summary"] = summary or f"{kind} number {sequence}"
    return envelope(detail_type, detail)


def violation(
    kind: str, sequence: int, session_id: str = "s-1", policy: str = "too-long", since: str = OBSERVED_AT
) -> dict[str, Any]:
    """Return an event of a session that has violated a policy since then, by its threshold of ten hours."""
    told = event(f"Policy {kind}", sequence, session_id)
    told["detail"]["metadata"]["eventId"] = event_id(f"{session_id} {policy}", kind, sequence)
    told["detail"]["data"]["policy"] |= {"name": policy, "since": since, "limit": "600", "actual": "603"}
    told["detail"]["data"]["thresholdMinutes"] = 600
    return told


def gap(kind: str, since: str = OBSERVED_AT) -> dict[str, Any]:
    """Return an event of a stack and fleet that could not be listed since then."""
    detail_type = f"AppStream Audit {kind}"
    detail = example(SCHEMAS[detail_type], SCHEMAS[detail_type])
    sequence = 1 if kind == "Degraded" else 2
    detail["metadata"] |= {"eventId": event_id(since, kind, sequence), "sequence": sequence}
    detail["data"] |= {"stackName": "office", "fleetName": "cad", "since": since, "summary": f"Audit {kind}"}
    return envelope(detail_type, detail)


def fault(kind: str, sequence: int = 1, codes: str = JOIN, since: str = OBSERVED_AT) -> dict[str, Any]:
    """Return an event of a fleet that has had errors since then."""
    detail_type = f"AppStream Fleet {kind}"
    detail = example(SCHEMAS[detail_type], SCHEMAS[detail_type])
    detail["metadata"] |= {"eventId": event_id(f"fault {since}", kind, sequence), "sequence": sequence}
    names = {"stackName": "", "fleetName": "cad", "since": since, "codes": codes}
    detail["data"] |= names | {"summary": f"Fleet {kind}"}
    return envelope(detail_type, detail)


def event_id(episode: str, kind: str, sequence: int) -> str:
    """Return the id of such an event: 32 hex digits."""
    return sha256(f"{episode} {kind} {sequence}".encode()).hexdigest()[:32]
