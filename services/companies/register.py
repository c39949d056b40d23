"""The register in memory: read again only when something changed, and in force while the database is away."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from services.companies import rows
from services.companies.model import Company, Contact, Purpose, Secret
from services.plumbing import telemetry
from services.plumbing.lifecycle import pause
from services.plumbing.postgres import Pool
from services.plumbing.secrets import Vault
from services.plumbing.settings import SettingsError

#: A log event: a secret that the key in force does not open; its door stays shut.
SECRET_UNREADABLE: Final = "companies.secret_unreadable"  # noqa: S105 - a name, no secret
#: What proves that a message is a company's. A Cal.com API key is its client's alone: no door has it in memory.
DOORS: Final = frozenset({Purpose.CALCOM_WEBHOOK, Purpose.APP_WEBHOOK, Purpose.INGEST_TOKEN})


class _Snapshot(Struct, frozen=True):
    counter: int
    companies: Mapping[str, Company]
    contacts: Mapping[str, tuple[Contact, ...]]
    secrets: Mapping[tuple[str, str], tuple[Secret, ...]]
    opened: Mapping[UUID, bytes]
    ends: Mapping[tuple[str, str], tuple[datetime | None, ...]] = {}


_NOTHING: Final = _Snapshot(-1, {}, {}, {}, {})


class Register:
    """All companies that are not removed. Reads never wait: they see the last snapshot."""

    def __init__(self, opens: Collection[Purpose] = DOORS) -> None:
        """Begin empty: `loaded` is False until the first `refresh`. `opens`: the secrets that are wanted in clear."""
        self._opens = frozenset(opens)
        self._now = _NOTHING
        self._first = asyncio.Event()

    @property
    def loaded(self) -> bool:
        """Tell whether the register was ever read."""
        return self._now is not _NOTHING

    async def read_within(self, seconds: float) -> bool:
        """Wait for the first `refresh`, for so long at most; tells whether the register was read."""
        try:
            async with asyncio.timeout(seconds):
                await self._first.wait()
        except TimeoutError:
            return False
        return True

    @property
    def companies(self) -> Mapping[str, Company]:
        """Give all companies by id."""
        return self._now.companies

    def company(self, company_id: str) -> Company | None:
        """Give one company; None: there is none of this id, or it was removed."""
        return self._now.companies.get(company_id)

    def contacts(self, company_id: str) -> tuple[Contact, ...]:
        """Give a company's people, of every role, suppressed ones too."""
        return self._now.contacts.get(company_id, ())

    def secrets(self, company_id: str, purpose: Purpose, now: datetime) -> tuple[bytes, ...]:
        """Give the secrets that count, newest first; none for a company that is not there."""
        found = self._now.secrets.get((company_id, purpose), ())
        return tuple([secret.value for secret in found if secret.active(now)])

    def holds(self, company_id: str, purpose: Purpose, now: datetime) -> bool:
        """Tell whether a company has a secret that counts, opened or not: no vault is needed."""
        ends = self._now.ends.get((company_id, purpose), ())
        return any(expires_at is None or now < expires_at for expires_at in ends)

    async def refresh(self, pool: Pool, vault: Vault | None = None) -> bool:
        """Read everything if something changed since the last time; tells whether it did.

        Without a vault no secret is opened. Raises asyncpg's errors, OSError or TimeoutError when the database is
        away, and SettingsError when the vault's key opens none of the secrets; the last snapshot stays in force.
        """
        found = await rows.read(pool, unless=self._now.counter)
        if found is None:
            return False
        # In a thread: some 10,000 companies take a second, and the doors go on meanwhile.
        self._now = await asyncio.to_thread(_snapshot, found, vault, self._now.opened, self._opens)
        self._first.set()
        return True

    async def follow(
        self,
        pool: Pool,
        every_seconds: float,
        stop: asyncio.Event,
        *,
        vault: Vault | None = None,
        changed: Callable[[], None] | None = None,
    ) -> None:
        """Refresh until `stop`; a loop for `lifecycle.keep`. `changed` is called after every snapshot."""
        while not stop.is_set():
            if await self.refresh(pool, vault) and changed:
                changed()
            await pause(every_seconds, stop)


def _snapshot(
    found: rows.Found, vault: Vault | None, known: Mapping[UUID, bytes], opens: frozenset[Purpose]
) -> _Snapshot:
    wanted = [row for row in found.secrets if row.purpose in opens]
    opened = _open(wanted, vault, known) if vault else {}
    secrets: dict[tuple[str, str], tuple[Secret, ...]] = {}
    ends: dict[tuple[str, str], tuple[datetime | None, ...]] = {}
    for row in found.secrets:
        key = (row.company_id, row.purpose)
        ends[key] = (*ends.get(key, ()), row.expires_at)
        value = opened.get(row.secret_id)
        if value is not None:
            secrets[key] = (*secrets.get(key, ()), Secret(value, row.expires_at))
    return _Snapshot(found.counter, found.companies, found.contacts, secrets, opened, ends)


def _open(wanted: list[rows.Sealed], vault: Vault, known: Mapping[UUID, bytes]) -> dict[UUID, bytes]:
    """Open what is new: a secret's row never changes but for its end."""
    opened: dict[UUID, bytes] = {}
    unreadable: list[rows.Sealed] = []
    failure: SettingsError | None = None
    for row in wanted:
        try:
            opened[row.secret_id] = known.get(row.secret_id) or vault.open(row.ciphertext).encode()
        except SettingsError as error:
            failure = error
            unreadable.append(row)
    if failure and not opened:
        raise failure
    for row in unreadable:  # one tenant's trouble is not the others'
        telemetry.log().error(SECRET_UNREADABLE, company=row.company_id, purpose=row.purpose)
    return opened
