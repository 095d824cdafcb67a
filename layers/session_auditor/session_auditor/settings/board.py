"""The board's settings."""

from datetime import timedelta

from pydantic import Field

from session_auditor.settings import Whole
from session_auditor.settings.auditor import hole_of
from session_auditor.settings.hub import HubSettings


class BoardSettings(HubSettings):
    """What the board has to know of the auditor; times are in the unit of the name."""

    table_name: str = Field(min_length=1, description="the name of the auditor's DynamoDB table")
    sweep_time_limit: Whole = Field(default=50, ge=1, le=900, description="whole seconds from 1 to 900")

    @property
    def hole(self) -> timedelta:
        """How long a scope may go without being listed whole until nothing is claimed of that time."""
        return hole_of(self.sweep_every, self.sweep_time_limit)
