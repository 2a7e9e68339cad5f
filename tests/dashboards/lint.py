"""Lint rules for dashboards, after grafana/dashboard-linter. Each rule yields one line per problem."""

import re
from collections.abc import Iterator
from functools import cache

from prometheus_client.metrics import MetricWrapperBase

from app.monitoring.metrics.catalogue import build_catalogue
from app.monitoring.metrics.registry import BoundedRegistry, registry
from app.monitoring.prometheus import Instrumentator
from monitoring.rules.objectives import load
from tests.agency import metrics_in
from tests.dashboards.boards import Board, annotations, label_query, panels, targets, variables
from tests.dashboards.elsewhere import ALERT_LABELS, OF_TARGETS, SAMPLES, recorded

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
# Labels of targets, those that discovery in a cluster adds included.
OF_PROMETHEUS = {"job", "instance", "le", "pod"}
SCOPE = {'job=~"$job"', 'instance=~"$instance"'}
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
RATED = re.compile(r"sum(?: by \([\w, ]+\) )?\((?:rate|increase)\([\w:]+\{[^}]*\}\[\$__rate_interval\]\)\)")
# Series that an objective or an alert has a limit for.
LIMITED = re.compile(
    r":http_errors:ratio|:http_slow_requests:|http_request_duration_seconds|sli_errors|:up:avg|:ready:avg"
)
ANNOTATIONS = ["Deploys", "Alerts", "Load runs"]


@cache
def metrics() -> dict[str, tuple[str, frozenset[str]]]:
    """Return the type and labels of every sample that a dashboard may query, by name."""
    Instrumentator()  # registers the http_* metrics in the default registry
    ours = BoundedRegistry()
    metrics_in(ours)
    build_catalogue(ours)
    known = {}
    for collectors in (ours._collector_to_names, registry()._collector_to_names):
        for collector in collectors:
            assert isinstance(collector, MetricWrapperBase)
            kind, labels = str(collector._type), frozenset(collector._labelnames)
            for suffix in SUFFIXES.get(kind, ("",)):
                known[collector._name + suffix] = (kind, labels)
    known |= {name: ("recorded", labels) for name, labels in recorded().items()}
    known |= {name: ("gauge", labels) for name, labels in OF_TARGETS.items()}
    known |= {name: (sample.kind, sample.labels) for name, sample in SAMPLES.items()}
    return known | {"ALERTS": ("gauge", ALERT_LABELS)}


def scope(name: str) -> list[set[str]]:
    """Return the matchers that a selector has to have: one of several sets."""
    if name == "ALERTS":
        return [{f'service="{load().service}"'}]
    if name in SAMPLES:
        return [{SAMPLES[name].scope}]
    if name in recorded():
        return [SCOPE if "instance" in recorded()[name] else {'job=~"$job"'}]
    if name in OF_TARGETS:
        return [SCOPE, *({f'job="{job}"'} for job in load().jobs.values())]
    return [SCOPE]


def complaints(board: Board) -> list[str]:
    """Return the problems of a dashboard, one line each."""
    rules = (identity, template, layout, presentation, limits, sources, annotated, promql, legends, names)
    return [line for rule in rules for line in rule(board)]


def identity(board: Board) -> Iterator[str]:
    if not re.fullmatch(r"[a-z][a-z-]{3,39}", board.get("uid") or ""):
        yield "the uid is not stable and readable"
    if board.get("editable") is not False:
        yield "the dashboard can be edited"
    if board.get("id") is not None:
        yield "an id belongs to one Grafana, not to a file"


def template(board: Board) -> Iterator[str]:
    found = {variable["name"]: variable for variable in variables(board)}
    source = found.get("datasource", {})
    if (source.get("type"), source.get("query")) != ("datasource", "prometheus"):
        yield "no variable chooses the Prometheus"
    for name in ("job", *(["instance"] if found.keys() & {"instance"} or _by_instance(board) else [])):
        variable = found.get(name, {})
        if (variable.get("multi"), variable.get("includeAll"), variable.get("allValue")) != (True, True, ".+"):
            yield f"no variable chooses among all values of {name}"
    used = set(re.findall(r"\$(\w+)", " ".join(target["expr"] for _, target in targets(board))))
    for name in used - {"__rate_interval"} - found.keys():
        yield f"${name} is not defined"
    for name in found.keys() - used - {"datasource"}:
        yield f"${name} changes nothing"


def _by_instance(board: Board) -> bool:
    """Return whether a query has series that the choice of instances could narrow."""
    selected = {name for _, target in targets(board) for name, _ in SELECTOR.findall(target["expr"])}
    return any(SCOPE in scope(name) for name in selected)


def layout(board: Board) -> Iterator[str]:
    numbers = [panel.get("id") for panel in board["panels"]]
    if None in numbers or len(set(numbers)) != len(numbers):
        yield "panels share an id"
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        if cells & taken or any(x > 23 for x, _ in cells):
            yield f"{panel['title']}: overlaps another panel or the edge"
        taken |= cells


def presentation(board: Board) -> Iterator[str]:
    for panel in panels(board):
        if not panel.get("title") or len(panel.get("description") or "") < 20:
            yield f"{panel.get('title')}: no title or no description"
        if not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"{panel['title']}: no unit"
        if not panel.get("targets"):
            yield f"{panel['title']}: no query"
        if any(not target.get("legendFormat") for target in panel["targets"]):
            yield f"{panel['title']}: a query without a legend"


def limits(board: Board) -> Iterator[str]:
    for panel in panels(board):
        drawn = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
        limited = any(LIMITED.search(target["expr"]) for target in panel.get("targets", []))
        unit = panel["fieldConfig"]["defaults"].get("unit")
        if panel["type"] != "heatmap" and limited and unit in {"percentunit", "s"} and len(drawn) <= 1:
            yield f"{panel['title']}: no threshold, though there is a limit for what it shows"


def annotated(board: Board) -> Iterator[str]:
    if [one["name"] for one in annotations(board)] != ANNOTATIONS:
        yield f"the annotations are not {', '.join(ANNOTATIONS)}"


def sources(board: Board) -> Iterator[str]:
    wanted = {"type": "prometheus", "uid": "${datasource}"}
    holders = [(panel["title"], panel) for panel in panels(board)]
    holders += list(targets(board))
    holders += [(item["name"], item) for item in variables(board) if item["type"] == "query"]
    holders += [(item["name"], item) for item in annotations(board)]
    for title, holder in holders:
        if holder.get("datasource") != wanted:
            yield f"{title}: not on the chosen datasource"


def promql(board: Board) -> Iterator[str]:
    for title, target in targets(board):
        for window in re.findall(r"\[([^\]]+)\]", target["expr"]):
            if window != "$__rate_interval":
                yield f"{title}: a window of {window} is wrong at some zoom or scrape interval"
        for name, matchers in SELECTOR.findall(target["expr"]):
            if not any(wanted <= set(matchers.split(", ")) for wanted in scope(name)):
                yield f"{title}: {name} without the job and instance matchers, or those of its program"
        rest = RATED.sub("", target["expr"])
        if re.search(r"\b(i?rate|increase|i?delta)\(", rest):
            yield f"{title}: a rate that is not added up over the series"
        for name, _ in SELECTOR.findall(rest):
            if metrics().get(name, ("", frozenset()))[0] in SUFFIXES:
                yield f"{title}: {name} is a counter and is used as it is"
        if "histogram_quantile" in target["expr"] and not re.search(r"by \(le\b", target["expr"]):
            yield f"{title}: a quantile over buckets that are not kept apart"


def legends(board: Board) -> Iterator[str]:
    """Compare the quantiles and the windows that titles and legends name with those of the query."""
    for title, target in targets(board):
        said = re.findall(r"\bP(\d+)\b", target["legendFormat"]) or re.findall(r"\bP(\d+)\b", title)
        for share in re.findall(r"histogram_quantile\(([\d.]+)", target["expr"]):
            if said and f"{float(share) * 100:g}" not in said:
                yield f"{title}: a quantile of {share} is called P{said[0]}"
        window = re.fullmatch(r"\d+[mhd]", target["legendFormat"])
        if window and not re.search(rf":\w+?{window[0]}\{{", target["expr"]):
            yield f"{title}: {window[0]} is not the window of {target['expr']}"


def names(board: Board) -> Iterator[str]:
    expressions = [(title, target["expr"], target["legendFormat"]) for title, target in targets(board)]
    for item in variables(board):
        if item["type"] == "query":
            selector, label = label_query(item)
            expressions.append((item["name"], selector, f"{{{{{label}}}}}"))
    expressions += [(one["name"], one["expr"], one["titleFormat"] + one["textFormat"]) for one in annotations(board)]
    for title, expression, legend in expressions:
        selectors = SELECTOR.findall(expression) or [(expression, "")]
        labels = set(OF_PROMETHEUS)
        for name, matchers in selectors:
            if name not in metrics():
                yield f"{title}: {name} is exposed by nothing"
                continue
            labels |= metrics()[name][1]
            for label in set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers)) - metrics()[name][1] - OF_PROMETHEUS:
                yield f"{title}: {name} has no label {label}"
        grouped = re.findall(r"by \(([^)]*)\)", expression)
        named = {label.strip() for group in grouped for label in group.split(",")} | set(
            re.findall(r"\{\{(\w+)\}\}", legend)
        )
        for label in named - labels:
            yield f"{title}: no metric of it has the label {label}"
