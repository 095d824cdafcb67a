"""Packages of npm that a test compares with, pinned by what they hold."""

import base64
import hashlib
import os
import ssl
import subprocess
import tarfile
from pathlib import Path

import pytest


def npm_pack(name: str, sha512: str, directory: Path) -> Path:
    """Download a package, and unpack it if it is the pinned one; skip the test where npm is not at hand."""
    try:
        subprocess.run(
            ["npm", "pack", "--silent", name],  # noqa: S607
            cwd=directory,
            env=os.environ | {"NODE_EXTRA_CA_CERTS": ssl.get_default_verify_paths().openssl_cafile},
            check=True,
            capture_output=True,
            timeout=120,
        )
    except (OSError, subprocess.SubprocessError):
        pytest.skip(f"npm could not get {name}")
    (package,) = directory.glob("*.tgz")
    assert base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode() == sha512
    with tarfile.open(package) as archive:
        archive.extractall(directory, filter="data")
    return directory
