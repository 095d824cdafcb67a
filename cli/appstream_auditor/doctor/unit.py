"""What is examined, and how it is asked: the auditor's own stack, or a channel's or the dispatcher's in it.

It judges nothing.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from appstream_auditor.deployment import Deployment
from appstream_auditor.errors import asking
from session_auditor.aws_errors import error_code
from session_auditor.model import Snapshot
from session_auditor.views import Fault, Status, live
from session_auditor.views import status as status_of

# InvalidRequestException is how Secrets Manager answers for a secret that is about to be deleted.
_GONE = ("NonExistentQueue", "QueueDoesNotExist", "NotFound", "InvalidRequestException")


class Resource(NamedTuple):
    """A resource of a stack: its name in the template, and the id that AWS gave it."""

    name: str
    id: str


class GoneError(Exception):
    """Something that the stack made, or that a parameter of it names, does not exist."""


@dataclass(frozen=True)
class Unit:
    """A stack to examine. Asking raises QuestionError or GoneError; reading the table, SnapshotError."""

    deployment: Deployment
    auditor: "Unit | None" = None
    channel: str = ""

    @cached_property
    def resources(self) -> Mapping[str, list[Resource]]:
        """What the stack holds, by type."""
        stack = self.deployment.stack_name
        if self.auditor:
            stack = dict(self.auditor.of_kind("AWS::CloudFormation::Stack")).get(self.channel, "")
        if not stack:
            raise GoneError
        found: dict[str, list[Resource]] = defaultdict(list)
        for each in self.ask("cloudformation", "describe_stack_resources", StackName=stack)["StackResources"]:
            if "PhysicalResourceId" in each:
                found[each["ResourceType"]].append(
                    Resource(each["LogicalResourceId"], each["PhysicalResourceId"])
                )
        return found

    def of_kind(self, kind: str) -> list[Resource]:
        """Return the resources of a type."""
        return self.resources.get(kind, [])

    def only(self, kind: str) -> Resource:
        """Return the one resource of a type; raise GoneError if there is none."""
        found = self.of_kind(kind)
        if not found:
            raise GoneError
        return found[0]

    @cached_property
    def targets(self) -> "tuple[Unit, ...] | None":
        """Each target of a hub, of which only the table is asked; None if it is no hub."""
        if self.deployment.dispatched is None or not self.deployment.dispatched.targets:
            return None
        return tuple(Unit(target) for target in self.deployment.targets())

    @property
    def bus(self) -> str:
        """The name of the event bus."""
        return self.deployment.outputs["SessionBusName"]

    @cached_property
    def rules(self) -> tuple[Mapping[str, Any], ...]:
        """The rules on the bus, without those that AWS itself manages for an archive."""
        rules = self.ask("events", "list_rules", EventBusName=self.bus)["Rules"]
        return tuple(rule for rule in rules if "ManagedBy" not in rule)

    @cached_property
    def snapshot(self) -> Snapshot:
        """What the table remembers, read once for all checks."""
        reader = self.deployment.reader
        return reader.snapshot(reader.target_alone())

    def status(self, now: datetime) -> Status:
        """Return what the command `status` reports, so that the two agree."""
        return status_of(self.snapshot, live(self.snapshot, now, self.deployment.options.hole))

    def faults(self, now: datetime) -> tuple[Fault, ...]:
        """Return what of that is a fault."""
        return self.status(now).faults(now, self.deployment.interval(self.snapshot.target, now))

    def ask(self, service: str, operation: str, **parameters: Any) -> Any:
        """Return what AWS answers, of pages all."""
        with asking(service):
            try:
                client = self.deployment.client(service)
                if client.can_paginate(operation):
                    return client.get_paginator(operation).paginate(**parameters).build_full_result()
                return getattr(client, operation)(**parameters)
            except ClientError as error:
                if any(word in error_code(error) for word in _GONE):
                    raise GoneError from None
                raise
