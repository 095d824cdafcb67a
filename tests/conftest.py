"""How tests run: the same examples in every run, garbage looked for seldom, and who waits begins."""

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A time limit on an example would be a timed assert: a busy machine must not fail a law.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")

# Python looks for garbage after every 700 objects; a fifth of the simulation's time went there.
gc.set_threshold(100_000, 20, 20)

# A worker of xdist has it, and the command takes it for the width of a terminal.
os.environ.pop("COLUMNS", None)

# Files that wait for a schedule, a window or a terminal: begun last, idle workers would wait for them.
WAITING = ("test_demo.py", "test_deploy.py", "test_hub.py", "test_local_cloud.py", "test_operate.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what waits."""
    items.sort(key=lambda item: item.path.name not in WAITING)


@pytest.fixture(autouse=True, scope="module")
def _own_environment() -> Iterator[None]:
    """Leave the environment as it was: a function that a file loads has variables of its own."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
