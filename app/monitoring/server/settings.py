"""gunicorn's settings that a service gives itself: mapped to options, passed on, or refused.

Constraint: imported before PROMETHEUS_MULTIPROC_DIR is set, so nothing here may import a module that makes metrics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from ipaddress import ip_address
from typing import Any

from .. import option_checks as checks
from ..options import Options, OptionsError

Address = tuple[str, int]
# Settings of gunicorn with an option of the same meaning.
OPTIONS = {
    "workers": "workers",
    "max_requests": "max_requests",
    "max_requests_jitter": "max_requests_jitter",
    "timeout": "worker_timeout",
    "graceful_timeout": "graceful_timeout",
    "keepalive": "keepalive",
    "forwarded_allow_ips": "forwarded_allow_ips",
}


def merged(options: Options, app: str, given: Mapping[str, Any]) -> tuple[Options, dict[str, Any]]:
    """Return the options with the settings of the same meaning in them, and the other settings.

    A `bind` of one address of TCP becomes `host` and `port`. Of several, the first address of TCP does, and the setting
    stays. Raise OptionsError if a value is wrong, or a setting is unknown or would switch the package off.
    """
    _check_reference(app)
    _refuse_unknown(given)
    rest = dict(given)
    for setting, option in OPTIONS.items():
        if setting in rest:
            options = _replaced(options, setting, rest.pop(setting), option)
    if "bind" in rest:
        bound = _binds(rest["bind"])
        found = addresses(bound)
        if found:
            options = _replaced(options, "bind", found[0], "host", "port")
        rest["bind"] = bound
        if len(bound) == len(found) == 1:
            del rest["bind"]
    if rest.get("wsgi_app", app) != app:
        raise OptionsError(f"wsgi_app={rest['wsgi_app']!r}: want the application as the first argument, here {app!r}")
    if _is_on(rest.get("preload_app", False)):
        raise OptionsError(
            f"preload_app={rest['preload_app']!r}: want False, since each worker makes the application; give libraries "
            "as preload=[...]"
        )
    _refuse_shared_port(options, addresses(rest.get("bind", [options.bind])))
    return options, rest


def _check_reference(app: str) -> None:
    """Raise OptionsError unless `app` names a module and an application in it.

    gunicorn takes a module alone, too, and looks for `application` in it.
    """
    module, _, name = app.partition(":")
    if not name or not all(part.isidentifier() for part in module.split(".")):
        example = app.removesuffix(".py").replace("/", ".").rstrip(":") if not name else "shop.main"
        raise OptionsError(f"app={app!r}: want module:app or module:create_app(), such as {example + ':app'!r}")


def _refuse_unknown(given: Mapping[str, Any]) -> None:
    """Raise OptionsError if gunicorn would ignore a name."""
    from gunicorn.config import make_settings  # noqa: PLC0415 -- an extra of the package

    known = make_settings()
    for name, value in given.items():
        if name not in known and name in {option.name for option in fields(Options)}:
            raise OptionsError(f"{name}={value!r}: no such setting of gunicorn; it is an option of Observability")
        if name not in known:
            raise OptionsError(checks.unknown(name, value, known, "setting of gunicorn"))


def check_class(setting: str, given: Any, ours: type[Any]) -> None:
    """Raise OptionsError unless the class that a setting gives, or names, is `ours` or made from it."""
    from gunicorn.util import load_class  # noqa: PLC0415 -- an extra of the package

    wanted = f"{setting}={given!r}: want a subclass of {ours.__module__}.{ours.__qualname__}"
    try:
        found = load_class(given)
    except Exception as error:
        raise OptionsError(f"{wanted}, which can be imported") from error
    if not issubclass(found, ours):
        raise OptionsError(wanted)


def addresses(bound: Sequence[str]) -> list[Address]:
    """Return the addresses of TCP in gunicorn's setting `bind`, without sockets of unix and inherited ones."""
    from gunicorn.util import parse_address  # noqa: PLC0415 -- an extra of the package

    try:
        parsed = [parse_address(one.strip()) for one in bound]
    except RuntimeError as error:
        raise OptionsError(f"bind={bound!r}: want host:port, or a list of addresses that gunicorn knows") from error
    return [address for address in parsed if isinstance(address, tuple)]


def _binds(given: Any) -> list[str]:
    bound = checks.split(given) if isinstance(given, str) else given
    if not isinstance(bound, list | tuple) or not bound or not all(isinstance(one, str) for one in bound):
        raise OptionsError(f"bind={given!r}: want host:port, or a list of addresses that gunicorn knows")
    return list(bound)


def _replaced(options: Options, setting: str, value: Any, *names: str) -> Options:
    values = dict(zip(names, value, strict=True)) if len(names) > 1 else {names[0]: value}
    try:
        return replace(options, **values)
    except OptionsError as error:
        raise OptionsError(str(error) if names == (setting,) else f"{setting}={value!r}: {error}") from error


def _is_on(value: Any) -> bool:
    try:
        return checks.switch(value)
    except checks.UnwantedError:  # gunicorn refuses it
        return False


def _refuse_shared_port(options: Options, bound: Sequence[Address]) -> None:
    for host, port in bound:
        if port == options.metrics_port and _meet(host, options.metrics_host):
            raise OptionsError(
                f"METRICS_PORT={port}: want a port other than PORT={port} "
                f"(HOST={host!r}, METRICS_HOST={options.metrics_host!r})"
            )


def _meet(first: str, second: str) -> bool:
    """Return whether one port of two hosts can be the same socket address."""
    return first == second or any(map(_is_every_address, (first, second))) or _is_loopback(first, second)


def _is_every_address(host: str) -> bool:
    try:
        return not host or ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_loopback(first: str, second: str) -> bool:
    return {first, second} <= {"localhost", "127.0.0.1", "::1"} and "localhost" in {first, second}
