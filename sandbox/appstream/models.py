"""The state of the service and its verbs, with the faults that a test or the demo asks for.

Stacks, fleets and sessions are put in place directly; users of a real AppStream do that by other means
than the verbs that the auditor calls.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from moto.core.base_backend import BackendDict, BaseBackend
from moto.core.resource_tagging import TaggableResourcesMixin, TaggedResource

from sandbox.appstream.exceptions import (
    AppStreamError,
    InvalidParameterCombinationException,
    OperationNotPermittedException,
    ResourceNotFoundException,
    ValidationException,
)

SESSIONS_LIMIT = 50
SESSIONS_DEFAULT = 20
NAMES_PAGE = 25


@dataclass
class StreamingSession:
    """One streaming session; what is None is left out of answers."""

    session_id: str
    user_id: str
    stack_name: str
    fleet_name: str
    state: str = "ACTIVE"
    connection_state: str | None = "CONNECTED"
    authentication_type: str | None = "SAML"
    start_time: datetime | None = None
    max_expiration_time: datetime | None = None
    instance_id: str | None = None
    eni_id: str | None = None
    eni_private_ip_address: str | None = None
    instance_drain_status: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the session as the API shows it."""
        network = {"EniPrivateIpAddress": self.eni_private_ip_address, "EniId": self.eni_id}
        network = {name: value for name, value in network.items() if value is not None}
        shown = {
            "Id": self.session_id,
            "UserId": self.user_id,
            "StackName": self.stack_name,
            "FleetName": self.fleet_name,
            "State": self.state,
            "ConnectionState": self.connection_state,
            "StartTime": self.start_time,
            "MaxExpirationTime": self.max_expiration_time,
            "AuthenticationType": self.authentication_type,
            "NetworkAccessConfiguration": network or None,
            "InstanceId": self.instance_id,
            "InstanceDrainStatus": self.instance_drain_status,
        }
        return {name: value for name, value in shown.items() if value is not None}


@dataclass
class Fault:
    """An error to answer with; for a stack, a fleet or a type only if named, `times` times or until removed.

    A call without an AuthenticationType is named by "".
    """

    code: str
    operation: str = "describe_sessions"
    stack_name: str | None = None
    fleet_name: str | None = None
    times: int | None = None
    authentication_type: str | None = None


@dataclass
class Fleet:
    """A fleet; its times are seconds, `errors` are messages by code."""

    name: str
    max_user_duration: int = 57600
    disconnect_timeout: int = 900
    idle_disconnect_timeout: int = 0
    fleet_type: str = "ON_DEMAND"
    instance_type: str = "stream.standard.medium"
    platform: str = "WINDOWS_SERVER_2022"
    max_sessions_per_instance: int | None = None
    in_use: int | None = None
    errors: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Stack:
    """A stack and the names of its fleets."""

    name: str
    fleets: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


class AppStreamBackend(TaggableResourcesMixin, BaseBackend):
    """AppStream in one account and region; moto's tagging service asks it for its tags."""

    SERVICE_NAMESPACE = "appstream"

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.stacks: dict[str, Stack] = {}
        self.fleets: dict[str, Fleet] = {}
        self.sessions: dict[str, StreamingSession] = {}
        self.faults: list[Fault] = []
        self.calls: Counter[str] = Counter()
        # Nobody has proved whether a call without AuthenticationType shows every session or these alone.
        self.unfiltered_shows_only_api = False
        # Nor whether a session that has ended is listed for a while, as EXPIRED.
        self.ended_are_listed = False

    def add_scope(self, stack_name: str, fleet: Fleet) -> None:
        """Put a fleet in place and associate it with a stack."""
        self.fleets[fleet.name] = fleet
        self.stacks.setdefault(stack_name, Stack(stack_name)).fleets.append(fleet.name)

    def describe_stacks(self, token: str | None) -> tuple[list[Stack], str | None]:
        """Describe a page of stacks."""
        self._count_and_fail("describe_stacks")
        return _page(list(self.stacks.values()), token, NAMES_PAGE)

    def describe_fleets(self, token: str | None) -> tuple[list[Fleet], str | None]:
        """Describe a page of fleets."""
        self._count_and_fail("describe_fleets")
        return _page(list(self.fleets.values()), token, NAMES_PAGE)

    def list_associated_fleets(self, stack_name: str, token: str | None) -> tuple[list[str], str | None]:
        """List a page of the names of a stack's fleets."""
        self._count_and_fail("list_associated_fleets", stack_name)
        return _page(self._stack(stack_name).fleets, token, NAMES_PAGE)

    def describe_sessions(
        self,
        stack_name: str,
        fleet_name: str,
        *,
        user_id: str | None = None,
        token: str | None = None,
        limit: int | None = None,
        authentication_type: str | None = None,
        instance_id: str | None = None,
    ) -> tuple[list[StreamingSession], str | None]:
        """Describe a page of the sessions of a stack and fleet."""
        self._count_and_fail("describe_sessions", stack_name, fleet_name, authentication_type or "")
        if limit is not None and not 1 <= limit <= SESSIONS_LIMIT:
            raise ValidationException(f"Limit has to be from 1 to {SESSIONS_LIMIT}")
        if user_id and not authentication_type:
            raise InvalidParameterCombinationException("UserId needs an AuthenticationType")
        if fleet_name not in self._stack(stack_name).fleets:
            raise ResourceNotFoundException(f"Fleet {fleet_name} not found")
        shown_type = authentication_type or ("API" if self.unfiltered_shows_only_api else None)
        wanted = {
            "stack_name": stack_name,
            "fleet_name": fleet_name,
            "user_id": user_id,
            "authentication_type": shown_type,
            "instance_id": instance_id,
        }
        found = [
            session
            for session in self.sessions.values()
            if all(value is None or getattr(session, name) == value for name, value in wanted.items())
        ]
        return _page(found, token, limit or SESSIONS_DEFAULT)

    def drain_session_instance(self, session_id: str) -> None:
        """Drain the host of a session, which several may share."""
        self._count_and_fail("drain_session_instance")
        session = self.sessions[self._key(session_id)]
        if self.fleets[session.fleet_name].max_sessions_per_instance is None:
            raise OperationNotPermittedException("Only hosts of multi-session fleets can be drained")
        for each in self.sessions.values():
            if each is session or (each.instance_id and each.instance_id == session.instance_id):
                each.instance_drain_status = "DRAINING"

    def expire_session(self, session_id: str) -> None:
        """End a session at once, whoever is connected."""
        self._count_and_fail("expire_session")
        key = self._key(session_id)
        if self.ended_are_listed:
            self.sessions[key].state = "EXPIRED"
        else:
            del self.sessions[key]

    def _key(self, session_id: str) -> str:
        for key, session in self.sessions.items():
            if session.session_id == session_id:
                return key
        raise ResourceNotFoundException(f"Session {session_id} not found")

    def iter_tagged_resources(self) -> Iterator[TaggedResource]:
        """Yield what GetResources answers of AppStream; as there, what was never tagged is left out."""
        self._count_and_fail("get_resources")
        kinds: Mapping[str, Mapping[str, Fleet | Stack]] = {"fleet": self.fleets, "stack": self.stacks}
        for kind, resources in kinds.items():
            for name, resource in resources.items():
                yield TaggedResource(self.arn(kind, name), resource.tags, f"appstream:{kind}")

    def arn(self, kind: str, name: str) -> str:
        """Return the ARN of a fleet or stack."""
        return f"arn:aws:appstream:{self.region_name}:{self.account_id}:{kind}/{name}"

    def _stack(self, name: str) -> Stack:
        if name not in self.stacks:
            raise ResourceNotFoundException(f"Stack {name} not found")
        return self.stacks[name]

    def _count_and_fail(
        self,
        operation: str,
        stack_name: str | None = None,
        fleet_name: str | None = None,
        authentication_type: str | None = None,
    ) -> None:
        self.calls[operation] += 1
        for fault in self.faults:
            if (
                fault.operation == operation
                and fault.stack_name in (None, stack_name)
                and fault.fleet_name in (None, fleet_name)
                and fault.authentication_type in (None, authentication_type)
                and fault.times != 0
            ):
                if fault.times is not None:
                    fault.times -= 1
                raise AppStreamError(fault.code, "a fault that was asked for")


def _page(items: list[Any], token: str | None, size: int) -> tuple[list[Any], str | None]:
    """Cut a page; the token says where the next one begins, in the list as it will be then."""
    if token and not token.removeprefix("page-").isdigit():
        raise ValidationException("NextToken is not one of this service")
    start = int(token.removeprefix("page-")) if token else 0
    end = start + size
    return items[start:end], f"page-{end}" if end < len(items) else None


appstream_backends = BackendDict(AppStreamBackend, "appstream")
