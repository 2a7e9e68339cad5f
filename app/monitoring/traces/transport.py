"""The OTLP exporter's variables: address, headers, TLS, compression and time-out, checked before the first fork.

The exporter itself reads a wrong flag as false, a missing file as the system's certificates, logs a malformed header
with its value, and raises for `none` as compression.
"""

import re
import ssl
from dataclasses import dataclass
from typing import Final, Literal, Self
from urllib.parse import unquote, urlsplit

from ..option_checks import UnwantedError, collector
from .variables import TracingConfigurationError, check_installed, of_otlp, value_of

Protocol = Literal["grpc", "http/protobuf"]
Compression = Literal["none", "gzip", "deflate"]
DEFAULT_EXPORT_TIMEOUT: Final = 5.0
MAX_EXPORT_TIMEOUT: Final = 60.0
"""Seconds. A longer export outlives every grace period."""
CREDENTIAL_PROVIDERS: Final = "opentelemetry_otlp_credential_provider"
_COMPRESSIONS: Final[dict[Protocol, tuple[Compression, ...]]] = {
    "grpc": ("none", "gzip"),
    "http/protobuf": ("none", "gzip", "deflate"),
}
_RETRYABLE: Final = "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES"
_STATUSES: Final = frozenset(
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED"  # noqa: SIM905
    " UNAUTHENTICATED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED UNIMPLEMENTED INTERNAL UNAVAILABLE OUT_OF_RANGE"
    " DATA_LOSS".split()
)
# What gRPC takes as metadata, and the exporter as a pair.
_HEADER = re.compile(r"([0-9a-z_.-]+)[ \t]*=(.*)", re.IGNORECASE | re.DOTALL)
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_UNREADABLE = frozenset('"\\;')


@dataclass(frozen=True, slots=True)
class Files:
    """Paths of PEM files; None where the variable is unset."""

    certificate: str | None
    """Authorities that are trusted in place of the system's."""
    client_key: str | None
    client_certificate: str | None

    @classmethod
    def read(cls) -> Self:
        """Return the paths of the variables. Raise TracingConfigurationError unless their content is of use."""
        certificate, key, client = (of_otlp(part) for part in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"))
        for name, path in (certificate, key, client):
            if path:
                _check_readable(name, path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if certificate[1]:
            try:
                context.load_verify_locations(certificate[1])
            except (OSError, ValueError) as error:
                raise TracingConfigurationError(*certificate, f"{_WANTED_FILE} of certificates") from error
        if bool(key[1]) is not bool(client[1]):
            given, missing = (key, client) if key[1] else (client, key)
            raise TracingConfigurationError(*given, f"want {missing[0]} too")
        if client[1]:
            try:
                # An encrypted key would ask for its password at the terminal.
                context.load_cert_chain(client[1], key[1], password=lambda: b"")
            except (OSError, ValueError) as error:
                raise TracingConfigurationError(
                    *client, f"{_WANTED_FILE} of a certificate, and its key without a password in {key[0]}"
                ) from error
        return cls(certificate[1] or None, key[1] or None, client[1] or None)


_WANTED_FILE: Final = "want the path of a readable PEM file"


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 -- a path with a null byte must not raise another error
            file.read(1)
    except (OSError, ValueError) as error:
        raise TracingConfigurationError(name, path, _WANTED_FILE) from error


def otlp_endpoint(default: str | None, protocol: Protocol) -> str | None:
    """Return the collector's address: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT as it is, else `default`.

    `default` is the base address of all signals, to which http/protobuf adds the path of traces.
    """
    own = value_of("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if own or not default or protocol == "grpc":
        return own or default
    return f"{default.rstrip('/')}/v1/traces"


def is_insecure(endpoint: str | None) -> bool:
    """Return whether gRPC connects to `endpoint` without TLS.

    The scheme decides; OTEL_EXPORTER_OTLP_TRACES_INSECURE or _INSECURE counts without one, by default false.
    """
    scheme = urlsplit(endpoint).scheme if endpoint and "://" in endpoint else ""
    if scheme in {"http", "https"} or not endpoint:
        return scheme != "https"
    return of_otlp("INSECURE")[1].lower() == "true"


def otlp_compression() -> Compression:
    """Return the compression of OTEL_EXPORTER_OTLP_TRACES_COMPRESSION or _COMPRESSION, default none."""
    value = of_otlp("COMPRESSION")[1].lower()
    return value if value in {"gzip", "deflate"} else "none"  # type: ignore[return-value]


def otlp_timeout(default: float | None) -> float:
    """Return the seconds for one export: OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, `default`, or the generic variable."""
    own = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"
    name, value = (own, value_of(own)) if default is not None else of_otlp("TIMEOUT")
    if not value:
        return DEFAULT_EXPORT_TIMEOUT if default is None else default
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_EXPORT_TIMEOUT:
        raise TracingConfigurationError(name, value, "want seconds, more than 0 and at most 60")
    return seconds


def credential_provider() -> tuple[str, str]:
    """Return name and value of the variable for an entry point that makes gRPC's credentials."""
    name = "OTEL_PYTHON_EXPORTER_OTLP_GRPC_TRACES_CREDENTIAL_PROVIDER"
    return (name, value_of(name)) if value_of(name) else (general := name.replace("_TRACES_", "_"), value_of(general))


def check_transport(protocol: Protocol) -> None:
    """Raise TracingConfigurationError if a variable of the exporter cannot be honoured with `protocol`."""
    otlp_timeout(None)
    otlp_timeout(DEFAULT_EXPORT_TIMEOUT)
    _check_endpoint(protocol)
    _check_headers()
    Files.read()
    name, value = of_otlp("COMPRESSION")
    if value and value.lower() not in _COMPRESSIONS[protocol]:
        raise TracingConfigurationError(
            name, value, f"want one of {', '.join(_COMPRESSIONS[protocol])} with {protocol}"
        )
    for name in ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"):
        if (flag := value_of(name)).lower() not in {"", "true", "false"}:
            raise TracingConfigurationError(name, flag, "want true or false")
    if protocol == "grpc":
        name, value = credential_provider()
        if value:
            check_installed(name, CREDENTIAL_PROVIDERS, [value])
        codes = value_of(_RETRYABLE)
        unknown = {code.strip().upper() for code in codes.split(",") if code.strip()} - _STATUSES
        if unknown:
            raise TracingConfigurationError(_RETRYABLE, codes, "want names of gRPC's status codes, such as UNAVAILABLE")


def _check_endpoint(protocol: Protocol) -> None:
    """Addresses may carry a password, so a message never repeats one."""
    name, value = of_otlp("ENDPOINT")
    if not value:
        return
    try:
        collector(value)
    except UnwantedError as error:
        raise TracingConfigurationError(name, value, str(error), secret=True) from error
    url = urlsplit(value)
    if protocol == "http/protobuf" and url.scheme not in {"http", "https"}:
        raise TracingConfigurationError(name, value, "want http:// or https:// with http/protobuf", secret=True)
    if protocol == "grpc" and "@" in url.netloc:
        wanted = "want an address without user and password: gRPC sends OTEL_EXPORTER_OTLP_HEADERS"
        raise TracingConfigurationError(name, value, wanted, secret=True)


def _check_headers() -> None:
    """Headers carry keys, so a message says which pair is wrong by its place only."""
    name, value = of_otlp("HEADERS")
    for place, pair in enumerate(value.split(","), start=1):
        if not pair.strip():
            continue
        found = _HEADER.fullmatch(pair.strip())
        reserved = found is not None and bool(re.match("grpc-|.*-bin$", found[1], re.IGNORECASE))
        if found is None or reserved or _UNREADABLE & set(found[2]) or not _HEADER_VALUE.fullmatch(unquote(found[2])):
            wanted = f"pair {place}: want name=value pairs, percent-encoded, separated by commas"
            raise TracingConfigurationError(name, value, wanted, secret=True)
