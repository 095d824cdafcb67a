"""What a sweep asks of AWS and what a cold start imports: counted, so the same on every machine.

Times are no matter of a test; `make bench` measures them.
"""

import os
import subprocess
import sys

import pytest

from benchmarks.contestants import ROOT, environment
from benchmarks.runs import Case, Figures, Scenario, run

SESSIONS, SCOPES = 1_000, 20
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


def test_a_quiet_sweep_lists_reads_one_item_and_writes_one(steady: dict[Scenario, Figures]) -> None:
    quiet = steady[Scenario.QUIET]
    assert sum(quiet.pages) == SCOPES
    assert quiet.calls() == quiet.calls("DescribeSessions") + 2 == SCOPES + 2
    assert (quiet.calls("Query"), quiet.calls("PutItem")) == (1, 1)
    assert [quiet.counts[each] for each in ("read units", "write units", "item writes")] == [1, 1, 1]
    assert quiet.counts["bytes logged"] < 1_500


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
    # Missed, ended, deleted, history.
    assert evening.counts["item writes"] <= 4 * SESSIONS + 24
    assert evening.counts["write units"] <= 12 * SESSIONS + 46


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
