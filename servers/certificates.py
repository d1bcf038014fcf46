"""A certificate authority and a server certificate, made for one temporary server."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from .errors import ServersError
from .machine import require_program

_CONFIGURATION = """\
[req]
distinguished_name = name
prompt = no
[name]
CN = throwaway test server
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


@dataclass(frozen=True)
class Certificates:
    ca: Path
    certificate: Path
    key: Path

    def options(self) -> list[str]:
        return [f"--ssl-ca={self.ca}", f"--ssl-cert={self.certificate}", f"--ssl-key={self.key}"]


def make_certificates(directory: Path, *hosts: str) -> Certificates:
    """Make an authority and a certificate for `hosts` with the openssl program.

    MySQL makes its own certificate, but it names no host. A client that checks names refuses it, as
    PyMySQL does when a CA is given. So both servers get one from here.
    """
    openssl = require_program("openssl", "openssl")
    directory.mkdir()
    names = ",".join(["DNS:localhost", *(f"IP:{host}" for host in dict.fromkeys(hosts))])
    configuration = directory / "openssl.cnf"
    configuration.write_text(_CONFIGURATION.format(names=names))
    ca, ca_key = directory / "ca.pem", directory / "ca-key.pem"
    made = Certificates(ca, directory / "server-cert.pem", directory / "server-key.pem")
    new = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]
    new += ["-sha256", "-days", "30", "-config", str(configuration)]
    _run([*new, "-extensions", "authority", "-subj", "/CN=throwaway authority"], ca_key, ca)
    signing = ["-CA", str(ca), "-CAkey", str(ca_key)]
    _run(
        [*new, "-extensions", "server", "-subj", "/CN=localhost", *signing],
        made.key,
        made.certificate,
    )
    return made


def _run(command: list[str], key: Path, certificate: Path) -> None:
    result = subprocess.run(
        [*command, "-keyout", str(key), "-out", str(certificate)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise ServersError(f"openssl could not make a certificate:\n{result.stderr.strip()}")
