"""What a sweep asks of AWS and what a cold start imports: counted, so the same on every machine.

Times are no matter of a test; `make bench` measures them.
"""

import json
import os
import subprocess
import sys
from datetime import timedelta
from math import ceil
from typing import Any

import pytest

from benchmarks.contestants import ROOT, environment
from benchmarks.runs import Case, Figures, Scenario, run
from benchmarks.services import POLICED_TABLE, Estate, Services
from sandbox.meter import item_size
from session_auditor.model import Facts, Fleet, Options, Scope, Stored
from session_auditor.policies import NO_DOCUMENT, read_document
from session_auditor.table import Table
from tests.shared.history import AWAY, CONNECTED, TARGET, History, at, session

SESSIONS, SCOPES = 1_000, 20
# A session of which AppStream leaves nothing out.
WHOLE: dict[str, Any] = {
    "session_id": "3f2a8b1c-1234-4abc-8def-0123456789ab",
    "user_id": "firstname.lastname-hyphen@subsidiary.example.com",
    "instance_id": "i-0123456789abcdef0",
    "eni_id": "eni-0123456789abcdef0",
    "eni_private_ip_address": "10.123.123.123",
    "instance_drain_status": "NOT_APPLICABLE",
}
CHANGED = SESSIONS // 100
# What the function's own code and its direct dependencies bring in; each costs every cold start.
PACKAGES = {
    "annotated_types",
    "auditor",
    "aws_lambda_powertools",
    "boto3",
    "botocore",
    "certifi",
    "dateutil",
    "jmespath",
    "pydantic",
    "pydantic_core",
    "s3transfer",
    "session_auditor",
    "six",
    "typing_extensions",
    "typing_inspection",
    "urllib3",
}


@pytest.fixture(scope="module")
def steady() -> dict[Scenario, Figures]:
    scenarios = (Scenario.QUIET, Scenario.CHURN)
    case = Case(SESSIONS, SCOPES, scenarios, contestants=("auditor",), rounds=2)
    return {each.scenario: each for each in run(case)}


@pytest.fixture(scope="module")
def tide() -> dict[Scenario, Figures]:
    scenarios = (Scenario.MORNING, Scenario.LOGOFF)
    return {
        each.scenario: each
        for each in run(Case(SESSIONS, SCOPES, scenarios, contestants=("auditor",), rounds=1))
    }


def put(stored: Stored) -> dict[str, Any]:
    """The item that a session is written as."""
    item: dict[str, Any] = Table("sessions", TARGET, timedelta(days=90)).put_session(1, stored)["Put"]["Item"]
    return item


def test_a_quiet_sweep_lists_reads_one_item_and_writes_one(steady: dict[Scenario, Figures]) -> None:
    quiet = steady[Scenario.QUIET]
    assert sum(quiet.pages) == SCOPES
    assert quiet.calls() == quiet.calls("DescribeSessions") + 2 == SCOPES + 2
    assert (quiet.calls("Query"), quiet.calls("PutItem")) == (1, 1)
    assert [quiet.counts[each] for each in ("read units", "write units", "item writes")] == [1, 1, 1]
    assert quiet.counts["bytes logged"] < 1_500


def test_open_violations_cost_a_quiet_sweep_nothing() -> None:
    case = Case(SESSIONS, SCOPES, (Scenario.QUIET,), contestants=("with policies",), rounds=2)
    services = Services(Estate(SESSIONS, SCOPES))
    _, quiet = run(case, services)
    # Every session of one fleet in twenty is outside its hours.
    items = services.dynamodb.tables[POLICED_TABLE].items()
    assert sum('"after-hours"' in str(item["state"]) for item in items) == SESSIONS / SCOPES
    assert [quiet.counts[each] for each in ("read units", "write units", "item writes")] == [1, 1, 1]
    # Neither of these two read the topology anew, nor the policies with it.
    assert quiet.calls() == quiet.calls("DescribeSessions") + 2


def test_containers_by_turns_read_no_more_than_one() -> None:
    case = Case(SESSIONS, SCOPES, (Scenario.QUIET,), contestants=("by turns",), rounds=4)
    _, quiet = run(case)
    assert [quiet.counts[each] for each in ("read units", "write units", "item writes")] == [1, 1, 1]


def test_what_is_asked_of_the_table_grows_with_changes(steady: dict[Scenario, Figures]) -> None:
    churn = steady[Scenario.CHURN]
    assert churn.counts["events"] == CHANGED
    # After a sweep that wrote sessions the table is read whole: the target's item, then all.
    assert churn.calls("Query") == 2
    assert churn.calls("PutItem", "TransactWriteItems", "PutEvents") == 4
    assert churn.counts["read units"] <= 1 + SESSIONS / 5
    # Each session is committed and cleared; besides, the fence and the target.
    assert churn.counts["item writes"] == 2 * CHANGED + 2
    # 2 KB with its event, in transactions; the fence counts twice and the target once.
    assert churn.counts["write units"] <= 8 * CHANGED + 3


@pytest.mark.parametrize(
    ("events", "tags", "policies", "units"),
    [
        pytest.param(4, 0, 0, 8, id="four events"),
        pytest.param(40, 0, 0, 8, id="a full timeline"),
        pytest.param(40, 3, 0, 12, id="a full timeline and three tags"),
        pytest.param(40, 3, 3, 12, id="three violations open, too"),
    ],
)
def test_a_change_costs_no_more_in_a_long_life(events: int, tags: int, policies: int, units: int) -> None:
    """Whatever AppStream says of a session, in names of 26 characters."""
    scope = Scope("engineering-production-euw", "engineering-graphics-g4dn1")
    keys = {f"cost-centre-{number}": f"engineering-{number:08}" for number in range(tags)}
    many = {f"policy-{number}": {"kind": "TOO_LONG", "minutes": [1]} for number in range(policies)}
    document = {"version": 1, "timeZone": "Europe/Berlin", "policies": many}
    history = History(
        options=Options(tag_keys=tuple(keys)),
        policies=read_document(json.dumps(document)) if many else NO_DOCUMENT,
    )
    described = Fleet(3600, "ON_DEMAND", "stream.graphics-g4dn.xlarge", "WINDOWS_SERVER_2022", 50, keys)
    history.observe(0, scopes=frozenset([scope]))
    items: list[list[dict[str, Any]]] = []
    for minute in range(1, events + 1):
        seen = session(AWAY if minute % 2 else CONNECTED, scope=scope, **WHOLE)
        history.observe(minute, seen, scopes=frozenset([scope]), facts=Facts({scope.fleet: described}))
        after = history.snapshot.sessions[seen.id].remembered
        states = [(), history.events[-1:], ()]
        items.append([put(Stored(after, tuple(outbox), int(at(minute).timestamp()))) for outbox in states])
    before, (_, committed, cleared) = items[-2][-1], items[-1]
    assert after.sequence == events + policies
    assert len(after.violations) == policies
    # Each write counts by the larger of what is there before and after, and twice, as they are transactions.
    written = [max(item_size(before), item_size(committed)), max(item_size(committed), item_size(cleared))]
    assert sum(2 * ceil(each / 1024) for each in written) <= units


def test_a_morning_is_written_in_full_transactions(tide: dict[Scenario, Figures]) -> None:
    morning = tide[Scenario.MORNING]
    assert morning.counts["events"] == SESSIONS
    assert morning.calls("PutEvents") == SESSIONS // 10
    # 99 and the fence a commit; 100 a clear, in two slices of 500.
    assert morning.calls("TransactWriteItems") <= 11 + 10
    assert morning.counts["write units"] <= 8 * SESSIONS + 23


def test_an_evening_deletes_and_remembers(tide: dict[Scenario, Figures]) -> None:
    evening = tide[Scenario.LOGOFF]
    assert evening.counts["events"] == SESSIONS
    # Missed, ended, deleted, history, and that once more in the index by user.
    assert evening.counts["item writes"] <= 4 * SESSIONS + 24
    assert evening.counts["write units"] <= 13 * SESSIONS + 46


def test_a_cold_start_imports_nothing_new() -> None:
    program = "import sys; before = set(sys.modules); import auditor; print(*set(sys.modules) - before)"
    paths = [ROOT / "layers/session_auditor", ROOT / "functions/auditor"]
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(8) | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert {name for name in imported - sys.stdlib_module_names if not name.startswith("_")} <= PACKAGES
