"""The stand-in's own database, in memory: rows with their past, so that a replica may lag behind."""

from collections.abc import Iterable
from datetime import datetime
from itertools import count
from random import Random
from typing import Final
from uuid import UUID

from services.embedded.calcom.model import Account, Booking, Webhook

_LETTERS: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_UID_LENGTH: Final = 22


class Store:
    """All that Cal.com knows. The same seed gives the same uids in the same order."""

    def __init__(self, seed: int = 0) -> None:
        """Begin empty."""
        self._random = Random(seed)  # noqa: S311 - names, not secrets
        self._booking_ids = count(90001)
        self._user_ids = count(1401)
        self._past: dict[str, list[tuple[datetime, Booking]]] = {}
        self._series: dict[str, dict[str, None]] = {}  # uids in the order of their making
        self._hidden: dict[str, datetime] = {}
        self.accounts: dict[int, Account] = {}
        self.webhooks: dict[str, Webhook] = {}

    def new_uid(self) -> str:
        """Give a uid as Cal.com makes them."""
        return "".join(self._random.choices(_LETTERS, k=_UID_LENGTH))

    def new_uuid(self) -> str:
        """Give the name of a seat, a series or a webhook."""
        return str(UUID(int=self._random.getrandbits(128), version=4))

    def new_booking_id(self) -> int:
        """Give the next number of a booking."""
        return next(self._booking_ids)

    def new_user_id(self) -> int:
        """Give the next number of a user."""
        return next(self._user_ids)

    def put(self, at: datetime, booking: Booking) -> Booking:
        """Store a row as it is from `at` on; gives it."""
        self._past.setdefault(booking.uid, []).append((at, booking))
        if booking.series_uid is not None:
            self._series.setdefault(booking.series_uid, {})[booking.uid] = None
        return booking

    def hide(self, uid: str, until: datetime) -> None:
        """Let the API not see a booking before `until`."""
        self._hidden[uid] = until

    def booking(self, uid: str) -> Booking:
        """Give a row as it is. Raises KeyError."""
        return self._past[uid][-1][1]

    def uids(self, series_uid: str) -> list[str]:
        """Give the occurrences of a series, oldest first."""
        return list(self._series.get(series_uid, ()))

    def seen(self, uid: str, now: datetime, as_of: datetime) -> Booking | None:
        """Give a row as a replica has it that has come as far as `as_of`."""
        if now < self._hidden.get(uid, now):
            return None
        return next((row for at, row in reversed(self._past.get(uid, ())) if at <= as_of), None)

    def all_seen(self, now: datetime, as_of: datetime) -> list[Booking]:
        """Give all rows as a replica has them, oldest first."""
        rows = (self.seen(uid, now, as_of) for uid in self._past)
        return [row for row in rows if row is not None]

    def account_of(self, key: str) -> Account | None:
        """Give whose key it is, or was."""
        return next((account for account in self.accounts.values() if key in account.keys), None)

    def webhooks_of(self, user_id: int) -> list[Webhook]:
        """Give a user's webhooks, oldest first."""
        return [webhook for webhook in self.webhooks.values() if webhook.user_id == user_id]

    def subscribers(self, user_id: int, trigger: str) -> Iterable[Webhook]:
        """Give the webhooks that are told of a trigger."""
        return [one for one in self.webhooks_of(user_id) if one.active and trigger in one.triggers]
