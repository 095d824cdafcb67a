"""The dispatcher's settings."""

from pydantic import Field, field_validator

from session_auditor.settings import Whole
from session_auditor.settings.hub import HubSettings

# Seconds between two sweeps of a target. Their times nest, see `tempo`.
SWEEP_EVERY = (15, 30, 60, 120, 180)


class DispatcherSettings(HubSettings):
    """What an administrator can set of the dispatcher; `sweep_every` is in seconds."""

    table_name: str = Field(min_length=1, description="the name of the DynamoDB table")
    queue_url: str = Field(min_length=1, description="the URL of the queue that the auditor reads")
    organizations_role: str = Field(
        default="",
        pattern=r"^(arn:[a-z0-9-]+:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+)?$",
        description="the ARN of a role in the management account, or nothing",
    )
    sweep_every: Whole = Field(default=60, description="180, 120, 60, 30 or 15 seconds")
    authentication_types: str = Field(default="auto", description="auto, or some of API,SAML,USERPOOL,AWS_AD")

    @field_validator("sweep_every")
    @classmethod
    def _one_of_these(cls, seconds: int) -> int:
        if seconds not in SWEEP_EVERY:
            raise ValueError("none of them")
        return seconds

    @property
    def types_given(self) -> bool:
        """Whether it is settled how sessions are listed."""
        return self.authentication_types.strip().lower() != "auto"
