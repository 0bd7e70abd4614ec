"""Certificates for TLS, made by the program openssl."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


class Certificates:
    """A certificate authority, certificates for 127.0.0.1 and another by it, and a stranger.

    Attributes:
        ca, stranger: of the authority, and of another, which has signed none of these.
        certificate, key: for 127.0.0.1 and localhost.
        elsewhere: the same for other names.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ca = self._authority("ca")
        self.stranger = self._authority("stranger")
        self.certificate, self.key = self._signed("server", "DNS:localhost,IP:127.0.0.1")
        self.elsewhere = self._signed("elsewhere", "DNS:elsewhere.example,IP:127.0.0.2")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=self._directory, check=True, capture_output=True
        )

    def _authority(self, name: str) -> Path:
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}"),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-days", "2"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        return self._directory / f"{name}.crt"

    def _signed(self, name: str, holders: str) -> tuple[Path, Path]:
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=localhost"),
        )
        (self._directory / "extensions").write_text(
            f"subjectAltName={holders}\nauthorityKeyIdentifier=keyid\n"
        )
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-out", f"{name}.crt", "-days", "2", "-extfile", "extensions"),
        )
        return self._directory / f"{name}.crt", self._directory / f"{name}.key"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made for one module of tests."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl program")
    return Certificates(tmp_path_factory.mktemp("certificates"))
