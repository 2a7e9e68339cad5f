"""Restriction of an exposition to the samples of some names, as prometheus-client's `restricted_registry` does it."""

from prometheus_client.openmetrics.exposition import UNDERSCORES, escape_metric_name

from .series import Family

SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
    "summary": ("_count", "_sum"),
}


def restricted(family: Family, names: frozenset[str], *, openmetrics: bool) -> bytes:
    """Return the header of a family and its samples of these names; empty if it has none."""
    own = [family.name + suffix for suffix in SUFFIXES[family.kind]]
    wanted = names.intersection(own)
    if not wanted:
        return b""
    text = family.text(openmetrics=openmetrics)
    if len(wanted) == len(own):
        return text
    starts = tuple(f"{escape_metric_name(name, UNDERSCORES)}{end}".encode() for name in wanted for end in "{ ")
    # Not splitlines: a label value may contain a carriage return.
    lines = [line + b"\n" for line in text.split(b"\n") if line.startswith((b"# ", *starts))]
    return b"".join(lines) if any(line.startswith(starts) for line in lines) else b""
