"""docker-compose.yml, read as a container engine would read it."""

import re
from typing import Any

import pytest
import yaml

from app.settings import LOOPBACK_HOSTS, Settings
from tests.support.root import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()

DEFAULT = re.compile(r"\$\{[A-Z0-9_]+:-([^}]*)\}")


def conditions() -> dict[str, set[str]]:
    """For each service, what others wait for."""
    waited: dict[str, set[str]] = {name: set() for name in SERVICES}
    for service in SERVICES.values():
        for name, needs in service.get("depends_on", {}).items():
            waited[name].add(needs["condition"])
    return waited


ONE_SHOT = {name for name, waited in conditions().items() if "service_completed_successfully" in waited} | {"demo"}


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONE_SHOT))
def test_what_keeps_running_has_a_health_check_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(ONE_SHOT))
def test_a_service_that_sets_up_runs_once(name: str) -> None:
    assert SERVICES[name].get("restart", "no") == "no"


def test_nobody_waits_for_the_health_of_a_service_without_a_check() -> None:
    for name, waited in conditions().items():
        assert "service_healthy" not in waited or "healthcheck" in SERVICES[name]


def test_only_loopback_is_published() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_api_itself_listens_on_loopback_behind_the_gateway() -> None:
    api = settings_of("api")
    assert api.host in LOOPBACK_HOSTS
    assert f"proxy_pass http://127.0.0.1:{api.port};" in (ROOT / "docker" / "gateway.conf").read_text()
    assert SERVICES["gateway"]["network_mode"] == "service:api"


@pytest.mark.parametrize("name", ["api", "migrate", "bucket", "worker", "worker-cuda"])
def test_settings_are_known_valid_and_those_of_the_real_stack(name: str) -> None:
    settings = settings_of(name)
    assert settings.database.startswith("postgresql://")
    assert settings.broker.startswith("redis://")
    assert not settings.embedded
    assert settings.storage == "s3://pare"


def settings_of(name: str) -> Settings:
    known = {f"PARE_{field.upper()}": field for field in Settings.model_fields}
    environment = {key: DEFAULT.sub(r"\1", str(value)) for key, value in SERVICES[name]["environment"].items()}
    return Settings(**{known[key]: value for key, value in environment.items()})


def test_each_queue_has_its_worker() -> None:
    assert {settings_of(name).queue for name in ("worker", "worker-cuda")} == {"cpu", "cuda"}
    gpu = SERVICES["worker-cuda"]["deploy"]["resources"]["reservations"]["devices"][0]
    assert gpu["capabilities"] == ["gpu"]
    assert SERVICES["worker-cuda"]["profiles"] == ["cuda"]


def test_builds_name_targets_and_arguments_of_the_dockerfile() -> None:
    targets = set(re.findall(r"^FROM .* AS (\S+)$", DOCKERFILE, re.MULTILINE))
    arguments = set(re.findall(r"^ARG ([A-Z_]+)", DOCKERFILE, re.MULTILINE))
    builds = {name: service["build"] for name, service in SERVICES.items() if "build" in service}
    assert {build["target"] for build in builds.values()} == {"api", "worker", "demo"} <= targets
    assert all(build["args"].keys() <= arguments for build in builds.values())


def test_our_containers_are_read_only_and_without_privileges() -> None:
    for service in (service for service in SERVICES.values() if "build" in service):
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_passwords_come_from_the_environment_and_images_hold_none() -> None:
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|AUTH|_URL$", key) and "pareDevelopmentOnly" in str(value):
                assert DEFAULT.search(str(value)), key
    assert not re.search("PASSWORD|SECRET|DevelopmentOnly", DOCKERFILE)
