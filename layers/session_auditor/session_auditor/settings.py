"""The auditor's settings: one frozen object, read from the environment once, at start.

It knows the names of the variables and what each should be; a wrong one is named in the error.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AliasGenerator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from session_auditor.model import AuthenticationType, Globs, Policy, UserIdMode

T = TypeVar("T")


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
    return None if isinstance(text, str) and text.strip().lower() == "auto" else _words(text)


Minutes = Annotated[
    tuple[Annotated[int, Field(ge=1, le=7200)], ...],
    BeforeValidator(_words),
    Field(max_length=10, description="up to ten whole minutes from 1 to 7200, such as 60,15,5"),
]
Names = Annotated[
    Globs,
    BeforeValidator(_globs),
    Field(description="names or globs with commas between, ! before one excludes, such as prod-*,!prod-test"),
]


class Settings(BaseModel):
    """What an administrator can set, by the variable of the same name in capitals.

    Times are in the unit of the name; `api_time_limit` bounds one answer of AppStream, in seconds.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        alias_generator=AliasGenerator(validation_alias=str.upper),
    )

    table_name: str = Field(min_length=3, description="the name of the DynamoDB table")
    event_bus_name: str = Field(min_length=1, description="the name or ARN of the event bus")
    target_account_id: str = Field(pattern=r"^\d{12}$", description="an AWS account id of twelve digits")
    target_region: str = Field(
        pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="an AWS region, such as eu-west-1"
    )
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
    user_id_secret_arn: str = Field(default="", description="the ARN of the secret that keys hashed user ids")
    workers: int = Field(default=8, ge=1, le=64, description="a whole number from 1 to 64")
    topology_minutes: int = Field(default=5, ge=0, le=60, description="whole minutes from 0 to 60")
    api_time_limit: int = Field(default=5, ge=1, le=60, description="whole seconds from 1 to 60")
    history_days: int = Field(default=90, ge=1, le=3650, description="whole days from 1 to 3650")

    @model_validator(mode="after")
    def _hashing_needs_its_secret(self) -> "Settings":
        if self.user_id_mode is UserIdMode.HASH and not self.user_id_secret_arn:
            raise ValueError("USER_ID_SECRET_ARN is needed when USER_ID_MODE is hash")
        if self.authentication_types is not None and not self.authentication_types:
            raise ValueError("AUTHENTICATION_TYPES should be auto, or some of API,SAML,USERPOOL,AWS_AD")
        return self

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the settings; raise SettingsError that names every variable that is wrong."""
        try:
            return cls.model_validate({name: environment[name] for name in _NAMES if name in environment})
        except ValidationError as error:
            wrong = dict.fromkeys(_complaint(each["loc"], each["msg"]) for each in error.errors())
            raise SettingsError("; ".join(wrong)) from None

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
        )


_NAMES = {name.upper(): field.description for name, field in Settings.model_fields.items()}


def _complaint(location: tuple[int | str, ...], message: str) -> str:
    if not location:
        return message.removeprefix("Value error, ")
    name = str(location[0])
    return f"{name} should be {_NAMES[name]}"
