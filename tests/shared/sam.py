"""Runs the SAM CLI, and what else a build needs."""

import os
import subprocess
from pathlib import Path

from sandbox.cloud import ROOT

SAM = ROOT / ".sam-venv" / "bin" / "sam"


def run(*command: str | Path, **environment: str) -> str:
    assert SAM.exists(), "`make test` sets the SAM CLI up in .sam-venv"
    environment = {**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-west-1"} | environment
    environment["PATH"] = f"{ROOT / '.venv' / 'bin'}:{environment['PATH']}"
    done = subprocess.run(
        [str(each) for each in command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
