"""Documented commands, run as they stand: by bash and the AWS CLI, against the local cloud."""

import os
import subprocess
from pathlib import Path

from sandbox.cloud import CREDENTIALS, REGION, ROOT, LocalCloud

# Python's index has version 1 of the CLI. It takes JSON as it is, fetches a value that is a URL unless it is
# told not to, and does not read the endpoint of every service from the environment.
CONFIG = "[default]\ncli_follow_urlparam = false\n"
PRELUDE = """
set -euo pipefail
aws() {
  local words=()
  while (($#)); do
    if [[ $1 == --cli-binary-format ]]; then shift; else words+=("$1"); fi
    shift
  done
  command aws --endpoint-url "$AWS_ENDPOINT_URL" "${words[@]}"
}
"""


def shell(cloud: LocalCloud, script: str, home: Path, folder: Path = ROOT, **variables: str) -> str:
    """Run a script; return what it printed. Whatever fails in it fails the test."""
    config = home / "aws-config"
    config.write_text(CONFIG)
    done = subprocess.run(
        ["/bin/bash", "-c", PRELUDE + script],
        cwd=folder,
        env={
            "PATH": f"{ROOT / '.sam-venv' / 'bin'}:{os.environ['PATH']}",
            "HOME": str(home),
            "AWS_ENDPOINT_URL": cloud.endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": str(config),
            **{name.upper(): value for name, value in CREDENTIALS.items()},
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout
