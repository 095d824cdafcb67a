"""What the Makefiles download may come over a proxy with a certificate authority that the system trusts.

An index of packages on 127.0.0.1 has a certificate of an authority that is made here. OpenSSL's variable for
the system's certificates names it; neither uv nor pip brings it along. What is not proved: that uv reads
the system's own store, for which it has a variable, and npm, whose environment a test of the simulation uses.
"""

import os
import ssl
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sandbox.cloud import ROOT
from sandbox.server import HOST

MAKEFILES = ("Makefile", "layers/session_auditor/Makefile", "examples/consumers/tickets/Makefile")
INSTALLERS = {
    "uv": f"{Path(sys.executable).with_name('uv')} pip install --quiet --no-cache --python {sys.executable}",
    "pip": f"{sys.executable} -m pip install --quiet --disable-pip-version-check --no-cache-dir",
}


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def signed(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey, *, ca: bool
) -> bytes:
    """Return a certificate for a day, for 127.0.0.1 or of an authority."""
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the authority's certificate, and the server's with its key."""
    directory = tmp_path_factory.mktemp("authority")
    ours, theirs = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (directory / "authority.pem").write_bytes(signed("authority", ours, "authority", ours, ca=True))
    (directory / "server.pem").write_bytes(
        theirs.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed(HOST, theirs, "authority", ours, ca=False)
    )
    return directory


@pytest.fixture(scope="module")
def index(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve an index with one package; return its URL."""
    directory = tmp_path_factory.mktemp("index")
    (directory / "tiny").mkdir()
    (directory / "tiny" / "index.html").write_text('<a href="tiny-1.0-py3-none-any.whl">tiny</a>')
    with zipfile.ZipFile(directory / "tiny" / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\n")
    server = ThreadingHTTPServer((HOST, 0), partial(Quiet, directory=str(directory)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://{HOST}:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


def made(
    makefile: str, command: str, directory: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as a recipe of the Makefile, on a machine that has set nothing but this."""
    (directory / "probe.mk").write_text(f"include {ROOT / makefile}\nprobe:\n\t@{command}\n")
    bare = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "0",
        "UV_NO_CONFIG": "1",
        "UV_HTTP_RETRIES": "0",
        "NO_PROXY": HOST,
    }
    return subprocess.run(
        ["make", "--silent", "-f", "probe.mk", "probe"],  # noqa: S607 - whichever make a user has
        cwd=directory,
        env=bare | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("installer", INSTALLERS)
@pytest.mark.parametrize("makefile", MAKEFILES)
def test_what_the_system_trusts_is_trusted(
    makefile: str, installer: str, authority: Path, index: str, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    command = f"{INSTALLERS[installer]} --index-url {index} --target {target} tiny"
    refused = made(makefile, command, tmp_path)
    assert refused.returncode != 0
    assert not target.joinpath("tiny.py").exists()
    trusted = made(makefile, command, tmp_path, SSL_CERT_FILE=str(authority / "authority.pem"))
    assert trusted.returncode == 0, trusted.stderr
    assert target.joinpath("tiny.py").exists()


@pytest.mark.parametrize("makefile", MAKEFILES)
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        pytest.param({"SSL_CERT_FILE": __file__}, f"true {__file__}", id="the system has certificates"),
        pytest.param(
            {"SSL_CERT_FILE": "/nowhere", "SSL_CERT_DIR": "/nowhere"}, "false", id="the system has none"
        ),
        pytest.param(
            {"UV_SYSTEM_CERTS": "false", "REQUESTS_CA_BUNDLE": "mine.pem"},
            "false mine.pem",
            id="said otherwise",
        ),
    ],
)
def test_uv_is_told_to_read_the_systems_store(
    makefile: str, given: dict[str, str], wanted: str, tmp_path: Path
) -> None:
    told = made(makefile, "echo $$UV_SYSTEM_CERTS $$REQUESTS_CA_BUNDLE", tmp_path, **given)
    assert told.stdout.strip() == wanted
