"""The console in this process on a real database, people who have mails, and what a page has in it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from services.console import main
from services.console.app import create_app
from services.console.database import Database
from services.plumbing import health
from services.plumbing.settings import Settings, load
from tests.support.wait import until


class Page(HTMLParser):
    """A page as a browser has it: its tags, its words, its form."""

    def __init__(self, html: str) -> None:
        """Read it."""
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep words."""
        self._words.append(data)

    @property
    def words(self) -> str:
        """Give all that can be read, with single blanks."""
        return " ".join(" ".join(self._words).split())

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        """Give the attributes of the tags of that name that have these."""
        return [given for name, given in self.tags if name == tag and wanted.items() <= given.items()]

    def fields(self) -> list[tuple[str, str]]:
        """Give what a browser would send if nobody touched the form."""
        return [
            (field["name"] or "", field.get("value") or "")
            for field in self.all("input")
            if field.get("type") not in {"radio", "checkbox"} or "checked" in field
        ]


class Window:
    """A console that runs, a browser without cookies, and the database behind it."""

    def __init__(self, client: httpx.AsyncClient, connection: "asyncpg.Connection[Any]", stop: asyncio.Event) -> None:
        """Made by `window`."""
        self.client, self.db, self.stop = client, connection, stop

    def routes(self) -> list[str]:
        """Give the patterns of all routes that a console has."""
        settings, state = console_settings("postgresql://nobody@localhost/none"), health.Health()
        app: Any = create_app(Database(settings, state), state, console_url=settings.console_url)
        while not isinstance(app, Starlette):
            app = app._app
        return [route.path for route in app.routes if isinstance(route, Route)]

    async def company(self, company_id: str = "praxis", name: str = "Praxis am See") -> str:
        """Add a company; gives its id."""
        await self.db.execute("INSERT INTO companies (company_id, name) VALUES ($1, $2)", company_id, name)
        return company_id

    async def person(self, company_id: str, email: str, **columns: object) -> UUID:
        """Add a contact; gives their token."""
        given = {"name": email, "role": "admin", "language": "en"} | columns
        names = ", ".join(["company_id", "contact_id", "email", *given])
        values = ", ".join(f"${number}" for number in range(1, len(given) + 4))
        token: UUID = await self.db.fetchval(
            f"INSERT INTO contacts ({names}) VALUES ({values}) RETURNING preferences_token",
            company_id,
            uuid4(),
            email,
            *given.values(),
        )
        return token

    async def kept(self, token: UUID) -> dict[str, Any]:
        """Give a contact's row, with the transaction that wrote it last."""
        row = await self.db.fetchrow("SELECT *, xmin::text FROM contacts WHERE preferences_token = $1", token)
        assert row is not None
        return dict(row)

    async def everybody(self) -> list[dict[str, Any]]:
        """Give all contacts' rows."""
        return [dict(row) for row in await self.db.fetch("SELECT *, xmin::text FROM contacts ORDER BY contact_id")]

    async def get(self, path: str, status: int = 200, **headers: str) -> Page:
        """Look at a page."""
        answer = await self.client.get(path, headers=headers)
        assert answer.status_code == status, answer.text
        return Page(answer.text)

    async def post(self, path: str, fields: Sequence[tuple[str, str]] | Mapping[str, str], status: int = 200) -> Page:
        """Send a form."""
        sent = httpx.QueryParams(list(fields.items()) if isinstance(fields, Mapping) else list(fields))
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answer = await self.client.post(path, content=str(sent), headers=headers)
        assert answer.status_code == status, answer.text
        return Page(answer.text)

    async def ready(self) -> None:
        """Wait until it is."""

        async def is_ready() -> bool:
            return (await self.client.get("/readyz")).status_code == httpx.codes.OK

        await until(is_ready, 20)


def console_settings(dsn: str, **more: str) -> Settings:
    """Give settings for a console: it needs no Kafka."""
    environ = {"postgres_dsn": dsn, "console_port": "0"} | more
    return load({f"RECONCAL_{name.upper()}": value for name, value in environ.items()})


@asynccontextmanager
async def window(settings: Settings, *, database: str | None = None, ready: bool = True) -> AsyncIterator[Window]:
    """Run a console. It must end within 10 s. `database`: how the test reaches it, if not as the console does."""
    stop, listener = asyncio.Event(), health.listen("127.0.0.1", 0)
    serving = asyncio.ensure_future(main.serve(settings, stop, listener=listener))
    connection = await asyncpg.connect(database or settings.postgres_dsn)
    base_url = "http://{}:{}".format(*listener.getsockname())
    try:
        async with httpx.AsyncClient(base_url=base_url, timeout=15) as client:
            made = Window(client, connection, stop)
            if ready:
                await made.ready()
            yield made
    finally:
        stop.set()
        await connection.close()
        await asyncio.wait_for(serving, 10)
