"""Log levels by logger name, in the form of LOG_LEVEL: `INFO,app.cache=DEBUG,access=WARNING`.

A name applies to its logger and to those below it in the dotted hierarchy, unless a longer name matches.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
FORM: Final = (
    f"want {', '.join(map(repr, LEVELS[:-1]))} or {LEVELS[-1]!r}, then NAME=LEVEL for single loggers, "
    "comma separated, such as INFO,app.cache=DEBUG"
)
_NAME = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+)*", re.ASCII)


@dataclass(frozen=True)
class Levels:
    """The level of each logger: `default`, unless `by_name` has the logger or an ancestor."""

    default: str = "INFO"
    by_name: Mapping[str, str] = field(default_factory=dict)

    def of(self, name: str) -> str:
        """Return the level of the logger `name`."""
        while name:
            if name in self.by_name:
                return self.by_name[name]
            name = name.rpartition(".")[0]
        return self.default

    def __str__(self) -> str:
        return ",".join([self.default, *(f"{name}={level}" for name, level in self.by_name.items())])


def parse_levels(text: str) -> Levels:
    """Parse the form of LOG_LEVEL, such as `INFO,app.cache=DEBUG`; the default may be omitted.

    Raise ValueError if a level is unknown or `text` has another form.
    """
    default: str | None = None
    by_name: dict[str, str] = {}
    for item in text.split(","):
        name, equals, level = (part.strip() for part in item.rpartition("="))
        if level.upper() not in LEVELS:
            raise ValueError(f"{FORM}: {level!r} is no level")
        if equals and not _NAME.fullmatch(name):
            raise ValueError(f"{FORM}: {name!r} is no logger's name")
        if name in by_name or (not equals and default is not None):
            raise ValueError(f"{FORM}: {name or 'the level of all others'} is given twice")
        if equals:
            by_name[name] = level.upper()
        else:
            default = level.upper()
    return Levels(default or "INFO", by_name)
