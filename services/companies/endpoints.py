"""Where a company is told by HTTP: what the command line does to endpoints. Running notifiers see it within seconds.

An address may be a secret (Slack's are): it is kept encrypted, and shown to nobody again; its host is what is shown.
"""

from datetime import datetime
from typing import Final
from urllib.parse import SplitResult, urlsplit
from uuid import UUID, uuid4

import asyncpg
from msgspec import Struct

from services.companies import admin, checks
from services.companies.admin import Conn
from services.companies.checks import CompanyError
from services.companies.model import Format, Language, Purpose
from services.plumbing.network import names_private
from services.plumbing.secrets import Vault

#: So many endpoints a company at most.
MOST: Final = 10
_LONGEST_URL: Final = 2000
#: What Standard Webhooks asks for.
_LEAST_KEY_BYTES, _MOST_KEY_BYTES = 24, 64


class NewEndpoint(Struct, frozen=True, kw_only=True):
    """An endpoint to be. `secret`: `whsec_...` of format standard; None: generated. `muted_kinds`: never told there."""

    url: str
    format: str = Format.STANDARD
    language: str = "en"
    muted_kinds: tuple[str, ...] = ()
    secret: str | None = None

    def __repr__(self) -> str:
        """Hide address and secret, whoever prints it."""
        return f"NewEndpoint(format={self.format!r}, address and secret hidden)"


class Endpoint(Struct, frozen=True, kw_only=True):
    """An endpoint as it is shown. `failing_since`: since when nothing was taken; `disabled_at`: since when off."""

    endpoint_id: UUID
    format: Format
    host: str
    language: Language
    muted_kinds: tuple[str, ...]
    created_at: datetime
    failing_since: datetime | None = None
    last_error: str | None = None
    disabled_at: datetime | None = None
    disabled_reason: str | None = None


async def add(
    conn: Conn, vault: Vault, company_id: str, new: NewEndpoint, *, allow_private: bool = False
) -> tuple[Endpoint, str | None]:
    """Add an endpoint; gives it and the secret that it is signed with: to be shown once. Slack's has none.

    `allow_private`: the setting `endpoint_private_addresses` is `allow`, so that plain http will do, too. Else what
    says by itself that it is private is refused here, and a name that leads there whenever something is to be told.
    Raises CompanyError, which never tells the address.
    """
    kind, language = _format(new.format), checks.language(new.language)
    host = _host(new.url, allow_private=allow_private)
    muted, secret = checks.kinds(new.muted_kinds, "muted_kinds"), _secret(new.secret, kind)
    endpoint_id = uuid4()
    async with conn.transaction():
        await admin.get_company(conn, company_id)
        if await conn.fetchval(_COUNT, company_id) >= MOST:
            raise CompanyError(f"endpoints: {company_id} has {MOST} already; remove one first")
        ciphertext = None if secret is None else vault.close(secret)
        row = (company_id, endpoint_id, kind, host, vault.close(new.url), ciphertext, language, muted)
        found = await conn.fetchrow(_INSERT, *row)
    assert found is not None  # noqa: S101 - it was inserted
    return _endpoint(found), secret


async def list_endpoints(conn: Conn, company_id: str) -> list[Endpoint]:
    """Give a company's endpoints, the oldest first. Raises CompanyError."""
    await admin.get_company(conn, company_id)
    return [_endpoint(row) for row in await conn.fetch(_LIST, company_id)]


async def remove(conn: Conn, company_id: str, endpoint_id: str) -> Endpoint:
    """Remove an endpoint, with what waits for it; gives what it was. Raises CompanyError."""
    async with conn.transaction():
        await admin.get_company(conn, company_id)
        found = await conn.fetchrow(_DELETE, company_id, _id(endpoint_id))
        if found is None:
            raise _unknown(company_id, endpoint_id)
        await conn.execute(_FORGET, company_id, found["endpoint_id"])
    return _endpoint(found)


async def enable(conn: Conn, company_id: str, endpoint_id: str) -> Endpoint:
    """Switch an endpoint on again, and have it tried at once. What was given up stays so. Raises CompanyError."""
    await admin.get_company(conn, company_id)
    found = await conn.fetchrow(_ENABLE, company_id, _id(endpoint_id))
    if found is None:
        raise _unknown(company_id, endpoint_id)
    return _endpoint(found)


_SHOWN: Final = ", ".join(Endpoint.__struct_fields__)
_COUNT: Final = "SELECT count(*) FROM endpoints WHERE company_id = $1"
_INSERT: Final = f"""
INSERT INTO endpoints (company_id, endpoint_id, format, host, url_ciphertext, secret_ciphertext, language, muted_kinds)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING {_SHOWN}"""  # noqa: S608 - a program's constants, here and below
_LIST: Final = f"SELECT {_SHOWN} FROM endpoints WHERE company_id = $1 ORDER BY created_at, endpoint_id"  # noqa: S608
_DELETE: Final = f"DELETE FROM endpoints WHERE company_id = $1 AND endpoint_id = $2 RETURNING {_SHOWN}"  # noqa: S608
_FORGET: Final = """
WITH turns AS (DELETE FROM notify_turns WHERE company_id = $1 AND recipient_id = $2)
DELETE FROM endpoint_messages WHERE company_id = $1 AND endpoint_id = $2"""
_ENABLE: Final = f"""
UPDATE endpoints SET disabled_at = NULL, disabled_reason = NULL, failing_since = NULL, last_error = NULL, attempts = 0,
  not_before = '-infinity'
WHERE company_id = $1 AND endpoint_id = $2 RETURNING {_SHOWN}"""  # noqa: S608


def _endpoint(row: asyncpg.Record) -> Endpoint:
    values = dict(row) | {
        "format": Format(row["format"]),
        "language": Language(row["language"]),
        "muted_kinds": tuple(row["muted_kinds"]),
    }
    return Endpoint(**values)


def _id(given: str) -> UUID:
    try:
        return UUID(given)
    except ValueError:
        raise CompanyError("endpoint: an id as `list` shows it is wanted") from None


def _unknown(company_id: str, endpoint_id: str) -> CompanyError:
    return CompanyError(f"endpoint: {company_id} has no endpoint {endpoint_id}")


def _format(given: str) -> Format:
    try:
        return Format(given)
    except ValueError:
        raise CompanyError(f"format: {given!r} is none of {', '.join(Format)}") from None


def _host(url: str, *, allow_private: bool) -> str:
    """Check an address and give its host, with the port where it names one. What is refused is not quoted."""
    if len(url) > _LONGEST_URL:
        raise CompanyError(f"url: at most {_LONGEST_URL} characters are wanted")
    parts, port = _split(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise CompanyError("url: an address like https://hooks.example.com/reconcal is wanted")
    if "@" in parts.netloc:
        raise CompanyError("url: a user or password in it is not sent; an address without is wanted")
    if parts.scheme == "http" and not allow_private:
        raise CompanyError("url: https is wanted; http will do where RECONCAL_ENDPOINT_PRIVATE_ADDRESSES is `allow`")
    if names_private(parts.hostname) and not allow_private:
        raise CompanyError("url: a private address is refused unless RECONCAL_ENDPOINT_PRIVATE_ADDRESSES is `allow`")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return name if port is None else f"{name}:{port}"


def _split(url: str) -> tuple[SplitResult | None, int | None]:
    if not url.isprintable() or " " in url:
        return None, None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None, None
    return parts, port


def _secret(given: str | None, kind: Format) -> str | None:
    if kind is Format.SLACK:
        if given is not None:
            raise CompanyError("secret: what goes to Slack is not signed; none is wanted")
        return None
    if given is None:
        return admin.generate(Purpose.APP_WEBHOOK)  # of the same form
    return checks.signing_secret(given, "secret", least_bytes=_LEAST_KEY_BYTES, most_bytes=_MOST_KEY_BYTES)
