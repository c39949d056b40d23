"""What can be foreseen, said in one line: exit 2 for what somebody set, 1 for what is away."""

from collections.abc import Iterator
from typing import IO, Any

import click


class Failure(click.ClickException):
    """Something is away or not as it should be: one line on stderr, exit 1."""

    def __init__(self, message: str) -> None:
        """`message`: one line, for people."""
        super().__init__(" ".join(message.split()))

    def show(self, file: IO[Any] | None = None) -> None:
        """Say it."""
        click.echo(f"reconcal: {self.message}", file=file, err=file is None)


class Wrong(Failure):
    """Somebody set something wrong: one line on stderr, exit 2."""

    exit_code = 2


def failure_of(error: Exception) -> Failure | None:
    """Say an error in one line, or None if it is not one of those that can be foreseen (then it is ours)."""
    if isinstance(error, click.ClickException | click.exceptions.Exit | click.Abort | BrokenPipeError):
        return None
    for kinds, failure, text in _foreseen():
        if isinstance(error, kinds):
            return failure(text.format(error=error, told=told(error)))
    return None


def _foreseen() -> Iterator[tuple[tuple[type[Exception], ...], type[Failure], str]]:
    """Give what can be foreseen, the particular before the general; imported only when something went wrong."""
    import asyncpg  # noqa: PLC0415
    from aiokafka.errors import KafkaError  # noqa: PLC0415

    from services.companies.checks import CompanyError  # noqa: PLC0415
    from services.embedded.child import ChildError  # noqa: PLC0415
    from services.embedded.state import NotReady, StackError  # noqa: PLC0415
    from services.plumbing.migrate import MigrationError  # noqa: PLC0415
    from services.plumbing.settings import SettingsError  # noqa: PLC0415

    dsn = "RECONCAL_POSTGRES_DSN"
    yield (SettingsError, MigrationError, CompanyError, StackError), Wrong, "{error}"
    yield (ChildError, NotReady), Failure, "{error}"
    refused = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
    yield refused, Wrong, dsn + ": {error}"
    spelled = (asyncpg.exceptions.ClientConfigurationError,)
    yield spelled, Wrong, dsn + ": not an address of a database (postgresql://user:password@host/db)"
    yield (asyncpg.UndefinedTableError,), Failure, "the database lacks its tables; `reconcal migrate` makes them"
    yield (asyncpg.LockNotAvailableError,), Failure, "a table that must change is busy; nothing was changed, try again"
    yield (KafkaError,), Failure, "Kafka does not answer: {told}"
    yield (asyncpg.PostgresError, asyncpg.InterfaceError), Failure, "PostgreSQL does not answer: {told}"
    yield (ConnectionError, TimeoutError), Failure, "PostgreSQL does not answer: {told}"
    yield (OSError,), Failure, "{told}"


def told(error: Exception) -> str:
    """Give an error in one line; Kafka's name themselves already."""
    from services.plumbing.lifecycle import describe  # noqa: PLC0415

    return describe(error).removeprefix(f"{type(error).__name__}: {type(error).__name__}: ")
