"""Prints at the end how much the simulation tried, also when workers of pytest-xdist did it."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulation.aws import Cloud
from tests.simulation.trial import KILLED, TALLY

_SUMS = pytest.StashKey[Counter[str]]()
_KILLED = pytest.StashKey[dict[str, str]]()


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """Yield a simulated AWS of the test's own."""
    with Cloud() as cloud:
        yield cloud


def pytest_configure(config: pytest.Config) -> None:
    """Start at nothing."""
    config.stash[_SUMS] = Counter()
    config.stash[_KILLED] = {}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the sums of a worker to its controller."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["simulated"] = dict(TALLY), KILLED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the sums of a worker."""
    tally, killed = getattr(node, "workeroutput", {}).get("simulated", ({}, {}))
    node.config.stash[_SUMS].update(tally)
    node.config.stash[_KILLED].update(killed)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how much was tried, and which promise killed which mutant."""
    sums = config.stash[_SUMS] + TALLY
    if sums:
        terminalreporter.write_sep("-", "simulated, with the real handler")
        for name, count in sorted(sums.items()):
            terminalreporter.write_line(f"{count:>9,} {name}")
    for mutant, promise in sorted((config.stash[_KILLED] | KILLED).items()):
        terminalreporter.write_line(f"mutant killed: {mutant}, by {promise}")
