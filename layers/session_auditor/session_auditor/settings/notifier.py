"""The settings of a channel's notifier; the auditor does not read them."""

from collections.abc import Collection
from datetime import UTC
from enum import StrEnum

from pydantic import Field, ValidationInfo, field_validator

from session_auditor.model import Globs
from session_auditor.settings import Environment, Names, Zone


class Channel(StrEnum):
    """A place that people are told in."""

    SLACK = "slack"
    TEAMS = "teams"
    MAIL = "mail"
    CHAT = "chat"


WEBHOOKS = frozenset([Channel.SLACK, Channel.TEAMS])
TOPICS = frozenset([Channel.MAIL, Channel.CHAT])


class NotifierSettings(Environment):
    """What an administrator can set of the notifier of one channel."""

    channel: Channel = Field(description="slack, teams, mail or chat")
    queue_url: str = Field(min_length=1, description="the URL of the queue that holds the events")
    dead_letters_url: str = Field(min_length=1, description="the URL of the queue for what cannot be told")
    notice_stacks: Names = Globs()
    notice_fleets: Names = Globs()
    notice_tags: Names = Globs()
    time_zone: Zone = UTC
    several_targets: bool = Field(default=False, description="true or false")
    # Of a hub: where the names of its accounts are.
    hub_table: str = Field(default="", description="the name of the auditor's table, or nothing")
    hub_account_id: str = Field(default="", description="the account id of the hub")
    hub_region: str = Field(default="", description="the region of the hub")
    webhook: str = Field(
        default="",
        validate_default=True,
        description="the name of the SSM parameter (from its /) or the secret with the webhook's URL",
    )
    topic_arn: str = Field(default="", validate_default=True, description="the ARN of the SNS topic")

    @field_validator("webhook", "topic_arn")
    @classmethod
    def _its_channels_need_it(cls, value: str, info: ValidationInfo) -> str:
        needed_by = WEBHOOKS if info.field_name == "webhook" else TOPICS
        if not value and info.data.get("channel") in needed_by:
            raise ValueError("nothing")
        return value

    def wants(self, stack: str, fleet: str, tags: Collection[str]) -> bool:
        """Return whether people are told of a stack and fleet with such tags, each as `key=value`.

        A name that is empty stands for all; without both it is the whole target, which is always told of.
        """
        if not stack and not fleet:
            return True
        # Where no tags are known, `*` still stands for all.
        tags, wanted = tags or ("",), self.notice_tags
        return (
            (not stack or self.notice_stacks.match(stack))
            and (not fleet or self.notice_fleets.match(fleet))
            and all(Globs(exclude=wanted.exclude).match(tag) for tag in tags)
            and (not wanted.include or any(wanted.match(tag) for tag in tags))
        )
