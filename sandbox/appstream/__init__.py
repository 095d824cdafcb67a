"""An AppStream 2.0 service for moto, which has none: stacks, fleets and streaming sessions.

`register()` makes it known to `mock_aws` and to moto's server. It lives on moto's internals, so moto is
pinned; moto finds a service by its module's name and by a pattern for its host.
"""

import re
import sys
import warnings

from moto import backend_index

from sandbox.appstream.accounts import accounts_by_key
from sandbox.appstream.models import AppStreamBackend, StreamingSession, appstream_backends

__all__ = ["AppStreamBackend", "StreamingSession", "accounts_by_key", "appstream_backends", "register"]


def register() -> None:
    """Let moto find the service; call it before a mock or the server starts."""
    sys.modules.setdefault("moto.appstream", sys.modules[__name__])
    pattern = ("appstream", re.compile(r"https?://appstream2?\.(.+)\.amazonaws\.com"))
    if pattern not in backend_index.backend_url_patterns:
        backend_index.backend_url_patterns.append(pattern)
    # Of the errors that AppStream really answers with, the API's model knows few: throttling is not one.
    warnings.filterwarnings("ignore", message=".*does not match an error shape", category=UserWarning)
