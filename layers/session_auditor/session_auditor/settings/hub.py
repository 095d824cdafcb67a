"""Which targets a hub has, and how often it sweeps them: the settings that all share who have to know."""

from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from session_auditor.directory import ACCOUNT, PARENT, REGION, Wanted, wanted
from session_auditor.settings import Environment, Whole, words

# Seconds between two sweeps of a target. Their times nest, see `tempo`.
SWEEP_EVERY = (15, 30, 60, 120, 180)


class HubSettings(Environment):
    """Where a hub is, and what it sweeps: without `targets` its own account in its own region alone.

    `sweep_every` is in seconds.
    """

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

    sweep_every: Whole = Field(default=60, description="180, 120, 60, 30 or 15 seconds")

    @field_validator("sweep_every")
    @classmethod
    def _one_of_these(cls, seconds: int) -> int:
        if seconds not in SWEEP_EVERY:
            raise ValueError("none of them")
        return seconds

    @property
    def wanted(self) -> Wanted:
        """The targets that are asked for."""
        if not self.targets:
            return wanted([self.target_account_id], [self.target_region], [])
        return wanted(self.targets, self.target_regions or [self.target_region], self.excluded_accounts)
