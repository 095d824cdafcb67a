"""The Resource Groups Tagging API's GetResources, over the tags of a world's stacks and fleets."""

from collections.abc import Mapping
from typing import Any

from tests.simulation.appstream import World
from tests.simulation.errors import AwsError
from tests.simulation.parameters import Fails

# https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html
LARGEST_PAGE = 100


class Tagging:
    """The tagged resources of one account in one region; `fails` is asked before each call."""

    def __init__(self, world: World, fails: Fails) -> None:
        self.world = world
        self.fails = fails
        # AWS may answer with fewer than were asked for.
        self.most_a_page = LARGEST_PAGE

    def call(self, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one operation of the API."""
        known = {"ResourceTypeFilters", "ResourcesPerPage", "PaginationToken"}
        if operation != "GetResources" or params.keys() - known:
            raise NotImplementedError(f"the simulated tagging knows no {operation} with {sorted(params)}")
        code = self.fails(operation, params)
        if code is not None:
            raise AwsError(code, f"{code}, as simulated")
        limit = params.get("ResourcesPerPage", LARGEST_PAGE)
        if not 1 <= limit <= LARGEST_PAGE:
            raise AwsError("InvalidParameterException", f"ResourcesPerPage is from 1 to {LARGEST_PAGE}")
        wanted = params.get("ResourceTypeFilters") or ["appstream"]
        tagged = [
            {
                "ResourceARN": (self.world.fleets if kind == "fleet" else self.world.stacks)[name]["Arn"],
                "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
            }
            for (kind, name), tags in self.world.tags.items()
            if "appstream" in wanted or f"appstream:{kind}" in wanted
        ]
        token = params.get("PaginationToken") or "0"
        if not token.isdigit():
            raise AwsError("PaginationTokenExpiredException", "PaginationToken is not one of this service")
        start, end = int(token), int(token) + min(limit, self.most_a_page)
        # The last page has an empty token, not none.
        return {
            "ResourceTagMappingList": tagged[start:end],
            "PaginationToken": str(end) if end < len(tagged) else "",
        }
