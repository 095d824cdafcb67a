"""How a function reads its settings: one frozen object, read from the environment once, at start.

Each function's own are in a module of its role. Every variable that is wrong is named in the error. Every
value that a template's parameters accept is valid here, so a stack that deploys also starts.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AliasGenerator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from session_auditor.errors import SettingsError
from session_auditor.model import Globs


def words(text: Any) -> Any:
    """Return the words of a text with commas between."""
    return tuple(word.strip() for word in text.split(",") if word.strip()) if isinstance(text, str) else text


def globs(text: Any) -> Any:
    """Return what a text with commas between includes and, after a !, excludes."""
    if not isinstance(text, str):
        return text
    names = words(text)
    return Globs(
        include=tuple(name for name in names if not name.startswith("!")),
        exclude=tuple(name[1:] for name in names if name.startswith("!")),
    )


def _whole(text: Any) -> Any:
    """Round down: a parameter of type Number may be a fraction, which CloudFormation hands on as it is."""
    try:
        return math.floor(float(text)) if isinstance(text, str) else text
    except OverflowError:
        raise ValueError("no finite number") from None


Whole = Annotated[int, BeforeValidator(_whole)]
Names = Annotated[
    Globs,
    BeforeValidator(globs),
    Field(description="names or globs with commas between, ! before one excludes, such as prod-*,!prod-test"),
]


class Environment(BaseModel):
    """Settings of a function, each by the variable of the same name in capitals."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        alias_generator=AliasGenerator(validation_alias=str.upper),
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Return the settings; raise SettingsError that names every variable that is wrong."""
        names = {name.upper(): field.description for name, field in cls.model_fields.items()}
        try:
            return cls.model_validate({name: environment[name] for name in names if name in environment})
        except ValidationError as error:
            # A default that is wrong is located by the field's name, a value by the variable's.
            wrong = dict.fromkeys(str(each["loc"][0]).upper() for each in error.errors())
            raise SettingsError("; ".join(f"{name} should be {names[name]}" for name in wrong)) from None
