"""The benchmarks' arithmetic and files, and that they compare what both sides say. Nothing here looks at a time."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from app.monitoring.multiprocess.values import DIRECTORY
from app.settings import ROOT
from loadtest.benchmarks import chart, command, plan, summary, write
from loadtest.benchmarks.command import BenchmarkError, Depth, Figures
from loadtest.benchmarks.expositions import changed_share, must_agree, samples
from loadtest.benchmarks.readers import compared
from loadtest.benchmarks.workload import LARGE, SMALL

EXPOSITION = b'# HELP a_total A.\n# TYPE a_total counter\na_total{x="1 2"} 3.0\nb 0.1\n'
SVG = "{http://www.w3.org/2000/svg}"
SMALL_CASES = """
import sys
from pathlib import Path
from loadtest.benchmarks import command, readers, scrape, serving, write
from loadtest.benchmarks.plan import Case
from loadtest.benchmarks.workload import Size
tiny = Size(12, 1)
scrape.SMALL = tiny
scrape.cases = lambda depth: [Case(workers, dead, tiny) for workers, dead in [(1, 0), (8, 0), (8, 8)]]
serving.ROUNDS = dict.fromkeys(command.Depth, 1)
serving.SCRAPES_BEFORE_MEMORY = 1
write.ROUNDS, write.CALLS = dict.fromkeys(command.Depth, 3), 10
"""


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Restore the tests' own signal handler after a command has run."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def row(form: str, changed: int, ours: float, library: float | None, **more: object) -> Figures:
    """Return a row of a case."""
    ratio = None if library is None else library / ours
    figures = {"format": form, "changed": changed, "changed_lines": changed / 100, "pairs": 1}
    return {**figures, "our_ms": ours, "library_ms": library, "ratio": ratio, "least_ratio": ratio, **more}


def case(workers: int, dead: int, lines: int, *rows: Figures) -> Figures:
    """Return a case with these warm rows."""
    sizes = {"workers": workers, "dead": dead, "lines": lines, "our_bytes": 1, "library_bytes": 2}
    return {**sizes, "cold": {"pairs": 1, "our_ms": 9.0, "library_ms": 9.0, "ratio": 1.0}, "warm": list(rows)}


def figures(*cases: Figures) -> Figures:
    """Return a whole result."""
    return {
        "run": {"python": "3", "prometheus_client": "0", "cores": 2},
        "cases": list(cases),
        "folding": [{"lines": 9, "dead": 8, "ms": 1.0, "ms_a_worker": 1.0, "one_more_ms": 1.0, "archive_bytes": 1}],
        "memory": [{"lines": 9, "workers": 8, "our_bytes": 1, "library_bytes": 1}],
        "http": {"one_by_one": [row("text", 10, 1.0, 2.0)], "at_once": {"scrapes": 40, **row("text", 10, 1.0, 2.0)}},
        "budgets": summary.budgets(cases),
    }


def three(ours: float, library: float | None, **more: object) -> list[Figures]:
    """Return the rows of a case that are drawn and judged, and one in the other format."""
    rows = [row("text", changed, ours * (1 + changed), library, **more) for changed in plan.CHANGED]
    return [*rows, row("openmetrics", 10, ours, None, note="too long")]


def test_an_exposition_is_read_by_series() -> None:
    assert samples(EXPOSITION) == {'a_total{x="1 2"}': 3.0, "b": 0.1}
    assert samples(EXPOSITION, "b") == {"b": 0.1}


def test_two_sides_agree_up_to_rounding() -> None:
    assert must_agree(EXPOSITION, EXPOSITION.replace(b"b 0.1", b"b 0.1000000000000001")) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"3.0", b"4.0", r'1 samples:\na_total\{x="1 2"\}: ours 3.0, the library 4.0'),
        (b"b 0.1\n", b"", "b: ours 0.1, the library None"),
        (b"b 0.1", b"c 0.1", "2 samples"),
        (b"3.0", b"NaN", "ours 3.0, the library nan"),
    ],
)
def test_a_difference_between_the_sides_is_an_error_that_names_it(old: bytes, new: bytes, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        must_agree(EXPOSITION, EXPOSITION.replace(old, new))


def test_two_sides_that_say_nothing_do_not_agree() -> None:
    with pytest.raises(BenchmarkError, match="there are no samples"):
        must_agree(b"# EOF\n", b"")


def test_the_changed_share_counts_lines() -> None:
    assert changed_share(EXPOSITION, EXPOSITION) == 0
    assert changed_share(EXPOSITION, EXPOSITION.replace(b"3.0", b"4.0")) == 0.25


def test_medians_are_those_of_each_side_and_the_ratio_that_of_the_pairs() -> None:
    assert compared([1.0, 2.0, 4.0], [30.0, 20.0, 400.0]) == {
        "pairs": 3,
        "our_ms": 2.0,
        "library_ms": 30.0,
        "ratio": 30.0,
        "least_ratio": 20.0,
    }


def test_what_the_library_was_not_measured_for_has_no_ratio() -> None:
    found = compared([1.0, 2.0, 4.0], [])
    assert found == {"pairs": 0, "our_ms": 2.0, "library_ms": None, "ratio": None, "least_ratio": None}
    assert compared([2.0, 4.0, 8.0], [20.0])["ratio"] == 10.0, "of the one pair there is"


@pytest.mark.parametrize("depth", Depth)
def test_a_row_is_measured_on_both_sides_or_says_why_not(depth: Depth) -> None:
    for one in plan.cases(depth):
        for form in plan.FORMATS:
            planned = plan.rounds(one, form, depth)
            assert planned.ours >= plan.MIN_ROUNDS
            assert 0 <= planned.pairs <= planned.ours
            assert bool(planned.note) == (planned.pairs == 0)


def test_the_cases_are_those_of_the_design() -> None:
    asked = {(one.workers, one.dead, one.size.lines) for one in plan.cases(Depth.DEFAULT)}
    assert asked == {(w, d, lines) for w in (2, 8, 32) for d in (0, 128, 512) for lines in (1_284, 20_000)}
    assert {one.size for one in plan.cases(Depth.QUICK)} == {SMALL, LARGE}
    budgeted = {(plan.USUAL_WORKERS, dead) for dead in (0, summary.MAX_DEAD)}
    assert {(one.workers, one.dead) for one in plan.cases(Depth.QUICK) if one.size == SMALL} >= budgeted


def test_all_is_measured_when_nothing_is_spared() -> None:
    for one in plan.cases(Depth.FULL):
        assert plan.is_scraped_once(one, Depth.FULL)
        assert all(plan.rounds(one, form, Depth.FULL).pairs for form in plan.FORMATS)


def test_a_budget_is_judged_for_each_share_of_changed_series() -> None:
    found = summary.budgets(
        [
            case(8, 0, 1_284, row("text", 0, 1.0, 30.0), row("text", 10, 1.0, 29.9), row("openmetrics", 0, 1.0, 1.0)),
            case(8, 512, 1_284, row("text", 0, 1.0, 9.0, dead_factor=1.2), row("text", 10, 1.0, 9.0, dead_factor=1.21)),
            case(2, 0, 1_284, row("text", 0, 1.0, 1.0)),
            case(8, 0, 20_000, row("text", 0, 1.0, 1.0)),
        ]
    )
    assert [(one["found"], one["met"]) for one in found] == [(30.0, True), (29.9, False), (1.2, True), (1.21, False)]


def test_the_summary_says_that_a_budget_is_missed_and_why_a_figure_is_not_there() -> None:
    text = summary.text(figures(case(8, 0, 1_284, *three(1.0, 31.0))))
    lines = [line for line in text.splitlines() if "times faster than the library" in line]
    assert ["MISSED" in line for line in lines] == [False, True, True]
    assert "  * too long" in text.splitlines()


def test_the_chart_is_svg_with_a_line_a_case() -> None:
    one, other = case(8, 0, 1_284, *three(1.0, 90.0)), case(32, 512, 20_000, *three(4.0, None, note="too long"))
    drawn = ET.fromstring(chart.draw(figures(one, other)))  # noqa: S314 -- written a line above
    texts = [element.text for element in drawn.iter(f"{SVG}text")]
    assert {"8 workers, 0 dead, 1,284", "32 workers, 512 dead, 20,000", "not measured"} <= set(texts)
    assert "8x" in texts
    height = float(drawn.attrib["height"])
    for circle in drawn.iter(f"{SVG}circle"):
        assert 0 < float(circle.attrib["cx"]) < chart.WIDTH
        assert 0 < float(circle.attrib["cy"]) < height


def test_the_axis_is_logarithmic() -> None:
    axis = chart.Axis([0.5, 40.0])
    places = [axis.place(value) for value in (0.1, 1.0, 10.0, 100.0)]
    steps = [after - before for before, after in pairwise(places)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)
    assert places[0] == chart.LEFT


def test_columns_of_a_table_are_aligned() -> None:
    assert command.table([["what", "ms"], ["a", "1"], ["longer", "100"]]) == "what     ms\na         1\nlonger  100"


def test_a_write_is_compared_with_the_librarys_multiprocess_class() -> None:
    taken = {name: [100.0, 200.0, 300.0] for name in write.VARIANTS} | {write.BASELINE: [200.0, 400.0, 900.0]}
    found = write.compare("Counter.inc", taken)
    assert found["ns"]["SharedValue"] == 200
    assert found["ns"][write.BASELINE] == 400
    assert found["ratio"] == 2


def _untrue(_: Depth) -> Figures:
    raise BenchmarkError("the sides differ")


def test_untrue_figures_fail_the_command_and_leave_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run("scrape", _untrue, str, Depth.QUICK, results=tmp_path) == command.UNTRUE
    assert "scrape: the sides differ" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_the_shell_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    assert command.run("scrape", _untrue, str, Depth.QUICK, results=tmp_path) == command.NOT_RUN
    assert "want it unset" in capsys.readouterr().err


def benchmarks(directory: Path, *statements: str) -> subprocess.CompletedProcess[str]:
    """Run the smallest benchmark in a process of its own, with the results in `directory`."""
    places = f"command.RESULTS = Path({str(directory)!r})"
    return subprocess.run(
        [sys.executable, "-c", "\n".join([SMALL_CASES, places, *statements])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_run_leaves_figures_and_a_chart(tmp_path: Path) -> None:
    done = benchmarks(
        tmp_path,
        "status = scrape.main(command.Depth.QUICK) + write.main(command.Depth.QUICK)",
        "sys.exit(status)",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "scrape.json").read_text())
    assert [(one["workers"], one["dead"], one["lines"]) for one in found["cases"]] == [
        (1, 0, 221),
        (8, 0, 221),
        (8, 8, 221),
    ]
    for one in found["cases"]:
        rows = [(row["format"], row["changed"]) for row in one["warm"]]
        assert rows == [(form, changed) for form in plan.FORMATS for changed in plan.CHANGED]
        assert all(row["ratio"] > 0 and row["pairs"] > 0 for row in [*one["warm"], one["cold"]])
        shares = [row["changed_lines"] for row in one["warm"]]
        assert shares[0] == 0 < shares[1] < shares[2]
    assert found["cases"][2]["our_bytes"] < found["cases"][2]["library_bytes"]
    assert found["folding"][0]["archive_bytes"] > 0
    assert [one["lines"] for one in found["memory"]] == [0, 221]
    assert [one["format"] for one in found["http"]["one_by_one"]] == ["text", "openmetrics", "text, gzip"]
    assert found["http"]["at_once"]["scrapes"] == 40
    assert ET.parse(tmp_path / "scrape.svg").getroot().tag == f"{SVG}svg"  # noqa: S314 -- written by the benchmark
    operations = json.loads((tmp_path / "write.json").read_text())["operations"]
    assert [one["operation"] for one in operations] == list(write.OPERATIONS)
    assert all(set(one["ns"]) == set(write.VARIANTS) and one["ratio"] > 0 for one in operations)
    assert "Budgets" not in done.stdout, "of 221 lines the design says nothing"


def test_totals_that_differ_end_the_run(tmp_path: Path) -> None:
    done = benchmarks(
        tmp_path,
        "read = readers.library_exposition",
        "readers.library_exposition = lambda *which: read(*which).replace(b'} 5.0', b'} 6.0')",
        "sys.exit(scrape.main(command.Depth.QUICK))",
    )
    assert done.returncode == command.UNTRUE, done.stderr
    assert "both sides should say the same" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_benchmark_is_refused_with_what_is_wanted() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.benchmarks", "no-such"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "'no-such' is no benchmark: want scrape or write" in done.stderr
