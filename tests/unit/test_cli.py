"""The command line by itself: what it says to wrong input, and what it takes its settings from."""

import subprocess
import sys
from email import message_from_string
from pathlib import Path

import asyncpg
import click
import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError
from click.testing import CliRunner, Result
from cryptography.fernet import Fernet

from services.cli import COMMANDS, main
from services.cli.contacts import contacts_of
from services.cli.failures import failure_of
from services.companies.checks import CompanyError
from services.notifier import samples
from services.notifier.letter import Letter, Occasion
from services.plumbing.migrate import MigrationError
from services.plumbing.settings import SettingsError

LATER = {"users", "explain", "replay", "simulate", "doctor"}

RECORD = "a59df791-f79a-50c5-a2de-392b3089276a"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user with an empty home and no settings."""
    for name in ("RECONCAL_POSTGRES_DSN", "RECONCAL_KAFKA_BOOTSTRAP_SERVERS", "RECONCAL_SECRET_KEY", "RECONCAL_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))


def call(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environ, prog_name="reconcal")


def test_help_names_every_command_and_promises_none_that_is_not_there() -> None:
    said = call("--help")
    assert said.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in said.output
        assert call(name, "--help").exit_code == 0
    assert not {word for word in said.output.split() if word in LATER}


def test_starting_the_command_line_imports_no_service_and_no_client() -> None:
    program = (
        "import services.cli, sys; print([m for m in sys.modules if m.split('.')[0] in WATCHED or m.startswith(OURS)])"
    )
    watched = "WATCHED = {'aiokafka', 'asyncpg', 'msgspec', 'rich', 'starlette', 'structlog'}"
    ours = "OURS = ('services.plumbing', 'services.embedded', 'services.ingest', 'services.reconciler')"
    ran = subprocess.run(
        [sys.executable, "-c", f"{watched}\n{ours}\n{program}"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_an_unknown_command_is_wrong_usage() -> None:
    assert call("frobnicate").exit_code == 2


@pytest.mark.parametrize(
    "command",
    [
        ["records", "--company", "acme"],
        ["companies", "list"],
        ["companies", "add", "acme", "--name", "Acme"],
        ["dead-letters", "list"],
        ["status"],
        ["retry", "--company", "acme"],
        ["notify", "test", "--company", "acme", "--to", "me@example.com"],
        ["notify", "inbox", "--company", "acme", "--to", "me@example.com"],
        ["companies", "contacts", "set", "acme", "me@example.com", "--delivery", "daily"],
        ["migrate"],
    ],
)
def test_without_a_database_a_command_names_the_setting_in_one_line(command: list[str]) -> None:
    said = call(*command)
    assert said.exit_code == 2
    assert said.output == "reconcal: RECONCAL_POSTGRES_DSN is not set, and no `reconcal up` is running\n"


def test_without_a_broker_topics_names_the_setting() -> None:
    said = call("topics")
    assert (said.exit_code, said.output.count("\n")) == (2, 1)
    assert "RECONCAL_KAFKA_BOOTSTRAP_SERVERS" in said.output


@pytest.mark.parametrize("service", ["ingest", "reconciler", "verifier", "notifier"])
def test_a_service_without_its_settings_does_not_start(service: str) -> None:
    said = call(service)
    assert said.exit_code == 2
    assert said.output == "reconcal: RECONCAL_KAFKA_BOOTSTRAP_SERVERS is not set\n"


def test_a_wrong_setting_is_named_in_one_line() -> None:
    said = call("config", RECONCAL_INGEST_PORT="many")
    assert said.exit_code == 2
    assert said.output == "reconcal: RECONCAL_INGEST_PORT: a whole number is wanted, not 'many'\n"


def test_a_settings_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    said = call("config", "--config", str(tmp_path / "none.toml"))
    assert said.exit_code == 2
    assert said.output.startswith("reconcal: RECONCAL_CONFIG: ")


def test_config_hides_secrets() -> None:
    dsn, key = "postgresql://me:hush@db/reconcal", Fernet.generate_key().decode()
    for options in ([], ["--json"]):
        said = call(
            "config", *options, RECONCAL_POSTGRES_DSN=dsn, RECONCAL_SECRET_KEY=key, RECONCAL_SMTP_PASSWORD="hush"
        )
        assert said.exit_code == 0
        assert "hush" not in said.output
        assert key not in said.output
        assert "(hidden)" in said.output


def test_config_prints_toml_that_can_be_read_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(call("config", RECONCAL_KAFKA_PARTITIONS="5").output)
    assert msgspec.json.decode(call("config", "--json", "--config", str(file)).output)["kafka_partitions"] == 5


def test_a_new_secret_key_is_one_and_nothing_else() -> None:
    said = call("config", "--new-secret-key")
    assert Fernet(said.output.strip()).encrypt(b"it works")


def test_records_take_only_statuses_that_there_are() -> None:
    assert call("records", "--company", "acme", "--status", "fine").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["4711", "--company", "acme"],
        [RECORD, "--company", "acme", "--wait"],
        [RECORD, "--company", "acme", "--days", "30"],
        ["--company", "acme", "--days", "0"],
        ["--company", "acme", "--timeout-seconds", "0"],
    ],
)
def test_a_retry_is_of_one_record_or_of_a_company_for_some_days(arguments: list[str]) -> None:
    assert call("retry", *arguments).exit_code == 2


def test_one_role_is_for_all_contacts_and_several_are_one_each() -> None:
    people = ["Mia <mia@example.com>", "Tom <tom@example.com>"]
    assert [c.role for c in contacts_of(people, ["manager"], [])] == ["manager", "manager"]
    assert [c.role for c in contacts_of(people, ["admin", "viewer"], [])] == ["admin", "viewer"]
    assert [(c.role, c.language) for c in contacts_of(people, [], ["de"])] == [("admin", "de"), ("admin", "de")]
    assert contacts_of([], [], []) == []


@pytest.mark.parametrize(
    ("people", "roles"),
    [([], ["admin"]), (["a@example.com"], ["admin", "viewer"]), (["a@x.de", "b@x.de"], ["admin"] * 3)],
)
def test_roles_that_fit_no_contacts_are_wrong_usage(people: list[str], roles: list[str]) -> None:
    with pytest.raises(click.UsageError):
        contacts_of(people, roles, [])


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (SettingsError("RECONCAL_X: no"), 2),
        (MigrationError("the database is newer"), 2),
        (CompanyError("name: too long"), 2),
        (asyncpg.InvalidPasswordError("password authentication failed"), 2),
        (asyncpg.InvalidCatalogNameError("there is no such database"), 2),
        (asyncpg.UndefinedTableError("relation records does not exist"), 1),
        (asyncpg.CannotConnectNowError("starting up"), 1),
        (ConnectionRefusedError(111, "refused"), 1),
        (TimeoutError(), 1),
        (KafkaConnectionError("Unable to bootstrap"), 1),
        (PermissionError(13, "denied"), 1),
    ],
)
def test_what_can_be_foreseen_is_one_line(error: Exception, exit_code: int) -> None:
    failure = failure_of(error)
    assert failure is not None
    assert failure.exit_code == exit_code
    assert failure.message
    assert "\n" not in failure.message


def test_what_is_ours_stays_an_error() -> None:
    assert failure_of(AssertionError("we are wrong")) is None
    assert failure_of(KeyError("x")) is None
    assert failure_of(BrokenPipeError()) is None


@pytest.mark.parametrize("kind", ["ORPHANED_LOCAL", "orphaned-local", "Digest", "mixed"])
@pytest.mark.parametrize("language", ["de", "en"])
def test_a_sample_mail_is_printed_without_a_database(kind: str, language: str) -> None:
    text = call("notify", "preview", kind, "--language", language)
    assert text.exit_code == 0, text.output
    assert text.output.startswith("Subject: ")
    assert "Praxis am See" in text.output
    html = call("notify", "preview", kind, "--language", language, "--format", "html").output
    assert html.startswith("<!doctype html>")
    assert f'lang="{language}"' in html


def test_a_sample_mail_is_printed_as_bytes_and_as_what_it_tells() -> None:
    mail = message_from_string(call("notify", "preview", "reminder", "--format", "raw").output)
    assert mail["To"] == "Mia Muster <mia@example.com>"
    letter = msgspec.json.decode(call("notify", "preview", "reminder", "--format", "json").output, type=Letter)
    assert letter.occasion is Occasion.REMINDER


def test_every_sample_is_printed_in_both_languages() -> None:
    for name in samples.NAMES:
        for language in ("de", "en"):
            assert call("notify", "preview", name, "--language", language).exit_code == 0


def test_a_sample_that_there_is_not_is_one_line_that_lists_those_there_are() -> None:
    said = call("notify", "preview", "everything")
    assert said.exit_code == 2
    assert said.output.startswith("reconcal: there is no sample 'everything': orphaned_local, ")
    assert said.output.count("\n") == 1


def test_a_sender_that_is_no_address_is_named_by_its_setting() -> None:
    said = call("notify", "preview", "digest", RECONCAL_MAIL_FROM="nobody")
    assert (said.exit_code, said.output.count("\n")) == (2, 1)
    assert said.output.startswith("reconcal: RECONCAL_MAIL_FROM: 'nobody' is not an address")
