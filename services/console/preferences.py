"""What one is mailed: the page that every mail links to, and the address that mail programs unsubscribe at.

Whoever has the token may change it, without signing in. Only a POST changes anything: scanners of mail follow links.
"""

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from schemas.flags import RECORD_KINDS, Kind
from services.companies import preferences
from services.companies.preferences import Preferences
from services.console import access, form
from services.console.database import Database
from services.console.form import Choice, Typed, UnreadableError
from services.console.pages import Pages
from services.words import tongue
from services.words.kinds import WORDS

#: Of the body of a POST.
MOST_BYTES: Final = 16_384
#: For it to come.
READ_SECONDS = 10.0
_FORM: Final = "application/x-www-form-urlencoded"
_ASKS: Final = frozenset({"GET", "HEAD"})


class Box(Struct, frozen=True):
    """A kind of problem with the name that people read."""

    kind: str
    name: str


class PreferencesPages:
    """The routes."""

    def __init__(self, database: Database, pages: Pages) -> None:
        """Nothing is read yet."""
        self._database, self._pages = database, pages

    def routes(self) -> list[Route]:
        """Give them."""
        return [
            Route("/preferences/{token}", self._form, methods=["GET", "POST"]),
            Route("/preferences/{token}/unsubscribe", self._unsubscribe, methods=["GET", "POST"]),
        ]

    async def _form(self, request: Request) -> Response:
        token = _token(request)
        person = await self._known(request, token)
        if request.method in _ASKS:
            return self._show(token, person, form.typed(person))
        given = await _read_form(request)
        choice = form.choose(given, person)
        if not isinstance(choice, Choice):
            return self._show(token, person, given, faults=choice)
        async with self._database.connection() as connection:
            changed = await preferences.change(
                connection,
                token,
                delivery=choice.delivery,
                daily_at=choice.daily_at,
                muted_kinds=choice.muted_kinds,
                language=choice.language,
            )
        person = _found(changed)
        return self._show(token, person, form.typed(person), saved=True)

    async def _unsubscribe(self, request: Request) -> Response:
        """Ask, or do it. A POST is RFC 8058's one click or our page's button: whatever it says, it means the same."""
        token = _token(request)
        person = await self._known(request, token)
        if request.method in _ASKS:
            return self._pages.page("unsubscribe.html", person.language, token=token, person=person)
        await _read(request)
        async with self._database.connection() as connection:
            person = _found(await preferences.unsubscribe(connection, token))
        return self._pages.page("unsubscribed.html", person.language, token=token, person=person)

    async def _known(self, request: Request, token: UUID) -> Preferences:
        async with self._database.connection() as connection:
            person = _found(await preferences.by_token(connection, token))
        access.note(request.scope, company=person.company_id)
        return person

    def _show(
        self,
        token: UUID,
        person: Preferences,
        given: Typed,
        *,
        faults: dict[str, str] | None = None,
        saved: bool = False,
    ) -> Response:
        return self._pages.page(
            "preferences.html",
            person.language,
            422 if faults else 200,
            token=token,
            person=person,
            given=given,
            faults=faults or {},
            saved=saved,
            of_records=_boxes(RECORD_KINDS, person.language),
            of_company=_boxes([kind for kind in Kind if kind not in RECORD_KINDS], person.language),
        )


def _boxes(shown: Sequence[Kind], language: str) -> list[Box]:
    spoken = tongue.of(language)
    return [Box(kind.value, spoken.gettext(WORDS[kind].name)) for kind in shown]


def _token(request: Request) -> UUID:
    """Read the token as we write it, in no other of the many ways. Raises HTTPException 404."""
    text = str(request.path_params["token"])
    try:
        token = UUID(text)
    except ValueError:
        raise HTTPException(404) from None
    if str(token) != text.lower():
        raise HTTPException(404)
    return token


def _found(person: Preferences | None) -> Preferences:
    if person is None:
        raise HTTPException(404)
    return person


async def _read_form(request: Request) -> Typed:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise HTTPException(415)
    try:
        return form.parse(await _read(request))
    except UnreadableError:
        raise HTTPException(400) from None


async def _read(request: Request) -> bytes:
    """Read a body. Raises HTTPException: 413 beyond MOST_BYTES, 408 after READ_SECONDS."""
    body = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise HTTPException(413)
    except TimeoutError:
        raise HTTPException(408) from None
    except ClientDisconnect:
        raise HTTPException(400) from None
    return bytes(body)
