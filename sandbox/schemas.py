"""`make schemas`: publishes schemas of the events and of policies, from the models, in docs/schemas.

There is a JSON Schema of every detail-type's `detail`, and a template that puts schemas of the whole events
into the EventBridge Schema Registry, in the draft that it takes. The schema of the policies document is there
for editors.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox.cloud import ROOT
from session_auditor.contract import SOURCE, json_schema
from session_auditor.model import DetailType
from session_auditor.policies import json_schema as policies_schema

FOLDER = ROOT / "docs" / "schemas"
TEMPLATE_HEAD = """\
# Written by `make schemas`; the same schemas, for people, are the JSON files beside it.
AWSTemplateFormatVersion: "2010-09-09"
Description: The schemas of the session auditor's events, in a registry of their own.
Resources:
  Registry:
    Type: AWS::EventSchemas::Registry
    Properties:
      Description: Events of AppStream sessions; source appstream.auditor.
"""
TEMPLATE_SCHEMA = """\
  {logical_id}:
    Type: AWS::EventSchemas::Schema
    Properties:
      RegistryName: !GetAtt Registry.RegistryName
      SchemaName: {name}
      Type: JSONSchemaDraft4
      Content: >-
        {content}
"""


def files() -> Iterator[tuple[Path, str]]:
    """Return what is published: the path and the content of every file."""
    template = TEMPLATE_HEAD
    for detail_type in DetailType:
        name = detail_type.value.replace(" ", "-")
        yield FOLDER / f"{name}.json", json.dumps(json_schema(detail_type), indent=2) + "\n"
        template += TEMPLATE_SCHEMA.format(
            logical_id=name.replace("-", ""),
            name=f"{SOURCE}@{name.replace('-', '')}",
            content=json.dumps(event_schema(detail_type), separators=(",", ":")),
        )
    yield FOLDER / "registry.yaml", template
    yield FOLDER / "policies.json", json.dumps(policies_schema(), indent=2) + "\n"


def event_schema(detail_type: DetailType) -> dict[str, Any]:
    """Return the schema of a whole event in JSON Schema draft 4, the one that the registry takes."""
    detail = json.loads(json.dumps(json_schema(detail_type)).replace("#/$defs/", "#/definitions/"))
    definitions = detail.pop("$defs")
    del detail["$schema"]
    text = {"type": "string"}
    envelope = {
        "version": text,
        "id": text,
        "detail-type": {"enum": [detail_type.value]},
        "source": {"enum": [SOURCE]},
        "account": text,
        "time": {"type": "string", "format": "date-time"},
        "region": text,
        "resources": {"type": "array", "items": text},
        "detail": detail,
    }
    return {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "title": detail_type.value,
        "type": "object",
        "required": list(envelope),
        "properties": envelope,
        "definitions": definitions,
    }


if __name__ == "__main__":
    for path, content in files():
        path.write_text(content)
        print(path.relative_to(ROOT))
