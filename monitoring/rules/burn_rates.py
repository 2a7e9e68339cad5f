"""Recorded series and alerts of the objectives: how fast each error budget burns, and what is left of it.

The method is that of the SRE workbook, "Alerting on SLOs": an alert fires while a long window has burnt a notable part
of the budget and a short one shows that it still burns.
"""

from .model import Alert, Record
from .objectives import WINDOW, BurnRates, Objective, Objectives, Pair, seconds
from .recorded import KNOWN, OURS

BASE = "5m"
ERRORS, EVENTS = "job_slo:sli_errors:rate5m", "job_slo:sli_events:rate5m"
OBJECTIVE = "job_slo:objective:ratio"
KINDS = ("fast", "slow")
# A share of errors that is all of them: sums of floats may fall short of 1.
ALL = "0.99"
# Between the moments at which the 5m rates are added up to errors in a window.
STEPS = {"fast": "1m", "slow": BASE}


def base(objectives: Objectives) -> list[Record]:
    """Return errors and events of each objective, a second, in the last five minutes."""
    records = []
    for slo in objectives.slos:
        labels = {"slo": slo.name}
        records += [
            Record(OBJECTIVE, f"{slo.target:.10g} * {KNOWN}", labels),
            Record(EVENTS, _query(slo.events, BASE), labels),
            Record(ERRORS, f"clamp_min({_query(slo.errors, BASE)}, 0)\nor {_none(slo)}", labels),
        ]
    return records


def _none(slo: Objective) -> str:
    """Return 0 for each job with events, from the series that the rule before has recorded."""
    return f'0 * sum by (job) ({EVENTS}{{slo="{slo.name}"}})'


def ratios(objectives: Objectives, *, long: bool) -> list[Record]:
    """Return each window's share of errors: the short windows of the fast alerts, or the `long` ones of the slow."""
    fast = _windows(objectives.fast)
    slow = _windows(objectives.slow) | {objectives.budget_window}
    chosen = slow - fast if long else fast
    records = [Record(ratio(window), _ratio(window)) for window in sorted(chosen, key=seconds)]
    budget = f"on (job, slo) (1 - {OBJECTIVE})"
    records += [
        Record(f"job_slo:burn_rate:ratio{window}", f"{ratio(window)} / {budget}")
        for window in sorted(chosen, key=seconds)
    ]
    rates, kind = (objectives.slow, "slow") if long else (objectives.fast, "fast")
    records.append(_increase(rates.pairs[0].long, STEPS[kind]))
    if long:
        left = f"1 - {ratio(objectives.budget_window)} / {budget}"
        records.append(Record(f"job_slo:error_budget:remaining{objectives.budget_window}", left))
    return records


def ratio(window: str) -> str:
    """Return the name of the series of the share of errors in `window`."""
    return f"job_slo:sli_errors:ratio_rate{window}"


def increase(window: str) -> str:
    """Return the name of the series of the number of errors in `window`."""
    return f"job_slo:sli_errors:increase{window}"


def alerts(objectives: Objectives) -> list[Alert]:
    """Return a fast and a slow alert of each objective, without those that are disabled."""
    return [_alert(objectives, slo, kind) for slo in objectives.slos for kind in KINDS if kind in slo.severities]


def _alert(objectives: Objectives, slo: Objective, kind: str) -> Alert:
    rates = objectives.fast if kind == "fast" else objectives.slow
    shown = " or ".join(pair.short for pair in rates.pairs)
    return Alert(
        name=f"{slo.alert}BudgetBurns{'Fast' if kind == 'fast' else 'Slowly'}",
        severity=slo.severities[kind],
        expr=_expression(objectives, slo, rates),
        wait=rates.wait,
        labels={"slo": slo.name},
        summary=f"The error budget of {slo.name} burns {'fast' if kind == 'fast' else 'slowly, but too fast'}",
        description=(
            f"In the last {shown} {{{{ $value | humanizePercentage }}}} of the events of {slo.name} have failed "
            f"({{{{ $labels.job }}}}); the objective allows {slo.budget * 100:.10g}%. {slo.description}"
        ),
    )


def _expression(objectives: Objectives, slo: Objective, rates: BurnRates) -> str:
    # Errors that have ended stay in a window of 30 minutes for another half hour. DependencyDown, which inhibits the
    # page, has resolved by then, and the page would come after the incident.
    still = rates.pairs[0].short if rates is objectives.fast else ""
    pairs = "\nor\n".join(_burns(slo, pair, still) for pair in rates.pairs)
    if not slo.minimum_errors:
        return pairs
    window = rates.pairs[0].long
    chosen, least = f'{{slo="{slo.name}"}}', f"{slo.minimum_errors:.10g}"
    guards = [
        f"{increase(window)}{chosen} >= {least}",
        f"{increase(window)}{chosen} >= {objectives.failures_of_all:.10g} and {ratio(window)}{chosen} > {ALL}",
    ]
    if rates is objectives.fast:  # the sum of the window is some minutes late
        guards.insert(0, f"{seconds(BASE):.10g} * {ERRORS}{chosen} >= {least}")
    return f"(\n{_indented(pairs)}\n)\nand (\n  " + "\n  or ".join(guards) + "\n)"


def _burns(slo: Objective, pair: Pair, still: str) -> str:
    """Return the condition of a pair. It has to burn in the window `still` as well, unless that is empty."""
    limit = f"{pair.factor * slo.budget:.10g}"
    windows = [pair.short, pair.long, *([still] if still not in ("", pair.short) else [])]
    return "\nand ".join(f'{ratio(window)}{{slo="{slo.name}"}} > {limit}' for window in windows)


def _windows(rates: BurnRates) -> set[str]:
    return {window for pair in rates.pairs for window in (pair.short, pair.long)}


def _ratio(window: str) -> str:
    """Return the share of errors. Sums of recorded rates weigh each moment by its events, and outlive the pods.

    There is none where there were no events.
    """
    if window == BASE:
        return f"{ERRORS} / ({EVENTS} > 0)"
    return f"sum_over_time({ERRORS}[{window}])\n/ (sum_over_time({EVENTS}[{window}]) > 0)"


def _increase(window: str, step: str) -> Record:
    return Record(
        increase(window),
        f"{seconds(step):.10g} * sum_over_time({ERRORS}[{window}:{step}])",
        comment="The subquery has a step of its own: the sum does not depend on the interval of the rules.",
    )


def _query(query: str, window: str) -> str:
    return f"({query.replace(WINDOW, window)}) {OURS}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
