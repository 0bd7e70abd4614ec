"""The files for TLS that [general] names: what would make it fail later."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from ..reasons import reason
from .findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .general import General

# A certificate chain and its private key.
_PAIRS: Final = (
    ("tls_certificate", "tls_private_key"),
    ("patroni_certificate", "patroni_private_key"),
)
_AUTHORITIES: Final = ("server_tls_ca_file", "patroni_ca_file")


def check_files(general: General) -> Iterator[Finding]:
    """Find what would make TLS fail later."""
    for names in _PAIRS:
        yield from _check_pair(general, *names)
    for name in _AUTHORITIES:
        yield from _check_authorities(name, getattr(general, name))


def _check_pair(general: General, name: str, key_name: str) -> Iterator[Finding]:
    certificate: Path | None = getattr(general, name)
    key: Path | None = getattr(general, key_name)
    path, key_path = ("general", name), ("general", key_name)
    unreadable = [*_unreadable(path, certificate), *_unreadable(key_path, key)]
    yield from unreadable
    if certificate is not None and key is None:
        yield Finding(key_path, f"is required with {name}", (path,))
    elif certificate is None and key is not None:
        yield Finding(key_path, f"has no effect without {name}", (path,), is_warning=True)
    elif certificate is not None and key is not None and not unreadable:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # The empty password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(certificate, key, password="")
        except (ssl.SSLError, OSError) as error:
            yield Finding(
                path,
                f"{certificate} and the key {key} are not a certificate chain and its key: "
                f"{reason(error)}",
                (key_path,),
            )


def _check_authorities(name: str, file: Path | None) -> Iterator[Finding]:
    unreadable = [*_unreadable(("general", name), file)]
    yield from unreadable
    if file is None or unreadable:
        return
    try:
        ssl.create_default_context(cafile=file)
    except (ssl.SSLError, OSError) as error:
        yield Finding(("general", name), f"{file} holds no usable certificate: {reason(error)}")


def _unreadable(path: tuple[str, str], file: Path | None) -> Iterator[Finding]:
    if file is None:
        return
    try:
        file.open("rb").close()
    except OSError as error:
        yield Finding(path, f"cannot read {file}: {reason(error)}")
    except ValueError:
        yield Finding(path, "is not the name of a file")
