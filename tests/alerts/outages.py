"""Outages as data: the alerts that the shipped rules fire in them, in their order, and who is notified of what."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SERVICE, JOB = "baliblissed", "baliblissed"
CRITICAL = [
    "AvailabilityBudgetBurnsFast",
    "LatencyBudgetBurnsFast",
    "ReadinessBudgetBurnsFast",
    "HighErrorRate",
    "TrafficVanished",
    "NotReady",
    "DependencyDown",
    "TargetDown",
    "WorkerCrashLoop",
    "NotificationsFailing",
]
WARNING = [
    "AvailabilityBudgetBurnsSlowly",
    "LatencyBudgetBurnsSlowly",
    "ReadinessBudgetBurnsSlowly",
    "AISuccessBudgetBurnsSlowly",
    "AILatencyBudgetBurnsSlowly",
    "ScrapesBudgetBurnsSlowly",
    "HighLatencyP99",
    "InstanceErrorRate",
    "RequestsShed",
    "InstanceNotReady",
    "OptionalDependencyDown",
    "InstanceDown",
    "ContainerRestarting",
    "NotEnoughWorkers",
    "EventLoopLag",
    "DatabasePoolExhausted",
    "DiskNearlyFull",
    "MemoryNearLimit",
    "CacheHitRateLow",
    "AIErrorRate",
    "CircuitBreakerOpen",
    "MetricFilesUnreadable",
    "MetricSeriesRefused",
    "MetricsDirectoryNearlyFull",
    "LogLinesDropped",
    "SpansDropped",
    "CollectorDown",
    "CollectorRefusing",
    "CollectorFailing",
    "AlertmanagerNotificationsFailing",
    "PrometheusReloadFailed",
    "AlertmanagerReloadFailed",
    "RuleEvaluationFailing",
]
SEVERITIES = {
    **dict.fromkeys(CRITICAL, "critical"),
    **dict.fromkeys(WARNING, "warning"),
    "Watchdog": "none",
    "RecentOutage": "none",
}
SLOS = {"Availability": "availability", "Latency": "latency", "Readiness": "readiness", "Scrapes": "scrapes"}
SLOS |= {"AISuccess": "ai-success", "AILatency": "ai-latency"}
OF_INSTANCES = {"InstanceErrorRate", "InstanceNotReady", "InstanceDown", "WorkerCrashLoop", "NotEnoughWorkers"}

Labels = dict[str, str]


def alert(text: str) -> Labels:
    """Return the labels of `text`, a name and the labels that differ from the usual: "DependencyDown dependency=ai"."""
    name, *others = text.split()
    labels = {"alertname": name, "severity": SEVERITIES[name], "service": SERVICE, "job": JOB}
    objective, _, burns = name.partition("BudgetBurns")
    if burns:
        labels["slo"] = SLOS[objective]
    if name in OF_INSTANCES:
        labels["instance"] = "10.0.0.1:9090"
    labels |= dict(other.split("=") for other in others)
    return {label: value for label, value in labels.items() if value}


@dataclass(frozen=True)
class Story:
    """An outage. Each of `steps` fires its alerts in their order; those with a minus before them resolve.

    `pages` and `tickets` are the messages that tell of a firing alert, by the alert's name.
    """

    steps: tuple[tuple[str, ...], ...]
    pages: Mapping[str, int] = field(default_factory=dict)
    tickets: Mapping[str, int] = field(default_factory=dict)


DATABASE_EFFECTS = (
    *("NotReady", "HighErrorRate", "AvailabilityBudgetBurnsFast", "ReadinessBudgetBurnsFast", "TrafficVanished"),
    *("AvailabilityBudgetBurnsSlowly", "ReadinessBudgetBurnsSlowly", "DatabasePoolExhausted", "InstanceErrorRate"),
    *("AIErrorRate", "AISuccessBudgetBurnsSlowly"),  # the assistant looks places up
    "CacheHitRateLow",  # what fails is not kept
    *(f"InstanceNotReady instance=10.0.0.{number}:9090" for number in range(10)),
)
AI_EFFECTS = (
    *("CircuitBreakerOpen", "AIErrorRate", "HighErrorRate", "AISuccessBudgetBurnsSlowly"),
    *("AvailabilityBudgetBurnsFast", "AvailabilityBudgetBurnsSlowly"),
)
DATABASE, AI = "DependencyDown dependency=database", "DependencyDown dependency=ai"
RECENT, RECENT_AI = (f"RecentOutage outage={one}" for one in (DATABASE, AI))
RECENT_ERRORS, RECENT_NOT_READY = "RecentOutage outage=HighErrorRate", "RecentOutage outage=NotReady"
ENDED_AT_ONCE = tuple(f"-{one}" for one in DATABASE_EFFECTS if "BudgetBurns" not in one)
BURNS = tuple(f"-{one}" for one in DATABASE_EFFECTS if "BudgetBurns" in one)

STORIES = {
    "a database outage pages once": Story(((DATABASE,), DATABASE_EFFECTS), {"DependencyDown": 1}),
    "a cause that fires after its effects, within group_wait, pages alone": Story(
        ((*DATABASE_EFFECTS, DATABASE),), {"DependencyDown": 1}
    ),
    "an AI outage pages once": Story(((AI,), AI_EFFECTS), {"DependencyDown": 1}),
    # The order of the ends: rates and readiness first, DependencyDown after its keep_firing_for, the burn rate of half
    # an hour next, and RecentOutage, which looks back for longer than that, last.
    "the end of an outage does not page for a burn rate that outlives it": Story(
        (
            (DATABASE, RECENT, *(one for one in DATABASE_EFFECTS if "Slowly" not in one)),
            ENDED_AT_ONCE,
            (f"-{DATABASE}",),
            tuple(one for one in BURNS if "Slowly" not in one),
            (f"-{RECENT}",),
        ),
        {"DependencyDown": 1},
    ),
    "the budget that an outage has spent is a ticket after it": Story(
        (
            (DATABASE, RECENT, "AvailabilityBudgetBurnsFast", "AvailabilityBudgetBurnsSlowly"),
            (f"-{DATABASE}",),
            ("-AvailabilityBudgetBurnsFast", f"-{RECENT}"),
        ),
        {"DependencyDown": 1},
        {"AvailabilityBudgetBurnsSlowly": 1},
    ),
    "a database that fails during an AI outage pages too": Story(
        ((AI,), AI_EFFECTS, (DATABASE,), DATABASE_EFFECTS), {"DependencyDown": 2}
    ),
    "errors without a known cause page once": Story(
        (("HighErrorRate", "AvailabilityBudgetBurnsFast", RECENT_ERRORS, "InstanceErrorRate"),), {"HighErrorRate": 1}
    ),
    "errors that return after an outage page again": Story(
        ((RECENT_ERRORS, "AvailabilityBudgetBurnsFast"), ("HighErrorRate",)), {"HighErrorRate": 1}
    ),
    "slow answers during an AI outage page too": Story(
        ((AI, RECENT_AI), AI_EFFECTS, ("LatencyBudgetBurnsFast", "HighLatencyP99")),
        {"DependencyDown": 1, "LatencyBudgetBurnsFast": 1},
    ),
    "a slow burn without an outage pages": Story(
        (("AvailabilityBudgetBurnsFast", "AvailabilityBudgetBurnsSlowly"),), {"AvailabilityBudgetBurnsFast": 1}
    ),
    "ten instances that are not ready are one ticket": Story(
        (tuple(one for one in DATABASE_EFFECTS if one.startswith("InstanceNotReady")),), {}, {"InstanceNotReady": 1}
    ),
    "targets that are down page once": Story(
        (
            ("TargetDown",),
            ("NotReady", "TrafficVanished", "ReadinessBudgetBurnsFast", "ScrapesBudgetBurnsSlowly", "InstanceDown"),
        ),
        {"TargetDown": 1},
    ),
    "no target at all pages once": Story(
        (("TargetDown job=",), ("TrafficVanished", "AvailabilityBudgetBurnsFast", "ScrapesBudgetBurnsSlowly")),
        {"TargetDown": 1},
    ),
    "pods that are not ready page once": Story(
        (("HighErrorRate", "NotReady", "AvailabilityBudgetBurnsFast", "TrafficVanished", "InstanceNotReady"),),
        {"NotReady": 1},
    ),
    "a collector that is down is one ticket": Story(
        (
            (
                *("SpansDropped", "CollectorRefusing job=otel-collector", "CollectorFailing job=otel-collector"),
                "CollectorDown job=otel-collector",
            ),
        ),
        {},
        {"CollectorDown": 1},
    ),
    **{f"{name} alone pages": Story(((name,),), {name: 1}) for name in CRITICAL},
    **{f"{name} alone is a ticket": Story(((name,),), {}, {name: 1}) for name in WARNING},
    "an alert that only inhibits is notified to nobody": Story(((RECENT,),)),
}

_REQUESTS = "HighErrorRate InstanceErrorRate AvailabilityBudgetBurnsFast AvailabilityBudgetBurnsSlowly"
_LATENCY = "HighLatencyP99 LatencyBudgetBurnsFast LatencyBudgetBurnsSlowly"
_READINESS = "NotReady InstanceNotReady TrafficVanished ReadinessBudgetBurnsFast ReadinessBudgetBurnsSlowly"
_AI = "AIErrorRate AISuccessBudgetBurnsSlowly AILatencyBudgetBurnsSlowly"
_BLINDED = f"{_REQUESTS} {_LATENCY} {_READINESS} {_AI} InstanceDown ScrapesBudgetBurnsSlowly CacheHitRateLow"
COLLECTOR = "CollectorDown job=otel-collector"

# What each cause inhibits, alert by alert.
INHIBITED: dict[str, str] = {
    DATABASE: (
        f"{_REQUESTS} {_LATENCY} {_READINESS} DatabasePoolExhausted RequestsShed AIErrorRate AISuccessBudgetBurnsSlowly"
    ),
    AI: f"{_REQUESTS} {_AI} CircuitBreakerOpen CacheHitRateLow",
    "OptionalDependencyDown dependency=redis": "CacheHitRateLow",
    "TargetDown": _BLINDED,
    "TargetDown job=": _BLINDED,
    "NotReady": (
        f"{_REQUESTS} InstanceNotReady TrafficVanished LatencyBudgetBurnsFast LatencyBudgetBurnsSlowly "
        "ReadinessBudgetBurnsFast ReadinessBudgetBurnsSlowly"
    ),
    "HighErrorRate": "InstanceErrorRate AvailabilityBudgetBurnsFast",
    "AvailabilityBudgetBurnsFast": "AvailabilityBudgetBurnsSlowly",
    "LatencyBudgetBurnsFast": "LatencyBudgetBurnsSlowly HighLatencyP99",
    "ReadinessBudgetBurnsFast": "ReadinessBudgetBurnsSlowly",
    RECENT: "AvailabilityBudgetBurnsFast LatencyBudgetBurnsFast ReadinessBudgetBurnsFast",
    RECENT_NOT_READY: "AvailabilityBudgetBurnsFast LatencyBudgetBurnsFast ReadinessBudgetBurnsFast",
    RECENT_AI: "AvailabilityBudgetBurnsFast",
    RECENT_ERRORS: "AvailabilityBudgetBurnsFast",
    "WorkerCrashLoop": "NotEnoughWorkers",
    COLLECTOR: "CollectorRefusing CollectorFailing SpansDropped",
}
# Alerts of which one could be taken for the cause of the other, and is not.
INDEPENDENT: dict[str, str] = {
    AI: f"{_READINESS} {_LATENCY} DatabasePoolExhausted RequestsShed WorkerCrashLoop",
    DATABASE: (
        "AILatencyBudgetBurnsSlowly CircuitBreakerOpen WorkerCrashLoop OptionalDependencyDown EventLoopLag "
        "NotificationsFailing"
    ),
    "TargetDown": "WorkerCrashLoop MemoryNearLimit ContainerRestarting NotificationsFailing CollectorDown",
    "OptionalDependencyDown dependency=redis": "HighErrorRate HighLatencyP99",
    RECENT: "HighErrorRate NotReady",
    RECENT_AI: "LatencyBudgetBurnsFast ReadinessBudgetBurnsFast HighErrorRate",
    RECENT_ERRORS: "LatencyBudgetBurnsFast ReadinessBudgetBurnsFast",
    "HighErrorRate": f"{_LATENCY} CircuitBreakerOpen NotReady AvailabilityBudgetBurnsSlowly",
    "AvailabilityBudgetBurnsFast": "HighLatencyP99 LatencyBudgetBurnsSlowly HighErrorRate",
    COLLECTOR: "LogLinesDropped",
}
# The labels that cause and effect have to share, where they are not these two.
USUAL = ("service", "job")
EQUAL = {
    "TargetDown job=": ("service",),
    COLLECTOR: ("service",),
    "AvailabilityBudgetBurnsFast": ("service", "job", "slo"),
    "ReadinessBudgetBurnsFast": ("service", "job", "slo"),
    "WorkerCrashLoop": ("service", "job", "instance"),
}


@dataclass(frozen=True)
class Pair:
    """A cause and an alert that it inhibits; the latter has another value of the label `apart`, if that is one."""

    cause: str
    effect: str
    apart: str = ""

    def labels(self, service: str) -> tuple[Labels, Labels]:
        """Return the labels of both, in this service."""
        cause, effect = ({**alert(text), "service": service} for text in (self.cause, self.effect))
        if self.apart:
            effect[self.apart] = f"{effect[self.apart]}-other"
        return cause, effect


def pairs() -> list[Pair]:
    """Return every pair of INHIBITED, with equal labels and with each of them apart."""
    return [
        Pair(cause, effect, apart)
        for cause, effects in INHIBITED.items()
        for effect in effects.split()
        for apart in ("", *EQUAL.get(cause, USUAL))
    ]
