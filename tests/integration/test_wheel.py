"""The wheel from the repository's root, as people install it: uv tool, uvx and pip, from a clone by git."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.appstream.models import Fleet, StreamingSession
from sandbox.cloud import CREDENTIALS, REGION, ROOT, LocalCloud, local_cloud

UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A clone of the repository, by an address that git takes."""
    folder = tmp_path_factory.mktemp("clone") / "repository"
    run("git", "clone", "--quiet", "--no-local", str(ROOT), str(folder))
    return f"git+file://{folder}"


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with local_cloud() as cloud:
        cloud.appstream.add_scope("office", Fleet("cad"))
        cloud.appstream.sessions["ann"] = StreamingSession("s-1", "ann@example.com", "office", "cad")
        stack = cloud.deploy({"Sweeps": "DISABLED"}, name="appstream-session-auditor")
        cloud.client("lambda").invoke(FunctionName=stack.outputs["AuditorFunctionName"], Payload=b"{}")
        yield cloud


def run(*words: str, **variables: str) -> str:
    """Run a program with nothing of this project's on its path; return what it printed."""
    inherited = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "COLUMNS"}}
    done = subprocess.run(
        words, env=inherited | variables, capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


def ask(program: str, cloud: LocalCloud) -> list[str]:
    """Ask an installed command who is on; return the users."""
    environment = {name.upper(): value for name, value in CREDENTIALS.items()} | {
        "AWS_ENDPOINT_URL": cloud.endpoint,
        "AWS_REGION": REGION,
    }
    answer = json.loads(run(program, "sessions", "-o", "json", **environment))
    return [row["userId"] for row in answer["sessions"]]


def test_uv_tool_install(clone: str, cloud: LocalCloud, tmp_path: Path) -> None:
    folders = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    run(str(UV), "tool", "install", "--quiet", clone, **folders)
    assert ask(str(tmp_path / "bin" / "appstream-auditor"), cloud) == ["ann@example.com"]


def test_the_shell_completes_what_is_typed(clone: str, tmp_path: Path) -> None:
    folders = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    run(str(UV), "tool", "install", "--quiet", clone, **folders)
    program = str(tmp_path / "bin" / "appstream-auditor")
    for shell in ("bash", "zsh", "fish"):
        assert "appstream-auditor" in run(program, _APPSTREAM_AUDITOR_COMPLETE=f"{shell}_source")
    typed = {"COMP_WORDS": "appstream-auditor ex", "COMP_CWORD": "1"}
    assert run(program, _APPSTREAM_AUDITOR_COMPLETE="bash_complete", **typed) == "plain,explain\n"


def test_uvx(clone: str) -> None:
    said = run(str(UV), "tool", "run", "--quiet", "--from", clone, "appstream-auditor", "--version")
    assert said.startswith("appstream-auditor, version ")


def test_pip_install(clone: str, cloud: LocalCloud, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", str(tmp_path))
    pip = [str(tmp_path / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", clone)
    assert ask(str(tmp_path / "bin" / "appstream-auditor"), cloud) == ["ann@example.com"]
    installed = {each["name"] for each in json.loads(run(*pip, "list", "--format", "json"))}
    assert not installed & {"aws-lambda-powertools", "moto", "pytest"}


def test_the_wheel_holds_the_command_and_what_it_shares_with_the_functions(
    clone: str, tmp_path: Path
) -> None:
    run(str(UV), "build", "--quiet", "--wheel", "--out-dir", str(tmp_path), clone.removeprefix("git+file://"))
    (wheel,) = tmp_path.glob("*.whl")
    folders = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in folders if not name.endswith(".dist-info")} == {
        "appstream_auditor",
        "session_auditor",
    }
