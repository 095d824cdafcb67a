"""What the command takes from a stack's parameters."""

from datetime import timedelta

import pytest

from appstream_auditor.deployment import Deployment
from tests.shared.aws import session
from tests.shared.history import TARGET, at


@pytest.mark.parametrize(
    ("parameters", "minutes"),
    [
        pytest.param({}, 1, id="an older stack, or a table alone"),
        pytest.param({"SweepEvery": "60"}, 1, id="every minute"),
        pytest.param({"SweepEvery": "180"}, 3, id="every three minutes"),
        pytest.param({"SweepEvery": "15"}, 1, id="below a minute nothing is late before a minute"),
    ],
)
def test_how_often_a_stack_sweeps(parameters: dict[str, str], minutes: int) -> None:
    deployment = Deployment(session(), TARGET, "sessions", parameters=parameters)
    assert deployment.interval(None, at(0)) == timedelta(minutes=minutes)
