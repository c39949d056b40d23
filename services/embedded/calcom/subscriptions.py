"""`/v2/webhooks` of the stand-in: a user's subscriptions."""

from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.embedded.calcom import listing, shapes
from services.embedded.calcom.answers import NO_AUTHENTICATION, Refused, answer, invalid
from services.embedded.calcom.model import TRIGGERS, Account, Webhook
from services.embedded.calcom.store import Store

_Url = Annotated[str, Meta(pattern="^https?://")]


class _New(Struct, kw_only=True, rename="camel"):
    subscriber_url: _Url
    triggers: list[str]
    active: bool
    secret: str | None = None
    payload_template: str | None = None


class _Changed(Struct, kw_only=True, rename="camel"):
    subscriber_url: _Url | UnsetType = UNSET
    triggers: list[str] | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    secret: str | UnsetType | None = UNSET
    payload_template: str | UnsetType | None = UNSET


N = TypeVar("N", _New, _Changed)


def routes(store: Store) -> list[Route]:
    """Give the routes."""
    made = _Subscriptions(store)
    return [
        Route("/v2/webhooks", made.all, methods=["GET"]),
        Route("/v2/webhooks", made.create, methods=["POST"]),
        Route("/v2/webhooks/{id}", made.one, methods=["GET"]),
        Route("/v2/webhooks/{id}", made.change, methods=["PATCH"]),
        Route("/v2/webhooks/{id}", made.remove, methods=["DELETE"]),
    ]


class _Subscriptions:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def all(self, request: Request) -> Response:
        try:
            query = listing.read({"take": "250"} | dict(request.query_params), by_cursor=False)
        except listing.Invalid as error:
            raise invalid(list(error.errors)) from None
        rows = self._store.webhooks_of(_user(request).user_id)[query.skip : query.skip + query.take]
        return answer(request, shapes.success([shapes.webhook(row) for row in rows]))

    async def create(self, request: Request) -> Response:
        asked = await _read(request, _New)
        user = _user(request)
        self._require_free(user, asked.subscriber_url)
        row = Webhook(
            id=self._store.new_uuid(),
            user_id=user.user_id,
            subscriber_url=asked.subscriber_url,
            triggers=tuple(asked.triggers),
            active=asked.active,
            secret=asked.secret,
            payload_template=asked.payload_template,
        )
        self._store.webhooks[row.id] = row
        return answer(request, shapes.success(shapes.webhook(row)), 201)

    async def one(self, request: Request) -> Response:
        return answer(request, shapes.success(shapes.webhook(self._row(request))))

    async def change(self, request: Request) -> Response:
        row = self._row(request)
        asked = await _read(request, _Changed)
        changes = {key: value for key, value in msgspec.structs.asdict(asked).items() if value is not UNSET}
        if changes.get("subscriber_url", row.subscriber_url) != row.subscriber_url:
            self._require_free(_user(request), changes["subscriber_url"])
        if "triggers" in changes:
            changes["triggers"] = tuple(changes["triggers"])
        row = self._store.webhooks[row.id] = replace(row, **changes)
        return answer(request, shapes.success(shapes.webhook(row)))

    async def remove(self, request: Request) -> Response:
        row = self._store.webhooks.pop(self._row(request).id)
        return answer(request, shapes.success(shapes.webhook(row)))

    def _row(self, request: Request) -> Webhook:
        named = request.path_params["id"]
        row = self._store.webhooks.get(named)
        if row is None or row.user_id != _user(request).user_id:
            raise Refused(404, f"Webhook with id={named} was not found in the database")
        return row

    def _require_free(self, user: Account, url: str) -> None:
        if any(row.subscriber_url == url for row in self._store.webhooks_of(user.user_id)):
            raise Refused(409, "Webhook with this subscriber url already exists for this user")


def _user(request: Request) -> Account:
    account: Account | None = request.state.visitor.account
    if account is None:
        raise Refused(401, NO_AUTHENTICATION)
    return account


async def _read(request: Request, kind: type[N]) -> N:
    """Read a body. Raises Refused."""
    _user(request)
    try:
        asked = msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise invalid([shapes.invalid("body", None, {"isValid": f"{error}"})]) from None
    _require_known(asked.triggers)
    return asked


def _require_known(triggers: list[str] | UnsetType) -> None:
    unknown = [] if isinstance(triggers, UnsetType) else [one for one in triggers if one not in TRIGGERS]
    if unknown:
        told = {"isEnum": "each value in triggers must be one of the following values: " + ", ".join(sorted(TRIGGERS))}
        raise invalid([shapes.invalid("triggers", unknown, told)])
