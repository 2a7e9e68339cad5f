"""Numbers as a panel writes them, in its unit."""

PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
BINARY = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))
SUFFIXES = {"reqps": " req/s", "cps": "/s"}


def written(value: float, unit: str) -> str:
    """Return `value` with at most three digits behind the unit's prefix."""
    if unit == "percentunit":
        return f"{value * 100:.3g}%" if abs(value) < 10 else f"{value * 100:,.0f}%"  # noqa: PLR2004 -- 1,000%
    if unit == "s":
        return _seconds(value)
    if unit == "bytes":
        return next((f"{value / size:.3g} {name}" for size, name in BINARY if abs(value) >= size), f"{value:.3g} B")
    text = next((f"{value / size:.3g}{name}" for size, name in PREFIXES if abs(value) >= size), f"{value:.3g}")
    return text + SUFFIXES.get(unit, "")


def _seconds(value: float) -> str:
    if abs(value) >= 60:  # noqa: PLR2004 -- seconds in a minute
        return f"{value / 60:.3g} min"
    return f"{value:.3g} s" if abs(value) >= 1 or value == 0 else f"{value * 1000:.3g} ms"
