"""Mails over real SMTP: what holds on both servers, then what only ours can be told to do."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final, Protocol

import pytest

from services.embedded.ports import HOST, free_port
from services.notifier.mail.smtp import Postman
from services.notifier.ports import Fate, TroubleKind, Undelivered
from services.plumbing.settings import Settings, load
from tests.support import certificates
from tests.support.mailpit import BrokenMailpitError, Mailpit, NoMailpitError, fetch
from tests.support.post_office import CUT, PostOffice, Step
from tests.support.wait import moment, until

MIA: Final = "mia@example.com"
MAX: Final = "max@example.com"
USERS: Final = {"reconcal": "correct-horse"}
LOGIN: Final = {"smtp_username": "reconcal", "smtp_password": "correct-horse"}
#: How long the servers of these tests get for an answer that does not come.
SECONDS: Final = 0.5


def a_mail(to: str = MIA, number: int = 1) -> EmailMessage:
    mail = EmailMessage(policy=policy.SMTP)
    mail["Subject"] = "Cal.com-Abgleich: Termin #4711, Jürgen 😀"
    mail["From"] = "Reconcal <reconcal@example.org>"
    mail["To"] = f"Mia Müller <{to}>"
    mail["Message-ID"] = f"<letter.{number}@example.org>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("Grüße\n.\n..zwei Punkte\nFrom here\n" + "lang " * 300 + "\n", cte="quoted-printable")
    mail.add_alternative("<p>Grüße</p>\n.\n<p>Ende</p>\n", subtype="html", cte="quoted-printable")
    return mail


def settings_for(port: int, **more: str) -> Settings:
    given = {"smtp_host": HOST, "smtp_port": str(port), "smtp_timeout_seconds": "5"} | more
    return load({f"RECONCAL_{name.upper()}": value for name, value in given.items()})


@asynccontextmanager
async def a_postman(port: int, **more: str) -> AsyncIterator[Postman]:
    postman = Postman(settings_for(port, **more))
    yield postman
    await postman.close()


def nobody_at(office: PostOffice) -> Callable[[], Awaitable[bool]]:
    async def nobody() -> bool:
        return office.open_connections == 0

    return nobody


async def undelivered(postman: Postman, mail: EmailMessage | None = None) -> Undelivered:
    with pytest.raises(Undelivered) as caught:
        await postman.send(mail or a_mail())
    return caught.value


def trouble_of(error: Undelivered) -> tuple[Fate, TroubleKind, str]:
    assert error.trouble is not None
    assert not error.in_doubt
    return error.fate, error.trouble.kind, error.trouble.detail


# --- what holds on both ------------------------------------------------------------------------------------------


class Server(Protocol):
    """A mail server, whoever wrote it."""

    smtp_port: int

    async def kept(self) -> list[bytes]: ...

    async def answer(self, step: Step, code: int) -> None: ...

    async def relent(self) -> None: ...


class Ours:
    def __init__(self, office: PostOffice) -> None:
        self.office, self.smtp_port = office, office.smtp_port

    async def kept(self) -> list[bytes]:
        return self.office.raw

    async def answer(self, step: Step, code: int) -> None:
        self.office.always[step] = f"{code} so it is"

    async def relent(self) -> None:
        self.office.always.clear()


class Theirs:
    def __init__(self, mailpit: Mailpit) -> None:
        self.mailpit, self.smtp_port = mailpit, mailpit.smtp_port

    async def kept(self) -> list[bytes]:
        return await self.mailpit.raw()

    async def answer(self, step: Step, code: int) -> None:
        names = {Step.MAIL: "Sender", Step.RCPT: "Recipient", Step.AUTH: "Authentication"}
        await self.mailpit.refuse(names[step], code)

    async def relent(self) -> None:
        await self.mailpit.relent()


class Authority:
    """A certificate for localhost, and who vouches for it."""

    def __init__(self, folder: Path) -> None:
        self.file, self.context = certificates.make(folder, "localhost")
        self.key = folder / "key.pem"
        self.trusted = {"smtp_host": "localhost", "smtp_ca_file": str(self.file)}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def mailpit_program() -> Path:
    """Build Mailpit; skip loudly where there is no Go, fail where there is one that cannot."""
    try:
        return fetch()
    except NoMailpitError as error:
        pytest.skip(str(error))
    except BrokenMailpitError as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(error))


Open = Callable[..., Awaitable[Server]]


@pytest.fixture(params=["aiosmtpd", "mailpit"])
async def open_server(request: pytest.FixtureRequest, authority: Authority) -> AsyncIterator[Open]:
    """Give what opens a server, of either make."""
    if request.param == "mailpit":
        request.getfixturevalue("mailpit_program")
    async with AsyncExitStack() as stack:

        async def ours(security: str = "none", users: Mapping[str, str] | None = None) -> Server:
            office = PostOffice(security=security, tls=authority.context if security != "none" else None, users=users)
            return Ours(await stack.enter_async_context(office))

        async def theirs(security: str = "none", users: Mapping[str, str] | None = None) -> Server:
            certificate = (authority.file, authority.key) if security != "none" else None
            mailpit = Mailpit(security=security, certificate=certificate, users=users)
            return Theirs(await stack.enter_async_context(mailpit))

        yield {"aiosmtpd": ours, "mailpit": theirs}[request.param]


def read(raw: bytes) -> EmailMessage:
    return message_from_bytes(raw, policy=policy.default)


async def test_a_mail_arrives_byte_for_byte(open_server: Open) -> None:
    server, mail = await open_server(), a_mail()
    async with a_postman(server.smtp_port) as postman:
        answer = await postman.send(mail)
        await postman.send(a_mail(number=2))
    assert answer.startswith("250 ")
    first, second = await server.kept()
    assert first.endswith(mail.as_bytes())  # a server may put its own headers before ours
    assert read(second)["Message-ID"] == "<letter.2@example.org>"
    text, html = (read(first).get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert html is not None
    assert text.get_content().splitlines()[:4] == ["Grüße", ".", "..zwei Punkte", "From here"]
    assert html.get_content().splitlines() == ["<p>Grüße</p>", ".", "<p>Ende</p>"]
    assert read(first)["Subject"] == mail["Subject"]


async def test_a_recipient_is_refused_for_good_by_5xx_and_put_off_by_4xx(open_server: Open) -> None:
    server = await open_server()
    await server.answer(Step.RCPT, 550)
    async with a_postman(server.smtp_port) as postman:
        error = await undelivered(postman)
        assert (error.fate, error.in_doubt, error.trouble) == (Fate.REFUSED, False, None)
        assert error.reason.startswith("550 ")
        await server.answer(Step.RCPT, 452)
        error = await undelivered(postman)
        assert (error.fate, error.in_doubt, error.trouble) == (Fate.LATER, False, None)
    assert await server.kept() == []


async def test_after_a_refusal_the_same_connection_serves_the_next(open_server: Open) -> None:
    server = await open_server()
    await server.answer(Step.RCPT, 550)
    async with a_postman(server.smtp_port) as postman:
        await undelivered(postman)
        await server.relent()
        await postman.send(a_mail(MAX))
        if isinstance(server, Ours):
            assert server.office.connections == 1
    assert len(await server.kept()) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [(451, TroubleKind.SMTP_PUTS_OFF), (550, TroubleKind.SMTP_SENDER), (530, TroubleKind.SMTP_AUTH)],
)
async def test_a_refusal_of_the_sender_is_everybodys(open_server: Open, code: int, kind: TroubleKind) -> None:
    server = await open_server()
    await server.answer(Step.MAIL, code)
    async with a_postman(server.smtp_port) as postman:
        fate, told, detail = trouble_of(await undelivered(postman))
    assert (fate, told) == (Fate.AWAY, kind)
    assert f"{code} " in detail


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
async def test_a_login_is_accepted_whatever_the_security(
    open_server: Open, authority: Authority, security: str
) -> None:
    server = await open_server(security=security, users=USERS)
    trusted = authority.trusted if security != "none" else {}
    async with a_postman(server.smtp_port, smtp_security=security, **trusted, **LOGIN) as postman:
        await postman.send(a_mail())
        await postman.send(a_mail(number=2))
    assert len(await server.kept()) == 2


async def test_a_refused_login_is_named_and_the_password_is_not(open_server: Open) -> None:
    server = await open_server(users=USERS)
    async with a_postman(server.smtp_port, smtp_username="reconcal", smtp_password="hunter2hunter2") as postman:
        error = await undelivered(postman)
    fate, kind, detail = trouble_of(error)
    assert (fate, kind) == (Fate.AWAY, TroubleKind.SMTP_AUTH)
    assert "535 " in detail
    assert "RECONCAL_SMTP_USERNAME" in detail
    assert "hunter2" not in f"{detail}{error.reason}{error}"


async def test_a_login_that_is_wanted_and_not_there_is_named(open_server: Open) -> None:
    server = await open_server(users=USERS)
    async with a_postman(server.smtp_port) as postman:
        fate, kind, detail = trouble_of(await undelivered(postman))
    assert (fate, kind) == (Fate.AWAY, TroubleKind.SMTP_AUTH)
    assert "wants a login: 530 " in detail


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_certificate_that_nobody_vouches_for_is_not_accepted(open_server: Open, security: str) -> None:
    server = await open_server(security=security)
    async with a_postman(server.smtp_port, smtp_host="localhost", smtp_security=security) as postman:
        fate, kind, detail = trouble_of(await undelivered(postman))
    assert (fate, kind) == (Fate.AWAY, TroubleKind.SMTP_TLS)
    assert "not trusted" in detail
    assert "RECONCAL_SMTP_CA_FILE" in detail
    assert await server.kept() == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_certificate_of_another_name_is_not_accepted(
    open_server: Open, authority: Authority, security: str
) -> None:
    server = await open_server(security=security)
    more = {"smtp_security": security, "smtp_ca_file": str(authority.file)}
    async with a_postman(server.smtp_port, **more) as postman:  # by its number
        _, kind, detail = trouble_of(await undelivered(postman))
    assert kind is TroubleKind.SMTP_TLS
    assert "RECONCAL_SMTP_HOST" in detail


async def test_starttls_never_falls_back_to_plain(open_server: Open) -> None:
    server = await open_server()
    async with a_postman(server.smtp_port, smtp_security="starttls") as postman:
        _, kind, detail = trouble_of(await undelivered(postman))
    assert kind is TroubleKind.SMTP_TLS
    assert "does not offer STARTTLS" in detail
    assert await server.kept() == []


async def test_a_server_that_wants_starttls_is_not_served_without(open_server: Open) -> None:
    server = await open_server(security="starttls")
    async with a_postman(server.smtp_port) as postman:
        _, kind, detail = trouble_of(await undelivered(postman))
    assert kind is TroubleKind.SMTP_AUTH
    assert "RECONCAL_SMTP_SECURITY" in detail


async def test_tls_spoken_to_a_port_that_greets_in_plain_is_named(open_server: Open) -> None:
    server = await open_server()
    async with a_postman(server.smtp_port, smtp_security="tls") as postman:
        _, kind, detail = trouble_of(await undelivered(postman))
    assert kind is TroubleKind.SMTP_TLS
    assert "RECONCAL_SMTP_SECURITY: starttls for 587" in detail


async def test_plain_spoken_to_a_port_of_tls_is_named(open_server: Open) -> None:
    server = await open_server(security="tls")
    async with a_postman(server.smtp_port, smtp_timeout_seconds=str(SECONDS)) as postman:
        _, kind, detail = trouble_of(await undelivered(postman))
    assert kind is TroubleKind.SMTP_UNREACHABLE
    assert "RECONCAL_SMTP_SECURITY=tls" in detail


async def test_the_connection_is_kept_between_mails_and_closed_when_idle(open_server: Open) -> None:
    server = await open_server()
    postman = Postman(settings_for(server.smtp_port), idle_seconds=SECONDS)
    for number in range(5):
        await postman.send(a_mail(number=number))
    assert len(await server.kept()) == 5
    if isinstance(server, Ours):
        assert (server.office.connections, server.office.open_connections) == (1, 1)
        await until(nobody_at(server.office), 5)
        assert server.office.visits[-1] is Step.QUIT
    await postman.send(a_mail(number=6))
    await postman.close()
    assert len(await server.kept()) == 6


# --- what ours can be told ---------------------------------------------------------------------------------------


@pytest.fixture
async def office() -> AsyncIterator[PostOffice]:
    async with PostOffice() as office:
        yield office


def impatient(office: PostOffice) -> AbstractAsyncContextManager[Postman]:
    return a_postman(office.smtp_port, smtp_timeout_seconds=str(SECONDS))


@pytest.mark.parametrize(("step", "kept"), [(Step.BODY, []), (Step.KEPT, [MIA])])
async def test_a_cut_after_the_last_byte_leaves_the_mail_in_doubt_whether_it_was_kept_or_not(
    office: PostOffice, step: Step, kept: list[str]
) -> None:
    office.tell(step, CUT)
    async with a_postman(office.smtp_port) as postman:
        error = await undelivered(postman)
        assert (error.fate, error.in_doubt) == (Fate.LATER, True)
        assert office.took() == kept
        await postman.send(a_mail())
    assert office.took() == [*kept, MIA]
    assert set(office.message_ids()) == {"<letter.1@example.org>"}


async def test_a_421_or_silence_after_the_last_byte_leaves_the_mail_in_doubt(office: PostOffice) -> None:
    office.tell(Step.KEPT, "421 shutting down", asyncio.Event())
    async with impatient(office) as postman:
        error = await undelivered(postman)
        assert (error.fate, error.in_doubt, error.reason) == (
            Fate.LATER,
            True,
            "is closing: 421 shutting down (after the mail)",
        )
        error = await undelivered(postman)
    assert (error.fate, error.in_doubt) == (Fate.LATER, True)
    assert "did not answer within" in error.reason


@pytest.mark.parametrize("order", [CUT, "421 closing"])
@pytest.mark.parametrize("step", [Step.GREETING, Step.EHLO, Step.MAIL, Step.RCPT, Step.DATA])
async def test_an_end_before_the_last_byte_is_never_in_doubt(office: PostOffice, step: Step, order: Any) -> None:
    office.always[step] = order
    async with a_postman(office.smtp_port) as postman:
        fate, kind, _ = trouble_of(await undelivered(postman))
    theirs = step in {Step.RCPT, Step.DATA}
    assert (fate, kind) == (Fate.LATER if theirs else Fate.AWAY, TroubleKind.SMTP_UNREACHABLE)
    assert office.took() == []


@pytest.mark.parametrize("step", [Step.GREETING, Step.EHLO, Step.MAIL, Step.RCPT, Step.DATA])
async def test_silence_before_the_last_byte_is_bounded_and_never_in_doubt(office: PostOffice, step: Step) -> None:
    office.always[step] = asyncio.Event()
    began = time.monotonic()
    async with impatient(office) as postman:
        error = await undelivered(postman)
    assert not error.in_doubt
    assert time.monotonic() - began < 3 * SECONDS + 0.5
    assert f"did not answer within {SECONDS} s" in error.reason


async def test_a_server_that_is_slow_at_each_step_gets_no_more_than_three_answers_time(office: PostOffice) -> None:
    """Each answer comes within its time, and all together do not."""

    async def slowly() -> None:
        await moment(asyncio.get_running_loop().time() + 0.6 * SECONDS)

    office.always = dict.fromkeys((Step.GREETING, Step.EHLO, Step.MAIL, Step.RCPT, Step.DATA), slowly)
    began = time.monotonic()
    async with impatient(office) as postman:
        error = await undelivered(postman)
    assert not error.in_doubt
    assert Step.BODY not in office.visits
    assert time.monotonic() - began < 3 * SECONDS + 0.5


@pytest.mark.parametrize("quiet", [False, True])
async def test_a_server_that_ends_connections_after_so_many_mails_is_served_over_fresh_ones(
    office: PostOffice, *, quiet: bool
) -> None:
    office.mails_per_connection, office.quiet = 3, quiet
    async with a_postman(office.smtp_port) as postman:
        for number in range(10):
            await postman.send(a_mail(number=number))
    assert len(set(office.message_ids())) == len(office.mails) == 10
    assert office.connections == 4


@pytest.mark.parametrize("order", [CUT, "421 closing", "silence"])
@pytest.mark.parametrize("step", [Step.MAIL, Step.RCPT, Step.DATA])
async def test_a_kept_connection_that_turns_out_dead_is_replaced_at_once(
    office: PostOffice, step: Step, order: Any
) -> None:
    async with impatient(office) as postman:
        await postman.send(a_mail())
        office.tell(step, asyncio.Event() if order == "silence" else order)
        await postman.send(a_mail(number=2))
    assert office.message_ids() == ["<letter.1@example.org>", "<letter.2@example.org>"]
    assert office.connections == 2


async def test_a_kept_connection_that_cannot_begin_anew_is_replaced_at_once(office: PostOffice) -> None:
    office.always[Step.RSET] = "503 no"
    office.at_rcpt[MIA] = "550 no such user"
    async with a_postman(office.smtp_port) as postman:
        await undelivered(postman)
        await postman.send(a_mail(MAX))
    assert (office.took(), office.connections) == ([MAX], 2)


async def test_a_server_that_was_started_anew_is_served_at_once(office: PostOffice) -> None:
    async with a_postman(office.smtp_port) as postman:
        await postman.send(a_mail())
        await office.stop()
        await office.start()
        await postman.send(a_mail(number=2))
    assert len(office.mails) == 2


async def test_a_mail_that_may_have_been_taken_is_not_sent_again_by_the_postman(office: PostOffice) -> None:
    async with a_postman(office.smtp_port) as postman:
        await postman.send(a_mail())
        office.tell(Step.KEPT, CUT)
        assert (await undelivered(postman, a_mail(number=2))).in_doubt
    assert office.message_ids() == ["<letter.1@example.org>", "<letter.2@example.org>"]


@pytest.mark.parametrize(
    ("answer", "fate"), [("451 greylisted", Fate.LATER), ("554 spam", Fate.REFUSED), ("530 log in", Fate.AWAY)]
)
async def test_an_answer_after_the_mail_is_no_doubt(office: PostOffice, answer: str, fate: Fate) -> None:
    office.at_data[MIA] = answer
    async with a_postman(office.smtp_port) as postman:
        error = await undelivered(postman)
        await postman.send(a_mail(MAX))
    assert (error.fate, error.in_doubt) == (fate, False)
    assert answer in error.reason
    assert ("said of the mail, not of the address" in error.reason) is (fate is Fate.REFUSED)
    assert (office.took(), office.connections) == ([MAX], 1)


async def test_a_server_that_passes_nothing_on_for_us_does_not_cost_the_contacts_their_addresses(
    office: PostOffice,
) -> None:
    office.at_rcpt[MIA] = "554 5.7.1 <mia@example.com>: Relay access denied"
    async with a_postman(office.smtp_port) as postman:
        fate, kind, detail = trouble_of(await undelivered(postman))
    assert (fate, kind) == (Fate.LATER, TroubleKind.SMTP_AUTH)
    assert "does not pass on mails for us" in detail


async def test_what_a_server_says_is_cut_and_harmless_and_gives_no_password_away() -> None:
    async with PostOffice(users=USERS) as office:
        office.always[Step.AUTH] = (
            "535-correct-horse AHJlY29uY2FsAGNvcnJlY3QtaG9yc2U=\r\n535 \u202e\x1b[31m" + "no " * 500
        )
        async with a_postman(office.smtp_port, **LOGIN) as postman:
            error = await undelivered(postman)
    _, _, detail = trouble_of(error)
    assert "535 *** *** [31mno no" in detail
    assert len(detail) < 500
    assert detail.isprintable()


async def test_a_user_without_a_password_is_named_before_anything_is_asked(office: PostOffice) -> None:
    async with a_postman(office.smtp_port, smtp_username="reconcal") as postman:
        _, kind, detail = trouble_of(await undelivered(postman))
    assert kind is TroubleKind.SMTP_AUTH
    assert "RECONCAL_SMTP_PASSWORD" in detail
    assert office.connections == 0


async def test_a_refused_password_is_tried_once() -> None:
    async with PostOffice(users=USERS) as office:
        async with a_postman(office.smtp_port, **LOGIN | {"smtp_password": "wrong"}) as postman:
            await undelivered(postman)
        assert office.visits.count(Step.AUTH) == 1


async def test_a_server_without_logins_is_named(office: PostOffice) -> None:
    async with a_postman(office.smtp_port, **LOGIN) as postman:
        _, kind, detail = trouble_of(await undelivered(postman))
    assert kind is TroubleKind.SMTP_AUTH
    assert "offers no login" in detail


async def test_a_mail_that_is_cut_short_by_us_leaves_no_connection_open(office: PostOffice) -> None:
    for step in (Step.GREETING, Step.MAIL, Step.KEPT):
        office.always = {step: asyncio.Event()}
        seen = office.visits.count(step)
        async with a_postman(office.smtp_port) as postman:
            sending = asyncio.ensure_future(postman.send(a_mail()))

            async def reached(step: Step = step, seen: int = seen) -> bool:
                return office.visits.count(step) > seen

            await until(reached, 5)
            sending.cancel()
            await asyncio.wait({sending})
            await until(nobody_at(office), 5)


async def test_mails_that_are_sent_at_once_take_turns_on_one_connection(office: PostOffice) -> None:
    async with a_postman(office.smtp_port) as postman:
        await asyncio.gather(*(postman.send(a_mail(number=number)) for number in range(20)))
    assert (len(set(office.message_ids())), office.connections) == (20, 1)


async def test_saying_goodbye_to_a_mute_server_takes_a_second(office: PostOffice) -> None:
    office.always[Step.QUIT] = asyncio.Event()
    postman = Postman(settings_for(office.smtp_port))
    await postman.send(a_mail())
    began = time.monotonic()
    await postman.close()
    await postman.close()
    assert time.monotonic() - began < 1.5


async def test_an_address_that_no_server_has_to_know_is_refused_before_anything_is_sent(office: PostOffice) -> None:
    async with a_postman(office.smtp_port) as postman:
        error = await undelivered(postman, a_mail("jürgen@example.com"))
    assert (error.fate, office.connections) == (Fate.REFUSED, 0)


# --- what is no mail server --------------------------------------------------------------------------------------


async def test_a_port_where_nothing_listens_is_named() -> None:
    async with a_postman(free_port()) as postman:
        fate, kind, detail = trouble_of(await undelivered(postman))
    assert (fate, kind) == (Fate.AWAY, TroubleKind.SMTP_UNREACHABLE)
    assert "RECONCAL_SMTP_HOST and RECONCAL_SMTP_PORT" in detail


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 70 + ".example"])
async def test_a_name_that_is_no_server_is_named(host: str) -> None:
    async with a_postman(25, smtp_host=host) as postman:
        fate, kind, detail = trouble_of(await undelivered(postman))
    assert (fate, kind) == (Fate.AWAY, TroubleKind.SMTP_UNREACHABLE)
    assert "RECONCAL_SMTP_HOST" in detail


async def test_an_authority_that_cannot_be_read_is_named(office: PostOffice, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for file in (empty, tmp_path / "none.pem"):
        async with a_postman(office.smtp_port, smtp_security="tls", smtp_ca_file=str(file)) as postman:
            _, kind, detail = trouble_of(await undelivered(postman))
        assert kind is TroubleKind.SMTP_TLS
        assert "RECONCAL_SMTP_CA_FILE" in detail


@asynccontextmanager
async def says(*chunks: bytes, forever: bool = False) -> AsyncIterator[int]:
    """Give the port of a server that says this and nothing else, once or for ever."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                for chunk in chunks:
                    writer.write(chunk)
                    await writer.drain()
                if not forever:
                    await reader.read()
                    break
        except OSError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(talk, HOST, 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.mark.parametrize(
    ("chunk", "forever", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", False, "does not speak SMTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46\n", False, "does not speak SMTP"),
        (b"", False, "did not answer"),
        (b"220-" + b"hello " * 100 + b"\r\n", True, "does not speak SMTP"),
        (b"x" * 1000, True, "does not speak SMTP"),
        (b"554 no SMTP service here\r\n", False, "refuses our connection: 554 no SMTP service here"),
    ],
)
async def test_what_is_no_mail_server_is_told_from_what_it_says(chunk: bytes, *, forever: bool, said: str) -> None:
    async with says(chunk, forever=forever) as port, a_postman(port, smtp_timeout_seconds=str(SECONDS)) as postman:
        fate, kind, detail = trouble_of(await undelivered(postman))
    assert (fate, kind) == (Fate.AWAY, TroubleKind.SMTP_UNREACHABLE)
    assert said in detail
    assert len(detail) < 500


async def test_what_speaks_neither_tls_nor_smtp_is_named_when_tls_is_wanted() -> None:
    async with says(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port, a_postman(port, smtp_security="tls") as postman:
        fate, kind, _ = trouble_of(await undelivered(postman))
    assert (fate, kind) == (Fate.AWAY, TroubleKind.SMTP_TLS)
