"""Settings: a mapping in, a frozen Struct out. `defaults.toml` beside this file is the manual."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

PREFIX: Final = "RECONCAL_"
SECRETS: Final = frozenset({"secret_key", "postgres_dsn", "smtp_password", "kafka_sasl_password", "calcom_proxy_url"})
#: Names with our prefix that are no settings.
OTHERS: Final = frozenset({"RECONCAL_CONFIG"})

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(gt=0)]
Port = Annotated[int, Meta(ge=0, le=65535)]


class SettingsError(Exception):
    """A setting that is not there, unknown or wrong: one line that names it."""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in force. See `defaults.toml` for what each means."""

    kafka_bootstrap_servers: str
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
    kafka_sasl_mechanism: str
    kafka_sasl_username: str
    kafka_sasl_password: str
    kafka_ssl_ca_file: str
    kafka_topic_prefix: str
    kafka_partitions: Count
    kafka_replication_factor: Count
    kafka_assignment: Literal["group", "all"]
    kafka_idempotence: Literal["auto", "on", "off"]
    postgres_dsn: str
    postgres_pool_size: Count
    secret_key: str
    ingest_host: str
    ingest_port: Port
    ingest_public_url: str
    console_url: str
    reconciler_host: str
    reconciler_port: Port
    notifier_host: str
    notifier_port: Port
    verifier_host: str
    verifier_port: Port
    console_host: str
    console_port: Port
    ingest_max_body_bytes: Count
    ingest_produce_timeout_seconds: Positive
    ingest_spool_dir: str
    ingest_spool_max_bytes: Count
    ingest_spool_after_seconds: Positive
    ingest_events_per_second: Positive
    ingest_events_burst: Count
    companies_refresh_seconds: Positive
    batch_max_records: Count
    probe_interval_seconds: Positive
    stall_after_seconds: Positive
    stall_grace_seconds: Annotated[float, Meta(ge=0)]
    door_silence_seconds: Positive
    dead_letter_brake_run: Count
    dead_letter_brake_share: Annotated[float, Meta(gt=0, le=1)]
    dead_letter_brake_of: Count
    calcom_api_version: str
    calcom_timeout_seconds: Positive
    calcom_max_answer_bytes: Count
    calcom_proxy_url: str
    calcom_private_addresses: Literal["refuse", "allow"]
    calcom_requests_per_minute: Annotated[int, Meta(ge=10)]
    verifier_slots: Annotated[int, Meta(ge=3)]
    verifier_lease_seconds: Positive
    calcom_poll_seconds: Positive
    calcom_poll_overlap_seconds: Positive
    calcom_poll_settle_seconds: Annotated[float, Meta(ge=0)]
    calcom_webhook_check_seconds: Positive
    sweep_time_zone: str
    smtp_host: str
    smtp_port: Port
    smtp_security: Literal["none", "starttls", "tls"]
    smtp_username: str
    smtp_password: str
    smtp_timeout_seconds: Positive
    smtp_ca_file: str
    mail_from: str
    endpoint_timeout_seconds: Positive
    endpoint_private_addresses: Literal["refuse", "allow"]
    endpoint_off_after_days: Positive
    log_format: Literal["json", "text"]
    log_level: Literal["debug", "info", "warning", "error"]

    def need(self, *names: str) -> None:
        """Raise SettingsError for the first of these settings that is empty."""
        for name in names:
            if not getattr(self, name):
                raise SettingsError(f"{PREFIX}{name.upper()} is not set")


def defaults() -> dict[str, Any]:
    """Read the commented defaults."""
    return tomllib.loads(files("services.plumbing").joinpath("defaults.toml").read_text("utf-8"))


def load(environ: Mapping[str, str], config: Path | None = None) -> Settings:
    """Build the settings. Raises SettingsError with one line that names the setting."""
    values = defaults()
    values |= _from_file(config or _path(environ.get("RECONCAL_CONFIG")), frozenset(values))
    values |= _from_environ(environ, values)
    try:
        return msgspec.convert(values, Settings, strict=True)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$.")
        raise SettingsError(f"{PREFIX}{path.rstrip('`').upper()}: {what}") from None


def unknown(environ: Mapping[str, str]) -> list[str]:
    """Name the variables with our prefix that mean nothing: mostly slips of the pen."""
    known = {PREFIX + name.upper() for name in Settings.__struct_fields__}
    known |= {f"{name}_FILE" for name in known} | OTHERS
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known and "_TEST_" not in name)


def shown(settings: Settings) -> dict[str, Any]:
    """Give the settings for people to read: secrets hidden."""
    return {name: _hide(name, value) for name, value in msgspec.structs.asdict(settings).items()}


def _hide(name: str, value: Any) -> Any:  # noqa: ANN401 - a setting's value is of any type
    return "(hidden)" if name in SECRETS and value else value


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None


def _from_file(path: Path | None, known: frozenset[str]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{PREFIX}CONFIG: {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{PREFIX}CONFIG: {path}: {error}") from None
    for name in values:
        if name not in known:
            raise SettingsError(f"{path}: there is no setting {name!r}")
    return values


def _from_environ(environ: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, default in values.items():
        text = _given(environ, PREFIX + name.upper())
        if text is not None:
            found[name] = _parse(PREFIX + name.upper(), text, default)
    return found


def _given(environ: Mapping[str, str], name: str) -> str | None:
    path = environ.get(f"{name}_FILE")
    if name in environ or path is None:
        return environ.get(name)
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{name}_FILE: {path}: {error.strerror}") from None


def _parse(name: str, text: str, default: Any) -> Any:  # noqa: ANN401 - as in the TOML file
    if isinstance(default, str):
        return text
    try:
        return int(text) if isinstance(default, int) else float(text)
    except ValueError:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise SettingsError(f"{name}: {kind} is wanted, not {text!r}") from None
