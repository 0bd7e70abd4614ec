"""Whether the files that the configuration names can be used."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from ..reasons import reason
from .findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .general import General

_CERTIFICATE = ("general", "tls_certificate")
_KEY = ("general", "tls_private_key")
_CA = ("general", "server_tls_ca_file")


def check_files(general: General) -> Iterator[Finding]:
    """Find what would make TLS fail later."""
    certificate, key, ca_file = (
        general.tls_certificate,
        general.tls_private_key,
        general.server_tls_ca_file,
    )
    unreadable = [
        *_unreadable(_CERTIFICATE, certificate),
        *_unreadable(_KEY, key),
        *_unreadable(_CA, ca_file),
    ]
    yield from unreadable
    if certificate is not None and key is None:
        yield Finding(_KEY, "is required with tls_certificate", (_CERTIFICATE,))
    elif certificate is None and key is not None:
        yield Finding(
            _KEY, "has no effect without tls_certificate", (_CERTIFICATE,), is_warning=True
        )
    elif certificate is not None and key is not None and not unreadable:
        yield from _pair(certificate, key)
    if ca_file is not None and not unreadable:
        yield from _authorities(ca_file)


def _unreadable(path: tuple[str, str], file: Path | None) -> Iterator[Finding]:
    if file is None:
        return
    try:
        file.open("rb").close()
    except OSError as error:
        yield Finding(path, f"cannot read {file}: {reason(error)}")
    except ValueError:
        yield Finding(path, "is not the name of a file")


def _pair(certificate: Path, key: Path) -> Iterator[Finding]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The empty password keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError) as error:
        yield Finding(
            _CERTIFICATE,
            f"{certificate} and the key {key} are not a certificate chain and its key: "
            f"{reason(error)}",
            (_KEY,),
        )


def _authorities(file: Path) -> Iterator[Finding]:
    try:
        ssl.create_default_context(cafile=file)
    except (ssl.SSLError, OSError) as error:
        yield Finding(_CA, f"{file} holds no usable certificate: {reason(error)}")
