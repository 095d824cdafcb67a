"""Checks of a channel: its trigger, its webhook, its subscription.

A webhook's URL is a secret. Only `webhook_url` reads it, and nothing shows it.
"""

from collections.abc import Iterable
from datetime import datetime

from appstream_auditor.doctor.findings import Finding, fault, ok
from appstream_auditor.doctor.unit import GoneError, Unit
from appstream_auditor.printing import counted

# The channels, and the parameter of the template that switches each on.
CHANNELS = {"Slack": "SlackWebhook", "Teams": "TeamsWebhook", "Mail": "NoticeEmail", "Chat": "ChatTopic"}
# The notifier posts to no other URL.
_POSTED_TO = ("https://", "http://127.0.0.1:", "http://localhost:")
# The keys that the function may decrypt with; "" where none is named.
_AWS_KEYS = frozenset(["", "aws/ssm", "aws/secretsmanager"])


def webhook(unit: Unit, _: datetime) -> Iterable[Finding]:
    name = _name(unit)
    key = _key_of_parameter(unit, name) if name.startswith("/") else _key_of_secret(unit, name)
    if key is None:
        remedy = "store the URL under that name (docs/operate.md, Channels); no deployment is needed"
        return [fault(f"{name}, which should hold the webhook's URL, does not exist", remedy)]
    if key.rpartition("alias/")[2] not in _AWS_KEYS:
        remedy = "store it encrypted with aws/ssm or aws/secretsmanager, the keys that AWS manages"
        return [fault(f"{name} is encrypted with a key that the channel's function may not use", remedy)]
    return [ok(f"{name} is stored")]


def webhook_url(unit: Unit, _: datetime) -> Iterable[Finding]:
    name = _name(unit)
    try:
        if name.startswith("/"):
            value = unit.ask("ssm", "get_parameter", Name=name, WithDecryption=True)["Parameter"]["Value"]
        else:
            value = unit.ask("secretsmanager", "get_secret_value", SecretId=name).get("SecretString", "")
    except GoneError:
        # The check `webhook` reports that.
        return []
    if value.strip().startswith(_POSTED_TO):
        return [ok(f"{name} holds a URL")]
    remedy = "store the webhook's whole URL under that name, and nothing else (docs/operate.md, Channels)"
    return [fault(f"{name} holds no URL that begins with https://, so nothing is posted", remedy)]


def subscription(unit: Unit, _: datetime) -> Iterable[Finding]:
    topic = unit.only("AWS::SNS::Topic").id
    found = unit.ask("sns", "list_subscriptions_by_topic", TopicArn=topic)["Subscriptions"]
    # A subscription that is not confirmed, or was cancelled, has no ARN (API reference, Subscription).
    arns = [each["SubscriptionArn"] for each in found]
    if pending := arns.count("PendingConfirmation"):
        remedy = "follow the link in SNS's mail, AWS Notification - Subscription Confirmation"
        return [fault(f"{counted(pending, 'subscription')} not confirmed", remedy)]
    if any(arn.startswith("arn:") for arn in arns):
        return [ok("confirmed")]
    if unit.channel == "Chat":
        remedy = f"add {topic} to a channel in the console of Amazon Q Developer in chat applications"
        return [fault("no chat channel is subscribed to the topic", remedy)]
    remedy = f"aws sns subscribe --topic-arn {topic} --protocol email --notification-endpoint ADDRESS"
    return [fault("nobody is subscribed", remedy)]


def _name(unit: Unit) -> str:
    return unit.deployment.parameters[CHANNELS[unit.channel]]


def _key_of_parameter(unit: Unit, name: str) -> str | None:
    """Return the key that encrypts a parameter, "" for none; None if there is no such parameter."""
    named = [{"Key": "Name", "Option": "Equals", "Values": [name]}]
    found = unit.ask("ssm", "describe_parameters", ParameterFilters=named)["Parameters"]
    return found[0].get("KeyId", "") if found else None


def _key_of_secret(unit: Unit, name: str) -> str | None:
    """Return the key that encrypts a secret, "" for AWS's; None if it does not exist or is being deleted."""
    try:
        found = unit.ask("secretsmanager", "describe_secret", SecretId=name)
    except GoneError:
        return None
    return None if "DeletedDate" in found else found.get("KmsKeyId", "")
