"""The printed summary of the overview benchmark, and its budgets."""

from collections.abc import Iterable

from loadtest.benchmarks.command import Figures, table

MAX_QUERY_SECONDS = 1.0
# Of the interval of 15 s: twice the pods still fit in it.
MAX_GROUP_SECONDS = 5.0
MAX_SHOWN = 15


def budgets(figures: Figures) -> list[Figures]:
    """Return the verdicts: the slowest first answer of each dashboard, and the slowest evaluation of the rules."""
    found = []
    for board in dict.fromkeys(row["board"] for row in figures["queries"]):
        rows = [row for row in figures["queries"] if row["board"] == board]
        slowest = max(row["first_s"] for row in rows)
        found.append(_verdict(f"slowest query of {board}, s", MAX_QUERY_SECONDS, slowest))
        found.append(_verdict(f"refused queries of {board}", 0, sum(bool(row["refused"]) for row in rows)))
    dearest = max((row["cpu_s"] for row in figures["rules_cpu"]), default=0.0)
    found.append(_verdict("dearest evaluation of a rule group, CPU s", MAX_GROUP_SECONDS, dearest))
    found.append(_verdict("missed evaluations", 0, figures["missed_evaluations"]))
    return found


def _verdict(budget: str, want: float, found: float) -> Figures:
    return {"budget": budget, "want": f"at most {want:g}", "found": found, "met": found <= want}


def text(figures: Figures) -> str:
    """Format the whole result as tables."""
    parts = [
        (f"Prometheus {figures['prometheus']}", _size(figures)),
        (
            "Rule groups on the clock, s",
            [["group", "median", "max"], *_rows(figures["groups"], "group", "median_s", "max_s")],
        ),
        ("An evaluation of each group, CPU s", [["group", "CPU"], *_rows(figures["rules_cpu"], "group", "cpu_s")]),
        (
            "Dearest rules, CPU s",
            [["rule", "group", "CPU"], *_rows(figures["dearest_rules"], "rule", "group", "cpu_s")],
        ),
        ("Slowest queries, s", _queries(figures["queries"])),
        ("All queries of a dashboard, six at a time, s", _boards(figures["boards"])),
        ("The overview over recorded and over raw series, CPU s", _raw(figures["raw"])),
        ("Budgets", _budgets(figures["budgets"])),
    ]
    return "\n\n".join(f"{title}\n{table(rows)}" for title, rows in parts if len(rows) > 1)


def _size(figures: Figures) -> list[list[str]]:
    return [
        ["pods", f"{figures['pods']}, {figures['up']:g} up"],
        ["series of the service as it is", f"{figures['series_of_the_service']:,}"],
        ["series of a simulated pod", f"{figures['series_a_pod']:,}"],
        ["series in the head", f"{figures['head_series']:,}"],
        ["recorded series", f"{figures['recorded_series']:,}"],
        ["recorded series without instance", f"{figures['recorded_series_without_instance']:,}"],
        ["resident memory, MB", f"{figures['resident_bytes'] / 1e6:,.0f}"],
        ["resident bytes a series", f"{figures['resident_bytes_a_series']:,}"],
        ["heap bytes a series", f"{figures['heap_bytes_a_series']:,}"],
        ["cores for scrapes and rules", f"{figures['cores']}"],
    ]


def _rows(rows: Iterable[Figures], *names: str) -> list[list[str]]:
    return [[str(row[name]) for name in names] for row in rows]


def _queries(rows: Iterable[Figures]) -> list[list[str]]:
    slowest = sorted(rows, key=lambda row: -row["first_s"])[:MAX_SHOWN]
    head = ["dashboard, panel", "window", "first", "median", "CPU", "series"]
    return [
        head,
        *(
            [
                f"{row['board']}, {row['panel']}",
                row["window"],
                f"{row['first_s']:.3f}",
                f"{row['median_s']:.3f}",
                f"{row['cpu_s']:.2f}",
                "refused" if row["refused"] else f"{row['series']:,}",
            ]
            for row in slowest
        ),
    ]


def _boards(rows: Iterable[Figures]) -> list[list[str]]:
    return [["dashboard", "window", "queries", "all"], *_rows(rows, "board", "window", "queries", "s")]


def _raw(rows: Iterable[Figures]) -> list[list[str]]:
    found = [["panel", "window", "recorded", "raw", "ratio", ""]]
    for row in rows:
        ratio = f"{'over ' if row['refused'] else ''}{row['ratio']:,}"
        note = f"refused: {row['refused'][:60]}" if row["refused"] else ""
        found.append(
            [row["panel"], row["window"], f"{row['recorded_cpu_s']:.2f}", f"{row['raw_cpu_s']:.2f}", ratio, note]
        )
    return found


def _budgets(rows: Iterable[Figures]) -> list[list[str]]:
    return [
        ["budget", "want", "found", ""],
        *([row["budget"], row["want"], f"{row['found']:g}", "met" if row["met"] else "MISSED"] for row in rows),
    ]
