"""Message type bytes and request codes of protocol 3, under the manual's names.

Source: PostgreSQL manual, chapter "Frontend/Backend Protocol", section "Message Formats". They
are written as numbers, because the compiler then puts them into the code that uses them.
"""

from __future__ import annotations

from typing import Final

# --- codes in the first packet of a connection (Int32 after the length)
PROTOCOL_3_0: Final = 196608
PROTOCOL_3_2: Final = 196610
SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104
CANCEL_REQUEST: Final = 80877102

# --- messages from the frontend (client)
QUERY: Final = 0x51  # Q
PARSE: Final = 0x50  # P
BIND: Final = 0x42  # B
DESCRIBE: Final = 0x44  # D
EXECUTE: Final = 0x45  # E
CLOSE: Final = 0x43  # C
SYNC: Final = 0x53  # S
FLUSH: Final = 0x48  # H
FUNCTION_CALL: Final = 0x46  # F
COPY_DATA: Final = 0x64  # d
COPY_DONE: Final = 0x63  # c
COPY_FAIL: Final = 0x66  # f
PASSWORD: Final = 0x70  # p
TERMINATE: Final = 0x58  # X

# --- messages from the backend (server)
AUTHENTICATION: Final = 0x52  # R
BACKEND_KEY_DATA: Final = 0x4B  # K
PARAMETER_STATUS: Final = 0x53  # S
NEGOTIATE_PROTOCOL_VERSION: Final = 0x76  # v
READY_FOR_QUERY: Final = 0x5A  # Z
ERROR_RESPONSE: Final = 0x45  # E
NOTICE_RESPONSE: Final = 0x4E  # N
NOTIFICATION_RESPONSE: Final = 0x41  # A
PARSE_COMPLETE: Final = 0x31  # 1
BIND_COMPLETE: Final = 0x32  # 2
CLOSE_COMPLETE: Final = 0x33  # 3
PARAMETER_DESCRIPTION: Final = 0x74  # t
ROW_DESCRIPTION: Final = 0x54  # T
NO_DATA: Final = 0x6E  # n
DATA_ROW: Final = 0x44  # D
COMMAND_COMPLETE: Final = 0x43  # C
EMPTY_QUERY_RESPONSE: Final = 0x49  # I
PORTAL_SUSPENDED: Final = 0x73  # s
FUNCTION_CALL_RESPONSE: Final = 0x56  # V
COPY_IN_RESPONSE: Final = 0x47  # G
COPY_OUT_RESPONSE: Final = 0x48  # H

# --- transaction status in ReadyForQuery
IDLE: Final = 0x49  # I
IN_TRANSACTION: Final = 0x54  # T
IN_FAILED_TRANSACTION: Final = 0x45  # E

# PostgreSQL's MaxAllocSize less the length field: no message may be longer.
MAX_MESSAGE_LENGTH: Final = 0x3FFFFFFF
# PostgreSQL's MAX_STARTUP_PACKET_LENGTH.
MAX_STARTUP_LENGTH: Final = 10000
