"""Redis of docker-compose.yaml: its command runs a real server, which takes the password and shows it to nobody."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import AuthenticationError, Redis
from redis import ConnectionError as RedisConnectionError
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.embedded_servers import find_redis
from loadtest.programs import free_port
from tests.deploy.conftest import SECRETS, Service, compose_config, run
from tests.process.service import PATIENCE, wait_for

PASSWORD = "p@ss \"w'rd\\ $HOME #1"


def argv(service: Service) -> list[str]:
    """Return the container's command; `docker-compose config` doubles every dollar sign."""
    return [word.replace("$$", "$") for word in service["command"]]


@pytest.fixture(scope="module")
def redis() -> Service:
    """Return the service with a password that needs quoting."""
    config = compose_config("docker-compose.yaml", REDIS_PASSWORD=PASSWORD, REDIS_PASSWORD_URL="encoded")
    found: Service = config["services"]["redis"]
    return found


@pytest.fixture(scope="module")
def server(redis: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Yield the process and port of a server started by the container's command, with a port of its own added."""
    directory, port = tmp_path_factory.mktemp("redis"), free_port()
    program = directory / "redis-server"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(str(find_redis()))} "$@" --port {port} --bind 127.0.0.1\n')
    program.chmod(0o755)
    environment = {"PATH": f"{directory}{os.pathsep}{os.environ['PATH']}", "REDISCLI_AUTH": PASSWORD}
    process = subprocess.Popen(argv(redis), cwd=directory, env=environment, stdout=subprocess.DEVNULL)
    try:
        with Redis(port=port, password=PASSWORD, retry=Retry(NoBackoff(), 0)) as client:
            wait_for(lambda: _answers(client), "redis")
        yield process, port
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0, "the server is the container's first process and takes the signal"


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisConnectionError:
        return False


def test_redis_answers_with_the_password_only(server: tuple[subprocess.Popen[bytes], int]) -> None:
    _, port = server
    for wrong in (None, "p@ss"):
        with (
            Redis(port=port, password=wrong, retry=Retry(NoBackoff(), 0)) as client,
            pytest.raises(AuthenticationError),
        ):
            client.ping()


def test_the_password_and_its_digest_are_not_on_the_process_list(
    server: tuple[subprocess.Popen[bytes], int], redis: Service
) -> None:
    process, port = server
    shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert b"redis-server" in shown or str(port).encode() in shown
    with Redis(port=port, password=PASSWORD) as client:
        (entry,) = client.acl_getuser("default")["passwords"]
    assert entry.removeprefix("#").encode() not in shown
    assert PASSWORD.encode() not in shown
    given = [*redis["command"], *redis["healthcheck"]["test"]]
    assert not any(SECRETS["REDIS_PASSWORD"] in word or "p@ss" in word for word in given)


def test_redis_stays_below_its_limit_and_drops_what_is_oldest(
    server: tuple[subprocess.Popen[bytes], int], redis: Service
) -> None:
    with Redis(port=server[1], password=PASSWORD, decode_responses=True) as client:
        limit = int(client.config_get("maxmemory")["maxmemory"])
        assert 0 < limit <= 0.75 * int(redis["mem_limit"])
        assert client.config_get("maxmemory-policy", "save", "appendonly") == {
            "maxmemory-policy": "allkeys-lru",
            "save": "",
            "appendonly": "no",
        }


def test_redis_has_the_password_and_the_backend_the_same_in_its_url(services: dict[str, Service]) -> None:
    assert services["redis"]["environment"] == {"REDISCLI_AUTH": SECRETS["REDIS_PASSWORD"]}
    assert services["backend"]["environment"]["REDIS_URL"] == f"redis://:{SECRETS['REDIS_PASSWORD']}@redis:6379/0"
    other = compose_config("docker-compose.yaml", REDIS_PASSWORD="p@ss", REDIS_PASSWORD_URL="p%40ss")["services"]
    assert other["backend"]["environment"]["REDIS_URL"] == "redis://:p%40ss@redis:6379/0"
    assert other["redis"]["environment"]["REDISCLI_AUTH"] == "p@ss"


@pytest.mark.parametrize(("said", "code"), [("PONG", 0), ("LOADING Redis is loading the dataset in memory", 1)])
def test_redis_is_healthy_when_it_answers_and_not_while_it_loads(
    redis: Service, tmp_path: Path, said: str, code: int
) -> None:
    client = tmp_path / "redis-cli"  # which ends with 0 whatever Redis has said, NOAUTH among it
    client.write_text(f"#!/bin/sh\necho '{said}'\n")
    client.chmod(0o755)
    (shell, command) = redis["healthcheck"]["test"]
    assert shell == "CMD-SHELL"
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    assert run("/bin/sh", "-c", command, environment=environment).returncode == code
