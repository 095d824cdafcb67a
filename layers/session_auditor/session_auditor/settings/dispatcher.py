"""The dispatcher's settings."""

from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from session_auditor.directory import ACCOUNT, PARENT, REGION, Wanted, wanted
from session_auditor.settings import Environment, Whole, words

# Seconds between two sweeps of a target. Their times nest, see `tempo`.
SWEEP_EVERY = (15, 30, 60, 120, 180)


class DispatcherSettings(Environment):
    """What an administrator can set of the dispatcher.

    `sweep_every` is in seconds. Without `targets` the own account in the own region is the only target.
    """

    table_name: str = Field(min_length=1, description="the name of the DynamoDB table")
    queue_url: str = Field(min_length=1, description="the URL of the queue that the auditor reads")
    target_account_id: str = Field(pattern=f"^{ACCOUNT}$", description="an AWS account id of twelve digits")
    target_region: str = Field(pattern=f"^{REGION}$", description="an AWS region, such as eu-west-1")
    targets: Annotated[
        tuple[Annotated[str, Field(pattern=f"^({ACCOUNT}|{PARENT})$")], ...],
        BeforeValidator(words),
        Field(description="accounts, organizational units and roots with commas between, or nothing"),
    ] = ()
    target_regions: Annotated[
        tuple[Annotated[str, Field(pattern=f"^{REGION}$")], ...],
        BeforeValidator(words),
        Field(description="AWS regions with commas between, or nothing for the own one"),
    ] = ()
    excluded_accounts: Annotated[
        tuple[Annotated[str, Field(pattern=f"^{ACCOUNT}$")], ...],
        BeforeValidator(words),
        Field(description="accounts of twelve digits with commas between, or nothing"),
    ] = ()
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

    @property
    def wanted(self) -> Wanted:
        """The targets that are asked for."""
        if not self.targets:
            return wanted([self.target_account_id], [self.target_region], [])
        return wanted(self.targets, self.target_regions or [self.target_region], self.excluded_accounts)
