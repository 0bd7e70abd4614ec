"""Writes the log from a thread of its own: nobody waits for whoever reads it.

A pipe whose reader has stopped, a terminal with its output held, a disk that hangs: `write`
then takes for ever, and in the thread that serves clients nothing would move meanwhile.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from typing import Final

log = logging.getLogger("router.logs")

# So many bytes may wait; what comes then is dropped and counted, until half of them are gone.
CAPACITY: Final = 1 << 20
# What is written at once.
_CHUNK: Final = 64 * 1024
# How long the end of the process waits for lines to be written, in seconds.
_PATIENCE: Final = 2.0


class LogWriter(logging.Handler):
    """Takes records without waiting, and writes them to a descriptor."""

    def __init__(self, fd: int, *, capacity: int = CAPACITY) -> None:
        super().__init__()
        self._fd: Final = fd
        self._capacity: Final = capacity
        # Guards what follows; never held while writing.
        self._changed: Final = threading.Condition()
        self._lines: Final[deque[bytes]] = deque()
        self._size = 0  # of the lines, and of what is being written
        self._dropped = 0  # since this was last told
        self._is_full = False
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record's lines."""
        try:
            line = self.format(record)
        except Exception as error:  # a log call with wrong arguments must not hurt its caller
            line = f"cannot log {record.msg!r:.200}: {error!r:.200}"
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        with self._changed:
            room = self._capacity // 2 if self._is_full else self._capacity
            self._is_full = self._size + len(data) > room
            if self._is_full:
                self._dropped += 1
            else:
                self._tell_dropped()
                self._put(data)

    def flush(self) -> None:
        """Wait until all is written, but not for long; called when the process ends."""
        with self._changed:
            self._tell_dropped()
            self._changed.wait_for(lambda: not self._size, _PATIENCE)

    # --- with the lock

    def _put(self, data: bytes) -> None:
        self._lines.append(data)
        self._size += len(data)
        self._changed.notify_all()

    def _tell_dropped(self) -> None:
        if self._dropped:
            count, self._dropped = self._dropped, 0
            text = "%d lines were dropped, as nobody read them in time"
            told = (log.name, logging.WARNING, __file__, 0, text, (count,), None)
            self._put(f"{self.format(logging.LogRecord(*told))}\n".encode())

    # --- the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                data = self._lines.popleft()
                while self._lines and len(data) < _CHUNK:
                    data += self._lines.popleft()
            is_written = self._write(data)
            with self._changed:
                self._size -= len(data)
                if not is_written:
                    self._dropped += data.count(b"\n")
                elif not self._lines:
                    self._tell_dropped()
                self._changed.notify_all()

    def _write(self, data: bytes) -> bool:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # a terminal that somebody else has made so
                select.select([], [self._fd], [])
            except OSError:
                return False  # the reader has gone, or the disk is full
        return True
