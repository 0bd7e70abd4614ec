"""What the demo prints: steps with a spinner and their time, or plain lines in a pipe."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


WIDE = 6
PIPE_WIDTH = 160


class Progress:
    """Writes to the terminal, or line by line to whatever stands in for one."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = _console() if console is None else console
        is_unicode = self.console.encoding.lower().startswith("utf")
        self._right, self._wrong = ("✓", "✗") if is_unicode else ("ok", "WRONG")

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show that something is being done, and then how long it took."""
        begun = time.monotonic()
        try:
            if self.console.is_terminal:
                with self.console.status(title):
                    yield
            else:
                yield
        except BaseException:
            self.verdict(title, is_right=False)
            raise
        self.verdict(f"{title} ({time.monotonic() - begun:.1f} s)", is_right=True)

    def verdict(self, text: str, *, is_right: bool) -> None:
        """Write a line with a mark before it."""
        mark, colour = (self._right, "green") if is_right else (self._wrong, "bold red")
        self.console.print(Text.assemble((mark, colour), " ", text))

    def heading(self, text: str) -> None:
        """Write a line that begins something."""
        self.console.print()
        self.console.print(Text(text, style="bold"))

    def line(self, text: str = "", style: str = "") -> None:
        """Write a line as it is, whatever its length: it may be there to be pasted."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Write rows under their column names; beside them when the columns are many."""
        if len(columns) > WIDE:
            rows = [pair for row in rows for pair in zip(columns, row, strict=True)]
            columns = ("column", "value")
        table = Table(*columns, header_style="cyan")
        for row in rows:
            table.add_row(*(Text("" if value is None else str(value)) for value in row))
        self.console.print(table)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)
