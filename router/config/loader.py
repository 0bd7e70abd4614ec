"""Reading pgcat.toml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import tomli

from ..errors import ConfigError
from ..reasons import reason
from .checks import check
from .files import check_files
from .model import Config
from .tidy import tidy
from .validation import validate

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used.

    Attributes:
        warnings: one line per thing that is hardly meant so, each beginning with its key path.
    """

    config: Config
    warnings: tuple[str, ...]


def load(path: Path) -> Loaded:
    """Read a file.

    Raises:
        ConfigError: it cannot be read or used; names everything that is wrong.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {reason(error)}") from None
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise ConfigError(f"{path}: not UTF-8 (at line {line}, column {column})") from None
    return parse(text, str(path))


def parse(text: str, source: str) -> Loaded:
    """Make a configuration of the text of a file; `source` is its name for errors.

    Raises:
        ConfigError: it cannot be used; names everything that is wrong.
    """
    try:
        raw: dict[str, object] = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from None
    except ValueError:  # Python's own, of a number of more digits than it cares to read
        raise ConfigError(f"{source}: not valid TOML: a number is too long") from None
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply") from None
    tidied = tidy(raw, Config)
    validated = validate(tidied)
    problems = list(validated.mistakes.values())
    warnings = tidied.warnings
    config = validated.config
    if config is not None:
        for finding in (*check(config, validated.table), *check_files(config.general)):
            if not any(finding.rests_on(path) for path in validated.mistakes):
                (warnings if finding.is_warning else problems).append(str(finding))
    if problems or config is None:
        # First, since a key that is missing may be there by another spelling.
        problems = [*tidied.misspelled, *problems]
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ConfigError(f"{source}: {count}", problems)
    return Loaded(config, tuple(warnings))
