"""The tags of fleets and stacks, of the keys that are asked for, in one walk.

It knows how the tagging API pages and names resources. A walk that fails costs tags, never a sweep.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from session_auditor.aws_errors import MALFORMED, MALFORMED_ERRORS
from session_auditor.errors import CutShortError
from session_auditor.paging import answers

if TYPE_CHECKING:
    from mypy_boto3_resourcegroupstaggingapi import ResourceGroupsTaggingAPIClient

# The most that GetResources takes (API reference, ResourcesPerPage).
PAGE_SIZE = 100
# Characters of a tag's value (AWS General Reference, tag naming and usage limits).
VALUE_LIMIT = 256


class Tags(NamedTuple):
    """The tags of fleets and of stacks, by their names."""

    fleets: dict[str, dict[str, str]]
    stacks: dict[str, dict[str, str]]


class TagReader:
    """Reads the tags of one target's fleets and stacks."""

    def __init__(self, client: "ResourceGroupsTaggingAPIClient", keys: tuple[str, ...]) -> None:
        self._paginator: Callable[[Any], Any] = cache(client.get_paginator)
        self._keys = keys

    def read(self, time_left: Callable[[], float]) -> Tags:
        """Return the tags; raise CutShortError if not all were read."""
        pages = self._paginator("get_resources").paginate(
            ResourceTypeFilters=["appstream:fleet", "appstream:stack"],
            PaginationConfig={"PageSize": PAGE_SIZE},
        )
        tags = Tags({}, {})
        for page in answers(pages, time_left, next_page="PaginationToken"):
            try:
                for resource in page["ResourceTagMappingList"]:
                    # arn:aws:appstream:eu-west-1:123456789012:fleet/cad
                    kind, _, name = resource["ResourceARN"].split(":", 5)[5].partition("/")
                    if kind == "fleet":
                        tags.fleets[name] = dict(self._wanted(resource["Tags"]))
                    elif kind == "stack":
                        tags.stacks[name] = dict(self._wanted(resource["Tags"]))
            except MALFORMED_ERRORS:
                raise CutShortError(MALFORMED) from None
        return tags

    def _wanted(self, tags: Any) -> Iterator[tuple[str, str]]:
        for tag in tags:
            if tag["Key"] in self._keys:
                # What UTF-8 cannot write could be kept nowhere.
                tag["Value"].encode()
                yield tag["Key"], tag["Value"][:VALUE_LIMIT]
