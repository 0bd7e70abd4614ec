"""Why the system would not: its exceptions in words that are no program's."""

from __future__ import annotations

import os
import socket
import ssl


def reason(error: BaseException) -> str:
    """The system's words for what went wrong, without names of classes, numbers or tuples."""
    if isinstance(error, BaseExceptionGroup):
        return reason(error.exceptions[0])
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        # OpenSSL's name of it, such as WRONG_VERSION_NUMBER.
        return error.reason.replace("_", " ").lower()
    if isinstance(error, socket.gaierror):
        return error.strerror or "the name cannot be looked up"
    if isinstance(error, OSError) and error.errno is not None:
        # Not its strerror, in which trio puts the address as Python writes it.
        return os.strerror(error.errno)
    if error.__cause__ is not None:
        return reason(error.__cause__)
    return str(error)
