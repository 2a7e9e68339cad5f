"""The stores of overlays/development: one of each, within their limits, and reached by the backend alone."""

import base64
import shlex
from urllib.parse import urlsplit

import pytest
import yaml

from app.settings import ROOT
from tests.k8s.rendering import NAME, Manifest, bytes_of, one, pod_spec

OVERLAY = "development"
STORES = ("postgres", "redis")


def container(store: str) -> Manifest:
    found: Manifest
    (found,) = pod_spec(OVERLAY, store)["containers"]
    return found


def options(words: list[str]) -> dict[str, str]:
    """Return a command line of names and values, such as [redis-server, --appendonly, no]."""
    names = [number for number, word in enumerate(words) if word.startswith("--")]
    return {words[number]: words[number + 1] for number in names}


def secret(name: str) -> dict[str, str]:
    data: dict[str, str] = one(OVERLAY, "Secret", name)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


@pytest.mark.parametrize("store", STORES)
def test_only_the_backend_reaches_a_store_and_it_reaches_nothing(store: str) -> None:
    policy = one(OVERLAY, "NetworkPolicy", store)["spec"]
    labels = one(OVERLAY, "Deployment", store)["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy
    (port,) = container(store)["ports"]
    assert policy["ingress"] == [
        {
            "from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": NAME}}}],
            "ports": [{"port": port["name"], "protocol": "TCP"}],
        }
    ]


def test_two_servers_of_postgresql_never_run_at_once() -> None:
    spec = one(OVERLAY, "Deployment", "postgres")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe"])
def test_postgresql_is_asked_by_tcp_and_not_by_the_socket_of_its_set_up(probe: str) -> None:
    command = container("postgres")[probe]["exec"]["command"]
    assert command[0] == "pg_isready"
    assert "--host=127.0.0.1" in command


def test_redis_stays_below_its_limit_and_drops_what_is_oldest() -> None:
    redis = container("redis")
    given = options(redis["args"])
    assert int(given["--maxmemory"].removesuffix("mb")) * 2**20 <= 0.75 * bytes_of(
        redis["resources"]["limits"]["memory"]
    )
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    (line,) = [line for line in services["redis"]["command"][-1].splitlines() if line.startswith("exec redis-server ")]
    shipped = options(shlex.split(line))
    # That of compose has a password, so nothing of it is protected without one.
    assert given.keys() - shipped.keys() == {"--protected-mode"}
    assert {name for name in shipped if given[name] != shipped[name]} == {"--maxmemory"}


def test_the_backend_s_addresses_are_those_of_the_stores() -> None:
    database, redis = (urlsplit(secret(NAME)[name]) for name in ("DATABASE_URL", "REDIS_URL"))
    postgres = secret("postgres")
    assert (database.username, database.password) == (postgres["POSTGRES_USER"], postgres["POSTGRES_PASSWORD"])
    assert database.path == f"/{postgres['POSTGRES_DB']}"
    for url, store in ((database, "postgres"), (redis, "redis")):
        service = one(OVERLAY, "Service", store)
        assert url.hostname == service["metadata"]["name"]
        assert [port["port"] for port in service["spec"]["ports"]] == [url.port]
        (port,) = container(store)["ports"]
        assert [other["targetPort"] for other in service["spec"]["ports"]] == [port["name"]]
