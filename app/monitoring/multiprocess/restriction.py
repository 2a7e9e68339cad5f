"""Restriction of an exposition to the samples of some names, as prometheus-client's `restricted_registry` does it."""

from .series import SUFFIXES, Family, line_start


def restricted(family: Family, names: frozenset[str], *, openmetrics: bool, scheme: str) -> bytes:
    """Return the header of a family and its samples of these names; empty if it has none."""
    own = [family.name + suffix for suffix in SUFFIXES[family.kind]]
    wanted = names.intersection(own)
    if not wanted:
        return b""
    text = family.text(openmetrics=openmetrics, scheme=scheme)
    if len(wanted) == len(own):
        return text
    starts = tuple(start.encode() for name in wanted for start in _starts(name, scheme))
    # Not splitlines: a label value may contain a carriage return.
    lines = [line + b"\n" for line in text.split(b"\n") if line.startswith((b"# ", *starts))]
    return b"".join(lines) if any(line.startswith(starts) for line in lines) else b""


def _starts(name: str, scheme: str) -> tuple[str, str]:
    """Return the starts of the lines of a sample with labels and without."""
    bare = line_start(name, (), scheme)
    return bare, f"{bare[:-2]}," if bare.startswith("{") else f"{bare[:-1]}{{"
