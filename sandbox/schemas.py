"""`make schemas`: publishes the JSON Schema of every detail-type, from the models, in docs/schemas."""

import json

from sandbox.cloud import ROOT
from session_auditor.events import json_schema
from session_auditor.model import DetailType

for detail_type in DetailType:
    path = ROOT / "docs" / "schemas" / f"{detail_type.value.replace(' ', '-')}.json"
    path.write_text(json.dumps(json_schema(detail_type), indent=2) + "\n")
    print(path.relative_to(ROOT))
