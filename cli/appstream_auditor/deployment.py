"""A deployed auditor, as its stack describes it: names of its parts, what it was told, clients, targets.

It translates what CloudFormation answers, and decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, NoRegionError

from appstream_auditor.answers import Named
from appstream_auditor.errors import Exit, QuestionError, asking
from session_auditor import USER_AGENT
from session_auditor.directory import Directory, names, targets
from session_auditor.hub import Hub
from session_auditor.model import Options, Target, TargetId
from session_auditor.reading import TableReader
from session_auditor.settings.auditor import AuditorSettings
from session_auditor.settings.dispatcher import DispatcherSettings
from session_auditor.table import Table
from session_auditor.tempo import MINUTE, late_after, tempo

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

DEFAULT_STACK = "appstream-session-auditor"
# The parameters of the template that the function takes as variables of its environment.
_VARIABLES = {
    "ExpiringMinutes": "EXPIRING_MINUTES",
    "AbandonedMinutes": "ABANDONED_MINUTES",
    "UserIdMode": "USER_ID_MODE",
    "HistoryDays": "HISTORY_DAYS",
    "SweepTimeLimit": "SWEEP_TIME_LIMIT",
    "StackFilter": "STACK_FILTER",
    "FleetFilter": "FLEET_FILTER",
    "AuthenticationTypes": "AUTHENTICATION_TYPES",
    "SweepEvery": "SWEEP_EVERY",
}
# Those that the function takes that asks for the sweeps of a hub.
_DISPATCHED = {
    "Targets": "TARGETS",
    "TargetRegions": "TARGET_REGIONS",
    "ExcludedAccounts": "EXCLUDED_ACCOUNTS",
    "SweepEvery": "SWEEP_EVERY",
    "AuthenticationTypes": "AUTHENTICATION_TYPES",
}
# Whoever waits at a terminal is told soon.
_CONFIG = Config(
    connect_timeout=5,
    read_timeout=20,
    retries={"mode": "standard", "max_attempts": 3},
    user_agent_extra=f"{USER_AGENT} md/command",
    # Eight targets are asked at the same time, and eight days of each.
    max_pool_connections=64,
)
_ONCE = Config(retries={"mode": "standard", "total_max_attempts": 1})


@dataclass(frozen=True)
class Deployment:
    """An auditor, asked of one of its targets: of a hub another, else the own account and region.

    `outputs` and `parameters` are its stack's, empty without one. `hub` is the own target of a hub.
    """

    aws: boto3.Session
    target_id: TargetId
    table_name: str
    stack_name: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    account_name: str = ""
    hub: TargetId | None = None
    _clients: dict[str, Any] = field(default_factory=dict, compare=False)

    def client(self, service: str) -> Any:
        """Return a client of a service in the deployment's region, the same one every time."""
        if service not in self._clients:
            self._clients[service] = self.aws.client(service, config=_CONFIG)  # type: ignore[call-overload]
        return self._clients[service]

    @property
    def in_reach(self) -> bool:
        """Whether AppStream in the target takes the caller's credentials: they are of its account."""
        return self.hub is None or self.hub.account_id == self.target_id.account_id

    def appstream(self, *, retries: bool = True) -> Any:
        """Return a client of AppStream in the target; raise QuestionError if it is in another account.

        Without `retries` it makes each call once, whatever comes of it.
        """
        if self.hub and not self.in_reach:
            raise QuestionError(
                f"AppStream in account {self.target_id.account_id} cannot be asked with credentials of "
                f"{self.hub.account_id}: leave out --now, and the last sweep tells"
            )
        config = _CONFIG if retries else _CONFIG.merge(_ONCE)
        return self.aws.client("appstream", region_name=self.target_id.region, config=config)

    def patient_client(self, service: str, seconds: int) -> Any:
        """Return a client that waits so long for an answer."""
        return self.aws.client(service, config=_CONFIG.merge(Config(read_timeout=seconds)))  # type: ignore[call-overload]

    @property
    def named(self) -> Named:
        """The target, and what its account is called."""
        return Named(self.target_id, self.account_name)

    @cached_property
    def dispatched(self) -> DispatcherSettings | None:
        """What the dispatcher was told; None if there is none, and the schedule starts the sweeps."""
        told = {
            variable: self.parameters[name]
            for name, variable in _DISPATCHED.items()
            if name in self.parameters
        }
        needed = {
            "TABLE_NAME": self.table_name,
            "QUEUE_URL": "unused",
            "TARGET_ACCOUNT_ID": self.target_id.account_id,
            "TARGET_REGION": self.target_id.region,
        }
        if not told.get("TARGETS") and int(told.get("SWEEP_EVERY", MINUTE)) >= MINUTE:
            return None
        return DispatcherSettings.from_environment(told | needed)

    def targets(self) -> "tuple[Deployment, ...]":
        """Return the deployment as each of its targets, as far as they are known; raise SnapshotError."""
        if self.dispatched is None or not self.dispatched.targets:
            return (self,)
        wants = self.dispatched.wanted
        directory = self.directory() if wants.parents else {}
        known = names(directory)
        # They share the deployment's clients, since there may be hundreds; one is not made by two at once.
        self.client("dynamodb")
        return tuple(
            replace(self, target_id=each, account_name=known.get(each.account_id, ""), hub=self.target_id)
            for each in targets(wants, directory, self.target_id.partition)
        )

    @cached_property
    def settings(self) -> AuditorSettings:
        """What the auditor was told, as far as it concerns answers; the defaults without a stack."""
        told = {
            variable: self.parameters[name]
            for name, variable in _VARIABLES.items()
            if name in self.parameters
        }
        needed = {
            "TABLE_NAME": self.table_name,
            "EVENT_BUS_NAME": self.outputs.get("SessionBusName", "unknown"),
            "TARGET_ACCOUNT_ID": self.target_id.account_id,
            "TARGET_REGION": self.target_id.region,
            # The table says what became of user ids; nothing is hashed here.
            "USER_ID_SECRET_ARN": "unused",
        }
        return AuditorSettings.from_environment(told | needed)

    @property
    def options(self) -> Options:
        """The administrator's decisions."""
        return self.settings.options

    def directory(self) -> Directory:
        """Return the accounts below units and roots as the dispatcher keeps them; raise SnapshotError."""
        return Hub(self.client("dynamodb"), self.table_name, self.target_id).directory()

    def interval(self, target: Target | None, now: datetime) -> timedelta:
        """Return how often the target is swept that is in this state."""
        if self.dispatched is None:
            return late_after(self.settings.sweep_every)
        every, given = self.dispatched.sweep_every, self.dispatched.types_given
        seconds = tempo(target, every, now, types_given=given).seconds
        return late_after(seconds)

    @cached_property
    def reader(self) -> TableReader:
        """Whatever is read of its table."""
        history_for = timedelta(days=self.settings.history_days)
        return TableReader(self.client("dynamodb"), Table(self.table_name, self.target_id, history_for))


def sign_in(profile: str | None, region: str | None) -> boto3.Session:
    """Return credentials and region as botocore finds them; raise QuestionError without a region."""
    with asking("sts"):
        aws = boto3.Session(profile_name=profile, region_name=region)
        if not aws.region_name:
            raise NoRegionError
    return aws


def find(profile: str | None, region: str | None, stack_name: str, table_name: str | None) -> Deployment:
    """Return the deployment of that stack, or of that table alone; raise QuestionError."""
    aws = sign_in(profile, region)
    with asking("sts"):
        account_id = aws.client("sts", config=_CONFIG).get_caller_identity()["Account"]
        partition = aws.get_partition_for_region(aws.region_name)
    target_id = TargetId(partition, account_id, aws.region_name)
    if table_name:
        return Deployment(aws, target_id, table_name)
    stack = _stack(aws.client("cloudformation", config=_CONFIG), stack_name, target_id)
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}
    if "SessionsTableName" not in outputs:
        raise QuestionError(
            f"stack {stack_name} in {target_id.region} is no session auditor, or not deployed yet "
            f"({stack['StackStatus']}): look at --stack-name",
            Exit.USAGE,
        )
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])}
    return Deployment(aws, target_id, outputs["SessionsTableName"], stack_name, outputs, parameters)


def _stack(client: "CloudFormationClient", name: str, target_id: TargetId) -> Any:
    with asking("cloudformation"):
        try:
            return client.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            # CloudFormation calls a stack that is not there a validation error.
            if error.response.get("Error", {}).get("Code") != "ValidationError":
                raise
    raise QuestionError(
        f"no stack {name} in {target_id.region} of account {target_id.account_id}: say where it is with "
        "--region and --profile, and its name with --stack-name",
        Exit.USAGE,
    )
