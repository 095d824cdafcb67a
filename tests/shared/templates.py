"""Reads templates as CloudFormation does, as far as tests ask."""

from collections.abc import Iterator
from typing import Any


def parts(value: Any) -> Iterator[Any]:
    """Every value within a value."""
    yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(each)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def evaluate(expression: Any, values: dict[str, str]) -> Any:
    """A function of the Rules section, which knows no others than these and a few that list resources."""
    if not isinstance(expression, dict):
        return expression
    ((function, argument),) = expression.items()
    match function:
        case "Ref":
            return values[argument]
        case "Fn::Not":
            return not evaluate(argument[0], values)
        case "Fn::Equals":
            return evaluate(argument[0], values) == evaluate(argument[1], values)
        case "Fn::Contains":
            return evaluate(argument[1], values) in argument[0]
    raise AssertionError(f"{function} in Rules")


def refused_by(rules: dict[str, Any], values: dict[str, str]) -> list[str]:
    """What the rules of a template say of the values of parameters; nothing if it deploys."""
    return [
        assertion["AssertDescription"]
        for rule in rules.values()
        if evaluate(rule.get("RuleCondition", True), values)
        for assertion in rule["Assertions"]
        if not evaluate(assertion["Assert"], values)
    ]
