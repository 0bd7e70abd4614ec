"""What a client has asked for by SET and at start-up, and what it has been told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError
from ..protocol.binds import Parameters, bind_ends
from ..protocol.marks import is_custom
from ..protocol.variables import TRACKED, Variables, as_reported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ..pool.pool import Pool
    from ..protocol.marks import Glance

# So many custom settings of one client follow it.
_MOST_CUSTOM: Final = 200


class ClientSettings:
    """The settings of one client.

    Attributes:
        variables: what a server must be given before it works for the client.
        has_reports: there is something for `adopt`.
        were_reset: a RESET has brought some of them to the server's defaults.
        custom: names of custom settings that it may have set, in lower case.
    """

    __slots__ = (
        "_overlay",
        "_reported",
        "_resets",
        "_resets_all",
        "_startup",
        "_tell",
        "custom",
        "has_reports",
        "variables",
        "were_reset",
    )

    def __init__(
        self, variables: Variables, overlay: dict[str, str], tell: Callable[[str, str], None]
    ) -> None:
        """Begin with what the client asked for at start-up.

        Args:
            variables: that, as a value.
            overlay: what it was told at login that the pool's parameters do not say.
            tell: sends a ParameterStatus to the client.
        """
        self._startup: Final = variables
        self.variables = variables
        self._overlay = overlay
        self._reported: dict[str, str] = {}
        self.has_reports = False
        self.were_reset = False
        self.custom: dict[str, None] = {}
        # What RESETs that are on their way, or have been done, are of.
        self._resets: dict[str, None] = {}  # as a set: an empty one takes less
        self._resets_all = False
        self._tell: Final = tell

    @property
    def startup(self) -> Variables:
        """What the client asked for at start-up."""
        return self._startup

    @property
    def application_name(self) -> str:
        """For SHOW CLIENTS and SHOW SERVERS."""
        return self.variables.values.get("application_name", "")

    @property
    def context(self) -> str:
        """What decides about the meaning of a text besides the text; see `Variables`."""
        return self.variables.context

    def told(self, name: str, pool: Pool) -> str | None:
        """What the client believes the setting to be."""
        return self._overlay.get(name) or pool.parameters.get(name)

    def all_told(self, pool: Pool) -> dict[str, str]:
        """What the client believes, or is to believe, all reported settings to be."""
        return {**pool.parameters, **self._overlay}

    def report(self, name: str, value: str) -> None:
        """Tell the client of a value."""
        self._overlay[name] = value
        self._tell(name, value)

    def changed(self, name: str, value: str) -> None:
        """The server reports a setting while it works for the client."""
        self.report(name, value)
        if name.lower() in TRACKED:
            self._reported[name] = value
            self.has_reports = True

    def reset(self, *, everything: bool) -> None:
        """A RESET has succeeded; `adopt` makes of it what the client means by it."""
        self.were_reset = True
        self.has_reports = True
        self._resets_all |= everything

    def note(self, glance: Glance) -> None:
        """A statement is on its way of which this is to be seen."""
        self._resets.update(dict.fromkeys(glance.resets))
        self._note_custom(glance.custom)

    def note_bind(self, message: bytes) -> None:
        """The same of what a Bind has, which may be names for set_config()."""
        try:
            _, name_end = bind_ends(message, 0, len(message))
        except ClientProtocolError:
            return  # the server says what is wrong with it
        self.note_values(message[name_end + 1 :])

    def note_values(self, data: bytes) -> None:
        """The same of what follows the names in a Bind."""
        found: list[str] = []
        try:
            parameters = Parameters(data) if data else None
            while parameters is not None and parameters.advance():
                text = parameters.value.decode("latin-1")
                if is_custom(text):
                    found.append(text.lower())
        except ClientProtocolError:
            return
        self._note_custom(found)

    def _note_custom(self, names: Iterable[str]) -> None:
        for name in names:
            if len(self.custom) < _MOST_CUSTOM:
                self.custom[name] = None

    def take_resets(self) -> Variables:
        """What the client began with of those settings that have been reset."""
        names, self._resets = self._resets, {}
        is_all, self._resets_all = self._resets_all, False
        self.were_reset = False
        return Variables.of(
            {
                name: value
                for name, value in self._startup.values.items()
                if is_all or name in names
            }
        )

    def found(self, settings: Mapping[str, str]) -> bool:
        """The server tells all settings of the session: they are the client's from here on.

        What the client has asked for at start-up and is not among them has been reset, which
        to the client means that it is as it was then.

        Returns:
            Whether what decides about the meaning of texts has changed.
        """
        context = self.context
        there = {name.lower(): value for name, value in settings.items()}
        self.variables = Variables.of({**self._startup.values, **there})
        if self.variables.values == there:
            self.variables.proven = True  # a server has them
        self._reported = {}
        self.has_reports = False
        return self.context != context

    def adopt(
        self, defaults: Mapping[str, str], *, by_client: bool, is_native: bool = False
    ) -> None:
        """Keep what was reported for the client's next server, if it was the client's doing.

        `defaults` are those of the server; to the client, RESET means what it began with. That
        is the same if the server was opened with that (`is_native`).
        """
        reported, self._reported, self.has_reports = self._reported, {}, False
        if not by_client or not reported:
            return
        for name, value in reported.items():
            wanted = value
            if self.were_reset and value == defaults.get(name):
                wanted = self._startup.values.get(name.lower(), value)
                if wanted != value and not is_native:
                    self.report(name, as_reported(name.lower(), wanted, defaults))
            self.variables = self.variables.replaced(name, wanted)

    def discard(self, pool: Pool) -> None:
        """DISCARD ALL: back to what the client asked for at start-up."""
        self.variables = self._startup
        for name, value in self._overlay.items():
            asked = self._startup.values.get(name.lower())
            defaults = pool.parameters
            first = (
                defaults.get(name)
                if asked is None
                else as_reported(name.lower(), asked, defaults)
            )
            if first not in (None, value):
                self.report(name, first)
