"""The command line: `pgcat [CONFIG]`, and the words that stand for something else."""

from __future__ import annotations

import argparse
import gc
import os
import resource
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import __version__, logs
from .errors import ConfigError

# What serves is imported when it is to serve: --version and --help need none of it.
if TYPE_CHECKING:
    from collections.abc import Sequence

# EX_CONFIG of sysexits.h, as PgCat.
EXIT_CONFIG: Final = 78

_COMMANDS: Final = ("check", "schema", "plan", "route", "import")

_EPILOG: Final = """\
examples:
  pgcat                         serve what ./pgcat.toml says
  pgcat /etc/pgcat.toml         serve another file
  pgcat -l debug -F structured  log more, as JSON lines
  pgcat check pgcat.toml        whether a file is in order; --connect: and its servers
  pgcat schema                  a JSON schema of the file, for editors
  pgcat plan OLD NEW            what a reload would do
  pgcat import pgbouncer.ini    make a file of PgBouncer's
  pgcat route --help            where statements would go, and why
  pgcat demo                    three shards with replicas, the router in front, a tour
  pgcat demo --run-tour         run the tour instead of printing it

signals:
  SIGHUP   reload the configuration
  SIGTERM  stop when all transactions are over, at most after shutdown_timeout;
  SIGINT   the same; either one a second time: stop at once
  SIGQUIT  stop at once

environment:
  CONFIG_FILE, LOG_LEVEL, LOG_FORMAT, NO_COLOR stand in for the options.
"""

_DEMO_EPILOG: Final = """\
examples:
  pgcat demo                    start everything, print the tour, stop with Ctrl-C
  pgcat demo --port 6432        the router on a port of your choice
  pgcat demo --run-tour         run the tour, print each answer, stop
"""

# How many more objects there may be before the garbage collector looks at the youngest: as many
# as the 2,000 statements take that a client may have on their way, all of which are in use.
_YOUNG_OBJECTS: Final = 10_000


def _log_options(parser: argparse.ArgumentParser) -> None:
    environ = os.environ
    parser.add_argument(
        "-l",
        "--log-level",
        type=str.lower,
        choices=tuple(logs.LEVELS),
        default=environ.get("LOG_LEVEL", "info").lower(),
        help="how much to log (default: info)",
    )
    parser.add_argument(
        "-F",
        "--log-format",
        type=str.lower,
        choices=logs.FORMATS,
        default=environ.get("LOG_FORMAT", "text").lower(),
        help="how to write the log (default: text)",
    )
    parser.add_argument(
        "-n",
        "--no-color",
        action="store_true",
        default=environ.get("NO_COLOR", "") not in ("", "0", "false"),
        help="no colours in the log",
    )


def _serve_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pgcat",
        description="A sharding, load-balancing, pooling query router for PostgreSQL.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG",
        default=os.environ.get("CONFIG_FILE", "pgcat.toml"),
        help="the configuration file (default: pgcat.toml), or one of the words "
        + ", ".join((*_COMMANDS, "demo")),
    )
    _log_options(parser)
    parser.add_argument("-V", "--version", action="version", version=f"pgcat {__version__}")
    return parser


def _demo_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pgcat demo",
        description="Start three PostgreSQL shards with replicas and the router in front.",
        epilog=_DEMO_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--run-tour", action="store_true", help="run the tour, print each answer, and stop"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=None,
        help="port of the router; metrics and servers take those after it"
        " (default: 6432 if it is free; any with --run-tour)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["demo"]:
        options = _demo_parser().parse_args(words[1:])
        return _demo(run_tour=options.run_tour, port=options.port)
    if words[:1] and words[0] in _COMMANDS:
        try:
            code = _run(words[0], words[1:])
            sys.stdout.flush()
        except BrokenPipeError:
            # Who reads has had enough; what is left must not be tried again at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        return code
    options = _serve_parser().parse_args(words)
    # Argparse has looked at the options, but not at what stands in for them.
    for name, allowed in (("LOG_LEVEL", tuple(logs.LEVELS)), ("LOG_FORMAT", logs.FORMATS)):
        value = getattr(options, name.lower())
        if value not in allowed:
            return _fail(f"{name}={value!r} is none of {', '.join(allowed)}")
    color = not options.no_color and sys.stdout.isatty()
    logs.configure(level=options.log_level, style=options.log_format, color=color)
    return _serve(Path(options.config))


def _run(command: str, words: list[str]) -> int:
    """Run one of the words that may stand for the file; what it needs serving does not."""
    if command == "route":
        from . import route_command

        return route_command.run(words)
    if command == "plan":
        from . import plan_command

        return plan_command.run(words)
    if command == "import":
        from . import import_command

        return import_command.run(words)
    from . import check_command

    return check_command.run_schema(words) if command == "schema" else check_command.run(words)


def _serve(path: Path) -> int:
    import trio

    from . import app
    from .config import loader

    try:
        loaded = loader.load(path)
        app.log_warnings(loaded)
        _raise_file_limit()
        _spare_collections()
        trio.run(
            partial(
                app.serve,
                loaded.config,
                config_path=path,
                value_files=loaded.files,
                handle_signals=True,
            ),
            strict_exception_groups=True,
        )
    except KeyboardInterrupt:
        return 130  # a second Ctrl-C while it was ending
    except ConfigError as error:
        return _fail(str(error))
    except BaseExceptionGroup as group:
        config_errors, others = group.split(ConfigError)
        if others is not None or config_errors is None:
            raise
        return _fail(str(_first(config_errors)))
    return 0


def _fail(why: str) -> int:
    print(f"pgcat: {why}", file=sys.stderr)  # noqa: T201
    return EXIT_CONFIG


def _first(group: BaseExceptionGroup) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _spare_collections() -> None:
    """Have the garbage collector look at less, and less often: everybody waits for it."""
    # All that is imported stays: it would be gone through again and again, for tens of
    # milliseconds.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])


def _raise_file_limit() -> None:
    """Each client and each server is a descriptor: take as many as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _demo(*, run_tour: bool, port: int | None) -> int:
    try:
        import trio

        from .demo import demo  # the demo's own dependencies are optional

        return trio.run(partial(demo.run_demo, run_tour=run_tour, base_port=port))
    except KeyboardInterrupt:
        return 130  # before there was anything to stop


if __name__ == "__main__":
    sys.exit(main())
