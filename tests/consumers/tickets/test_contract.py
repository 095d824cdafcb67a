"""The tickets stand on the published schemas: a field that they use can't disappear unseen."""

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from samtranslator.yaml_helper import yaml_parse

from sandbox.cloud import ROOT
from tests.consumers.tickets.events import SCHEMAS, envelope, example
from tickets.episode import (
    CLOSING,
    AuditData,
    Event,
    FleetData,
    Metadata,
    Session,
    SessionData,
    ViolationData,
)


def paths(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every field that a model reads, by its path within an event's detail."""
    for field in model.model_fields.values():
        path = (*above, str(field.alias))
        yield path
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from paths(field.annotation, path)


def model_of(detail_type: str) -> type[BaseModel]:
    """Which of the models reads the `data` of a detail-type."""
    models: dict[str, type[BaseModel]] = {
        "Policy": ViolationData,
        "Session": SessionData,
        "Fleet": FleetData,
        "Audit": AuditData,
    }
    return next(model for name, model in models.items() if name in detail_type)


OF_SESSIONS = (*paths(Metadata, ("metadata",)), *paths(SessionData, ("data",)))
USED = [
    pytest.param(each, path, id=f"{each.removeprefix('AppStream ')}-{'.'.join(path)}")
    for each in SCHEMAS
    for path in (*paths(Metadata, ("metadata",)), *paths(model_of(each), ("data",)))
]


def test_every_model_is_looked_into() -> None:
    assert {("data", "session", name) for name in ("id", "userId", "stackName")} <= set(OF_SESSIONS)
    assert len(OF_SESSIONS) == len(Metadata.model_fields) + len(Session.model_fields) + 2


@pytest.mark.parametrize("detail_type", SCHEMAS)
def test_an_event_of_the_published_schema_is_understood(detail_type: str) -> None:
    schema = SCHEMAS[detail_type]
    understood = Event.model_validate(envelope(detail_type, example(schema, schema)))
    assert understood.detail_type == detail_type
    assert type(understood.detail.data) is model_of(detail_type)


@pytest.mark.parametrize("detail_type", SCHEMAS)
def test_an_event_of_before_the_update_is_understood(detail_type: str) -> None:
    """It lacks the facts of the fleet and the tags; it may wait in the queue during the update."""
    schema = SCHEMAS[detail_type]
    event = envelope(detail_type, example(schema, schema))
    now = Event.model_validate(event)
    del event["detail"]["data"]["fleet"], event["detail"]["data"]["tags"]
    assert Event.model_validate(event) == now


# Events as the function of release 0.2 left them with an episode, for whoever holds it next.
STORED = {
    "AppStream Session Abandoned": {
        "session": {
            "id": "s-1",
            "userId": "jane.doe@example.com",
            "stackName": "office",
            "fleetName": "cad",
            "instanceId": "i-1",
        },
        "summary": "Abandoned",
    },
    "AppStream Audit Degraded": {
        "stackName": "office",
        "fleetName": "cad",
        "since": "2026-03-02T10:00:00Z",
        "summary": "Degraded",
    },
}


@pytest.mark.parametrize("detail_type", STORED)
def test_what_an_older_function_stored_is_understood(detail_type: str) -> None:
    metadata = example(SCHEMAS[detail_type], SCHEMAS[detail_type])["metadata"]
    detail = {"metadata": metadata, "data": STORED[detail_type]}
    stored = Event.model_validate({"detail-type": detail_type, "detail": detail})
    assert type(stored.detail.data) is model_of(detail_type)


@pytest.mark.parametrize(("detail_type", "path"), USED)
def test_a_field_that_disappears_is_noticed(detail_type: str, path: tuple[str, ...]) -> None:
    schema = deepcopy(SCHEMAS[detail_type])
    part = schema
    for name in path[:-1]:
        part = definition(part["properties"][name], schema)
    part["properties"][f"{path[-1]}Renamed"] = part["properties"].pop(path[-1])
    part["required"] = [f"{each}Renamed" if each == path[-1] else each for each in part["required"]]
    try:
        understood = Event.model_validate(envelope(detail_type, example(schema, schema)))
    except ValidationError:
        return
    # What is said of a policy is missing: it would be taken for an event of the session alone.
    assert type(understood.detail.data) is not model_of(detail_type)


def test_what_closes_an_episode_is_published() -> None:
    assert set(SCHEMAS) >= CLOSING


@pytest.mark.parametrize("vendor", ["jira", "servicenow"])
def test_an_administrator_can_choose_whatever_may_open_a_ticket(vendor: str) -> None:
    """A new detail-type either may, and stands in OpenedBy's pattern, or is named here."""
    template = yaml_parse((ROOT / "examples" / "consumers" / vendor / "template.yaml").read_text())
    pattern = template["Parameters"]["OpenedBy"]["AllowedPattern"]
    never = {f"AppStream Session {each}" for each in ("Started", "Connected", "Reconnected")}
    assert {each for each in SCHEMAS if re.fullmatch(pattern, each)} == set(SCHEMAS) - CLOSING - never


def definition(schema: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    return found
