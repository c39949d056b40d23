"""What is deployed speaks of settings, metrics and topics that exist."""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase

from schemas import topics
from schemas.flags import THRESHOLDS, FlagType
from services.notifier.ports import TroubleKind
from services.plumbing import kafka, telemetry
from services.plumbing.settings import defaults, unknown
from services.verifier.gate import incidents

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: Final[dict[str, Any]] = COMPOSE["services"]
OURS: Final = {name: service for name, service in SERVICES.items() if service["image"].startswith("reconcal")}


def metrics() -> set[str]:
    made = [metric for metric in vars(telemetry).values() if isinstance(metric, MetricWrapperBase)]
    families: list[Metric] = [family for metric in made for family in metric.describe()]
    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    return {family.name + suffix for family in families for suffix in suffixes[family.type]}


def test_every_alert_is_about_a_metric_that_exists() -> None:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text("utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules
    for rule in rules:
        named = set(re.findall(r"reconcal_\w+", rule["expr"]))
        assert named <= metrics(), rule["alert"]
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]


def test_alerts_name_incidents_that_there_are() -> None:
    text = (ROOT / "deploy/prometheus/alerts.yaml").read_text("utf-8")
    patterns = re.findall(r'reconcal_calcom_incidents\{kind=~?"(.+?)"\}', text)
    assert patterns
    for pattern in patterns:
        assert any(re.fullmatch(pattern, kind) for kind in incidents.Kind), pattern


def test_alerts_name_flags_that_there_are() -> None:
    text = (ROOT / "deploy/prometheus/alerts.yaml").read_text("utf-8")
    patterns = re.findall(r'reconcal_flags_total\{type=~"(.+?)"\}', text)
    assert patterns
    for pattern in patterns:
        assert any(re.fullmatch(pattern, flag_type) for flag_type in FlagType), pattern


def test_alerts_name_troubles_of_delivery_that_there_are_and_leave_none_out() -> None:
    text = (ROOT / "deploy/prometheus/alerts.yaml").read_text("utf-8")
    patterns = re.findall(r'reconcal_delivery_troubles\{kind=~?"(.+?)"\}', text)
    for pattern in patterns:
        assert any(re.fullmatch(pattern, kind) for kind in TroubleKind), pattern
    for kind in TroubleKind:
        assert any(re.fullmatch(pattern, kind) for pattern in patterns), kind


def test_a_crossed_threshold_is_explained_by_its_name() -> None:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text("utf-8"))["groups"]
    (rule,) = [rule for group in groups for rule in group["rules"] if rule["alert"] == "ReconcalThresholdCrossed"]
    for kind in THRESHOLDS:
        assert kind.lower() in rule["annotations"]["description"]


def test_the_metrics_are_found() -> None:
    assert {"reconcal_dead_letters_total", "reconcal_ingest_seconds_bucket", "reconcal_held_decisions"} <= metrics()


def test_the_strimzi_topics_are_those_that_reconcal_would_make() -> None:
    made = list(yaml.safe_load_all((ROOT / "deploy/kafka-topics.yaml").read_text("utf-8")))
    assert [topic["spec"]["topicName"] for topic in made] == list(topics.ALL)
    for topic in made:
        config = {name: str(value) for name, value in topic["spec"]["config"].items()}
        assert config.items() >= kafka._CONFIG.items()
        assert topic["spec"]["partitions"] == made[0]["spec"]["partitions"]


def test_every_variable_of_ours_means_something() -> None:
    for name, service in OURS.items():
        assert unknown(service["environment"]) == [], name
    example = (ROOT / "deploy/env.example").read_text("utf-8")
    assert unknown(dict.fromkeys(re.findall(r"^(\w+)=", example, re.MULTILINE), "")) == []


@pytest.mark.parametrize("name", OURS)
def test_every_service_is_a_command_that_may_write_nowhere_and_ends_in_time(name: str) -> None:
    service = OURS[name]
    assert service["command"] == [name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["stop_grace_period"] == "15s"


def test_the_health_check_knows_the_port_of_every_service() -> None:
    asked = dict(re.findall(r'"([A-Z]+)": "(\d+)"', (ROOT / "deploy/livez.py").read_text("utf-8")))
    ports = {name: defaults()[f"{name}_port"] for name, service in OURS.items() if service["restart"] != "no"}
    assert asked == {name.upper(): str(port) for name, port in ports.items()}
    exposed = re.findall(r"^EXPOSE (.+)$", (ROOT / "deploy/Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert set(exposed[0].split()) == set(asked.values())


def test_what_is_published_is_listened_to_from_outside_the_container() -> None:
    for name, service in OURS.items():
        for port in service.get("ports", ()):
            assert service["environment"][f"RECONCAL_{name.upper()}_HOST"] == "0.0.0.0"  # noqa: S104 - read, not bound
            assert port == "{0}:{0}".format(defaults()[f"{name}_port"])


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    for name in ("POSTGRES_PASSWORD", "RECONCAL_SECRET_KEY"):
        assert set(re.findall(rf"\$\{{{name}(.*?)\}}", text)) == {":?see deploy/env.example"}
        assert re.search(rf"^{name}=$", (ROOT / "deploy/env.example").read_text("utf-8"), re.MULTILINE)


def test_what_waits_for_another_waits_until_it_works() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"], (name, other)
            else:
                assert how["condition"] == "service_completed_successfully"
                assert SERVICES[other]["restart"] == "no"


def test_the_images_python_is_one_that_the_project_allows() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    images = re.findall(r"^FROM python:(\S+?)-slim", (ROOT / "deploy/Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert {f">={image}" for image in images} == {wanted}


def test_the_composition_runs_the_kafka_that_the_tests_run_on() -> None:
    pom = (ROOT / "tests/support/pom.xml").read_text("utf-8")
    tested = re.search(r"kafka_2\.13</artifactId>\s*<version>(.+?)</version>", pom)
    assert tested is not None
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{tested[1]}"


def test_the_image_gets_the_same_versions_as_the_tests() -> None:
    tested = pins("dev")
    for name in ("run", "service", "build"):
        assert pins(name) <= tested, f"requirements/{name}.txt: `make lock` mends it"


def pins(name: str) -> set[str]:
    text = (ROOT / f"requirements/{name}.txt").read_text("utf-8")
    return set(re.findall(r"^([\w.-]+==[^\s;\\]+)", text, re.MULTILINE))
