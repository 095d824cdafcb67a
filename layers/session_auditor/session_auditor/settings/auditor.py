"""The auditor's settings."""

from datetime import UTC, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from session_auditor.model import AuthenticationType, Globs, Options, UserIdMode
from session_auditor.settings import Environment, Names, Whole, Zone, words

# A missed sweep or two is no hole; nor is what a slow sweep takes.
SHORTEST_HOLE = timedelta(minutes=5)
INTERVALS_OF_A_HOLE = 2


def _authentication_types(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    if text.strip().lower() == "auto":
        return None
    if not words(text):
        raise ValueError("neither auto nor a type")
    return words(text)


def hole_of(sweep_every: int, time_limit: int) -> timedelta:
    """Return how long nobody may look before nothing is claimed; both arguments are in seconds."""
    return max(SHORTEST_HOLE, timedelta(seconds=INTERVALS_OF_A_HOLE * sweep_every + time_limit))


Minutes = Annotated[
    tuple[Annotated[int, Field(ge=1, le=9999)], ...],
    BeforeValidator(words),
    Field(max_length=10, description="up to ten whole minutes from 1 to 9999, such as 60,15,5"),
]


class AuditorSettings(Environment):
    """What an administrator can set of the auditor.

    Times are in the unit of the name. In seconds are `api_time_limit`, which bounds one answer of AppStream,
    `sweep_time_limit`, which bounds a whole sweep, and `sweep_every`, from one sweep to the next.
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
    time_zone: Zone = UTC
    workers: Whole = Field(default=8, ge=1, le=64, description="a whole number from 1 to 64")
    topology_minutes: Whole = Field(default=5, ge=0, le=60, description="whole minutes from 0 to 60")
    api_time_limit: Whole = Field(default=5, ge=1, le=60, description="whole seconds from 1 to 60")
    history_days: Whole = Field(default=90, ge=1, le=3650, description="whole days from 1 to 3650")
    sweep_every: Whole = Field(default=60, ge=1, le=86_400, description="whole seconds from 1 to 86400")
    tag_keys: Annotated[
        tuple[Annotated[str, Field(max_length=128)], ...],
        BeforeValidator(words),
        Field(max_length=10, description="up to ten keys of tags with commas between, such as team,env"),
    ] = ()
    policies_parameter: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9_./-]+)?$",
        description="the name of the SSM parameter with the policies, from its /",
    )
    spoke_role: str = Field(
        default="AppStreamSessionAuditorSpoke",
        pattern=r"^[A-Za-z0-9_+=,.@/-]{1,128}$",
        description="the name of a role, the same in every account",
    )
    external_id: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_+=,.@:/-]{0,1224}$",
        description="the ExternalId that the role asks for, or nothing",
    )
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
        return hole_of(self.sweep_every, self.sweep_time_limit)

    @property
    def options(self) -> Options:
        """The part of the settings that the comparison needs."""
        return Options(
            expiring_minutes=self.expiring_minutes,
            abandoned_minutes=self.abandoned_minutes,
            stacks=self.stack_filter,
            fleets=self.fleet_filter,
            authentication_types=self.authentication_types,
            baseline_events=self.baseline_events,
            hole=self.hole,
            user_id_mode=self.user_id_mode,
            tag_keys=self.tag_keys,
            time_zone=self.time_zone,
        )
