"""AppStream's listings over a world that tests change: who streams, where, and since when.

The world has tags and parameters, too, of which other services answer. This one knows the four calls that
find streaming sessions, with paging as AWS does it: a token is a place in the list as it is now, so a list
that changes between two pages shifts under the reader. A record is replaced and never changed, so an answer
that was given stays what it was.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.simulation.errors import AwsError

Record = dict[str, Any]
Scope = tuple[str, str]

PAGE = 20
LARGEST_PAGE = 50
ACCOUNT_ID = "123456789012"
REGION = "eu-west-1"


def moment(seconds: float) -> datetime:
    """Return the time as botocore hands it out."""
    return datetime.fromtimestamp(seconds, UTC)


class World:
    """Stacks, fleets and the streaming sessions on them, with the verbs that change them.

    `tags` are those of ("fleet", name) and ("stack", name). `documents` are the good ones among the texts
    that ever stood in a parameter, as whoever wrote them meant them.
    """

    def __init__(self, account_id: str = ACCOUNT_ID, region: str = REGION) -> None:
        self._arn = f"arn:aws:appstream:{region}:{account_id}"
        self.tags: dict[tuple[str, str], dict[str, str]] = {}
        self.parameters: dict[str, str] = {}
        self.documents: dict[str, Mapping[str, Any]] = {}
        self.stacks: dict[str, Record] = {}
        self.fleets: dict[str, Record] = {}
        self.associations: dict[str, list[str]] = {}
        self.sessions: dict[str, Record] = {}
        self.scopes: dict[Scope, dict[str, Record]] = {}

    def stack(self, name: str, *fleets: str) -> None:
        """Add a stack that these fleets serve."""
        self.stacks[name] = {"Name": name, "Arn": f"{self._arn}:stack/{name}"}
        self.associations[name] = list(fleets)

    def fleet(self, name: str, *stacks: str, disconnect_timeout: int | None = 900, **attributes: Any) -> None:
        """Add or change a fleet, and let it serve the stacks."""
        self.fleets[name] = {
            "Name": name,
            "Arn": f"{self._arn}:fleet/{name}",
            "State": "RUNNING",
            "MaxUserDurationInSeconds": 57600,
            "InstanceType": "stream.standard.medium",
            "FleetType": "ALWAYS_ON",
            "Platform": "WINDOWS_SERVER_2022",
            "ComputeCapacityStatus": {"Desired": 1},
        } | attributes
        if disconnect_timeout is not None:
            self.fleets[name]["DisconnectTimeoutInSeconds"] = disconnect_timeout
        for stack in stacks:
            if stack not in self.stacks:
                self.stack(stack)
            if name not in self.associations[stack]:
                self.associations[stack].append(name)

    def change_fleet(self, name: str, **attributes: Any) -> None:
        """Change attributes of a fleet."""
        self.fleets[name] = self.fleets[name] | attributes

    def fault(self, name: str, *codes: str) -> None:
        """Let AWS name these errors of a fleet, or none."""
        errors = [{"ErrorCode": code, "ErrorMessage": f"{code}, as simulated"} for code in codes]
        self.change_fleet(name, FleetErrors=errors)

    def tag(self, kind: str, name: str, **tags: str) -> None:
        """Give a fleet or a stack these tags and no others."""
        self.tags[kind, name] = tags

    def write_document(self, name: str, document: Mapping[str, Any]) -> None:
        """Put a good document into a parameter."""
        self.parameters[name] = json.dumps(document)
        self.documents[self.parameters[name]] = document

    def break_document(self, name: str, text: str) -> None:
        """Put a text into a parameter that is no good document."""
        self.parameters[name] = text

    def remove_parameter(self, name: str) -> None:
        """Delete a parameter."""
        self.parameters.pop(name, None)

    def remove_fleet(self, name: str) -> None:
        """Delete a fleet with all that streams from it."""
        del self.fleets[name]
        self.tags.pop(("fleet", name), None)
        for fleets in self.associations.values():
            if name in fleets:
                fleets.remove(name)
        self._drop(scope for scope in self.scopes if scope[1] == name)

    def disassociate(self, stack: str, fleet: str) -> None:
        """Take a fleet from a stack."""
        self.associations[stack].remove(fleet)
        self._drop(scope for scope in self.scopes if scope == (stack, fleet))

    def remove_stack(self, name: str) -> None:
        """Delete a stack with all that streams from it."""
        del self.stacks[name], self.associations[name]
        self.tags.pop(("stack", name), None)
        self._drop(scope for scope in self.scopes if scope[0] == name)

    def _drop(self, scopes: Iterable[Scope]) -> None:
        for scope in list(scopes):
            for each in self.scopes.pop(scope):
                del self.sessions[each]

    def start(
        self,
        identity: str,
        stack: str,
        fleet: str,
        *,
        at: float,
        user: str = "someone@example.com",
        hours: float | None = 16,
        connected: bool | None = True,
        authentication: str | None = "API",
        first: bool = False,
        **attributes: Any,
    ) -> None:
        """Let a user start to stream; None leaves an attribute out, `first` puts it at the list's head."""
        record: Record = {
            "Id": identity,
            "UserId": user,
            "StackName": stack,
            "FleetName": fleet,
            "State": "ACTIVE",
            "StartTime": moment(at),
            "InstanceId": f"i-{identity}",
            "InstanceDrainStatus": "NOT_APPLICABLE",
        }
        if hours is not None:
            record["MaxExpirationTime"] = moment(at + hours * 3600)
        if connected is not None:
            record["ConnectionState"] = "CONNECTED" if connected else "NOT_CONNECTED"
        if authentication is not None:
            record["AuthenticationType"] = authentication
        record |= attributes
        self.sessions[identity] = record
        scope = self.scopes.get((stack, fleet), {})
        self.scopes[stack, fleet] = {identity: record} | scope if first else scope | {identity: record}

    def change(self, identity: str, without: Iterable[str] = (), **attributes: Any) -> None:
        """Change attributes of a streaming session, or leave some out."""
        record = {k: v for k, v in self.sessions[identity].items() if k not in set(without)} | attributes
        self.sessions[identity] = record
        self.scopes[record["StackName"], record["FleetName"]][identity] = record

    def connect(self, identity: str) -> None:
        """Let the user connect."""
        self.change(identity, ConnectionState="CONNECTED")

    def disconnect(self, identity: str) -> None:
        """Let the connection drop."""
        self.change(identity, ConnectionState="NOT_CONNECTED")

    def expire(self, identity: str) -> None:
        """Let AWS list it as EXPIRED."""
        self.change(identity, State="EXPIRED")

    def hand_over(self, identity: str, user: str) -> None:
        """Give it to another user."""
        self.change(identity, UserId=user)

    def end(self, identity: str) -> None:
        """Let it vanish from the list."""
        record = self.sessions.pop(identity)
        del self.scopes[record["StackName"], record["FleetName"]][identity]


class AppStream:
    """The calls of the API over a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.unfiltered_lists_all = True
        self.missing_answers_empty = False
        # In GovCloud there are no user pools, and an AD-joined fleet takes no others.
        self.refused_types: frozenset[str] = frozenset()
        self.topology_page = 25
        # AWS may answer with fewer than were asked for.
        self.most_a_page = LARGEST_PAGE
        # Given the operation and its parameters: an error code to fail with, or None.
        self.fails: Callable[[str, Mapping[str, Any]], str | None] = lambda _operation, _params: None
        # What a broken service makes of its answer.
        self.distorts: Callable[[str, Mapping[str, Any], dict[str, Any]], dict[str, Any]] | None = None

    def call(self, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one operation of the API."""
        code = self.fails(operation, params)
        if code is not None:
            raise AwsError(code, f"{code}, as simulated")
        verb = _OPERATIONS.get(operation)
        if verb is None:
            raise NotImplementedError(f"the simulated AppStream knows no {operation}")
        answer = verb(self, params)
        return answer if self.distorts is None else self.distorts(operation, params, answer)

    def describe_stacks(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """DescribeStacks."""
        return self._named("Stacks", "Stack", self.world.stacks, params)

    def describe_fleets(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """DescribeFleets."""
        return self._named("Fleets", "Fleet", self.world.fleets, params)

    def list_associated_fleets(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """ListAssociatedFleets."""
        fleets = self.world.associations.get(params["StackName"])
        if fleets is None:
            raise _not_found("Stack", params["StackName"])
        return _page("Names", fleets, params.get("NextToken"), self.topology_page)

    def describe_sessions(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """DescribeSessions."""
        scope = params["StackName"], params["FleetName"]
        kind = params.get("AuthenticationType")
        if "UserId" in params and kind is None:
            raise AwsError(
                "InvalidParameterCombinationException",
                "If a UserId is specified, you must also specify an AuthenticationType.",
            )
        if kind in self.refused_types:
            raise AwsError(
                "InvalidParameterCombinationException", f"AuthenticationType {kind} is not supported."
            )
        if not self.missing_answers_empty:
            if scope[0] not in self.world.stacks:
                raise _not_found("Stack", scope[0])
            if scope[1] not in self.world.associations[scope[0]]:
                raise _not_found("Fleet", scope[1])
        wanted = kind if kind is not None or self.unfiltered_lists_all else "API"
        listed = [
            record
            for record in self.world.scopes.get(scope, {}).values()
            if (wanted is None or record.get("AuthenticationType", "API") == wanted)
            and params.get("UserId") in {None, record["UserId"]}
            and params.get("InstanceId") in {None, record.get("InstanceId")}
        ]
        limit = params.get("Limit", PAGE)
        if not 1 <= limit <= LARGEST_PAGE:
            raise AwsError("ValidationException", f"Limit should be from 1 to {LARGEST_PAGE}")
        return _page("Sessions", listed, params.get("NextToken"), min(limit, self.most_a_page))

    def _named(
        self, key: str, kind: str, known: Mapping[str, Record], params: Mapping[str, Any]
    ) -> dict[str, Any]:
        names = params.get("Names")
        if names is None:
            return _page(key, list(known.values()), params.get("NextToken"), self.topology_page)
        for name in names:
            if name not in known:
                raise _not_found(kind, name)
        return {key: [known[name] for name in names]}


def _not_found(kind: str, name: str) -> AwsError:
    return AwsError("ResourceNotFoundException", f"{kind} {name} does not exist.")


def _page(key: str, rows: list[Any], token: str | None, limit: int) -> dict[str, Any]:
    if token and not token.isdigit():
        raise AwsError("ValidationException", "NextToken is not one of this service")
    start = int(token) if token else 0
    answer: dict[str, Any] = {key: rows[start : start + limit]}
    if start + limit < len(rows):
        answer["NextToken"] = str(start + limit)
    return answer


_OPERATIONS: dict[str, Callable[[AppStream, Mapping[str, Any]], dict[str, Any]]] = {
    "DescribeStacks": AppStream.describe_stacks,
    "DescribeFleets": AppStream.describe_fleets,
    "ListAssociatedFleets": AppStream.list_associated_fleets,
    "DescribeSessions": AppStream.describe_sessions,
}
