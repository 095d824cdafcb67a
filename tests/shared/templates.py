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


def holds(conditions: dict[str, Any], name: str, values: dict[str, str]) -> bool:
    """Whether a condition of a template holds with these values of parameters."""

    def value(expression: Any) -> bool:
        ((function, argument),) = expression.items()
        match function:
            case "Condition":
                return holds(conditions, argument, values)
            case "Fn::Not":
                return not value(argument[0])
            case "Fn::Or":
                return any(value(each) for each in argument)
            case "Fn::Equals":
                return str(evaluate(argument[0], values)) == str(evaluate(argument[1], values))
        raise AssertionError(f"{function} in Conditions")

    return value(conditions[name])


def made(template: dict[str, Any], values: dict[str, str]) -> set[str]:
    """The resources that a template makes with these values of parameters."""
    return {
        name
        for name, each in template["Resources"].items()
        if "Condition" not in each or holds(template["Conditions"], each["Condition"], values)
    }


def refused_by(rules: dict[str, Any], values: dict[str, str]) -> list[str]:
    """What the rules of a template say of the values of parameters; nothing if it deploys."""
    return [
        assertion["AssertDescription"]
        for rule in rules.values()
        if evaluate(rule.get("RuleCondition", True), values)
        for assertion in rule["Assertions"]
        if not evaluate(assertion["Assert"], values)
    ]
