"""From the wire to the verbs and back."""

from typing import Any

from moto.core.responses import ActionResult, BaseResponse

from sandbox.appstream.models import AppStreamBackend, Fleet, appstream_backends


class AppStreamResponse(BaseResponse):
    """Answers the four verbs that the auditor calls, and those that drain a host and end a session."""

    def __init__(self) -> None:
        super().__init__(service_name="appstream")
        self.automated_parameter_parsing = True

    @property
    def backend(self) -> AppStreamBackend:
        """The state of the caller's account and region."""
        return appstream_backends[self.current_account][self.region]

    def describe_stacks(self) -> ActionResult:
        """Answer DescribeStacks."""
        stacks, token = self.backend.describe_stacks(self._get_param("NextToken"))
        return _answer(
            "Stacks",
            [{"Arn": self.backend.arn("stack", each.name), "Name": each.name} for each in stacks],
            token,
        )

    def describe_fleets(self) -> ActionResult:
        """Answer DescribeFleets."""
        fleets, token = self.backend.describe_fleets(self._get_param("NextToken"))
        return _answer("Fleets", [self._fleet(each) for each in fleets], token)

    def list_associated_fleets(self) -> ActionResult:
        """Answer ListAssociatedFleets."""
        names, token = self.backend.list_associated_fleets(
            self._get_param("StackName"), self._get_param("NextToken")
        )
        return _answer("Names", names, token)

    def describe_sessions(self) -> ActionResult:
        """Answer DescribeSessions."""
        sessions, token = self.backend.describe_sessions(
            self._get_param("StackName"),
            self._get_param("FleetName"),
            user_id=self._get_param("UserId"),
            token=self._get_param("NextToken"),
            limit=self._get_param("Limit"),
            authentication_type=self._get_param("AuthenticationType"),
            instance_id=self._get_param("InstanceId"),
        )
        return _answer("Sessions", [each.to_dict() for each in sessions], token)

    def drain_session_instance(self) -> ActionResult:
        """Answer DrainSessionInstance."""
        self.backend.drain_session_instance(self._get_param("SessionId"))
        return ActionResult({})

    def expire_session(self) -> ActionResult:
        """Answer ExpireSession."""
        self.backend.expire_session(self._get_param("SessionId"))
        return ActionResult({})

    def _fleet(self, fleet: Fleet) -> dict[str, Any]:
        capacity = {"Desired": 1} | ({} if fleet.in_use is None else {"InUse": fleet.in_use})
        several = {"MaxSessionsPerInstance": fleet.max_sessions_per_instance}
        return (several if fleet.max_sessions_per_instance else {}) | {
            "Arn": self.backend.arn("fleet", fleet.name),
            "Name": fleet.name,
            "InstanceType": fleet.instance_type,
            "Platform": fleet.platform,
            "ComputeCapacityStatus": capacity,
            "State": "RUNNING",
            "FleetType": fleet.fleet_type,
            "MaxUserDurationInSeconds": fleet.max_user_duration,
            "DisconnectTimeoutInSeconds": fleet.disconnect_timeout,
            "IdleDisconnectTimeoutInSeconds": fleet.idle_disconnect_timeout,
            "FleetErrors": [
                {"ErrorCode": code, "ErrorMessage": message} for code, message in fleet.errors.items()
            ],
        }


def _answer(name: str, items: list[Any], token: str | None) -> ActionResult:
    return ActionResult({name: items} | ({"NextToken": token} if token else {}))
