"""The metrics that an exposition has under an escaping scheme. A metric without its names is hidden, never the scrape.

Of metrics that need the same name, the one whose name needs no escaping is exposed. Of several, it is the first: by
name in the aggregate of all processes, by definition in single-process mode.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import DOTS

from .names import Labels, are_legacy, claim, contested, exemplar_labels, exposable, is_legacy, losers
from .series import Family

EQUAL_NAMES = "a name equals another one after escaping: rename the metric or its label"


class Selection:
    """The families of a directory that are exposed. What may be hidden is found once for each set of families."""

    def __init__(self) -> None:
        self._families: list[Family] = []
        self._contested: dict[str, list[Family]] = {}
        self._losers: set[str] = set()

    def exposed(self, families: list[Family], scheme: str) -> list[Family]:
        """Return the families that get their names under `scheme`. A family without lines needs none."""
        if families != self._families:  # they compare by identity
            self._families, self._contested = families, {}
        candidates = self._contested.get(scheme)
        if candidates is None:
            candidates = self._contested[scheme] = [families[index] for index in contested(families, scheme)]
        self._losers = set()
        if candidates:
            shown = [one.claim for one in candidates if one.text(openmetrics=False, scheme=scheme)]
            self._losers = losers(shown, scheme)
        return [one for one in families if one.name not in self._losers] if self._losers else families

    def hidden(self, scheme: str) -> list[str]:
        """Return the names of the families that are hidden, or are exposed without some of their label sets."""
        return [one.name for one in self._families if one.name in self._losers or one.hidden(scheme)]


class Registry(Protocol):
    """A registry of the library, restricted or not."""

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""


class Exposed:
    """A registry for the library's encoders: `registry` without what cannot be exposed under `scheme`.

    `hidden` has the names of the metrics that the last `collect` has left out, in whole or in part.
    """

    def __init__(self, registry: Registry, scheme: str) -> None:
        self._registry = registry
        self._scheme = scheme
        self.hidden: set[str] = set()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that get their names, without samples that have a label twice or are there twice."""
        scheme = self._scheme
        found = [_Named(metric) for metric in self._registry.collect()]
        preferred = [found[index].claim for index in contested(found, scheme)]
        self.hidden = losers(preferred, scheme)
        for one in found:
            if one.claim.family not in self.hidden:
                exposed = _without_equal_samples(one.metric, scheme)
                if exposed is not one.metric:
                    self.hidden.add(exposed.name)
                if exposed.samples or exposed is one.metric:
                    yield _with_plain_exemplars(exposed)


class _Named:
    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.claim = claim(metric.name, metric.type, {sample.name for sample in metric.samples})


def _without_equal_samples(metric: Metric, scheme: str) -> Metric:
    """Return `metric`, or a copy without the samples that cannot be exposed."""
    label_sets: dict[str, list[Labels]] = {}
    for sample in metric.samples:
        label_sets.setdefault(sample.name, []).append(tuple(sorted(sample.labels.items())))
    sets = [labels for one in label_sets.values() for labels in one]
    if scheme != DOTS and is_legacy(metric.name) and all(map(are_legacy, sets)):
        return metric
    shown = {name: exposable(name, one, scheme) for name, one in label_sets.items()}
    kept = [one for one in metric.samples if tuple(sorted(one.labels.items())) in shown[one.name]]
    if len(kept) == len(metric.samples):
        return metric
    copy = Metric(metric.name, metric.documentation, metric.type, metric.unit)
    copy.samples = kept
    return copy


def _with_plain_exemplars(metric: Metric) -> Metric:
    """Return `metric`, or a copy: the library writes names of exemplars' labels as they are."""
    if all(one.exemplar is None or are_legacy(one.exemplar.labels.items()) for one in metric.samples):
        return metric
    copy = Metric(metric.name, metric.documentation, metric.type, metric.unit)
    for one in metric.samples:
        exemplar = one.exemplar and one.exemplar._replace(labels=exemplar_labels(one.exemplar.labels))
        copy.samples.append(one._replace(exemplar=exemplar))
    return copy


class Encodable:
    """A registry for the library's encoders, which UTF-8 can encode: a lone surrogate is `?`, as in shared files."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Yield copies of the metrics."""
        for metric in self._registry.collect():
            copy = Metric(_encodable(metric.name), _encodable(metric.documentation), metric.type, metric.unit)
            for sample in metric.samples:
                exemplar = sample.exemplar and sample.exemplar._replace(
                    labels=_encodable_labels(sample.exemplar.labels)
                )
                labels = _encodable_labels(sample.labels)
                copy.samples.append(sample._replace(name=_encodable(sample.name), labels=labels, exemplar=exemplar))
            yield copy


def _encodable_labels(labels: Mapping[str, str]) -> dict[str, str]:
    return {_encodable(name): _encodable(value) for name, value in labels.items()}


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()
