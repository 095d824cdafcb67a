"""A document of policies from a file to the auditor: docs/policies.md, command by command.

The tests are one story, in order. Sessions are as old as they say by the clock of this machine, since the
function that is deployed sweeps by it; no policy here asks what time it is.
"""

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appstream_auditor.deployment import DEFAULT_STACK
from sandbox.appstream.models import Fleet, StreamingSession
from sandbox.cloud import ROOT, LocalCloud, Stack, local_cloud, wait_for
from tests.integration.shell import shell

CHAPTER = (ROOT / "docs" / "policies.md").read_text()
(COMMANDS,) = re.findall(r"```bash\n(.*?)```", CHAPTER, re.DOTALL)
VALIDATE, PREVIEW, PUT = COMMANDS.splitlines()
(BROKEN,) = re.findall(r"```\n(policies\..*)\n```", CHAPTER)
SETTINGS = {"PoliciesParameter": "/appstream/policies", "TagKeys": "workload", "TopologyMinutes": "0"}
# What stands for the installed command.
COMMAND = f'appstream-auditor() {{ "{sys.executable}" -m appstream_auditor "$@"; }}\n'
VIOLATED, CLEARED = "AppStream Session Policy Violated", "AppStream Session Policy Cleared"


@dataclass
class Office:
    """The auditor as deployed, its events, and the folder in which an administrator types."""

    cloud: LocalCloud
    stack: Stack
    events_url: str
    folder: Path

    def type(self, command: str) -> str:
        """Type a command of the chapter; return what it printed."""
        path = f"{ROOT / 'layers' / 'session_auditor'}:{ROOT / 'cli'}"
        variables = {**self.cloud.endpoints, "PYTHONPATH": path, "COLUMNS": "200"}
        return shell(self.cloud, COMMAND + command, self.folder, self.folder, **variables)

    def write(self, document: Any) -> None:
        (self.folder / "policies.json").write_text(json.dumps(document))

    def sweep(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Make a sweep; return its summary and its events."""
        function = self.stack.outputs["AuditorFunctionName"]
        answer = self.cloud.client("lambda").invoke(FunctionName=function, Payload=b"{}")
        summary: dict[str, Any] = json.loads(answer["Payload"].read())
        events: list[dict[str, Any]] = []

        def complete() -> bool:
            events.extend(self.cloud.drain(self.events_url))
            return len(events) >= Counter(summary["eventsPublished"]).total()

        wait_for(complete, 30, "the sweep's events")
        return summary, events


def by_policy(events: list[dict[str, Any]], detail_type: str) -> Counter[str]:
    return Counter(
        each["detail"]["data"]["policy"]["name"] for each in events if each["detail-type"] == detail_type
    )


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with local_cloud() as cloud:
        appstream = cloud.appstream
        appstream.add_scope("office", Fleet("cad"))
        appstream.add_scope("lab", Fleet("gpu-1"))
        now = datetime.now(UTC).replace(microsecond=0)
        for name, user, of_stack, fleet, hours in (
            ("s-1", "ann@example.com", "office", "cad", 11),
            ("s-2", "ann@example.com", "office", "cad", 2),
            ("s-3", "ann@example.com", "lab", "gpu-1", 1),
            ("s-4", "bob@example.com", "office", "cad", 3),
        ):
            start = now - timedelta(hours=hours)
            appstream.sessions[name] = StreamingSession(name, user, of_stack, fleet, start_time=start)
        stack = cloud.deploy(SETTINGS | {"Sweeps": "DISABLED"}, name=DEFAULT_STACK)
        url = cloud.subscribe_queue(
            stack.outputs["SessionBusName"], "events", {"source": ["appstream.auditor"]}
        )
        folder = tmp_path_factory.mktemp("administrator")
        shutil.copy(ROOT / "examples" / "policies" / "session-limits.json", folder / "policies.json")
        yield Office(cloud, stack, url, folder)


def doctors_line(office: Office) -> str:
    # It ends with 1, for the schedule is paused.
    told = office.type("appstream-auditor doctor --utc || true").splitlines()
    (line,) = (each for each in told if re.match(r"\w+ +policies  ", each))
    return line


def test_the_file_is_checked_without_asking_anybody(office: Office) -> None:
    assert "4 policies, 5 pairs of policy and threshold" in office.type(VALIDATE)


def test_the_preview_counts_what_the_next_sweep_tells(office: Office) -> None:
    # Until there is a document it is said that there is none, and sessions are told of all the same.
    assert "/appstream/policies" in office.sweep()[0]["policiesProblem"]
    previewed = json.loads(office.type(f"{PREVIEW} -o json"))
    assert office.sweep()[1] == []
    office.type(PUT)
    summary, events = office.sweep()
    assert "policiesProblem" not in summary
    told = by_policy(events, VIOLATED)
    assert told == {"two-at-most": 1, "too-long": 1}
    assert {row["name"]: row["violated"] for row in previewed["policies"] if row["violated"]} == told
    assert doctors_line(office).split()[:3] == ["ok", "policies", "in"]


def test_a_document_that_is_broken_is_named_and_not_applied(office: Office) -> None:
    document = json.loads((ROOT / "examples" / "policies" / "office-hours.json").read_text())
    document["policies"]["after-hours"]["hours"] = "ofice"
    office.write(document)
    assert BROKEN in office.type(f"{VALIDATE} 2>&1 || true")
    office.type(PUT)
    summary, events = office.sweep()
    assert (summary["policiesProblem"], events) == (BROKEN, [])
    assert BROKEN in doctors_line(office)
    assert "2 violating" in office.type("appstream-auditor status")


def test_a_parameter_that_is_gone_changes_nothing(office: Office) -> None:
    office.type("aws ssm delete-parameter --name /appstream/policies")
    summary, events = office.sweep()
    assert "ParameterNotFound" in summary["policiesProblem"]
    assert events == []


def test_without_a_parameter_nothing_is_violated(office: Office) -> None:
    assert "\"PoliciesParameter=''\"" in CHAPTER
    office.cloud.deploy(SETTINGS | {"PoliciesParameter": "", "Sweeps": "DISABLED"}, name=DEFAULT_STACK)
    _, events = office.sweep()
    assert by_policy(events, CLEARED) == {"two-at-most": 1, "too-long": 1}
    assert {each["detail"]["data"]["clearReason"] for each in events} == {"POLICY_CHANGED"}
