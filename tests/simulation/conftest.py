"""Prints at the end how much the simulation tried, also when workers of pytest-xdist did it."""

from collections import Counter
from typing import Any

import pytest

from tests.simulation.trial import TALLY

_SUMS = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Start at nothing."""
    config.stash[_SUMS] = Counter()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the sums of a worker to its controller."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["simulated"] = dict(TALLY)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the sums of a worker."""
    node.config.stash[_SUMS].update(getattr(node, "workeroutput", {}).get("simulated", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how much was tried."""
    sums = config.stash[_SUMS] + TALLY
    if sums:
        what = ", ".join(f"{count:,} {name}" for name, count in sorted(sums.items()))
        terminalreporter.write_sep("-", f"simulated: {what}")
