"""Recorded series and alerts of the objectives: how fast each error budget burns, and what is left of it.

The method is that of the SRE workbook, "Alerting on SLOs": an alert fires while a long window has burnt a notable part of
the budget and a short one shows that it still burns.
"""

from .model import Alert, Record
from .objectives import WINDOW, BurnRates, Objective, Objectives, Pair, seconds
from .recorded import KNOWN, OURS

BASE = "5m"
ERRORS, EVENTS = "job_slo:sli_errors:rate5m", "job_slo:sli_events:rate5m"
OBJECTIVE = "job_slo:objective:ratio"
ERRORS_IN_AN_HOUR = "job_slo:sli_errors:increase1h"


def base(objectives: Objectives) -> list[Record]:
    """Return errors and events of each objective, a second, in the last five minutes."""
    records = []
    for slo in objectives.slos:
        labels = {"slo": slo.name}
        records += [
            Record(OBJECTIVE, f"{slo.target:.10g} * {KNOWN}", labels),
            Record(EVENTS, _query(slo.events, BASE), labels),
            Record(ERRORS, f"{_query(slo.errors, BASE)}\nor 0 * ({_query(slo.events, BASE)})", labels),
        ]
        if slo.minimum_errors:
            records.append(Record(ERRORS_IN_AN_HOUR, f"3600 * ({_query(slo.errors, '1h')})", labels))
    return records


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
    if long:
        left = f"1 - {ratio(objectives.budget_window)} / {budget}"
        records.append(Record(f"job_slo:error_budget:remaining{objectives.budget_window}", left))
    return records


def ratio(window: str) -> str:
    """Return the name of the series of the share of errors in `window`."""
    return f"job_slo:sli_errors:ratio_rate{window}"


def alerts(objectives: Objectives) -> list[Alert]:
    """Return a fast and a slow alert of each objective, without those that are disabled."""
    found = []
    for slo in objectives.slos:
        if "fast" in slo.severities:
            found.append(_alert(slo, "fast", objectives.fast))
        if "slow" in slo.severities:
            found.append(_alert(slo, "slow", objectives.slow))
    return found


def _alert(slo: Objective, kind: str, rates: BurnRates) -> Alert:
    shown = rates.pairs[0].long
    return Alert(
        name=f"{slo.alert}BudgetBurns{'Fast' if kind == 'fast' else 'Slowly'}",
        severity=slo.severities[kind],
        expr=_expression(slo, kind, rates),
        wait=rates.wait,
        labels={"slo": slo.name},
        summary=f"The error budget of {slo.name} burns {'fast' if kind == 'fast' else 'slowly, but too fast'}",
        description=(
            "{{ $value | humanizePercentage }} of the events of {{ $labels.slo }} have failed ({{ $labels.job }}, the shortest "
            f"window that shows it; over {shown} see the dashboard). The objective allows {slo.budget * 100:.10g}%. "
            f"{slo.description}"
        ),
    )


def _expression(slo: Objective, kind: str, rates: BurnRates) -> str:
    pairs = "\n  or\n".join(_burns(slo, pair) for pair in rates.pairs)
    if not slo.minimum_errors:
        return pairs
    errors = f'{ERRORS_IN_AN_HOUR}{{slo="{slo.name}"}}'
    if kind == "slow":  # few errors an hour are enough for a ticket, if there are as many in a day
        errors = f"sum_over_time({errors}[1d:1h])"
    return f"(\n{pairs}\n)\nand {errors} >= {slo.minimum_errors:.10g}"


def _burns(slo: Objective, pair: Pair) -> str:
    limit = f"{pair.factor * slo.budget:.10g}"
    short, long = (f'{ratio(window)}{{slo="{slo.name}"}} > {limit}' for window in (pair.short, pair.long))
    return f"  {short}\n  and {long}"


def _windows(rates: BurnRates) -> set[str]:
    return {window for pair in rates.pairs for window in (pair.short, pair.long)}


def _ratio(window: str) -> str:
    """Return the share of errors. Sums of recorded rates weigh each moment by its events, and outlive the pods."""
    if window == BASE:
        return f"{ERRORS} / {EVENTS}"
    return f"sum_over_time({ERRORS}[{window}])\n/ sum_over_time({EVENTS}[{window}])"


def _query(query: str, window: str) -> str:
    return f"({query.replace(WINDOW, window)}) {OURS}"
