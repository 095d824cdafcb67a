"""The published schemas are those of the models, in the folder for people and in the registry's template."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from samtranslator.yaml_helper import yaml_parse

from sandbox.schemas import files
from session_auditor.contract import SOURCE, json_schema
from session_auditor.model import ClearReason, DetailType, EndReason, PolicyKind
from tests.shared.events import envelope, whole_life

ROOT = Path(__file__).parents[2]
REGISTRY = ROOT / "docs" / "schemas" / "registry.yaml"
SCHEMAS = {
    schema["Properties"]["SchemaName"]: json.loads(schema["Properties"]["Content"])
    for schema in yaml_parse(REGISTRY.read_text())["Resources"].values()
    if schema["Type"] == "AWS::EventSchemas::Schema"
}


def schema_of(detail_type: DetailType) -> dict[str, Any]:
    schema: dict[str, Any] = SCHEMAS[f"{SOURCE}@{detail_type.value.replace(' ', '')}"]
    return schema


@pytest.mark.parametrize(("path", "content"), list(files()), ids=lambda each: getattr(each, "name", ""))
def test_what_is_published_is_what_the_models_say(path: Path, content: str) -> None:
    assert path.read_text() == content, "run `make schemas` and commit what changes"


def test_every_detail_type_is_in_the_registry() -> None:
    assert len(SCHEMAS) == len(DetailType)


@pytest.mark.parametrize("detail_type", DetailType)
class TestRegistry:
    """Schemas as the registry takes them: draft 4, of whole events."""

    def test_they_hold_for_what_is_received(self, detail_type: DetailType) -> None:
        schema = schema_of(detail_type)
        jsonschema.Draft4Validator.check_schema(schema)
        validator = jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker())
        validator.validate(envelope(whole_life()[detail_type]))

    def test_they_hold_for_nothing_else(self, detail_type: DetailType) -> None:
        validator = jsonschema.Draft4Validator(schema_of(detail_type))
        life = whole_life()
        for other in set(DetailType) - {detail_type}:
            assert not validator.is_valid(envelope(life[other]))
        event = envelope(life[detail_type])
        del event["detail"]["data"]["summary"]
        assert not validator.is_valid(event)

    def test_the_registry_has_room_for_them(self, detail_type: DetailType) -> None:
        assert len(json.dumps(schema_of(detail_type))) < 100_000, "AWS::EventSchemas::Schema, Content"


def test_the_docs_have_a_line_for_every_detail_type() -> None:
    documented = re.findall(
        r"^\| (AppStream [A-Za-z ]+) \|", (ROOT / "docs" / "events.md").read_text(), re.MULTILINE
    )
    assert documented == [each.value for each in DetailType]


def test_the_docs_explain_every_field_and_every_reason() -> None:
    docs = (ROOT / "docs" / "events.md").read_text()
    parts = [part for each in DetailType for part in json_schema(each)["$defs"].values()]
    names = {name for part in parts for name in part.get("properties", {})}
    reasons = {each.value for each in EndReason if each is not EndReason.UNWATCHED}
    reasons |= {*ClearReason, *PolicyKind}
    assert names | reasons <= set(re.findall(r"`(\w+)`", docs))
