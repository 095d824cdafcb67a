"""Systems Manager's GetParameter, over the parameters of a world."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.simulation.appstream import ACCOUNT_ID, REGION, World
from tests.simulation.errors import AwsError

Fails = Callable[[str, Mapping[str, Any]], str | None]


class Parameters:
    """The parameters of one account in one region; `fails` is asked before each call."""

    def __init__(self, world: World, fails: Fails) -> None:
        self.world = world
        self.fails = fails

    def call(self, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one operation of the API."""
        if operation != "GetParameter" or params.keys() - {"Name", "WithDecryption"}:
            raise NotImplementedError(f"the simulated SSM knows no {operation} with {sorted(params)}")
        code = self.fails(operation, params)
        if code is not None:
            raise AwsError(code, f"{code}, as simulated")
        name = params["Name"]
        if name not in self.world.parameters:
            raise AwsError("ParameterNotFound", "")
        return {
            "Parameter": {
                "Name": name,
                "Type": "String",
                "Value": self.world.parameters[name],
                "Version": 1,
                "ARN": f"arn:aws:ssm:{REGION}:{ACCOUNT_ID}:parameter{name}",
                "DataType": "text",
            }
        }
