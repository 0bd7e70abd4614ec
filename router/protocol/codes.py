"""Message type bytes and request codes of protocol 3, under the manual's names.

Source: PostgreSQL manual, chapter "Frontend/Backend Protocol", section "Message Formats".
"""

from __future__ import annotations

from typing import Final

# --- codes in the first packet of a connection (Int32 after the length)
PROTOCOL_3_0: Final = 196608
SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104
CANCEL_REQUEST: Final = 80877102

# --- messages from the frontend (client)
QUERY: Final = ord("Q")
PARSE: Final = ord("P")
BIND: Final = ord("B")
DESCRIBE: Final = ord("D")
EXECUTE: Final = ord("E")
CLOSE: Final = ord("C")
SYNC: Final = ord("S")
FLUSH: Final = ord("H")
FUNCTION_CALL: Final = ord("F")
COPY_DATA: Final = ord("d")
COPY_DONE: Final = ord("c")
COPY_FAIL: Final = ord("f")
PASSWORD: Final = ord("p")
TERMINATE: Final = ord("X")

# --- messages from the backend (server)
AUTHENTICATION: Final = ord("R")
BACKEND_KEY_DATA: Final = ord("K")
PARAMETER_STATUS: Final = ord("S")
NEGOTIATE_PROTOCOL_VERSION: Final = ord("v")
READY_FOR_QUERY: Final = ord("Z")
ERROR_RESPONSE: Final = ord("E")
NOTICE_RESPONSE: Final = ord("N")
NOTIFICATION_RESPONSE: Final = ord("A")
PARSE_COMPLETE: Final = ord("1")
BIND_COMPLETE: Final = ord("2")
CLOSE_COMPLETE: Final = ord("3")
PARAMETER_DESCRIPTION: Final = ord("t")
ROW_DESCRIPTION: Final = ord("T")
NO_DATA: Final = ord("n")
DATA_ROW: Final = ord("D")
COMMAND_COMPLETE: Final = ord("C")
EMPTY_QUERY_RESPONSE: Final = ord("I")
PORTAL_SUSPENDED: Final = ord("s")
FUNCTION_CALL_RESPONSE: Final = ord("V")
COPY_IN_RESPONSE: Final = ord("G")
COPY_OUT_RESPONSE: Final = ord("H")
COPY_BOTH_RESPONSE: Final = ord("W")

# --- transaction status in ReadyForQuery
IDLE: Final = ord("I")
IN_TRANSACTION: Final = ord("T")
IN_FAILED_TRANSACTION: Final = ord("E")

# PostgreSQL's MaxAllocSize less the length field: no message may be longer.
MAX_MESSAGE_LENGTH: Final = 0x3FFFFFFF
# PostgreSQL's MAX_STARTUP_PACKET_LENGTH.
MAX_STARTUP_LENGTH: Final = 10000
