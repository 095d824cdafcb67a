"""The deployment as a person types it: the real SAM CLI in a terminal, Enter at every prompt.

The auditor's own goes all the way, into the local cloud; the consumers' until they ask AWS.
"""

import os
import re
import select
import shutil
import socket
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sandbox.cloud import REGION, ROOT, LocalCloud, local_cloud

SAM = ROOT / ".sam-venv" / "bin" / "sam"
# What an answer is typed after, such as `Stack Name [appstream-session-auditor]: ` or `Parameter Project: `.
PROMPT = re.compile(r"([^\n]*(?:\]|Parameter \w+)): $")
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
PATIENCE_SECONDS = 120
# `--guided` asks for a secret without its default, again and again.
ASKED_AGAIN = 3
STACK = "appstream-session-auditor"


def typed(command: str, folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Type a command in a terminal, and Enter at every prompt; return its exit code and the screen."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        ["/bin/bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    screen, answered, asked = "", 0, Counter[str]()
    try:
        while select.select([master], [], [], PATIENCE_SECONDS)[0]:
            try:
                screen += ESCAPES.sub("", os.read(master, 65_536).decode(errors="replace"))
            except OSError:
                # Whoever wrote to the terminal is gone.
                break
            prompt = PROMPT.search(screen, answered)
            if prompt:
                asked[prompt[1]] += 1
                assert asked[prompt[1]] < ASKED_AGAIN, f"asked again and again:\n{screen}"
                os.write(master, b"\r")
                answered = len(screen)
        else:
            pytest.fail(f"nothing happens any more:\n{screen}")
        return process.wait(PATIENCE_SECONDS), screen
    finally:
        process.kill()
        process.wait()
        os.close(master)


def environment(endpoint: str, home: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAM_"))}
    return inherited | {
        "HOME": str(home),
        "PATH": f"{SAM.parent}:{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_MAX_ATTEMPTS": "1",
        "SAM_CLI_TELEMETRY": "0",
        "TERM": "xterm",
        "COLUMNS": "200",
    }


def guided() -> Iterator[tuple[Path, str]]:
    """Every command of the documents that deploys by questions, with the folder that it is typed in."""
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for document in [*documents, *sorted((ROOT / "examples" / "consumers").glob("*/README.md"))]:
        folder = ROOT if document in documents else document.parent
        for command in re.findall(r"sam deploy --guided[^`\n]*", document.read_text()):
            yield folder, command.strip()


CONSUMERS = [pytest.param(*each, id=each[0].name) for each in guided() if each[0] != ROOT]


@pytest.mark.parametrize(("folder", "command"), CONSUMERS)
def test_enter_at_every_prompt_asks_aws_to_deploy(folder: Path, command: str, tmp_path: Path) -> None:
    here = shutil.copytree(folder, tmp_path / folder.name)
    with socket.socket() as closed:
        # Nobody listens there, and nobody can while it is bound.
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        code, screen = typed(command, here, environment(f"http://127.0.0.1:{port}", tmp_path))
    assert f'Could not connect to the endpoint URL: "http://127.0.0.1:{port}/' in screen, screen
    assert code == 1


def test_every_template_with_a_readme_says_how_it_is_deployed() -> None:
    consumers = {path.parent for path in (ROOT / "examples" / "consumers").glob("*/template.yaml")}
    assert {folder for folder, _ in guided()} == {ROOT, *consumers}


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with local_cloud() as cloud:
        yield cloud


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is deployed, since SAM saves answers in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("template.yaml", "samconfig.toml"):
        shutil.copy(ROOT / name, folder)
    for name in ("functions", "layers", "docs/schemas"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def parameters(cloud: LocalCloud, stack: str) -> dict[str, str]:
    (described,) = cloud.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    assert described["StackStatus"].endswith("_COMPLETE")
    return {each["ParameterKey"]: each["ParameterValue"] for each in described["Parameters"]}


def configure(checkout: Path, old: str, new: str) -> None:
    path = checkout / "samconfig.toml"
    before = path.read_text()
    assert before.count(old) == 1
    path.write_text(before.replace(old, new))


def test_the_readmes_deployment(cloud: LocalCloud, checkout: Path) -> None:
    """The README's commands, one after the other as an administrator comes to them."""
    home = checkout.parent / "home"
    home.mkdir()
    there = environment(cloud.endpoint, home)
    readme = (ROOT / "README.md").read_text()
    assert "\nsam build && sam deploy\n" in readme
    code, screen = typed("sam build && sam deploy", checkout, there)
    assert code == 0, screen
    assert "Successfully created/updated stack" in screen
    assert not PROMPT.search(screen)
    first = parameters(cloud, STACK)
    assert (first["StackFilter"], first["NoticeEmail"]) == ("*", "")

    # The board, as its page has it, beside the auditor.
    (command,) = re.findall(r"```\n(cd functions/board .*)\n```", (ROOT / "docs" / "board.md").read_text())
    code, screen = typed(command, checkout, there)
    assert code == 0, screen
    assert parameters(cloud, f"{STACK}-board")["AuditorStack"] == STACK

    # A setting is changed in the file: the others stay.
    configure(checkout, '    # "StackFilter=prod-*,!prod-test",', '    "StackFilter=prod-*,!prod-test",')
    code, screen = typed("sam deploy", checkout, there)
    assert code == 0, screen
    assert parameters(cloud, STACK) == first | {"StackFilter": "prod-*,!prod-test"}

    (policies,) = re.findall(r"```toml\n *(.*)\n", (ROOT / "docs" / "policies.md").read_text())
    # What is taken out again keeps its value; a value with a space needs quotes; nothing is two quotes. SAM
    # ignores a name that it does not know, and cuts what has no quotes.
    configure(
        checkout,
        '    "StackFilter=prod-*,!prod-test",',
        """    "Notices='AppStream Session Ended,AppStream Audit Degraded'", "ExpiringMinutes=''",
    "NoticeFleets=cad gis", "Noticeemail=ops@example.com",
    "TimeZone=America/Sao_Paulo", "SweepEvery=30", """
        + policies,
    )
    code, screen = typed("sam deploy", checkout, there)
    assert code == 0, screen
    kept = first | {"StackFilter": "prod-*,!prod-test", "ExpiringMinutes": ""}
    kept |= {"Notices": "AppStream Session Ended,AppStream Audit Degraded", "NoticeFleets": "cad"}
    kept |= {"TimeZone": "America/Sao_Paulo", "PoliciesParameter": "/appstream/policies"}
    kept |= {"TagKeys": "workload,department", "SweepEvery": "30"}
    assert parameters(cloud, STACK) == kept
    # What a setting nests was built with the rest.
    (described,) = cloud.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in described["Outputs"]}
    assert cloud.client("lambda").get_function(FunctionName=outputs["DispatcherFunctionName"])

    # A second stage, as the README's lines have it.
    (stage,) = re.findall(r"```toml\n(\[staging\..*?)```", readme, re.DOTALL)
    path = checkout / "samconfig.toml"
    path.write_text(f"{path.read_text()}\n{stage}")
    name = tomllib.loads(stage)["staging"]["global"]["parameters"]["stack_name"]
    code, screen = typed("sam deploy --config-env staging", checkout, there)
    assert code == 0, screen
    assert parameters(cloud, name)["StackFilter"] == "staging-*"
    assert parameters(cloud, STACK) == kept

    # And with questions and answers, as those who know SAM expect it: what was set is the default.
    code, screen = typed("sam deploy --guided", checkout, there)
    assert code == 0, screen
    assert "Parameter Notices [AppStream Session Ended,AppStream Audit Degraded]: " in screen
    # It offers what the list and the template say, not what is deployed.
    assert parameters(cloud, STACK)["Notices"] == kept["Notices"]
