"""Which targets a hub has: the settings that all share who have to know."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from session_auditor.directory import ACCOUNT, PARENT, REGION, Wanted, wanted
from session_auditor.settings import Environment, words


class HubSettings(Environment):
    """Where a hub is, and what it sweeps: without `targets` its own account in its own region alone."""

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

    @property
    def wanted(self) -> Wanted:
        """The targets that are asked for."""
        if not self.targets:
            return wanted([self.target_account_id], [self.target_region], [])
        return wanted(self.targets, self.target_regions or [self.target_region], self.excluded_accounts)
