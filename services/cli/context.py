"""What a command works on: the settings in force, from the environment, a file or a `reconcal up` that runs."""

import asyncio
import logging
import os
import tomllib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from services.cli.failures import Wrong

if TYPE_CHECKING:
    from services.embedded.state import StackState
    from services.plumbing.postgres import Connection
    from services.plumbing.settings import Settings

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Data directory of a `reconcal up`. [default: ~/.local/share/reconcal]",
)
config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="TOML file with settings. [default: $RECONCAL_CONFIG]",
)
company_argument = click.argument("company_id", metavar="ID")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def located(command: F) -> F:
    """Give a command the options that say where the installation is."""
    return data_dir_option(config_option(command))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's asynchronous part. What libraries log of a broker that is away, the command says itself."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return asyncio.run(work)


def settings_for(
    data_dir: Path | None = None, config: Path | None = None, environ: Mapping[str, str] | None = None
) -> "Settings":
    """Give the settings in force: environment, then TOML file, then the running stack, then the defaults.

    Raises SettingsError, and StackError when several stacks run and none was named.
    """
    from services.plumbing.settings import PREFIX, load  # noqa: PLC0415

    environ = os.environ if environ is None else environ
    given = named(environ, config)
    found = _stack(data_dir, given, environ)
    folder, state = found or (data_dir, None)
    values = dict(state.settings) if state else {}
    if folder and (key := _key(folder)):
        values["secret_key"] = key
    from_stack = {PREFIX + name.upper(): str(value) for name, value in values.items() if name not in given}
    return load({**from_stack, **environ}, config)


def database_settings(data_dir: Path | None, config: Path | None) -> "Settings":
    """Give the settings of a command that reads or writes the database. Exit 2 if no database is known."""
    settings = settings_for(data_dir, config)
    if not settings.postgres_dsn:
        raise Wrong("RECONCAL_POSTGRES_DSN is not set, and no `reconcal up` is running")
    return settings


@asynccontextmanager
async def connected(settings: "Settings") -> AsyncIterator["Connection"]:
    """Open a connection for one command."""
    from services.plumbing import postgres  # noqa: PLC0415

    pool = await postgres.connect(settings, name="cli", size=1)
    try:
        async with pool.acquire() as connection:
            yield connection
    finally:
        await postgres.close(pool)


def named(environ: Mapping[str, str], config: Path | None) -> dict[str, str]:
    """Give the settings that somebody chose, by name, with what was chosen where the environment has it plainly."""
    from services.plumbing.settings import PREFIX, Settings  # noqa: PLC0415

    given: dict[str, str] = dict.fromkeys(_in_file(environ, config), "")
    for name in Settings.__struct_fields__:
        variable = PREFIX + name.upper()
        if variable in environ or f"{variable}_FILE" in environ:
            given[name] = environ.get(variable, "")
    return given


def _in_file(environ: Mapping[str, str], config: Path | None) -> list[str]:
    path = config or environ.get("RECONCAL_CONFIG")
    try:
        return list(tomllib.loads(Path(path).read_text("utf-8"))) if path else []
    except (OSError, ValueError):
        return []  # `load` says it better


def _stack(
    data_dir: Path | None, given: Mapping[str, str], environ: Mapping[str, str]
) -> "tuple[Path, StackState] | None":
    """Find the running stack that is meant: the one named, that of the database named, the default, or the only one."""
    from services.embedded import state as states  # noqa: PLC0415

    home = states.default_data_dir(environ)
    if data_dir is not None:
        state = states.read(data_dir)
        if state is None and "postgres_dsn" not in given:
            raise states.StackError(f"{data_dir}: no `reconcal up` is running on this data directory")
        return (data_dir, state) if state else None
    candidates = states.elsewhere(home)
    if "postgres_dsn" in given:
        wanted = _address(given["postgres_dsn"])
        candidates = {at: s for at, s in candidates.items() if _address(str(s.settings["postgres_dsn"])) == wanted}
    elif (state := states.read(home)) is not None:
        return home, state
    if len(candidates) > 1:
        said = ", ".join(str(folder) for folder in candidates)
        raise states.StackError(f"several `reconcal up` are running: name one with --data-dir ({said})")
    return next(iter(candidates.items()), None)


def _key(data_dir: Path) -> str | None:
    from services.embedded.state import stored_key  # noqa: PLC0415

    return stored_key(data_dir)


def _address(dsn: str) -> tuple[str, int, str]:
    """Reduce a DSN to the database that it leads to, however it is spelled."""
    try:
        parts = urlsplit(dsn)
        host, port = parts.hostname or "", parts.port or 5432
    except ValueError:
        return dsn, 0, ""
    return "127.0.0.1" if host == "localhost" else host, port, parts.path.strip("/")
