"""The dispatcher's settings."""

from pydantic import Field

from session_auditor.settings.hub import HubSettings


class DispatcherSettings(HubSettings):
    """What an administrator can set of the dispatcher."""

    table_name: str = Field(min_length=1, description="the name of the DynamoDB table")
    queue_url: str = Field(min_length=1, description="the URL of the queue that the auditor reads")
    organizations_role: str = Field(
        default="",
        pattern=r"^(arn:[a-z0-9-]+:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+)?$",
        description="the ARN of a role in the management account, or nothing",
    )
    authentication_types: str = Field(default="auto", description="auto, or some of API,SAML,USERPOOL,AWS_AD")

    @property
    def types_given(self) -> bool:
        """Whether it is settled how sessions are listed."""
        return self.authentication_types.strip().lower() != "auto"
