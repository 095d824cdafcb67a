"""Whose credentials a call carries, so that there is one AppStream an account, and tags with it.

moto knows no keys but those that its own IAM made; those of the local cloud are others'. It looks for an
account in one place, which is replaced.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.core.responses import BaseResponse

_KEY = re.compile(r"Credential=([^/]+)/")


@contextmanager
def accounts_by_key(owner: Callable[[str], str]) -> Iterator[None]:
    """Have every call answered for the account that `owner` names for its access key."""
    # The stubs leave out what is not public.
    responses: Any = BaseResponse
    before = responses.get_current_account

    def current_account(response: Any) -> Any:
        key = _KEY.search(response.headers.get("Authorization", ""))
        return owner(key[1]) if key else before(response)

    responses.get_current_account = current_account
    try:
        yield
    finally:
        responses.get_current_account = before
