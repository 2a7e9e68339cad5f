"""The printed summary of the scrape benchmark, with the design's budgets met or missed."""

from collections.abc import Iterable, Sequence

from loadtest.benchmarks.command import Figures, table
from loadtest.benchmarks.plan import USUAL_WORKERS
from loadtest.benchmarks.workload import SMALL

MIN_RATIO, MAX_DEAD_FACTOR, MAX_DEAD = 30.0, 1.2, 512


def budgets(cases: Sequence[Figures]) -> list[Figures]:
    """Return the verdicts, one for each share of changed series: text, 8 workers, 1,284 lines."""
    return [*_verdicts(cases, 0), *_verdicts(cases, MAX_DEAD)]


def _verdicts(cases: Sequence[Figures], dead: int) -> Iterable[Figures]:
    for case in cases:
        if (case["workers"], case["dead"], case["lines"]) != (USUAL_WORKERS, dead, SMALL.lines):
            continue
        for row in case["warm"]:
            if row["format"] != "text":
                continue
            what = f"a scrape, {USUAL_WORKERS} workers, {SMALL.lines:,} lines, {row['changed']}% changed"
            if dead:
                found, least, met = row["dead_factor"], None, row["dead_factor"] <= MAX_DEAD_FACTOR
                name, want = f"{what}, after {dead} dead workers", f"at most {MAX_DEAD_FACTOR:g} times as with none"
            else:
                found, least, met = row["ratio"], row["least_ratio"], row["ratio"] >= MIN_RATIO
                name, want = what, f"at least {MIN_RATIO:g} times faster than the library"
            yield {"budget": name, "want": want, "found": found, "met": met, "found_in_least": least}


def text(figures: Figures) -> str:
    """Format the whole result as tables."""
    parts = [
        ("Scrape, CPU ms", _cases(figures["cases"])),
        ("Folding the dead, once, ms on the clock", _folding(figures["folding"])),
        ("Resident memory of the serving process, MB", _memory(figures["memory"])),
        ("Over HTTP, ms on the clock", _http(figures["http"])),
        ("Budgets", _budgets(figures["budgets"])),
    ]
    notes = sorted({row["note"] for case in figures["cases"] for row in case["warm"] if "note" in row})
    listed = "\n".join(f"  * {note}" for note in notes)
    shown = [f"{title}\n{table(rows)}" for title, rows in parts if len(rows) > 1]
    shown[0] += f"\n{listed}" if notes else ""
    return "\n\n".join(shown)


def _cases(cases: Iterable[Figures]) -> list[list[str]]:
    rows = [["workers dead  lines", "format", "changed", "lines", "ours", "library", "ratio", "our MB", "its MB"]]
    for case in cases:
        name = f"{case['workers']:>7} {case['dead']:>4} {case['lines']:>6,}"
        disk = [f"{case['our_bytes'] / 1e6:.1f}", f"{case['library_bytes'] / 1e6:.1f}"]
        rows.append([name, "text", "cold", "", *_sides(case["cold"]), *disk])
        rows += [
            [name, row["format"], f"{row['changed']}%", f"{row['changed_lines']:.0%}", *_sides(row), *disk]
            for row in case["warm"]
        ]
    return rows


def _sides(row: Figures) -> list[str]:
    """Return our time, the library's and the ratio; a star marks a library that was not measured in this row."""
    star = "*" if "note" in row else ""
    if row["library_ms"] is None:
        return [f"{row['our_ms']:.2f}", f"-{star}", "-"]
    return [f"{row['our_ms']:.2f}", f"{row['library_ms']:,.1f}{star}", f"{row['ratio']:.1f}x"]


def _folding(folding: Iterable[Figures]) -> list[list[str]]:
    rows = [["lines", "dead", "all", "each", "one more", "archive, kB"]]
    for one in folding:
        times = [f"{one[name]:,.1f}" for name in ("ms", "ms_a_worker", "one_more_ms")]
        rows.append([f"{one['lines']:,}", str(one["dead"]), *times, f"{one['archive_bytes'] / 1e3:,.0f}"])
    return rows


def _memory(memory: Iterable[Figures]) -> list[list[str]]:
    rows = [["lines", "workers", "ours", "library"]]
    for one in memory:
        sides = [f"{one[side] / 1e6:.1f}" for side in ("our_bytes", "library_bytes")]
        rows.append([f"{one['lines']:,}", str(one["workers"]), *sides])
    return rows


def _http(http: Figures) -> list[list[str]]:
    rows = [["scrape", "ours", "library", "ratio"]]
    rows += [[row["format"], *_sides(row)] for row in http["one_by_one"]]
    return [*rows, [f"{http['at_once']['scrapes']} at once, text", *_sides(http["at_once"])]]


def _budgets(found: Iterable[Figures]) -> list[list[str]]:
    rows = [["budget", "want", "found", "", "least by least"]]
    for one in found:
        verdict = "met" if one["met"] else "MISSED"
        least = "" if one["found_in_least"] is None else f"{one['found_in_least']:.3g}x"
        rows += [[one["budget"], one["want"], f"{one['found']:.3g}x", verdict, least]]
    return rows
