"""The stand-in as a whole: one object that acts, answers, posts and misbehaves."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime

from services.embedded.calcom.acts import Acts
from services.embedded.calcom.app import Api, Sleep
from services.embedded.calcom.hooks import Hooks, HttpPost, Post
from services.embedded.calcom.model import TRIGGERS, Account, KeyState, Webhook
from services.embedded.calcom.store import Store


class Calcom(Acts):
    """Cal.com. `api` is its ASGI application; `api.mischief`, `api.limiter` and `api.book` are for tests.

    Users begin with `join`. Acts (`book`, `move`, `cancel` ...) return when every webhook of theirs was answered.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        requests_per_minute: int = 120,
        post: Post | None = None,
        sleep: Sleep = asyncio.sleep,
        seed: int = 0,
    ) -> None:
        """`clock` gives aware times, UTC. `post`: how webhooks go out, over HTTP if not said. Opens nothing yet."""
        self._http = HttpPost()
        self.store = Store(seed)
        self.hooks = Hooks(self.store, clock, post or self._http)
        self.api = Api(self.store, clock, requests_per_minute=requests_per_minute, sleep=sleep)
        self.mischief = self.api.mischief
        self.requests = self.api.book
        super().__init__(self.store, self.hooks, clock)

    async def aclose(self) -> None:
        """Stop all pranks and hang up."""
        self.mischief.stop()
        await self._http.aclose()

    def join(self, username: str, *keys: str, time_zone: str = "Europe/Berlin") -> Account:
        """Make a user with these API keys."""
        name = f"Dr. {username.replace('-', ' ').title()}"
        made = Account(
            user_id=self.store.new_user_id(),
            name=name,
            email=f"{username}@example.com",
            username=username,
            time_zone=time_zone,
            keys=dict.fromkeys(keys, "valid"),
        )
        self.store.accounts[made.user_id] = made
        return made

    def set_key(self, account: Account, key: str, state: KeyState = "valid") -> None:
        """Add a key of a user, or let it expire or be revoked."""
        account.keys[key] = state

    def subscribe(
        self,
        account: Account,
        url: str,
        *,
        secret: str | None,
        triggers: Iterable[str] | None = None,
        active: bool = True,
        payload_template: str | None = None,
    ) -> Webhook:
        """Enter a webhook as by hand; with all triggers if none are named. One user may enter a URL twice this way."""
        row = Webhook(
            id=self.store.new_uuid(),
            user_id=account.user_id,
            subscriber_url=url,
            triggers=tuple(sorted(TRIGGERS) if triggers is None else triggers),
            active=active,
            secret=secret,
            payload_template=payload_template,
        )
        self.store.webhooks[row.id] = row
        return row
