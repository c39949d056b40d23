"""What the company commands share: a connection, and the key that secrets are kept under."""

from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from services.cli.context import connected
from services.cli.failures import Failure, Wrong

if TYPE_CHECKING:
    from services.companies.model import Purpose
    from services.plumbing.postgres import Connection
    from services.plumbing.secrets import Vault
    from services.plumbing.settings import Settings

T = TypeVar("T")

#: A file that a secret lies in.
A_FILE: Final = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
#: What is said where Cal.com was to be asked for a company that has no key; `company` is its id.
NO_API_KEY: Final = "{company} has no Cal.com API key: `reconcal companies set {company} --calcom-api-key-file`"
_HAS_KEY: Final = """
SELECT EXISTS (SELECT FROM company_secrets s WHERE s.company_id = c.company_id AND purpose = 'calcom_api_key'
  AND (expires_at IS NULL OR expires_at > $2))
FROM companies c WHERE company_id = $1 AND removed_at IS NULL"""


async def need_key(connection: "Connection", company_id: str, now: datetime) -> None:
    """Refuse a company whose Cal.com cannot be asked. Raises Wrong when it is not there, Failure without a key."""
    has_key = await connection.fetchval(_HAS_KEY, company_id, now)
    if has_key is None:
        raise Wrong(f"there is no company {company_id!r}")
    if not has_key:
        raise Failure(NO_API_KEY.format(company=company_id))


def secret_in(path: Path | None) -> str | None:
    """Read a secret from a file. Raises Failure."""
    try:
        return None if path is None else path.read_text("utf-8").strip()
    except UnicodeDecodeError:
        raise Wrong(f"{path}: not a text") from None


async def on(settings: "Settings", work: "Callable[[Connection], Coroutine[Any, Any, T]]") -> T:
    """Do something on a connection."""
    async with connected(settings) as connection:
        return await work(connection)


async def on_with_vault(settings: "Settings", work: "Callable[[Connection, Vault], Coroutine[Any, Any, T]]") -> T:
    """Do something on a connection that needs to encrypt. Raises Failure or SettingsError without the right key."""
    async with connected(settings) as connection:
        return await work(connection, await vault_of(settings, connection))


async def vault_of(settings: "Settings", connection: "Connection") -> "Vault":
    """Give the vault; refuses a key that does not fit what is there: services could not read what it wrote."""
    from services.plumbing.secrets import Vault  # noqa: PLC0415

    if not settings.secret_key:
        raise Wrong(
            "RECONCAL_SECRET_KEY is not set: give the key that the services run with,"
            " or with --data-dir the data directory of their `reconcal up`"
        )
    vault = Vault(settings.secret_key)
    known = await connection.fetchval("SELECT ciphertext FROM company_secrets ORDER BY created_at DESC LIMIT 1")
    if known is not None:
        vault.open(known)
    return vault


async def rotate(
    connection: "Connection",
    vault: "Vault",
    company_id: str,
    purpose: "Purpose",
    *,
    keep_old_seconds: float,
    given: str | None,
) -> str:
    """Put a new secret beside the old ones; gives it in clear."""
    from services.companies import admin  # noqa: PLC0415
    from services.plumbing.clock import WallClock  # noqa: PLC0415

    now = WallClock().now()
    return await admin.rotate_secret(
        connection, vault, company_id, purpose, keep_old_seconds=keep_old_seconds, now=now, given=given
    )
