"""The rules in force in this process: packs and added names beside the built-in rules."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from . import keys, structures, text
from .documents import documents
from .indonesia import INDONESIA
from .numbers import numbers
from .packs import PackError, RedactionPack, as_data, from_data
from .world import WORLD

SHIPPED = {pack.name: pack for pack in (INDONESIA, WORLD)}
"""The packs of this package by name. All are on by default: a rule too many hides a number, one too few leaks one."""
_caches: list[Callable[[], None]] = [keys.forget, structures.forget, text.forget]


def on_change(forget: Callable[[], None]) -> None:
    """Call `forget`, which empties a cache of redacted values, whenever the rules change."""
    _caches.append(forget)


def configure(
    packs: Iterable[RedactionPack | str | Mapping[str, Any]] = tuple(SHIPPED), added_keys: Sequence[str] = ()
) -> None:
    """Replace the rules of this process. Call it before the first event, and before the fork. Not thread-safe.

    `packs` are shipped ones by name or packs of the service's own, or what `portable` makes of these. `added_keys`
    are names whose values are replaced too. Raise PackError if a pack is unknown or a check cannot be imported.
    """
    chosen = [_pack(pack) for pack in packs]
    added = checked_keys(added_keys)
    keys.tables.use(chosen, added)
    numbers.use(chosen)
    documents.use(chosen)
    for forget in _caches:
        forget()


def portable(packs: Iterable[RedactionPack | str]) -> list[str | dict[str, Any]]:
    """Return `packs` as JSON can hold them, for another process. Raise PackError if it could not import a check."""
    return [pack if isinstance(pack, str) else as_data(pack) for pack in packs]


def checked_packs(packs: Iterable[RedactionPack | str]) -> tuple[RedactionPack | str, ...]:
    """Return `packs`. Raise PackError if one is neither shipped nor a pack that every process can have."""
    if isinstance(packs, str) or not isinstance(packs, Iterable):
        raise PackError("want a tuple of packs")
    chosen = tuple(packs)
    names = [_pack(pack).name for pack in chosen]
    if len(set(names)) < len(names):
        raise PackError("want each pack once")
    portable(chosen)
    return chosen


def checked_keys(names: Iterable[str]) -> tuple[str, ...]:
    """Return `names`. Raise PackError if one has neither letters nor digits."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise PackError("want a tuple of names")
    found = tuple(names)
    for name in found:
        if not isinstance(name, str) or not keys.words_of(name):
            raise PackError(f"{name!r}: want the name of a field, such as loyalty_number")
    return found


def _pack(pack: object) -> RedactionPack:
    if isinstance(pack, RedactionPack):
        return pack
    if isinstance(pack, Mapping):
        return from_data(pack)
    if isinstance(pack, str) and pack in SHIPPED:
        return SHIPPED[pack]
    raise PackError(f"{pack!r}: want {', '.join(SHIPPED)}, or a RedactionPack")


configure()
