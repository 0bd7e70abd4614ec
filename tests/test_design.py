"""docs/design.md names every file, and its numbers are those of the code.

    python -m tests.test_design

writes the part that lists the files anew.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from pathlib import Path

import pytest

from tests.support.builds import PACKAGE
from tests.test_layers import LAYERS

ROOT = Path(__file__).parent.parent

PAGE = ROOT / "docs" / "design.md"
FILES_TITLE = "## The files\n"
NEXT_TITLE = "## Layers\n"
INTRO = (
    "<!-- Written by `python -m tests.test_design` from the first line of each file; "
    "change that line. -->\n"
)

KIB = 1024
# Words of the page, the constant that their number quotes, and what one of the unit is.
CLAIMS = [
    ("After {} ms, or when there is nothing", "engine.loop.BUDGET", 0.001),
    ("Above {} KiB of unsent output", "engine.link.HIGH_WATER", KIB),
    ("reading until it is below {} KiB", "engine.link.LOW_WATER", KIB),
    ("A read may bring 26,000 messages ({} KiB of Sync)", "engine.link.MAX_RECV", KIB),
    ("a round, {}\nmessages of a client", "protocol.frontend.TURN", 1),
    ("and then reading stops above {} KiB", "protocol.frontend.HOLD_LIMIT", KIB),
    ("a Query or Parse when it is longer than {} KiB", "protocol.framing.TEXT_LIMIT", KIB),
    ("a Bind or FunctionCall longer than {} KiB", "protocol.frontend._BIND_LIMIT", KIB),
    ("beyond {} bytes PostgreSQL ends", "protocol.frontend._SHORT_LIMIT", 1),
    ("but not beyond {} KiB", "session.batch.BATCH_LIMIT", KIB),
    ("and not for longer than {} ms", "session.timeouts._HOLD_TIME", 0.001),
    ("bounded in number ({})", "routing.types.RouterOptions.cache_entries", 1),
    ("and bytes ({} MiB) for each pool", "routing.types.RouterOptions.cache_bytes", KIB * KIB),
    ("it sleeps up to {} ms in its own epoll", "engine.loop.LINGER", 0.001),
    ("unanswered, up to {},", "session.session._MAX_PIPELINE", 1),
]
MEASURE = re.compile(r"\b\d[\d,.]* (?:KiB|MiB|ms|s|bytes)\b")


def design() -> str:
    """The page as far as it speaks of the design, without figures that were measured."""
    return PAGE.read_text().partition("## Measured")[0]


def files_section() -> str:
    """What the page has to say of the files."""
    folders: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "__init__.py":
            continue
        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        folder = path.parent.relative_to(PACKAGE.parent).as_posix()
        first = doc.partition("\n")[0].replace("|", "\\|")
        folders.setdefault(folder, []).append(f"| `{path.name}` | {first} |\n")
    parts = [FILES_TITLE, INTRO]
    for folder in sorted(folders):
        table = "| file | what it is |\n|---|---|\n" + "".join(folders[folder])
        parts.append(f"### `{folder}/`\n\n{table}")
    return "\n".join(parts) + "\n"


def test_every_file_is_named_with_what_it_is() -> None:
    assert files_section() in PAGE.read_text(), "run: python -m tests.test_design"


def test_the_layers_are_those_that_are_kept() -> None:
    assert f"`{' < '.join(LAYERS)}`" in design()


def test_no_file_is_named_that_is_not_there() -> None:
    named = re.findall(r"`((?:\w+/)+\w+(?:\.py)?)`", design())
    there = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    folders = {path.split("/")[0] for path in there if "/" in path}
    wrong = [
        name
        for name in named
        if name.split("/")[0] in folders and f"{name.removesuffix('.py')}.py" not in there
    ]
    assert wrong == []


def value_of(constant: str) -> float:
    """What the code has: a constant of a module, or the default of a field."""
    folder, module, *names = constant.split(".")
    found = vars(importlib.import_module(f"router.{folder}.{module}"))[names[0]]
    for name in names[1:]:
        found = {field.name: field.default for field in dataclasses.fields(found)}[name]
    return float(found)


@pytest.mark.parametrize(("words", "constant", "unit"), CLAIMS)
def test_a_number_is_that_of_the_code(words: str, constant: str, unit: float) -> None:
    assert words.format(f"{round(value_of(constant) / unit):,}") in design()


def test_every_measure_is_compared_with_the_code() -> None:
    text = design().replace(files_section(), "")
    claimed = [re.escape(words).replace(r"\{\}", r"[\d,]+") for words, _, _ in CLAIMS]
    for claim in claimed:
        text = re.sub(claim, "", text)
    # The defaults of the keepalive keys: 5 s, and 5 times 5 s more.
    text = text.replace("(every 5 s)", "").replace("(30 s)", "")
    assert MEASURE.findall(text) == []


def main() -> None:
    """Write the list of files."""
    text = PAGE.read_text()
    before, _, rest = text.partition(FILES_TITLE)
    if not rest:
        before, _, rest = text.partition(NEXT_TITLE)
    else:
        rest = rest.partition(NEXT_TITLE)[2]
    PAGE.write_text(before + files_section() + NEXT_TITLE + rest)


if __name__ == "__main__":
    main()
