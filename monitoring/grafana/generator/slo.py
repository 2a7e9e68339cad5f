"""The objectives: what is left of their error budgets, how fast they burn, and which alerts that has fired."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders.dashboard import Dashboard

from monitoring.rules.objectives import BurnRates, Objective, seconds

from . import board
from .firing import firing
from .limits import OBJECTIVES, percent
from .panels import COUNT, SHARE, Panel, Query, lines, number
from .queries import recorded

LEFT = f"job_slo:error_budget:remaining{OBJECTIVES.budget_window}"
RATIO = "job_slo:sli_errors:ratio_rate5m"


def build(*, without: Sequence[str] = ()) -> Dashboard:
    """Build slo.json, without the objectives of the alerts `without`."""
    found = [slo for slo in OBJECTIVES.slos if not set(_alerts(slo)) & set(without)]
    rows: dict[str, Sequence[Panel]] = {"Budgets": _budgets(), "Alerts": [_history()]}
    rows |= {f"{slo.name}: {slo.target * 100:.10g}%": _burn(slo) for slo in found}
    slo = board.choice("slo", "Objective", "Objectives of monitoring/slo.yaml.", f"label_values({LEFT}, slo)")
    return board.build(
        "slo",
        "Objectives",
        "Error budgets and how fast they burn. A burn rate of 1 spends exactly the budget of 30 days in 30 days.",
        rows,
        [slo],
        instances=False,
    )


def _chosen(name: str) -> str:
    return recorded(name, 'slo=~"$slo"')


def _budgets() -> list[Panel]:
    return [
        number(
            "Budget left",
            "Share of the error budget of the last 30 days that is left. Below 0 the objective is missed. Of a service "
            "that Prometheus has known for less, it is the budget of that time: an outage of minutes in its first hour "
            "shows thousands of percent.",
            SHARE,
            Query(f"min by (slo) ({_chosen(LEFT)})", "{{slo}}"),
            floor=0,
            width=16,
        ),
        number(
            "Objective",
            "Share of good events that is wanted, by objective.",
            SHARE,
            Query(f"max by (slo) ({_chosen('job_slo:objective:ratio')})", "{{slo}}"),
            width=8,
        ).decimals(2),
        lines(
            "Budget left over time",
            "A steady fall is a slow burn, a step an outage. A line rises again when errors are older than 30 days.",
            SHARE,
            Query(f"min by (slo) ({_chosen(LEFT)})", "{{slo}}"),
            floor=0,
        ).min(-1),
        lines(
            "Burn rate over an hour",
            "Errors as a multiple of what each objective allows. The lines are 1, which spends the budget in exactly "
            "30 days, and the factor at which the fast alerts fire.",
            COUNT,
            Query(f"max by (slo) ({_chosen('job_slo:burn_rate:ratio1h')})", "{{slo}}"),
            limit=(1, _factor(OBJECTIVES.fast, "1h")),
        ),
    ]


def _history() -> Panel:
    return firing(
        "Firing history",
        "Alerts on burn rates: pending while their condition has not lasted, then firing. Fast ones page.",
        'slo=~"$slo"',
    )


def _alerts(slo: Objective) -> list[str]:
    kinds = {"fast": "Fast", "slow": "Slowly"}
    return [f"{slo.alert}BudgetBurns{kinds[kind]}" for kind in slo.severities]


def _burn(slo: Objective) -> list[Panel]:
    fast, slow = OBJECTIVES.fast, OBJECTIVES.slow
    here = f'slo="{slo.name}"'
    return [
        _windows(slo, fast, "fast"),
        _windows(slo, slow, "slow"),
        lines(
            f"Failed share of {slo.name}",
            f"Share of events in five minutes that were not good. Good are: {_lowered(slo.description)} The line is "
            f"what the objective allows, {percent(slo.budget)}.",
            SHARE,
            Query(f"max by (job) ({recorded(RATIO, here)})", "{{job}}"),
            limit=slo.budget,
            width=8,
        ),
    ]


def _lowered(text: str) -> str:
    """Return a sentence for the middle of another; an abbreviation at its start stays."""
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def _windows(slo: Objective, rates: BurnRates, kind: str) -> Panel:
    """Return the burn rates in the windows of an alert's pairs, with the pairs' factors as lines."""
    pairs = " or ".join(f"{pair.short} and {pair.long} over {pair.factor:g}" for pair in rates.pairs)
    ending = "Fast" if kind == "fast" else "Slowly"
    name = f"{slo.alert}BudgetBurns{ending}"
    fires = f"{name} fires" if kind in slo.severities else "No alert is made of it; one would fire"
    windows = sorted({window for pair in rates.pairs for window in (pair.short, pair.long)}, key=seconds)
    here = f'slo="{slo.name}"'
    return lines(
        f"Burn rate of {slo.name}, {kind} windows",
        f"Errors as a multiple of what the objective allows, in each window. {fires} at {pairs}.",
        COUNT,
        *(Query(f"max({recorded(f'job_slo:burn_rate:ratio{window}', here)})", window) for window in windows),
        limit=[pair.factor for pair in rates.pairs],
        alerts=(name,) if kind in slo.severities else (),
        width=8,
    )


def _factor(rates: BurnRates, long: str) -> float:
    return next(pair.factor for pair in rates.pairs if pair.long == long)
