"""Auditors by target, each with clients of its own; table, bus and settings are the hub's.

The own account is read with the function's credentials, any other through a role in it. Which targets there
are is the dispatcher's to say.
"""

from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypedDict

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from session_auditor import USER_AGENT
from session_auditor.aws_errors import MALFORMED, MALFORMED_ERRORS, error_code
from session_auditor.documents import PoliciesReader
from session_auditor.errors import TopologyError
from session_auditor.listing import SessionLister, utc
from session_auditor.model import TargetId, UserIdMode
from session_auditor.publisher import Publisher
from session_auditor.reading import TableReader
from session_auditor.settings.auditor import AuditorSettings
from session_auditor.snapshots import Snapshots
from session_auditor.sweep import Auditor, Lister
from session_auditor.table import Table
from session_auditor.tags import TagReader
from session_auditor.topology import TopologyReader
from session_auditor.user_ids import user_ids

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient
    from mypy_boto3_sts.type_defs import AssumeRoleRequestTypeDef

# How many sessions of targets that are not the own are kept from one sweep to the next: what is let go has to
# be read again.
SESSIONS_KEPT = 20_000
FEWEST_KEPT = 100
# Seconds after which a target that hangs is given up: it is tried twice, and must not take the time of many.
GIVEN_UP_AFTER, TRIES = 15, 2
# A role assumes another for an hour at most (IAM, "role chaining"); no sweep lasts as long as what is left.
RENEWED_BEFORE_THE_END = timedelta(minutes=20)
USED_BEFORE_THE_END = timedelta(minutes=2)
# What AWS answers to credentials that ended before they said, or whose role was made anew ("Common Errors" of
# the API references).
ENDED_CREDENTIALS = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"}
)
# What a spoke's CloudTrail shows.
ROLE_SESSION_NAME = "session-auditor"
# The reason why a target cannot be read begins so, if its account does not let the hub in.
ASSUME_ROLE = "AssumeRole "


def targets_kept(memory: int) -> int:
    """Return of how many targets, beside the own, clients are kept in a function of so many MB.

    They take half a MB each (docs/performance.md). 256 MB are for Python, sessions, and a sweep.
    """
    return max(FEWEST_KEPT, 2 * (memory - 256))


class Keys(TypedDict, total=False):
    """As boto3 calls the parts of a role's credentials; without them, the function's own are meant."""

    aws_access_key_id: str
    aws_secret_access_key: str
    aws_session_token: str


class Credentials(NamedTuple):
    """What AssumeRole answered, as far as it is needed."""

    keys: Keys
    end: datetime


OWN = Credentials(Keys(), datetime.max.replace(tzinfo=UTC))


class _Kept(NamedTuple):
    auditor: Auditor
    credentials: Credentials | None


class NoAccess:
    """Lists nothing: the account does not let the hub in, for this reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def list(self, *_: object) -> NoReturn:
        """Raise TopologyError."""
        raise TopologyError(self._reason)


class Auditors:
    """Makes an auditor for each target that is asked for, and keeps those that were asked for lately."""

    def __init__(self, settings: AuditorSettings, memory: int) -> None:
        self._settings = settings
        self._targets_kept = targets_kept(memory)
        core = botocore.session.get_session()
        core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=utc)
        self._aws = boto3.Session(region_name=settings.target_region, botocore_session=core)
        self._partition = self._aws.get_partition_for_region(settings.target_region)
        self._config = Config(
            connect_timeout=settings.api_time_limit,
            read_timeout=settings.api_time_limit,
            max_pool_connections=settings.workers,
            retries={"mode": "standard", "max_attempts": 4},
            user_agent_extra=USER_AGENT,
        )
        # Tags, policies and roles are worth no more than a few seconds of a sweep.
        self._once_more = self._config.merge(Config(retries={"mode": "standard", "max_attempts": 2}))
        secret = ""
        if settings.user_id_mode is UserIdMode.HASH:
            secrets = self._aws.client("secretsmanager", config=self._config)
            secret = secrets.get_secret_value(SecretId=settings.user_id_secret_arn)["SecretString"]
        self._user_id = user_ids(settings.user_id_mode, secret)
        self._ssm = self._aws.client("ssm", config=self._once_more) if settings.policies_parameter else None
        self._dynamodb = self._aws.client("dynamodb", config=self._config)
        self._events = self._aws.client("events", config=self._config)
        self._credentials = {settings.target_account_id: OWN}
        self._connections: Any = None
        self._others: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        region = settings.target_region
        own = self._lister(region, OWN, one_of_many=False)
        self.own = self._auditor(settings.target_account_id, region, own)

    def of(self, account_id: str, region: str, now: datetime) -> Auditor:
        """Return the auditor of a target, which lists nothing while the account does not let the hub in."""
        if (account_id, region) == self.own.target_id[1:]:
            return self.own
        kept = self._others.pop((account_id, region), None)
        try:
            credentials = self._credentials_for(account_id, now)
        except (ClientError, BotoCoreError) as error:
            kept = self._without_access(kept, account_id, region, error_code(error))
        except MALFORMED_ERRORS:
            kept = self._without_access(kept, account_id, region, MALFORMED)
        else:
            if kept is None or kept.credentials is not credentials:
                lister = self._lister(region, credentials, one_of_many=True)
                kept = _Kept(self._with(lister, kept, account_id, region), credentials)
        self._others[account_id, region] = kept
        if len(self._others) > self._targets_kept:
            self._others.popitem(last=False)
        self._forget_sessions()
        return kept.auditor

    def _forget_sessions(self) -> None:
        """Let go the sessions of those targets that were not swept for the longest; the last one's stay."""
        others = [each.auditor.snapshots for each in self._others.values()][:-1]
        too_many = self._sessions() - SESSIONS_KEPT
        for snapshots in others:
            if too_many <= 0:
                return
            too_many -= snapshots.sessions_kept
            snapshots.forget()

    def forget_credentials(self, account_id: str) -> None:
        """Have the next sweep of an account ask for new ones; the function's own are Lambda's to renew."""
        if account_id != self.own.target_id.account_id:
            self._credentials.pop(account_id, None)

    def _sessions(self) -> int:
        """Return how many sessions are kept in memory of the targets that are not the own."""
        return sum(kept.auditor.snapshots.sessions_kept for kept in self._others.values())

    def _without_access(self, kept: _Kept | None, account_id: str, region: str, reason: str) -> _Kept:
        return _Kept(self._with(NoAccess(ASSUME_ROLE + reason), kept, account_id, region), None)

    def _with(self, lister: Lister, kept: _Kept | None, account_id: str, region: str) -> Auditor:
        """Return the auditor of a target with another lister; what it knows of the table stays."""
        if kept is None:
            return self._auditor(account_id, region, lister)
        return replace(kept.auditor, lister=lister)

    def _auditor(self, account_id: str, region: str, lister: Lister) -> Auditor:
        settings = self._settings
        target = TargetId(self._partition, account_id, region)
        policies = PoliciesReader(
            self._ssm,
            settings.policies_parameter,
            tag_keys=settings.tag_keys,
            user_id_mode=settings.user_id_mode,
            keep_for=timedelta(minutes=settings.topology_minutes),
        )
        table = Table(settings.table_name, target, timedelta(days=settings.history_days))
        reader = TableReader(self._dynamodb, table, user_id_mode=settings.user_id_mode, user_id=self._user_id)
        publisher = Publisher(self._events, settings.event_bus_name, workers=settings.workers)
        snapshots = Snapshots(self._dynamodb, table, reader)
        return Auditor(lister, policies, snapshots, publisher, target, settings.options)

    def _lister(self, region: str, credentials: Credentials, *, one_of_many: bool) -> SessionLister:
        """Return what lists a target; one of many is given up sooner, and shares their connections."""
        settings = self._settings
        tries, seconds = (TRIES, GIVEN_UP_AFTER // TRIES) if one_of_many else (5, settings.api_time_limit)
        seconds = min(seconds, settings.api_time_limit)
        patient = self._config.merge(Config(connect_timeout=seconds, read_timeout=seconds))
        # AppStream publishes no rate, and others need some of it: this mode finds out how much there is.
        gentle = patient.merge(Config(retries={"mode": "adaptive", "total_max_attempts": tries}))
        keys = credentials.keys
        appstream = self._aws.client("appstream", region_name=region, config=gentle, **keys)
        if one_of_many:
            self._share_connections(appstream)
        tags = None
        if settings.tag_keys:
            client = self._aws.client(
                "resourcegroupstaggingapi", region_name=region, config=self._once_more, **keys
            )
            if one_of_many:
                self._share_connections(client)
            tags = TagReader(client, settings.tag_keys)
        keep_for = timedelta(minutes=settings.topology_minutes)
        longest = GIVEN_UP_AFTER if one_of_many else inf
        topology = TopologyReader(
            appstream, tags, workers=settings.workers, keep_for=keep_for, longest=longest
        )
        return SessionLister(
            appstream,
            topology,
            workers=settings.workers,
            user_id=self._user_id,
            one_of_many=one_of_many,
        )

    def _share_connections(self, client: Any) -> None:
        """Have the clients of all targets but the own use the same connections.

        Each would keep some of its own: 200 targets more than the 1,024 files that a function may open, and a
        megabyte each. A new connection takes more time than to list an empty target.
        """
        if self._connections is None:
            self._connections = client._endpoint.http_session
        client._endpoint.http_session = self._connections

    def _credentials_for(self, account_id: str, now: datetime) -> Credentials:
        """Return those for an account, renewed before they end; if they cannot be, as long as they last."""
        known = self._credentials.get(account_id)
        if known and now < known.end - RENEWED_BEFORE_THE_END:
            return known
        try:
            self._credentials[account_id] = self._assumed(account_id)
        except (ClientError, BotoCoreError):
            if known is None or now >= known.end - USED_BEFORE_THE_END:
                raise
        return self._credentials[account_id]

    def _assumed(self, account_id: str) -> Credentials:
        role = f"arn:{self._partition}:iam::{account_id}:role/{self._settings.spoke_role}"
        request: AssumeRoleRequestTypeDef = {"RoleArn": role, "RoleSessionName": ROLE_SESSION_NAME}
        if self._settings.external_id:
            request["ExternalId"] = self._settings.external_id
        given = self._sts.assume_role(**request)["Credentials"]
        keys = Keys(
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
        )
        # What is no time is found out here, before it is kept.
        return Credentials(keys, given["Expiration"].astimezone(UTC))

    @cached_property
    def _sts(self) -> "STSClient":
        # The hub's own region answers; the global endpoint may be out of reach.
        return self._aws.client("sts", config=self._once_more)
