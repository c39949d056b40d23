"""Settings: the environment over a file over the commented defaults; what is wrong is named in one line."""

import re
from importlib.resources import files
from pathlib import Path

import pytest
from msgspec.structs import asdict

from services.plumbing.settings import SECRETS, Settings, SettingsError, defaults, load, shown, unknown


def test_the_defaults_are_whole_and_name_nothing_else() -> None:
    assert asdict(load({})) == defaults()


def test_every_default_stands_under_a_comment() -> None:
    blocks = re.split(r"\n\n", files("services.plumbing").joinpath("defaults.toml").read_text("utf-8"))
    for block in blocks:
        assert block.lstrip().startswith("#"), block


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    config = tmp_path / "reconcal.toml"
    config.write_text("ingest_port = 1\nreconciler_port = 2\n")
    settings = load({"RECONCAL_CONFIG": str(config), "RECONCAL_INGEST_PORT": "3"})
    assert (settings.ingest_port, settings.reconciler_port, settings.notifier_port) == (3, 2, 8082)


def test_a_secret_may_come_from_a_file_but_the_variable_wins(tmp_path: Path) -> None:
    path = tmp_path / "dsn"
    path.write_text("postgresql://file\n")
    from_file = {"RECONCAL_POSTGRES_DSN_FILE": str(path)}
    assert load(from_file).postgres_dsn == "postgresql://file"
    assert load(from_file | {"RECONCAL_POSTGRES_DSN": "postgresql://here"}).postgres_dsn == "postgresql://here"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RECONCAL_INGEST_PORT", "http", "whole number"),
        ("RECONCAL_INGEST_PORT", "70000", "65535"),
        ("RECONCAL_STALL_AFTER_SECONDS", "soon", "a number"),
        ("RECONCAL_STALL_AFTER_SECONDS", "-1", "> 0"),
        ("RECONCAL_DEAD_LETTER_BRAKE_SHARE", "1.5", "<= 1"),
        ("RECONCAL_KAFKA_ASSIGNMENT", "some", "enum"),
        ("RECONCAL_SMTP_SECURITY", "ssl", "enum"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load({name: value})
    assert str(raised.value).startswith(f"{name}: ")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [("no_such = 1", "no_such"), ("ingest_port = ", "RECONCAL_CONFIG"), ('ingest_port = "x"', "RECONCAL_INGEST_PORT")],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "reconcal.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=said):
        load({}, path)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(SettingsError, match="RECONCAL_CONFIG"):
        load({"RECONCAL_CONFIG": str(nowhere)})
    with pytest.raises(SettingsError, match="RECONCAL_SECRET_KEY_FILE"):
        load({"RECONCAL_SECRET_KEY_FILE": str(nowhere)})


def test_a_needed_setting_that_is_empty_is_named() -> None:
    with pytest.raises(SettingsError, match="RECONCAL_POSTGRES_DSN is not set"):
        load({}).need("mail_from", "postgres_dsn")


def test_secrets_are_never_shown() -> None:
    values = {f"RECONCAL_{name.upper()}": "hunter2" for name in SECRETS}
    shows = shown(load(values))
    assert {name for name, value in shows.items() if value == "(hidden)"} == SECRETS
    assert "hunter2" not in str(shows)


def test_every_setting_that_sounds_secret_is_one() -> None:
    sounding = {name for name in Settings.__struct_fields__ if re.search("secret|password|token|dsn", name)}
    assert sounding | {"calcom_proxy_url"} == SECRETS  # a password may stand in an address


def test_slips_of_the_pen_are_found() -> None:
    environ = {"RECONCAL_INGESTPORT": "", "RECONCAL_INGEST_PORT": "", "RECONCAL_TEST_KAFKA": "", "HOME": ""}
    environ |= {"RECONCAL_CONFIG": "", "RECONCAL_SECRET_KEY_FILE": ""}
    assert unknown(environ) == ["RECONCAL_INGESTPORT"]
