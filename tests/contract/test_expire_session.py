"""Nothing of ours may end a session: no statement of any template allows appstream:ExpireSession."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.shared.templates import as_list, parts

ROOT = Path(__file__).parents[2]
ENDING = "appstream:expiresession"
TEMPLATES = sorted(
    path
    for path in ROOT.glob("**/*.yaml")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    and "Resources" in (yaml_parse(path.read_text()) or ())
)


def allowing(template: Any) -> Iterator[Any]:
    """Return what allows to end a session: statements, and policies of others, which nobody here can read."""
    for part in parts(template):
        if not isinstance(part, dict):
            continue
        if part.get("Effect") == "Allow" and ends_sessions(part):
            yield part
        # A policy of AWS's own, such as AdministratorAccess; one of the same template is read above.
        for name in ("ManagedPolicyArns", "Policies"):
            yield from (each for each in parts(part.get(name)) if isinstance(each, str) and is_foreign(each))


def ends_sessions(statement: dict[str, Any]) -> bool:
    """Whether a statement that allows something allows that; IAM's actions know no upper and lower case."""

    def covers(actions: Any) -> bool:
        named = [each for each in parts(actions) if isinstance(each, str)]
        return any(fnmatchcase(ENDING, each.lower()) for each in named)

    if "NotAction" in statement:
        return not covers(statement["NotAction"])
    return covers(statement["Action"])


def is_foreign(policy: str) -> bool:
    return ":iam::aws:policy/" in policy or policy.endswith(("FullAccess", "AdministratorAccess"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_template_allows_it(path: Path) -> None:
    assert not [*allowing(yaml_parse(path.read_text()))]


def test_every_template_is_read() -> None:
    known = {"template.yaml", "spoke.yaml", "bus.yaml"}
    folders = {path.parent.name for path in TEMPLATES if path.name == "template.yaml"}
    assert known <= {path.name for path in TEMPLATES}
    assert {"notifier", "dispatcher", "board", "jira", "servicenow", "pagerduty", "audit-log"} <= folders


def statement(**fields: Any) -> dict[str, Any]:
    policy = {"PolicyDocument": {"Statement": [{"Effect": "Allow", "Resource": "*"} | fields]}}
    return {"Resources": {"Role": {"Properties": {"Policies": [{"Fn::If": ["Is", policy, "no"]}]}}}}


def managed(policy: str) -> dict[str, Any]:
    return {"Resources": {"Role": {"Properties": {"ManagedPolicyArns": [policy]}}}}


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(statement(Action="appstream:ExpireSession"), id="by name"),
        pytest.param(statement(Action="AppStream:expireSession"), id="in another case"),
        pytest.param(statement(Action=["s3:GetObject", "appstream:*"]), id="the whole service"),
        pytest.param(statement(Action="appstream:E*"), id="a beginning"),
        pytest.param(statement(Action="appstream:?xpire*"), id="a letter"),
        pytest.param(statement(Action="*"), id="everything"),
        pytest.param(statement(Action={"Fn::If": ["Is", ["*"], ["s3:*"]]}), id="by a condition"),
        pytest.param(statement(NotAction="iam:*"), id="all but another"),
        pytest.param(managed("arn:aws:iam::aws:policy/AdministratorAccess"), id="a policy of AWS's"),
        pytest.param(statement(Action="s3:*") | managed("AmazonAppStreamFullAccess"), id="one of SAM's"),
    ],
)
def test_it_would_be_noticed(template: dict[str, Any]) -> None:
    assert [*allowing(template)]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"Action": "appstream:Describe*"}, id="reading"),
        pytest.param({"Action": "*", "Effect": "Deny"}, id="what is forbidden"),
        pytest.param({"NotAction": as_list("appstream:*")}, id="all but the service"),
    ],
)
def test_what_ends_nobody_is_no_matter(fields: dict[str, Any]) -> None:
    assert not [*allowing(statement(**fields))]
