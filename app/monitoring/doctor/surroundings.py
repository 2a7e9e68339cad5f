"""Checks of the configuration: proxies and tracing."""

from collections.abc import Iterator
from ipaddress import ip_address

from ..stop_budget import StopBudget
from ..traces.span_redaction import MAX_VALUE_LENGTH
from ..traces.unused import unused_variables
from .finding import Finding, listed
from .situation import Situation


def untrusted_proxies(situation: Situation) -> Iterator[Finding]:
    """Find an address that proxies can reach while none but this machine's is trusted, and unix sockets without `*`."""
    open_to = [address for address in situation.bind if not _is_local(address)]
    sockets = [address for address in situation.bind if address.startswith("unix:")]
    trusted = situation.forwarded_allow_ips or "127.0.0.1"
    # A peer on a unix socket has no address that could be listed, and uvicorn reads `*` only where it stands alone.
    if sockets and trusted != "*":
        yield Finding(
            "untrusted-proxies",
            "warning",
            f"the service listens on {listed(sockets)} and ignores X-Forwarded-* there: a peer has no address to trust",
            "behind a proxy requests have no client address, and the scheme http",
            "FORWARDED_ALLOW_IPS=*, with a proxy that sets X-Forwarded-For itself and passes none on; or ignore this"
            " where there is no proxy",
        )
    if open_to and all(_is_loopback(host.strip()) for host in trusted.split(",")):
        yield Finding(
            "untrusted-proxies",
            "warning",
            f"the service listens on {listed(open_to)} and trusts X-Forwarded-* from this machine only",
            "behind a proxy every request has the proxy's address and scheme",
            "FORWARDED_ALLOW_IPS=<the proxies' addresses, comma separated>; or ignore this where there is no proxy",
        )


def rewritten_peers(situation: Situation) -> Iterator[Finding]:
    """Find a server that replaces the peer's address before the package's layer reads it."""
    if situation.peers_rewritten:
        yield Finding(
            "proxy-headers",
            "warning",
            "the server evaluates X-Forwarded-* before the package does",
            "behind a trusted proxy network.peer.address of spans is the client's address, not the proxy's",
            "--no-proxy-headers, and the proxies in FORWARDED_ALLOW_IPS in place of --forwarded-allow-ips",
        )


def tracing_without_collector(situation: Situation) -> Iterator[Finding]:
    """Find an endpoint although tracing is off, and a request for tracing without an endpoint."""
    if situation.tracing_disabled and situation.endpoint:
        yield Finding(
            "tracing-disabled",
            "warning",
            "OTEL_SDK_DISABLED=true or TRACING=none, and an OTLP endpoint is set",
            "no span is made, so the collector gets none",
            "remove OTEL_SDK_DISABLED and TRACING, or the endpoint",
        )
    # Without an endpoint tracing is off, which is a finding only if tracing was requested.
    asked = situation.traces_exporter == "otlp" or (situation.traces_exporter is None and situation.traces_sampled)
    if asked and not situation.tracing_disabled and not situation.endpoint:
        yield Finding(
            "tracing-without-endpoint",
            "warning",
            "an exporter, a sampler or the instrumentation is set for traces and OTEL_EXPORTER_OTLP_ENDPOINT is not",
            "no span reaches a collector, and logs name traces that do not exist",
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://<collector>:4317, OTEL_TRACES_EXPORTER=none or OTEL_SDK_DISABLED=true",
        )


def variables_without_effect(situation: Situation) -> Iterator[Finding]:
    """Find variables of OpenTelemetry that the package does not read, unless there are no traces at all."""
    if not situation.tracing_disabled:
        for what, why, instead in unused_variables(situation.otel_variables, MAX_VALUE_LENGTH):
            yield Finding("otel-variable", "warning", what, why, instead)


def stop_budget(situation: Situation) -> Iterator[Finding]:
    """Find a platform that kills the service before its stop is over, and exports that outlast GRACEFUL_TIMEOUT."""
    graceful, kill, export = situation.graceful_timeout, situation.kill_timeout, situation.otlp_timeout
    end = None if graceful is None else StopBudget(graceful).end
    if end is not None and kill is not None and kill <= end:
        yield Finding(
            "kill-timeout",
            "warning",
            f"KILL_TIMEOUT={kill:g} is not above {end:g}, the longest stop with GRACEFUL_TIMEOUT={graceful:g}",
            "a service that stops is killed while it answers requests, and its last spans and values may be lost",
            "a longer grace period of the platform, or a GRACEFUL_TIMEOUT below it",
        )
    exported = situation.endpoint and not situation.tracing_disabled
    if graceful is not None and export is not None and exported and export > graceful:
        yield Finding(
            "export-timeout",
            "warning",
            f"OTEL_EXPORTER_OTLP_TIMEOUT={export:g} is above GRACEFUL_TIMEOUT={graceful:g}",
            "an export that waits for a slow collector when the service stops is cut off, and its spans are lost",
            "an OTEL_EXPORTER_OTLP_TIMEOUT of a few seconds; the variable is in seconds, not in milliseconds",
        )


def _is_local(address: str) -> bool:
    """Return whether an address in gunicorn's form can be reached from this machine only."""
    if address.startswith(("unix:", "fd://")):
        return True
    host, separator, _ = address.rpartition(":")
    return _is_loopback((host if separator else address).strip("[]"))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name, a network, "*" or nothing, which is every address
        return False
