"""The rules cookbook: every pattern says what it claims to, to a real matcher, of real events.

The matcher is the local cloud's TestEventPattern; that AWS's own agrees with it is not proved here.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import pytest

from sandbox.cloud import ROOT
from session_auditor.model import DetailType
from tests.contract.cookbook import EXAMPLES, RULES, text
from tests.shared.matching import Matcher, matching

PATTERNS: Mapping[str, dict[str, Any]] = {
    path.parent.name: json.loads(path.read_text()) for path in sorted(RULES.glob("*/pattern.json"))
}
SCHEMAS: Mapping[str, dict[str, Any]] = {
    detail_type.value: json.loads(
        (ROOT / "docs" / "schemas" / f"{detail_type.value.replace(' ', '-')}.json").read_text()
    )
    for detail_type in DetailType
}


@pytest.fixture(scope="module")
def matches() -> Iterator[Matcher]:
    with matching() as matches:
        yield matches


def example(name: str, which: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((RULES / name / f"{which}.json").read_text())
    return event


def fields(pattern: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Return the path of every field that a pattern asks about."""
    for name, value in pattern.items():
        if isinstance(value, dict):
            yield from fields(value, (*above, name))
        else:
            yield (*above, name)


def published(path: tuple[str, ...], detail_type: str) -> bool:
    """Return whether the schema of the detail-type has the field."""
    schema = SCHEMAS[detail_type]
    part = schema
    for name in path:
        # Of tags there is a field for each name in TagKeys.
        part = part.get("properties", {}).get(name) or part.get("additionalProperties") or {}
        if not part:
            return False
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
    return True


def without(event: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Return the event as it would be, had the field another name."""
    name, *below = path
    if not below:
        return {f"{key}Renamed" if key == name else key: value for key, value in event.items()}
    return {**event, name: without(event[name], tuple(below))}


def test_each_rule_is_a_folder_with_a_pattern_and_two_events() -> None:
    folders = {path.name for path in RULES.iterdir() if path.is_dir()}
    assert folders == PATTERNS.keys() == EXAMPLES.keys()
    assert len(folders) == 17


def test_the_readme_lists_every_rule_and_no_other() -> None:
    listed = re.findall(
        r"^\| \[([a-z-]+)\]\(\1/pattern\.json\) \|", (RULES / "README.md").read_text(), re.MULTILINE
    )
    assert sorted(listed) == sorted(PATTERNS)


@pytest.mark.parametrize("name", PATTERNS)
def test_it_matches_its_event(matches: Matcher, name: str) -> None:
    assert matches(PATTERNS[name], example(name, "matches"))


@pytest.mark.parametrize("name", PATTERNS)
def test_it_does_not_match_the_counterexample(matches: Matcher, name: str) -> None:
    assert not matches(PATTERNS[name], example(name, "does-not-match"))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        pytest.param(name, path, id=f"{name} {'.'.join(path)}")
        for name in PATTERNS
        for path in fields(PATTERNS[name])
    ],
)
def test_it_goes_wrong_when_a_field_it_uses_is_gone(
    matches: Matcher, name: str, path: tuple[str, ...]
) -> None:
    matched = matches(PATTERNS[name], without(example(name, "matches"), path))
    refused = not matches(PATTERNS[name], without(example(name, "does-not-match"), path))
    assert not (matched and refused), "the field makes no difference"


@pytest.mark.parametrize("name", PATTERNS)
def test_it_uses_published_fields_only(name: str) -> None:
    pattern = PATTERNS[name]
    detail_types = pattern.get("detail-type", list(SCHEMAS))
    for path in fields(pattern.get("detail", {})):
        assert any(published(path, detail_type) for detail_type in detail_types), path
        if "detail-type" in pattern:
            assert all(published(path, detail_type) for detail_type in detail_types), path


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("which", ["matches", "does-not-match"])
def test_its_events_keep_the_published_schema(name: str, which: str) -> None:
    event = example(name, which)
    validator = jsonschema.Draft202012Validator(
        SCHEMAS[event["detail-type"]], format_checker=jsonschema.FormatChecker()
    )
    validator.validate(event["detail"])


@pytest.mark.parametrize("name", PATTERNS)
def test_its_events_are_what_the_auditor_says(name: str) -> None:
    for which, event in zip(("matches", "does-not-match"), EXAMPLES[name], strict=True):
        written = (RULES / name / f"{which}.json").read_text()
        assert written == text(event), (
            "write them anew (examples/consumers/rules/README.md) and commit what changes"
        )


class TestWhatThePatternsSay:
    """Cases beside the two events of each rule."""

    @pytest.mark.parametrize(
        ("name", "wanted"),
        [
            pytest.param("no-baseline", True, id="an event that has no baseline"),
            pytest.param("one-stack", True, id="any detail-type of the stack"),
            pytest.param("draining-held-open", False, id="not draining"),
        ],
    )
    def test_of_an_end(self, matches: Matcher, name: str, wanted: bool) -> None:
        assert matches(PATTERNS[name], example("ended-early", "matches")) == wanted

    @pytest.mark.parametrize("name", ["one-stack", "other-fleets", "saml-users", "user-domain"])
    def test_of_lost_coverage(self, matches: Matcher, name: str) -> None:
        assert not matches(PATTERNS[name], example("audit-coverage-lost", "matches"))

    @pytest.mark.parametrize("name", ["one-department", "not-opted-out"])
    @pytest.mark.parametrize(
        "told", ["fleet-faulted", "audit-coverage-lost", "policy-by-name", "disconnected-for-an-hour"]
    )
    def test_a_tag_leads_every_kind_of_event(self, matches: Matcher, name: str, told: str) -> None:
        assert matches(PATTERNS[name], example(told, "matches"))

    @pytest.mark.parametrize("name", ["one-department", "not-opted-out"])
    def test_a_tag_that_is_not_asked_for_matches_nothing(self, matches: Matcher, name: str) -> None:
        event = example(name, "matches")
        event["detail"]["data"]["tags"] = {}
        assert not matches(PATTERNS[name], event)

    @pytest.mark.parametrize(
        ("codes", "wanted"),
        [
            pytest.param("DOMAIN_JOIN_NERR_PASSWORD_EXPIRED", True, id="the only error"),
            pytest.param("FLEET_STOPPED,IGW_NOT_ATTACHED", False, id="others"),
        ],
    )
    def test_of_the_errors_of_a_fleet(self, matches: Matcher, codes: str, wanted: bool) -> None:
        event = example("domain-join-failed", "matches")
        event["detail"]["data"]["codes"] = codes
        assert matches(PATTERNS["domain-join-failed"], event) == wanted

    def test_of_another_source(self, matches: Matcher) -> None:
        for name, pattern in PATTERNS.items():
            assert not matches(pattern, example(name, "matches") | {"source": "aws.appstream"})
