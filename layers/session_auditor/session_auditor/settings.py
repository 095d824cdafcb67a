"""The auditor's settings: one frozen object, read from the environment once, at start.

It knows the names of the variables and what each should be; every wrong one is named in the error. What the
parameters of template.yaml admit is right here, too: a value that deploys never stops the function.
"""

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import (
    AliasGenerator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from session_auditor.model import AuthenticationType, Globs, Policy, UserIdMode

# A missed sweep or two is no hole; nor is what a slow sweep takes.
SHORTEST_HOLE = timedelta(minutes=5)
INTERVALS_OF_A_HOLE = 2


class SettingsError(ValueError):
    """A variable of the environment is missing or wrong; the message names it and what it should be."""


def _words(text: Any) -> Any:
    return tuple(word.strip() for word in text.split(",") if word.strip()) if isinstance(text, str) else text


def _globs(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    words = _words(text)
    return Globs(
        include=tuple(word for word in words if not word.startswith("!")),
        exclude=tuple(word[1:] for word in words if word.startswith("!")),
    )


def _authentication_types(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    if text.strip().lower() == "auto":
        return None
    if not _words(text):
        raise ValueError("neither auto nor a type")
    return _words(text)


def _whole(text: Any) -> Any:
    """Round down: a parameter of type Number may be a fraction, which CloudFormation hands on as it is."""
    try:
        return math.floor(float(text)) if isinstance(text, str) else text
    except OverflowError:
        raise ValueError("no finite number") from None


def _interval(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    rate = re.fullmatch(r"rate\(([1-9][0-9]{0,4}) (minute|hour|day)s?\)", text.strip())
    if not rate:
        raise ValueError("no rate")
    return int(rate[1]) * timedelta(**{f"{rate[2]}s": 1})


Whole = Annotated[int, BeforeValidator(_whole)]
Minutes = Annotated[
    tuple[Annotated[int, Field(ge=1, le=9999)], ...],
    BeforeValidator(_words),
    Field(max_length=10, description="up to ten whole minutes from 1 to 9999, such as 60,15,5"),
]
Names = Annotated[
    Globs,
    BeforeValidator(_globs),
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
        """Read the settings; raise SettingsError that names every variable that is wrong."""
        names = {name.upper(): field.description for name, field in cls.model_fields.items()}
        try:
            return cls.model_validate({name: environment[name] for name in names if name in environment})
        except ValidationError as error:
            # A default that is wrong is located by the field's name, a value by the variable's.
            wrong = dict.fromkeys(str(each["loc"][0]).upper() for each in error.errors())
            raise SettingsError("; ".join(f"{name} should be {names[name]}" for name in wrong)) from None


class Settings(Environment):
    """What an administrator can set of the auditor.

    Times are in the unit of the name; `api_time_limit` bounds one answer of AppStream and `sweep_time_limit`
    a whole sweep, both in seconds.
    """

    table_name: str = Field(min_length=1, description="the name of the DynamoDB table")
    event_bus_name: str = Field(min_length=1, description="the name or ARN of the event bus")
    target_account_id: str = Field(pattern=r"^[0-9]{12}$", description="an AWS account id of twelve digits")
    # Partitions name their regions as they like: eusc-de-east-1 has neither two letters nor two parts.
    target_region: str = Field(pattern=r"^[a-z0-9-]+$", description="an AWS region, such as eu-west-1")
    expiring_minutes: Minutes = (60, 15, 5)
    abandoned_minutes: Minutes = (15, 60)
    stack_filter: Names = Globs()
    fleet_filter: Names = Globs()
    authentication_types: Annotated[
        frozenset[AuthenticationType] | None,
        BeforeValidator(_authentication_types),
        Field(description="auto, or some of API,SAML,USERPOOL,AWS_AD"),
    ] = None
    baseline_events: bool = Field(default=False, description="true or false")
    user_id_mode: UserIdMode = Field(default=UserIdMode.PLAIN, description="plain, hash or omit")
    user_id_secret_arn: str = Field(
        default="",
        validate_default=True,
        description="the ARN of the secret that keys hashed user ids, as USER_ID_MODE is hash",
    )
    workers: Whole = Field(default=8, ge=1, le=64, description="a whole number from 1 to 64")
    topology_minutes: Whole = Field(default=5, ge=0, le=60, description="whole minutes from 0 to 60")
    api_time_limit: Whole = Field(default=5, ge=1, le=60, description="whole seconds from 1 to 60")
    history_days: Whole = Field(default=90, ge=1, le=3650, description="whole days from 1 to 3650")
    sweep_schedule: Annotated[
        timedelta,
        BeforeValidator(_interval),
        Field(description="a rate, such as rate(2 minutes)"),
    ] = timedelta(minutes=1)
    sweep_time_limit: Whole = Field(default=50, ge=1, le=900, description="whole seconds from 1 to 900")

    @field_validator("user_id_secret_arn")
    @classmethod
    def _hashing_needs_it(cls, arn: str, info: ValidationInfo) -> str:
        if not arn and info.data.get("user_id_mode") is UserIdMode.HASH:
            raise ValueError("no secret")
        return arn

    @property
    def hole(self) -> timedelta:
        """How long a scope may go without being listed whole until nothing is claimed of that time."""
        slow = INTERVALS_OF_A_HOLE * self.sweep_schedule + timedelta(seconds=self.sweep_time_limit)
        return max(SHORTEST_HOLE, slow)

    @property
    def policy(self) -> Policy:
        """The part of the settings that the comparison needs."""
        return Policy(
            expiring_minutes=self.expiring_minutes,
            abandoned_minutes=self.abandoned_minutes,
            stacks=self.stack_filter,
            fleets=self.fleet_filter,
            authentication_types=self.authentication_types,
            baseline_events=self.baseline_events,
            hole=self.hole,
            user_id_mode=self.user_id_mode,
        )
