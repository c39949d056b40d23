"""`reconcal notify` against a real database, a real mail server and a real HTTP server."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID, uuid4

import asyncpg
import pytest
from click.testing import CliRunner, Result
from standardwebhooks.webhooks import Webhook

from services.cli import main
from services.companies import admin, endpoints, incidents
from services.companies.admin import ContactChanges, NewCompany, NewContact
from services.companies.endpoints import NewEndpoint
from services.plumbing.postgres import Pool
from services.plumbing.secrets import Vault, new_key
from tests.support.post_office import CUT, PostOffice, Step

KEY = new_key()
NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
MIA = "mia@example.com"


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    opened: Pool = await asyncpg.create_pool(dsn, min_size=1, max_size=2)
    async with opened.acquire() as conn:
        mia = NewContact(person=f"Mia Muster <{MIA}>", language="de")
        new = NewCompany(company_id="acme", name="Praxis am See", contacts=(mia,))
        await admin.add(conn, Vault(KEY), new)
    yield opened
    await opened.close()


@pytest.fixture
async def office() -> AsyncIterator[PostOffice]:
    async with PostOffice() as opened:
        yield opened


Call = Callable[..., Any]


@pytest.fixture
def call(dsn: str, office: PostOffice) -> Call:
    """Give the command line, in a thread and on a loop of its own."""
    environ = {
        "RECONCAL_POSTGRES_DSN": dsn,
        "RECONCAL_SECRET_KEY": KEY,
        "RECONCAL_SMTP_HOST": "127.0.0.1",
        "RECONCAL_SMTP_PORT": str(office.smtp_port),
        "RECONCAL_SMTP_TIMEOUT_SECONDS": "5",
        "RECONCAL_MAIL_FROM": "Reconcal <alerts@praxis.example>",
        "RECONCAL_ENDPOINT_PRIVATE_ADDRESSES": "allow",
        "COLUMNS": "160",
    }

    async def called(*arguments: str, **more: str) -> Result:
        def work() -> Result:
            return CliRunner().invoke(main, ["notify", *arguments], env=environ | more, catch_exceptions=False)

        return await asyncio.wait_for(asyncio.to_thread(work), 30)

    return called


@pytest.mark.usefixtures("pool")
async def test_a_sample_goes_through_the_real_channel_and_the_servers_answer_is_said(
    call: Call, office: PostOffice
) -> None:
    said = await call("test", "--company", "acme", "--to", MIA)
    assert said.exit_code == 0, said.output
    assert f"Asked 127.0.0.1:{office.smtp_port} (no TLS) to take a sample for {MIA}." in said.stdout
    assert "It answered: 250 OK" in said.stdout
    assert "Note:" not in said.stdout
    (mail,) = office.mails
    assert mail.to == [MIA]
    assert mail.sender == "alerts@praxis.example"
    assert "Mia Muster" in mail.raw
    assert "Praxis am See" in mail.text
    assert "Termin" in mail.text  # in the language that she has


@pytest.mark.usefixtures("pool")
async def test_what_was_answered_can_be_read_by_a_program(call: Call, office: PostOffice) -> None:
    said = await call("test", "--company", "acme", "--to", "me@example.org", "--language", "en", "--json")
    told = json.loads(said.stdout)
    assert (told["taken"], told["answer"], told["security"]) == (True, "250 OK", "no TLS")
    (mail,) = office.mails
    assert mail.message_id == told["message_id"]
    assert "me@example.org is no contact of acme" in told["notes"][0]


@pytest.mark.usefixtures("pool")
async def test_two_samples_have_two_message_ids(call: Call, office: PostOffice) -> None:
    for _ in range(2):
        await call("test", "--company", "acme", "--to", MIA)
    assert len({mail.message_id for mail in office.mails}) == 2


@pytest.mark.usefixtures("pool")
async def test_a_refused_address_is_said_with_the_servers_words(call: Call, office: PostOffice) -> None:
    office.at_rcpt[MIA] = "550 no such user"
    said = await call("test", "--company", "acme", "--to", MIA)
    assert said.exit_code == 1
    assert "reconcal: not taken: " in said.stderr
    assert "550 no such user" in said.stderr
    assert not office.mails


@pytest.mark.usefixtures("pool")
async def test_a_mail_server_that_is_away_is_said_with_the_setting_to_look_at(call: Call, office: PostOffice) -> None:
    await office.stop()
    said = await call("test", "--company", "acme", "--to", MIA, "--json")
    assert said.exit_code == 1
    told = json.loads(said.stdout)
    assert told["reason"]
    assert "RECONCAL_SMTP_" in told["advice"]
    assert "RECONCAL_SMTP_" in (await call("test", "--company", "acme", "--to", MIA)).stderr


@pytest.mark.usefixtures("pool")
async def test_a_sample_that_may_have_arrived_is_said_to(call: Call, office: PostOffice) -> None:
    office.always[Step.KEPT] = CUT
    said = await call("test", "--company", "acme", "--to", MIA)
    assert said.exit_code == 1
    assert "may have arrived all the same" in said.stderr


@pytest.mark.usefixtures("pool")
async def test_a_server_that_never_answers_is_waited_for_no_longer_than_allowed(call: Call, office: PostOffice) -> None:
    office.always[Step.MAIL] = asyncio.Event()
    said = await call("test", "--company", "acme", "--to", MIA, RECONCAL_SMTP_TIMEOUT_SECONDS="0.2")
    assert said.exit_code == 1
    assert "reconcal: not taken: " in said.stderr


async def test_a_sample_that_was_taken_ends_the_trouble_of_the_mail_server_and_no_other(
    call: Call, pool: Pool, office: PostOffice
) -> None:
    for company_id, kind in (("", "smtp_auth"), ("", "smtp_puts_off"), ("acme", "endpoint")):
        await incidents.seen(pool, company_id, kind, "Look.", NOW)
    office.at_rcpt[MIA] = "550 no such user"
    await call("test", "--company", "acme", "--to", MIA)
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 3
    del office.at_rcpt[MIA]
    said = await call("test", "--company", "acme", "--to", MIA)
    assert "Note: what was wrong with the mail server is over: smtp_auth, smtp_puts_off." in said.stdout
    assert [one.kind for one in await incidents.every(pool)] == ["endpoint"]


async def test_whose_address_was_refused_before_is_told_how_to_have_mails_again(call: Call, pool: Pool) -> None:
    await pool.execute("UPDATE contacts SET suppressed_at = $1, suppressed_reason = '550 full'", NOW)
    said = await call("test", "--company", "acme", "--to", MIA)
    assert said.exit_code == 0
    assert f"reconcal companies contacts set acme {MIA} --deliver-again" in said.stdout


async def test_who_gets_no_mail_is_told_so(call: Call, pool: Pool) -> None:
    async with pool.acquire() as conn:
        await admin.set_contact(conn, "acme", MIA, ContactChanges(delivery="none"))
    assert "Note: alerts are not mailed to this person" in (await call("test", "--company", "acme", "--to", MIA)).stdout


@pytest.mark.usefixtures("pool")
@pytest.mark.parametrize(
    ("arguments", "more", "field"),
    [
        (("--company", "other", "--to", MIA), {}, "id: there is no company 'other'"),
        (("--company", "acme", "--to", "mia"), {}, "email: 'mia' is not an e-mail address"),
        (("--company", "acme", "--to", MIA), {"RECONCAL_MAIL_FROM": "nobody"}, "RECONCAL_MAIL_FROM: "),
        (("--company", "acme", "--endpoint", str(UUID(int=7))), {}, f"acme has no endpoint {UUID(int=7)}"),
    ],
)
async def test_what_is_set_wrong_is_one_line_that_names_it(
    call: Call, arguments: tuple[str, ...], more: dict[str, str], field: str
) -> None:
    said = await call("test", *arguments, **more)
    assert said.exit_code == 2
    assert said.output.startswith(f"reconcal: {field}")
    assert said.output.count("\n") == 1


@pytest.mark.usefixtures("pool")
@pytest.mark.parametrize("arguments", [(), ("--to", MIA, "--endpoint", str(UUID(int=7)))])
async def test_a_sample_goes_either_to_a_person_or_to_an_endpoint(call: Call, arguments: tuple[str, ...]) -> None:
    assert (await call("test", "--company", "acme", *arguments)).exit_code == 2


class Endpoint:
    """An HTTP server that answers as it is told and keeps what it was sent."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.headers: dict[str, str] = {}
        self.body = b""
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in head[1:])}
        self.body = await reader.readexactly(int(self.headers["content-length"]))
        writer.write(f"HTTP/1.1 {self.answer}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok".encode())
        await writer.drain()
        writer.close()


async def add(pool: Pool, url: str, form: str) -> tuple[UUID, str | None]:
    async with pool.acquire() as conn:
        new = NewEndpoint(url=url, format=form)
        added, secret = await endpoints.add(conn, Vault(KEY), "acme", new, allow_private=True)
    return added.endpoint_id, secret


async def test_a_sample_to_an_endpoint_is_signed_and_is_taken_for_no_decision(call: Call, pool: Pool) -> None:
    async with Endpoint("204 No Content") as hook:
        endpoint_id, secret = await add(pool, hook.url, "standard")
        said = await call("test", "--company", "acme", "--endpoint", str(endpoint_id))
        assert said.exit_code == 0, said.output
        assert "Asked 127.0.0.1" in said.stdout
        assert secret is not None
        Webhook(secret).verify(hook.body, hook.headers)
        told = json.loads(hook.body)
        assert told["type"] == "sync.test"
        assert told["data"]["company_id"] == "acme"


async def test_a_sample_to_slack_is_a_message_of_slacks(call: Call, pool: Pool) -> None:
    async with Endpoint("200 OK") as hook:
        endpoint_id, _ = await add(pool, hook.url, "slack")
        said = await call("test", "--company", "acme", "--endpoint", str(endpoint_id), "--language", "de", "--json")
        assert said.exit_code == 0, said.output
        assert json.loads(hook.body)["blocks"]
        assert json.loads(said.stdout)["taken"] is True
        assert "/hook" not in said.output


async def test_an_endpoint_that_takes_nothing_is_said_with_what_to_do_and_nothing_is_noted_of_it(
    call: Call, pool: Pool
) -> None:
    async with Endpoint("401 Unauthorized") as hook:
        endpoint_id, _ = await add(pool, hook.url, "standard")
        said = await call("test", "--company", "acme", "--endpoint", str(endpoint_id))
        assert said.exit_code == 1
        assert "401" in said.stderr
        assert await pool.fetchval("SELECT failing_since FROM endpoints") is None


async def fill(pool: Pool, count: int) -> None:
    mia = await pool.fetchval("SELECT contact_id FROM contacts")
    for number in range(count):
        data = {
            "issue_type": "ORPHANED_LOCAL",
            "appointment_id": str(4711 + number),
            "customer_name": "Ümit [b]x[/b]",
            "appointment_time": "2026-12-01T11:00:00+01:00",
            "details": "Not at Cal.com.",
        }
        await pool.execute(
            "INSERT INTO notifications (company_id, notification_id, contact_id, flag_id, record_id, type, data,"
            " created_at) VALUES ('acme', $1, $2, $3, $4, 'calcom_sync_failure', $5::json, $6)",
            *(uuid4(), mia, uuid4(), uuid4(), json.dumps(data), NOW + timedelta(minutes=number)),
        )


async def test_an_inbox_is_listed_newest_first_and_read_once_it_is_marked(call: Call, pool: Pool) -> None:
    await fill(pool, 3)

    async def listed(*arguments: str) -> list[Any]:
        said = await call("inbox", "--company", "acme", "--to", MIA.upper(), *arguments, "--json")
        assert said.exit_code == 0, said.output
        return [json.loads(one) for one in said.stdout.splitlines()]

    assert [one["data"]["appointment_id"] for one in await listed()] == ["4713", "4712", "4711"]
    assert [one["read_at"] for one in await listed("--unread", "--mark-read", "--limit", "2")] == [None, None]
    assert [one["data"]["appointment_id"] for one in await listed("--unread")] == ["4711"]
    assert [one["read_at"] is None for one in await listed()] == [False, False, True]


async def test_an_inbox_is_shown_to_people_too(call: Call, pool: Pool) -> None:
    said = await call("inbox", "--company", "acme", "--to", MIA)
    assert said.output == "Nothing there.\n"
    await fill(pool, 1)
    said = await call("inbox", "--company", "acme", "--to", MIA)
    row = next(line for line in said.output.splitlines() if "ORPHANED_LOCAL" in line)
    assert row.split() == [
        *("2026-11-24", "09:00:00", "new", "ORPHANED_LOCAL", "4711", "Ümit", "[b]x[/b]", "2026-12-01", "11:00"),
        *("Not", "at", "Cal.com."),
    ]


@pytest.mark.usefixtures("pool")
async def test_an_inbox_of_nobody_is_refused_by_its_field(call: Call) -> None:
    said = await call("inbox", "--company", "acme", "--to", "nobody@example.com")
    assert said.exit_code == 2
    assert said.output == "reconcal: contact: acme has nobody of the address 'nobody@example.com'\n"
