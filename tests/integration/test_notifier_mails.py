"""From a flag to the mail, step by step, on a real database and a real mail server; time is handed in."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from msgspec.structs import replace

from schemas.flags import AppointmentFacts, Flag, FlagType, Kind
from services.embedded.mailsink import MailSink
from services.notifier.mailbox import KEEP, Mailbox
from services.notifier.sender import Sender, retry_seconds
from services.notifier.store import Store
from services.plumbing import postgres
from services.plumbing.health import Health
from services.plumbing.postgres import Pool
from services.plumbing.settings import Settings, load

NOW: Final = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
HOLD: Final = timedelta(seconds=5)
AGES: Final = timedelta(hours=30)


class Hands:
    """A clock whose hands are moved by hand."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class PostOffice(MailSink):
    """A mail server that does not take everything: answers by address, at RCPT or at DATA."""

    def __init__(self) -> None:
        super().__init__()
        self.at_rcpt: dict[str, str] = {}
        self.at_data: dict[str, str] = {}
        self.before_answer: list[Any] = []

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.at_rcpt:
            return self.at_rcpt[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if answer := self.at_data.get(envelope.rcpt_tos[0]):
            return answer
        for act in self.before_answer:
            await act()
        return await super().handle_DATA(server, session, envelope)

    def took(self) -> list[str]:
        return [mail.to[0] for mail in self.mails]


class Notifier:
    """A notifier in pieces: the test says when what happens."""

    def __init__(self, settings: Settings, pool: Pool, office: PostOffice) -> None:
        self.clock, self.pool, self.office = Hands(), pool, office
        self.health, self.stop = Health(), asyncio.Event()
        self.settings = settings
        self.mailbox = Mailbox(pool)
        self.store = Store(pool, console_url="https://c.example", mail_from=settings.mail_from, hold_seconds=5)
        self.sender = self.another()

    @classmethod
    async def open(cls, dsn: str, office: PostOffice) -> Self:
        environ = {
            "RECONCAL_POSTGRES_DSN": dsn,
            "RECONCAL_SMTP_PORT": str(office.smtp_port),
            "RECONCAL_SMTP_TIMEOUT_SECONDS": "3",
        }
        settings = load(environ)
        return cls(settings, await postgres.connect(settings, name="test"), office)

    def another(self) -> Sender:
        return Sender(self.settings, self.mailbox, self.clock, self.health, asyncio.Event(), self.stop)

    async def company(self, name: str = "praxis", **people: str) -> dict[str, UUID]:
        """Found a company; its people are given as name=role."""
        await self.pool.execute("INSERT INTO companies (company_id, name) VALUES ($1, $1)", name)
        ids = {person: uuid4() for person in people}
        for person, role in people.items():
            await self.pool.execute(
                "INSERT INTO contacts (company_id, contact_id, name, email, role) VALUES ($1, $2, $3, $4, $5)",
                name, ids[person], person.title(), f"{person}@example.com", role,
            )  # fmt: skip
        return ids

    async def take_in(self, *flags: Flag) -> tuple[int, int, int]:
        taken = await self.store.take_in(flags, "log", {0: 1}, self.clock.at)
        return taken.new, taken.queued, taken.withdrawn

    async def later(self, by: timedelta = HOLD) -> None:
        """Let time pass, and send what is due then."""
        self.clock.at += by
        while await self.sender.burst():
            pass

    async def states(self) -> list[tuple[str, bool, str]]:
        rows = await self.pool.fetch("SELECT recipient, resolution, state FROM mails ORDER BY 1, 2")
        return [(row[0].partition("@")[0], row[1], row[2]) for row in rows]

    async def inbox(self) -> list[tuple[str, str]]:
        rows = await self.pool.fetch(
            "SELECT c.email, n.type FROM notifications n JOIN contacts c USING (company_id, contact_id) ORDER BY 1, 2"
        )
        return [(row[0].partition("@")[0], row[1]) for row in rows]


@pytest.fixture
async def office() -> AsyncIterator[PostOffice]:
    async with PostOffice() as office:
        yield office


@pytest.fixture
async def notifier(dsn: str, office: PostOffice) -> AsyncIterator[Notifier]:
    notifier = await Notifier.open(dsn, office)
    yield notifier
    await postgres.close(notifier.pool)


def a_flag(company_id: str = "praxis", number: int = 4711, *, in_hours: float = 48, **over: Any) -> Flag:
    appointment = AppointmentFacts(
        appointment_id=str(number), status="confirmed", starts_at=NOW + timedelta(hours=in_hours)
    )
    flag = Flag(
        id=uuid4(),
        type=FlagType.ORPHANED_LOCAL,
        company_id=company_id,
        record_id=uuid4(),
        kind=Kind.ORPHANED_LOCAL,
        generation=1,
        decided_at=NOW,
        reason="no booking came",
        verdict="not_verified",
        appointment=appointment,
    )
    return replace(flag, **over)


def resolving(flag: Flag) -> Flag:
    return replace(flag, id=uuid4(), type=FlagType.RESOLVED, resolves=flag.id, resolved_by="auto")


async def test_each_admin_and_manager_gets_one_mail_and_one_row_in_the_inbox(notifier: Notifier) -> None:
    await notifier.company(mia="admin", max="manager", vera="viewer")
    await notifier.company("other", olga="admin")
    await notifier.take_in(a_flag())
    await notifier.later()
    assert sorted(notifier.office.took()) == ["max@example.com", "mia@example.com"]
    assert {mail.subject for mail in notifier.office.mails} == {"Cal.com Sync Issue: Appointment #4711"}
    assert await notifier.inbox() == [("max", "calcom_sync_failure"), ("mia", "calcom_sync_failure")]


async def test_a_flag_delivered_twice_is_mailed_once(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    flag = a_flag()
    assert await notifier.take_in(flag, flag) == (1, 1, 0)
    await notifier.later()
    assert await notifier.take_in(flag) == (0, 0, 0)
    await notifier.later()
    assert notifier.office.took() == ["mia@example.com"]
    assert await notifier.inbox() == [("mia", "calcom_sync_failure")]


async def test_a_flag_that_resolves_within_the_hold_is_never_mailed(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    flag = a_flag()
    await notifier.take_in(flag)
    await notifier.later(HOLD / 2)
    assert await notifier.take_in(resolving(flag)) == (1, 0, 1)
    await notifier.later(AGES)
    assert notifier.office.took() == []
    assert await notifier.states() == [("mia", False, "withdrawn")]
    assert await notifier.inbox() == [("mia", "calcom_sync_failure"), ("mia", "calcom_sync_resolved")]


@pytest.mark.parametrize("turned", [False, True])
async def test_in_one_batch_a_flag_and_its_resolution_are_no_mail(notifier: Notifier, turned: bool) -> None:  # noqa: FBT001
    await notifier.company(mia="admin")
    flag = a_flag()
    both = [flag, resolving(flag)]
    await notifier.take_in(*(reversed(both) if turned else both))
    await notifier.later(AGES)
    assert notifier.office.took() == []


async def test_a_resolution_that_comes_before_its_flag_keeps_it_from_being_told(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    flag = a_flag()
    await notifier.take_in(resolving(flag))
    assert await notifier.take_in(flag) == (0, 0, 0)
    await notifier.later(AGES)
    assert notifier.office.took() == []
    assert await notifier.inbox() == []


async def test_a_resolved_mail_only_follows_a_sent_one_in_its_thread(notifier: Notifier) -> None:
    await notifier.company(mia="admin", max="manager")
    notifier.office.at_rcpt["max@example.com"] = "550 no such user"
    flag = a_flag()
    await notifier.take_in(flag)
    await notifier.later()
    assert await notifier.take_in(resolving(flag)) == (1, 1, 0)
    await notifier.later(timedelta(0))
    first, second = notifier.office.mails
    assert (first.to, second.to) == (["mia@example.com"], ["mia@example.com"])
    assert second.in_reply_to == first.message_id
    assert f"References: {first.message_id}\r\n" in second.raw
    assert second.subject == f"Re: {first.subject}"
    assert second.text.startswith("Resolved")


async def test_a_flag_that_resolves_while_its_mail_is_on_the_way_is_followed_by_the_resolution(
    notifier: Notifier,
) -> None:
    await notifier.company(mia="admin")
    flag = a_flag()
    await notifier.take_in(flag)

    async def resolve() -> None:
        notifier.office.before_answer.clear()
        await notifier.take_in(resolving(flag))

    notifier.office.before_answer.append(resolve)
    await notifier.later()
    assert [mail.text.split("\n")[0].strip() for mail in notifier.office.mails] == ["Cal.com sync issue", "Resolved"]


async def test_a_flag_that_resolves_between_two_attempts_is_never_mailed(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    notifier.office.at_rcpt["mia@example.com"] = "451 greylisted"
    flag = a_flag()
    await notifier.take_in(flag)
    await notifier.later()
    notifier.office.at_rcpt.clear()
    await notifier.take_in(resolving(flag))
    await notifier.later(timedelta(hours=1))
    assert notifier.office.took() == []
    assert await notifier.states() == [("mia", False, "withdrawn"), ("mia", True, "withdrawn")]


@pytest.mark.parametrize("where", ["at_rcpt", "at_data"])
async def test_one_refused_address_does_not_keep_the_others_from_theirs(notifier: Notifier, where: str) -> None:
    await notifier.company(mia="admin", max="manager", moe="admin")
    getattr(notifier.office, where)["max@example.com"] = "550 5.1.1 no such user"
    await notifier.take_in(a_flag())
    await notifier.later()
    assert sorted(notifier.office.took()) == ["mia@example.com", "moe@example.com"]
    assert [name for name, _, state in await notifier.states() if state == "refused"] == ["max"]
    row = await notifier.pool.fetchrow("SELECT * FROM contacts WHERE suppressed_at IS NOT NULL")
    assert row is not None
    assert (row["name"], row["suppressed_at"]) == ("Max", notifier.clock.at)
    assert row["suppressed_reason"].startswith("550 5.1.1 no such user")


async def test_a_suppressed_address_gets_no_new_mails_but_keeps_its_inbox(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    notifier.office.at_rcpt["mia@example.com"] = "550 no such user"
    await notifier.take_in(a_flag(number=1), a_flag(number=2))
    await notifier.later()
    notifier.office.at_rcpt.clear()
    await notifier.take_in(a_flag(number=3))
    await notifier.later()
    assert notifier.office.took() == []
    assert await notifier.states() == [("mia", False, "refused")] * 2
    assert await notifier.inbox() == [("mia", "calcom_sync_failure")] * 3


async def test_an_address_that_no_server_would_understand_is_refused_by_us(notifier: Notifier) -> None:
    await notifier.company(mia="admin", max="admin")
    await notifier.pool.execute("UPDATE contacts SET email = $1 WHERE name = 'Max'", "x\r\nRCPT TO:<y@example.com>")
    await notifier.take_in(a_flag())
    await notifier.later()
    assert notifier.office.took() == ["mia@example.com"]
    assert sorted(state for _, _, state in await notifier.states()) == ["refused", "sent"]


async def test_while_the_mail_server_is_away_nothing_is_lost(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.take_in(*(a_flag(number=n) for n in range(30)))
    await notifier.office.stop()
    notifier.clock.at += HOLD
    assert await notifier.sender.burst()
    assert "smtp" in notifier.health.troubles()
    assert await notifier.pool.fetchval("SELECT max(attempts) FROM mails") == 0
    await notifier.office.start()
    await notifier.later(timedelta(0))
    assert len(notifier.office.mails) == 30
    assert len({mail.message_id for mail in notifier.office.mails}) == 30
    assert not notifier.health.troubles()


async def test_a_mail_that_is_put_off_is_tried_again_and_does_not_hold_up_the_others(notifier: Notifier) -> None:
    await notifier.company(mia="admin", max="manager")
    notifier.office.at_rcpt["max@example.com"] = "451 try later"
    await notifier.take_in(a_flag())
    await notifier.later()
    assert notifier.office.took() == ["mia@example.com"]
    notifier.office.at_rcpt.clear()
    await notifier.later(timedelta(seconds=30))
    assert notifier.office.took() == ["mia@example.com", "max@example.com"]


async def test_what_was_put_off_for_a_day_expires_and_says_why(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    notifier.office.at_data["mia@example.com"] = "452 mailbox full"
    await notifier.take_in(a_flag())
    await notifier.later()
    await notifier.later(KEEP)
    row = await notifier.pool.fetchrow("SELECT * FROM mails")
    assert row is not None
    assert (row["state"], row["last_error"]) == ("expired", "452 mailbox full")


async def test_a_mail_that_nobody_tried_in_a_day_is_tried_all_the_same(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.take_in(a_flag())
    await notifier.later(AGES)
    assert notifier.office.took() == ["mia@example.com"]


async def test_the_soonest_appointment_is_told_of_first_and_a_past_one_last(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    order = {1: 50, 2: -3, 3: 2, 4: 9}
    await notifier.take_in(*(a_flag(number=number, in_hours=hours) for number, hours in order.items()))
    await notifier.later()
    assert [mail.subject[-1] for mail in notifier.office.mails] == ["3", "4", "1", "2"]


async def test_several_senders_share_the_work(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.take_in(*(a_flag(number=n) for n in range(60)))
    notifier.clock.at += HOLD
    await asyncio.gather(*(notifier.another().burst() for _ in range(4)))
    await notifier.later()
    assert len(notifier.office.mails) == 60
    assert len({mail.message_id for mail in notifier.office.mails}) == 60


async def test_a_crash_after_the_lease_lets_the_mail_go_out_later_under_the_same_id(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.take_in(a_flag())
    notifier.clock.at += HOLD
    (leased,) = await notifier.mailbox.lease(notifier.clock.at, notifier.clock.at + timedelta(minutes=5), limit=9)
    await notifier.later(timedelta(minutes=4))
    assert notifier.office.took() == []
    await notifier.later(timedelta(minutes=1))
    assert [mail.message_id for mail in notifier.office.mails] == [leased.message_id]


def silent(company_id: str = "praxis") -> Flag:
    return a_flag(
        company_id,
        type=FlagType.WEBHOOK_SILENT,
        kind=Kind.WEBHOOK_SILENT,
        reason="Cal.com has switched the webhook off.",
        appointment=None,
    )


def of_calcom(number: int) -> Flag:
    return a_flag(number=number, type=FlagType.ORPHANED_CALCOM, kind=Kind.ORPHANED_CALCOM)


async def test_a_silent_webhook_is_told_of_first_and_holds_back_the_mails_about_single_orphans(
    notifier: Notifier,
) -> None:
    await notifier.company(mia="admin", max="manager", vera="viewer")
    mismatch = a_flag(number=3, type=FlagType.DATA_MISMATCH, kind=Kind.DATA_MISMATCH, in_hours=1)
    await notifier.take_in(a_flag(number=1), of_calcom(2), mismatch, silent())
    await notifier.later(AGES)
    told = ["Cal.com Webhook Silent: praxis"] * 2 + ["Cal.com Sync Issue: Appointment #3"] * 2
    assert [mail.subject for mail in notifier.office.mails] == told
    assert len([state for _, _, state in await notifier.states() if state == "waiting"]) == 4
    assert [kind for _, kind in await notifier.inbox()] == ["calcom_sync_failure"] * 8  # the flags stay


async def test_a_webhook_that_falls_silent_later_holds_back_what_is_queued_and_no_other_companys(
    notifier: Notifier,
) -> None:
    await notifier.company(mia="admin")
    await notifier.company("other", olga="admin")
    await notifier.take_in(a_flag(), a_flag("other"))
    await notifier.take_in(silent())
    await notifier.take_in(a_flag(number=4712))
    await notifier.later()
    assert sorted(notifier.office.took()) == ["mia@example.com", "olga@example.com"]
    assert notifier.office.mails[0].subject == "Cal.com Webhook Silent: praxis"


async def test_when_the_webhook_is_heard_again_what_is_still_open_goes_out_and_the_rest_never(
    notifier: Notifier,
) -> None:
    await notifier.company(mia="admin")
    webhook, still, mended, mends_late = silent(), a_flag(number=1), a_flag(number=2), of_calcom(3)
    await notifier.take_in(webhook, still, mended, mends_late)
    await notifier.later(AGES)
    assert await notifier.take_in(resolving(mended)) == (1, 0, 1)
    await notifier.later(AGES)
    taken = await notifier.store.take_in([resolving(webhook)], "log", {0: 9}, notifier.clock.at)
    assert (taken.queued, taken.released) == (1, 2)
    await notifier.take_in(resolving(mends_late))
    await notifier.later(timedelta(0))
    first, second = notifier.office.mails
    assert second.in_reply_to == first.message_id
    assert second.subject == "Re: Cal.com Webhook Silent: praxis"
    await notifier.later()
    assert [mail.subject for mail in notifier.office.mails][2:] == ["Cal.com Sync Issue: Appointment #1"]
    await notifier.later(AGES)
    assert len(notifier.office.mails) == 3


async def test_the_resolution_of_a_mail_that_was_sent_is_not_held_back(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    flag = a_flag()
    await notifier.take_in(flag)
    await notifier.later()
    await notifier.take_in(silent())
    await notifier.later()
    await notifier.take_in(resolving(flag))
    await notifier.later(timedelta(0))
    assert notifier.office.mails[-1].subject == "Re: Cal.com Sync Issue: Appointment #4711"


@pytest.mark.parametrize("turned", [False, True])
async def test_a_silence_that_ends_in_the_batch_in_which_it_began_holds_nothing_back(
    notifier: Notifier,
    turned: bool,  # noqa: FBT001
) -> None:
    await notifier.company(mia="admin")
    webhook = silent()
    both = [webhook, resolving(webhook)]
    await notifier.take_in(a_flag(), *(reversed(both) if turned else both))
    await notifier.later()
    assert [mail.subject for mail in notifier.office.mails] == ["Cal.com Sync Issue: Appointment #4711"]


async def test_a_silence_whose_end_is_heard_of_first_holds_nothing_back(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    webhook = silent()
    await notifier.take_in(resolving(webhook))
    await notifier.take_in(webhook, a_flag())
    await notifier.later()
    assert [mail.subject for mail in notifier.office.mails] == ["Cal.com Sync Issue: Appointment #4711"]


async def test_while_one_of_two_silences_lasts_the_mails_wait(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    one, other = silent(), silent()
    await notifier.take_in(one, other, a_flag())
    await notifier.take_in(resolving(one))
    await notifier.later(AGES)
    assert sorted(state for _, _, state in await notifier.states()) == ["sent", "waiting", "withdrawn"]
    await notifier.take_in(resolving(other))
    await notifier.take_in(one, other, resolving(one))  # delivered again: nothing begins anew
    await notifier.later()
    assert notifier.office.mails[-1].subject == "Cal.com Sync Issue: Appointment #4711"


async def test_what_a_server_put_off_waits_too_and_is_tried_again_however_long_it_waited(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    notifier.office.at_rcpt["mia@example.com"] = "451 greylisted"
    webhook = silent()
    await notifier.take_in(a_flag())
    await notifier.later()
    notifier.office.at_rcpt.clear()
    await notifier.take_in(webhook)
    await notifier.later(2 * KEEP)
    await notifier.take_in(resolving(webhook))
    await notifier.later()
    assert [mail.subject.partition(":")[0] for mail in notifier.office.mails] == [
        "Cal.com Webhook Silent",
        "Re",
        "Cal.com Sync Issue",
    ]


async def test_what_was_put_off_waits_and_is_resolved_meanwhile_is_never_mailed(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    notifier.office.at_rcpt["mia@example.com"] = "451 greylisted"
    flag = a_flag()
    await notifier.take_in(flag)
    await notifier.later()
    notifier.office.at_rcpt.clear()
    await notifier.take_in(silent(), resolving(flag))
    await notifier.later(AGES)
    assert [mail.subject for mail in notifier.office.mails] == ["Cal.com Webhook Silent: praxis"]
    assert await notifier.mailbox.next_due() is None


async def test_mails_that_wait_for_a_silent_webhook_are_nothing_to_do(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.take_in(silent(), *(a_flag(number=n) for n in range(30)))
    await notifier.later(AGES)
    assert notifier.office.took() == ["mia@example.com"]
    assert await notifier.mailbox.next_due() is None


async def test_companies_whose_webhook_is_silent_are_counted_once_and_as_long_as_it_is(notifier: Notifier) -> None:
    for name in ("praxis", "other", "gone"):
        await notifier.company(name)
    await notifier.pool.execute("UPDATE companies SET removed_at = now() WHERE company_id = 'gone'")
    webhook, again = silent(), silent()
    await notifier.take_in(webhook, again, silent("other"), silent("gone"))
    assert await notifier.mailbox.silent_companies() == 2
    await notifier.take_in(resolving(webhook), resolving(again))
    assert await notifier.mailbox.silent_companies() == 1


async def test_people_who_left_are_not_written_to(notifier: Notifier) -> None:
    await notifier.company(mia="admin", max="admin", moe="admin")
    await notifier.take_in(a_flag())
    await notifier.pool.execute("DELETE FROM contacts WHERE name = 'Max'")
    await notifier.pool.execute("UPDATE contacts SET role = 'viewer' WHERE name = 'Moe'")
    await notifier.later()
    assert notifier.office.took() == ["mia@example.com"]


@pytest.mark.parametrize("people", [{}, {"vera": "viewer"}])
async def test_a_company_with_nobody_to_tell_is_said_to_have_none(notifier: Notifier, people: dict[str, str]) -> None:
    await notifier.company(**people)
    known, unknown = a_flag(), a_flag("nowhere")
    taken = await notifier.store.take_in([known, unknown], "log", {0: 2}, NOW)
    assert [flag.company_id for flag in taken.nobody] == ["praxis", "nowhere"]
    assert await notifier.take_in(known) == (0, 0, 0)


async def test_the_offset_moves_with_what_it_led_to(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.store.take_in([a_flag()], "log", {0: 7, 2: 3}, NOW)
    assert await notifier.store.positions("log", [0, 1, 2]) == {0: 7, 2: 3}
    assert await notifier.store.positions("another log", [0, 1, 2]) == {}
    with pytest.raises(asyncpg.PostgresError):
        await notifier.store.take_in([a_flag()], "log", {0: -1}, NOW)
    assert await notifier.pool.fetchval("SELECT count(*) FROM seen_flags") == 1


def test_the_wait_between_attempts_doubles_up_to_a_quarter_of_an_hour() -> None:
    def bounds(attempts: Iterable[int]) -> list[bool]:
        most = [min(900.0, 30.0 * 2 ** (n - 1)) for n in attempts]
        return [high / 2 <= retry_seconds(n) <= high for n, high in zip(attempts, most, strict=True)]

    assert all(bounds([1, 2, 3, 6, 100]))
