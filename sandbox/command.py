"""`make command`: what the command says of itself, in docs/command.md, and the schemas of its answers.

The page is written by hand; what stands below `$ appstream-auditor ... --help` in it comes from the command.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from click.testing import CliRunner

from appstream_auditor import answers
from appstream_auditor.doctor.findings import DoctorAnswer
from appstream_auditor.main import cli
from appstream_auditor.probe.report import ProbeAnswer
from sandbox.cloud import ROOT

PAGE = ROOT / "docs" / "command.md"
SCHEMAS = ROOT / "docs" / "schemas" / "command"
WIDTH = 80
_BOX = re.compile(r"(?<=```\n)\$ appstream-auditor ((?:[\w-]+ )*)--help\n.*?(?=```)", re.DOTALL)
ANSWERS: dict[str, type[answers.Answer]] = {
    "status": answers.StatusAnswer,
    "sessions": answers.SessionsAnswer,
    "history": answers.HistoryAnswer,
    "explain": answers.ExplainAnswer,
    "doctor": DoctorAnswer,
    "probe": ProbeAnswer,
    "end": answers.EndAnswer,
    "policies validate": answers.ValidateAnswer,
    "policies preview": answers.PreviewAnswer,
    "what-if": answers.WhatIfAnswer,
}


def files() -> Iterator[tuple[Path, str]]:
    """Return what is published: the path and the content of every file."""
    yield PAGE, _BOX.sub(lambda box: _help(box[1].split()), PAGE.read_text())
    for name, model in ANSWERS.items():
        schema = model.model_json_schema(by_alias=True, mode="serialization")
        head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        title = {"title": f"appstream-auditor {name} -o json"}
        yield SCHEMAS / f"{name.replace(' ', '-')}.json", json.dumps(head | schema | title, indent=2) + "\n"


def _help(words: list[str]) -> str:
    said = CliRunner().invoke(
        cli, [*words, "--help"], prog_name="appstream-auditor", terminal_width=WIDTH, catch_exceptions=False
    )
    line = " ".join(["$ appstream-auditor", *words, "--help"])
    return f"{line}\n{said.stdout}"


if __name__ == "__main__":
    for path, content in files():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        print(path.relative_to(ROOT))
