"""From a flag to the mail, step by step, on a real database and a real mail server; time is handed in."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest
from msgspec.structs import replace

from schemas.flags import Flag, FlagType, Kind
from services.notifier import alerts
from services.notifier.mail.smtp import Postman
from services.notifier.sender import retry_seconds
from services.notifier.turns import KEEP, LOOK_WITHIN, forget
from tests.support.notifying import (
    INTERVAL,
    LEASE_SECONDS,
    NOW,
    REMINDER,
    WAIT,
    Notifier,
    a_flag,
    of_company,
    resolving,
)
from tests.support.post_office import CUT, PostOffice, Step

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
async def office() -> AsyncIterator[PostOffice]:
    async with PostOffice() as office:
        yield office


@pytest.fixture
async def notifier(dsn: str, office: PostOffice) -> AsyncIterator[Notifier]:
    notifier = await Notifier.open(dsn, office)
    yield notifier
    await notifier.close()


def of_calcom(number: int) -> Flag:
    return a_flag(number=number, type=FlagType.ORPHANED_CALCOM, kind=Kind.ORPHANED_CALCOM)


# --- who, and once -----------------------------------------------------------------------------------------------


async def test_each_admin_and_manager_gets_one_mail_and_one_row_in_the_inbox(notifier: Notifier) -> None:
    await notifier.company(mia="admin", max="manager", vera="viewer")
    await notifier.company("other", olga="admin")
    await notifier.take_in(a_flag())
    await notifier.play(WAIT)
    assert sorted(notifier.office.took()) == ["max@example.com", "mia@example.com"]
    assert set(notifier.subjects()) == {"Cal.com Sync Issue: Appointment #4711"}
    assert await notifier.inbox() == [("max", "calcom_sync_failure"), ("mia", "calcom_sync_failure")]


async def test_a_flag_delivered_twice_is_told_once(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    flag = a_flag()
    assert (await notifier.take_in(flag, flag)).raised == 1
    await notifier.play(WAIT)
    assert not (await notifier.take_in(flag)).news
    await notifier.play(INTERVAL)
    assert notifier.office.took() == ["mia@example.com"]
    assert await notifier.inbox() == [("mia", "calcom_sync_failure")]


async def test_who_joins_while_flags_are_taken_in_is_told_of_them(notifier: Notifier) -> None:
    """Their turn is looked at before the flags are there to be seen, and was not there to be touched."""
    await notifier.company()
    flag = a_flag()
    async with notifier.pool.acquire() as connection, connection.transaction():
        await alerts.note(connection, [flag], [], notifier.clock.at)
        await notifier.hire("mia", "admin")
        await notifier.send()
    await notifier.play(LOOK_WITHIN)
    assert notifier.office.took() == ["mia@example.com"]


async def test_what_ends_one_companys_flag_ends_no_others(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.company("other", olga="admin")
    flag = a_flag()
    same = replace(a_flag("other"), id=flag.id)
    await notifier.take_in(flag, same, resolving(same), resolving(flag))
    await notifier.play(INTERVAL)
    assert notifier.office.took() == []
    await notifier.take_in(a_flag(number=5), resolving(replace(flag, company_id="nobody")))
    await notifier.play(INTERVAL)
    assert notifier.office.took() == ["mia@example.com"]


@pytest.mark.parametrize(
    "begins",
    [datetime.max, datetime.min, datetime(9999, 12, 31, 22), datetime(1, 1, 1, 1)],  # noqa: DTZ001, DTZ901 - see below
)
async def test_an_appointment_at_the_edge_of_time_is_told_like_others(notifier: Notifier, begins: datetime) -> None:
    await notifier.company(mia="admin")
    flag = a_flag()
    assert flag.appointment is not None
    await notifier.take_in(replace(flag, appointment=replace(flag.appointment, starts_at=begins.replace(tzinfo=UTC))))
    await notifier.play(WAIT)
    assert notifier.subjects() == ["Cal.com Sync Issue: Appointment #4711"]


async def test_people_who_left_are_not_written_to(notifier: Notifier) -> None:
    await notifier.company(mia="admin", max="admin", moe="admin")
    await notifier.take_in(a_flag())
    await notifier.pool.execute("DELETE FROM contacts WHERE name = 'Max'")
    await notifier.pool.execute("UPDATE contacts SET role = 'viewer' WHERE name = 'Moe'")
    await notifier.play(DAY)
    assert set(notifier.office.took()) == {"mia@example.com"}


async def test_who_joins_is_told_of_all_that_is_open(notifier: Notifier) -> None:
    await notifier.company()
    await notifier.take_in(a_flag(number=1), a_flag(number=2))
    await notifier.play(INTERVAL)
    await notifier.hire("mia", "admin")
    await notifier.play(SECOND)
    assert notifier.office.took() == ["mia@example.com"]


@pytest.mark.parametrize("people", [{}, {"vera": "viewer"}])
async def test_a_company_with_nobody_to_tell_is_said_to_have_none(notifier: Notifier, people: dict[str, str]) -> None:
    await notifier.company(**people)
    known, unknown = a_flag(), a_flag("nowhere")
    assert (await notifier.take_in(known, unknown)).nobody == ("nowhere", "praxis")
    assert (await notifier.take_in(known)).nobody == ()


async def test_a_company_of_which_all_have_switched_mail_off_has_nobody_to_tell(notifier: Notifier) -> None:
    await notifier.company()
    await notifier.hire("mia", "admin", delivery="none")
    assert (await notifier.take_in(a_flag())).nobody == ("praxis",)
    await notifier.play(DAY)
    assert notifier.office.took() == []
    assert await notifier.inbox() == [("mia", "calcom_sync_failure")]


# --- grouping ----------------------------------------------------------------------------------------------------


async def test_what_resolves_within_the_wait_is_never_mailed(notifier: Notifier) -> None:
    """Scenario 44."""
    await notifier.company(mia="admin")
    flag = a_flag()
    await notifier.take_in(flag)
    await notifier.play(WAIT - SECOND)
    assert (await notifier.take_in(resolving(flag))).resolved == 1
    await notifier.play(DAY)
    assert notifier.office.took() == []
    assert await notifier.inbox() == [("mia", "calcom_sync_failure"), ("mia", "calcom_sync_resolved")]


@pytest.mark.parametrize("turned", [False, True])
async def test_in_one_batch_a_flag_and_its_resolution_are_no_mail(notifier: Notifier, turned: bool) -> None:  # noqa: FBT001
    await notifier.company(mia="admin")
    flag = a_flag()
    both = [flag, resolving(flag)]
    await notifier.take_in(*(reversed(both) if turned else both))
    await notifier.play(DAY)
    assert notifier.office.took() == []


async def test_a_resolution_that_comes_before_its_flag_keeps_it_from_being_told(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    flag = a_flag()
    await notifier.take_in(resolving(flag))
    assert not (await notifier.take_in(flag)).news
    await notifier.play(DAY)
    assert notifier.office.took() == []
    assert await notifier.inbox() == []


async def test_what_comes_within_the_wait_is_one_mail_and_what_comes_later_waits_for_the_interval(
    notifier: Notifier,
) -> None:
    await notifier.company(mia="admin")
    await notifier.take_in(a_flag(number=1))
    await notifier.play(WAIT / 2)
    await notifier.take_in(a_flag(number=2))
    await notifier.play(WAIT / 2)
    assert len(notifier.office.mails) == 1
    await notifier.take_in(a_flag(number=3))
    await notifier.play(INTERVAL - SECOND)
    assert len(notifier.office.mails) == 1
    await notifier.play(SECOND)
    assert notifier.subjects()[1:] == ["Cal.com Sync Issue: Appointment #3"]


async def test_a_resolved_mail_follows_in_the_thread_of_the_one_that_told(notifier: Notifier) -> None:
    await notifier.company(mia="admin", max="manager")
    notifier.office.at_rcpt["max@example.com"] = "550 no such user"
    flag = a_flag()
    await notifier.take_in(flag)
    await notifier.play(WAIT)
    await notifier.take_in(resolving(flag))
    await notifier.play(INTERVAL)
    first, second = notifier.office.mails
    assert (first.to, second.to) == (["mia@example.com"], ["mia@example.com"])
    assert second.in_reply_to == first.message_id
    assert f"References: {first.message_id}\r\n" in second.raw
    assert second.subject == f"Re: {first.subject}"
    await notifier.play(10 * DAY)
    assert len(notifier.office.mails) == 2


async def test_what_resolves_while_its_mail_is_on_the_way_is_followed_by_the_resolution(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    flag = a_flag()
    await notifier.take_in(flag)

    async def resolve() -> None:
        notifier.office.before_answer.clear()
        await notifier.take_in(resolving(flag))

    notifier.office.before_answer.append(resolve)
    await notifier.play(INTERVAL + WAIT)
    assert notifier.subjects() == [
        "Cal.com Sync Issue: Appointment #4711",
        "Re: Cal.com Sync Issue: Appointment #4711",
    ]


async def test_an_appointment_within_two_hours_does_not_wait_for_the_group(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.take_in(a_flag(number=1))
    await notifier.play(WAIT)
    await notifier.take_in(a_flag(number=2, in_hours=1), a_flag(number=3))
    await notifier.play(2 * SECOND)
    assert len(notifier.office.mails) == 2
    assert "#2" in notifier.office.mails[1].text
    await notifier.take_in(a_flag(number=4, in_hours=1))
    await notifier.play(INTERVAL - 3 * SECOND)
    assert len(notifier.office.mails) == 2  # one urgent mail an interval: a storm of them would be a flood
    await notifier.play(3 * SECOND)
    assert len(notifier.office.mails) == 3


async def test_what_stays_open_is_reminded_of_ever_more_rarely_and_no_longer_once_it_is_resolved(
    notifier: Notifier,
) -> None:
    await notifier.company(mia="admin")
    flag = a_flag(in_hours=500)
    await notifier.take_in(flag)
    await notifier.play(WAIT + REMINDER - SECOND)
    assert len(notifier.office.mails) == 1
    await notifier.play(SECOND)
    assert len(notifier.office.mails) == 2
    assert notifier.subjects()[1].startswith("Reminder")
    await notifier.play(2 * REMINDER + 4 * REMINDER + 3 * DAY)
    assert len(notifier.office.mails) == 2 + 2 + 3
    await notifier.take_in(resolving(flag))
    await notifier.play(9 * DAY)
    assert len(notifier.office.mails) == 2 + 2 + 3 + 1


async def test_five_thousand_orphans_in_a_minute_are_one_mail_an_interval(notifier: Notifier) -> None:
    """Scenario 43, without a cause: the digest lists the first and counts the rest."""
    await notifier.company(mia="admin", max="manager")
    for batch in range(10):
        await notifier.take_in(*(a_flag(number=batch * 500 + n) for n in range(500)))
        await notifier.play(timedelta(seconds=6))
    await notifier.play(2 * INTERVAL)
    at = [mail for mail in notifier.office.mails if mail.to == ["mia@example.com"]]
    assert len(at) == 2
    assert len(notifier.office.mails) == 4
    told = await notifier.pool.fetchval("SELECT count(*) FROM tellings")
    assert told == 2 * 5000
    assert all(len(mail.raw) < 100_000 for mail in notifier.office.mails)


async def test_the_figures_are_the_companys_own(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.pool.execute("UPDATE companies SET group_wait_seconds = 0, group_interval_seconds = 10")
    await notifier.take_in(a_flag(number=1))
    await notifier.play(SECOND)
    await notifier.take_in(a_flag(number=2))
    await notifier.play(10 * SECOND)
    assert len(notifier.office.mails) == 2


# --- causes hold back their effects ------------------------------------------------------------------------------


async def test_a_silent_webhook_is_told_and_holds_back_single_orphans(notifier: Notifier) -> None:
    """Scenario 43: the cause is told, what it explains is not."""
    await notifier.company(mia="admin", max="manager", vera="viewer")
    orphans = [a_flag(number=n) for n in range(600)]
    await notifier.take_in(*orphans, of_calcom(2), of_company(Kind.ORPHANS_A_DAY))
    await notifier.take_in(of_company(Kind.WEBHOOK_SILENT))
    await notifier.play(INTERVAL)
    assert notifier.subjects() == ["Cal.com Webhook Silent: praxis"] * 2
    assert "601" in notifier.office.mails[0].text


async def test_a_silent_webhook_holds_back_no_other_kind_and_no_other_companys(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.company("other", olga="admin")
    mismatch = a_flag(number=3, type=FlagType.DATA_MISMATCH, kind=Kind.DATA_MISMATCH)
    await notifier.take_in(of_company(Kind.WEBHOOK_SILENT), mismatch, a_flag(number=4), a_flag("other", 5))
    await notifier.play(WAIT)
    by = {mail.to[0]: mail.text for mail in notifier.office.mails}
    assert "#3" in by["mia@example.com"]
    assert "#4" not in by["mia@example.com"]
    assert "#5" in by["olga@example.com"]


async def test_when_the_webhook_is_heard_again_what_is_still_open_is_told_after_an_interval_and_the_rest_never(
    notifier: Notifier,
) -> None:
    await notifier.company(mia="admin")
    webhook, still, mended, mends_late = (
        of_company(Kind.WEBHOOK_SILENT),
        a_flag(number=1),
        a_flag(number=2),
        of_calcom(3),
    )
    await notifier.take_in(webhook, still, mended, mends_late)
    await notifier.play(timedelta(hours=3))
    await notifier.take_in(resolving(mended))
    await notifier.take_in(resolving(webhook))
    await notifier.play(WAIT)
    first, second = notifier.office.mails
    assert second.in_reply_to == first.message_id
    assert second.subject == "Re: Cal.com Webhook Silent: praxis"
    await notifier.take_in(resolving(mends_late))
    await notifier.play(INTERVAL)
    assert notifier.subjects()[2:] == ["Cal.com Sync Issue: Appointment #1"]


async def test_an_incident_of_calcoms_api_holds_back_what_could_not_be_verified(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    incident = of_company(Kind.CALCOM_INCIDENT)
    failed = a_flag(number=1, type=FlagType.VERIFICATION_ERROR, kind=Kind.VERIFICATION_ERROR, verdict="unknown")
    unasked, true = a_flag(number=2, verdict="not_verified"), a_flag(number=3)
    await notifier.take_in(incident, failed, unasked, true)
    await notifier.play(INTERVAL)
    (mail,) = notifier.office.mails
    assert "#3" in mail.text
    assert "#1" not in mail.text
    assert "#2" not in mail.text
    await notifier.take_in(resolving(incident))
    await notifier.play(2 * INTERVAL)
    assert "#1" in notifier.office.mails[-1].text
    assert "#2" in notifier.office.mails[-1].text


async def test_the_resolution_of_what_was_told_is_not_held_back(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    flag = a_flag()
    await notifier.take_in(flag)
    await notifier.play(WAIT)
    await notifier.take_in(of_company(Kind.WEBHOOK_SILENT), resolving(flag))
    await notifier.play(INTERVAL)
    told, cause = notifier.office.mails
    assert cause.in_reply_to == told.message_id


@pytest.mark.parametrize("turned", [False, True])
async def test_a_silence_that_ends_in_the_batch_in_which_it_began_holds_back_for_an_interval_only(
    notifier: Notifier,
    turned: bool,  # noqa: FBT001
) -> None:
    await notifier.company(mia="admin")
    webhook = of_company(Kind.WEBHOOK_SILENT)
    both = [webhook, resolving(webhook)]
    await notifier.take_in(a_flag(), *(reversed(both) if turned else both))
    await notifier.play(INTERVAL + WAIT)
    assert notifier.subjects() == ["Cal.com Sync Issue: Appointment #4711"]


async def test_who_does_not_want_to_hear_of_the_cause_hears_of_its_effects(notifier: Notifier) -> None:
    await notifier.company()
    await notifier.hire("mia", "admin", muted_kinds=["WEBHOOK_SILENT"])
    await notifier.take_in(of_company(Kind.WEBHOOK_SILENT), a_flag())
    await notifier.play(WAIT)
    assert notifier.subjects() == ["Cal.com Sync Issue: Appointment #4711"]


# --- preferences -------------------------------------------------------------------------------------------------


async def test_a_daily_digest_comes_at_the_persons_time_on_the_companys_clock(notifier: Notifier) -> None:
    await notifier.company()
    await notifier.hire("mia", "admin", delivery="daily", daily_at=time(7, 30))
    flag = a_flag(number=1, in_hours=1)
    await notifier.take_in(flag, a_flag(number=2))
    eve = NOW.replace(hour=6, minute=30) + DAY - NOW  # 07:30 in Berlin
    await notifier.play(eve - SECOND)
    assert not notifier.office.mails
    await notifier.play(SECOND)
    assert len(notifier.office.mails) == 1
    await notifier.take_in(resolving(flag))
    await notifier.play(3 * DAY)
    assert len(notifier.office.mails) == 4  # the second is open still


async def test_kinds_that_a_person_has_muted_are_not_mailed_to_them(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.hire("max", "manager", muted_kinds=["ORPHANED_LOCAL"])
    await notifier.take_in(a_flag())
    await notifier.play(DAY)
    assert set(notifier.office.took()) == {"mia@example.com"}


async def test_who_wants_mail_again_is_told_of_what_is_open(notifier: Notifier) -> None:
    await notifier.company()
    await notifier.hire("mia", "admin", delivery="none")
    await notifier.take_in(a_flag())
    await notifier.play(DAY)
    await notifier.pool.execute("UPDATE contacts SET delivery = 'immediate'")
    await notifier.play(SECOND)
    assert notifier.office.took() == ["mia@example.com"]


# --- the mail server ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["at_rcpt", "at_data"])
async def test_one_refused_address_does_not_keep_the_others_from_theirs(notifier: Notifier, where: str) -> None:
    """Scenario 47."""
    await notifier.company(mia="admin", max="manager", moe="admin")
    getattr(notifier.office, where)["max@example.com"] = "550 5.1.1 no such user"
    await notifier.take_in(a_flag())
    await notifier.play(WAIT)
    assert sorted(notifier.office.took()) == ["mia@example.com", "moe@example.com"]
    assert [name for name, _, state in await notifier.states() if state == "refused"] == ["max"]
    row = await notifier.pool.fetchrow("SELECT * FROM contacts WHERE suppressed_at IS NOT NULL")
    assert row is not None
    assert (row["name"], row["suppressed_at"]) == ("Max", notifier.clock.at)
    assert row["suppressed_reason"].startswith("550 5.1.1 no such user")


async def test_a_suppressed_address_gets_no_mails_keeps_its_inbox_and_is_told_all_once_it_is_mended(
    notifier: Notifier,
) -> None:
    await notifier.company(mia="admin")
    notifier.office.at_rcpt["mia@example.com"] = "550 no such user"
    await notifier.take_in(a_flag(number=1), a_flag(number=2))
    await notifier.play(WAIT)
    notifier.office.at_rcpt.clear()
    await notifier.take_in(a_flag(number=3))
    await notifier.play(DAY)
    assert notifier.office.took() == []
    assert await notifier.inbox() == [("mia", "calcom_sync_failure")] * 3
    await notifier.pool.execute("UPDATE contacts SET suppressed_at = NULL")
    await notifier.play(SECOND)
    (mail,) = notifier.office.mails
    assert all(f"#{n}" in mail.text for n in (1, 2, 3))


async def test_an_address_that_no_server_would_understand_is_refused_by_us(notifier: Notifier) -> None:
    await notifier.company(mia="admin", max="admin")
    await notifier.pool.execute("UPDATE contacts SET email = $1 WHERE name = 'Max'", "x\r\nRCPT TO:<y@example.com>")
    await notifier.take_in(a_flag())
    await notifier.play(WAIT)
    assert notifier.office.took() == ["mia@example.com"]
    assert sorted(state for _, _, state in await notifier.states()) == ["refused", "sent"]


async def test_two_hours_without_a_mail_server_end_in_one_digest_of_all_that_is_open(notifier: Notifier) -> None:
    """Scenario 45: nothing lost, the most urgent company first."""
    await notifier.company(mia="admin")
    await notifier.company("other", olga="admin")
    await notifier.office.stop()
    flags = [a_flag(number=1000 + n, in_hours=3 + n) for n in range(240)]
    for number, flag in enumerate(flags):
        await notifier.take_in(flag)
        if number == 100:
            await notifier.take_in(*(resolving(one) for one in flags[:50]))
        await notifier.play(timedelta(seconds=30))
    await notifier.take_in(a_flag("other", number=1, in_hours=2.5))
    await notifier.play(WAIT)
    assert "smtp" in notifier.health.troubles()
    await notifier.office.start()
    await notifier.play(timedelta(minutes=1))
    assert notifier.office.took() == ["olga@example.com", "mia@example.com"]
    digest = notifier.office.mails[1]
    assert "190" in digest.subject
    assert "#1050" in digest.text
    assert "#1049" not in digest.text
    assert not notifier.health.troubles()
    assert await notifier.pool.fetchval("SELECT count(*) FROM tellings") == 191


async def test_a_mail_that_is_put_off_is_tried_again_and_does_not_hold_up_the_others(notifier: Notifier) -> None:
    await notifier.company(mia="admin", max="manager")
    notifier.office.at_rcpt["max@example.com"] = "451 try later"
    await notifier.take_in(a_flag())
    await notifier.play(WAIT)
    assert notifier.office.took() == ["mia@example.com"]
    notifier.office.at_rcpt.clear()
    await notifier.play(timedelta(seconds=30))
    assert notifier.office.took() == ["mia@example.com", "max@example.com"]


async def test_what_comes_while_a_mail_is_put_off_is_in_it_and_what_resolves_meanwhile_is_not(
    notifier: Notifier,
) -> None:
    await notifier.company(mia="admin")
    notifier.office.at_rcpt["mia@example.com"] = "451 greylisted"
    first = a_flag(number=1)
    await notifier.take_in(first)
    await notifier.play(WAIT)
    notifier.office.at_rcpt.clear()
    await notifier.take_in(a_flag(number=2), resolving(first))
    await notifier.play(INTERVAL)
    assert notifier.subjects() == ["Cal.com Sync Issue: Appointment #2"]


async def test_what_was_put_off_and_mends_itself_is_no_failure_of_the_next_mail(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    notifier.office.at_rcpt["mia@example.com"] = "451 greylisted"
    first = a_flag(number=1)
    await notifier.take_in(first)
    await notifier.play(WAIT)
    await notifier.take_in(resolving(first))
    await notifier.play(INTERVAL)
    notifier.office.at_rcpt.clear()
    await notifier.play(2 * DAY)
    await notifier.take_in(a_flag(number=2, in_hours=999))
    await notifier.play(WAIT)
    (mail,) = notifier.office.mails
    assert "delivered" not in mail.text
    assert await notifier.states() == [("mia", 1, "sent")]


async def test_what_was_put_off_for_a_day_is_given_up_and_the_next_mail_has_it_and_says_so(
    notifier: Notifier,
) -> None:
    await notifier.company(mia="admin")
    notifier.office.at_data["mia@example.com"] = "452 mailbox full"
    await notifier.take_in(a_flag())
    await notifier.play(WAIT + KEEP + timedelta(minutes=20))
    row = await notifier.pool.fetchrow("SELECT * FROM letters ORDER BY number")
    assert row is not None
    assert (row["state"], row["last_error"]) == ("expired", "452 mailbox full")
    notifier.office.at_data.clear()
    await notifier.play(timedelta(minutes=20))
    (mail,) = notifier.office.mails
    assert "Nothing could be delivered to you since" in " ".join(mail.text.split())
    assert mail.subject == "Cal.com Sync Issue: Appointment #4711"


async def test_a_mail_that_was_cut_before_its_answer_goes_out_again_as_it_was(notifier: Notifier) -> None:
    """Scenario 46: the same Message-ID, the same words, whatever has come meanwhile."""
    await notifier.company(mia="admin")
    await notifier.take_in(a_flag(number=1))
    notifier.office.tell(Step.KEPT, CUT)
    await notifier.play(WAIT)
    await notifier.take_in(a_flag(number=2))
    await notifier.play(INTERVAL + timedelta(minutes=1))
    ids = [mail.message_id for mail in notifier.office.mails]
    first, again, second = notifier.subjects()
    assert ids[0] == ids[1] != ids[2]
    assert first == again == "Cal.com Sync Issue: Appointment #1"
    assert second == "Cal.com Sync Issue: Appointment #2"


async def test_what_is_in_doubt_stays_so_though_the_next_attempt_fails_for_certain(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.take_in(a_flag(number=1))
    notifier.office.tell(Step.KEPT, CUT)
    await notifier.play(WAIT)
    await notifier.office.stop()
    await notifier.take_in(a_flag(number=2))
    await notifier.play(INTERVAL)
    await notifier.office.start()
    await notifier.play(2 * INTERVAL)
    assert [mail.message_id for mail in notifier.office.mails][:2] == [notifier.office.mails[0].message_id] * 2
    assert notifier.subjects()[-1] == "Cal.com Sync Issue: Appointment #2"


async def test_after_a_crash_the_letter_goes_out_under_the_same_id_once_the_lease_is_over(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.take_in(a_flag())
    notifier.clock.at += WAIT
    leased = await notifier.new_turns().take(notifier.clock.at)
    assert leased is not None
    await notifier.play(timedelta(seconds=LEASE_SECONDS - 1))
    assert notifier.office.took() == []
    await notifier.play(SECOND)
    assert [mail.message_id for mail in notifier.office.mails] == [leased.message_id]


async def test_who_slept_through_its_lease_notes_nothing_of_what_another_has_in_hand(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.take_in(a_flag())
    notifier.clock.at += WAIT
    sleeper, other = notifier.new_turns(), notifier.new_turns()
    leased = await sleeper.take(notifier.clock.at)
    notifier.clock.at += timedelta(seconds=LEASE_SECONDS)
    taken = await other.take(notifier.clock.at)
    assert leased is not None
    assert taken is not None
    assert await sleeper.sent(leased, "late", notifier.clock.at) == []
    assert [state for _, _, state in await notifier.states()] == ["sending"]
    await other.sent(taken, "in time", notifier.clock.at)
    assert [state for _, _, state in await notifier.states()] == ["sent"]


async def test_several_senders_share_the_work(notifier: Notifier) -> None:
    names = {f"p{n}": "admin" for n in range(40)}
    await notifier.company(**names)
    await notifier.take_in(a_flag())
    notifier.clock.at += WAIT
    postmen = [Postman(notifier.settings) for _ in range(4)]

    async def empty(postman: Postman) -> int:
        sender, sent = notifier.another(postman), 0
        while await sender.send_one():
            sent += 1
        return sent

    shares = await asyncio.gather(*(empty(postman) for postman in postmen))
    for postman in postmen:
        await postman.close()
    assert sum(shares) == 40
    assert sorted(notifier.office.took()) == sorted(f"{name}@example.com" for name in names)


async def test_the_company_with_the_soonest_appointment_is_told_first(notifier: Notifier) -> None:
    for name, hours in {"late": 50.0, "past": -3.0, "soon": 3.0, "next": 9.0}.items():
        await notifier.company(name)
        await notifier.hire(name, "admin", name)
        await notifier.take_in(a_flag(name, in_hours=hours))
    await notifier.company("broken")
    await notifier.hire("broken", "admin", "broken")
    await notifier.take_in(of_company(Kind.WEBHOOK_SILENT, "broken"))
    notifier.clock.at += WAIT
    await notifier.send()
    told = [address.partition("@")[0] for address in notifier.office.took()]
    assert told == ["broken", "soon", "next", "late", "past"]


async def test_the_answer_that_a_sleeper_got_does_not_undo_what_another_has_sent(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.take_in(a_flag())
    notifier.clock.at += WAIT
    sleeper = notifier.new_turns()
    leased = await sleeper.take(notifier.clock.at)
    assert leased is not None
    await notifier.play(timedelta(seconds=LEASE_SECONDS))
    await sleeper.refused(leased, notifier.clock.at, "550 no such user")
    assert await notifier.states() == [("mia", 1, "sent")]
    assert await notifier.pool.fetchval("SELECT suppressed_at FROM contacts") is None


async def test_a_mail_that_was_given_up_while_its_sender_slept_keeps_the_next_one_waiting(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.take_in(a_flag(number=1))
    notifier.clock.at += WAIT
    sleeper = notifier.new_turns()
    leased = await sleeper.take(notifier.clock.at)
    assert leased is not None
    await notifier.pool.execute("UPDATE contacts SET role = 'viewer'")
    await notifier.play(timedelta(seconds=LEASE_SECONDS))
    assert await notifier.states() == [("mia", 1, "expired")]
    await sleeper.sent(leased, "late", notifier.clock.at)
    await notifier.pool.execute("UPDATE contacts SET role = 'admin'")
    await notifier.take_in(a_flag(number=2))
    await notifier.play(INTERVAL - SECOND)
    assert notifier.office.took() == []
    await notifier.play(SECOND)
    assert notifier.subjects() == ["Cal.com Sync Issue: Appointment #2"]


async def test_an_urgent_mail_that_comes_again_is_the_urgent_one_of_its_interval(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.take_in(a_flag(number=1, in_hours=1))
    notifier.office.tell(Step.KEPT, CUT)
    await notifier.play(timedelta(minutes=1))
    assert len(notifier.office.mails) == 2
    await notifier.take_in(a_flag(number=2, in_hours=1))
    await notifier.play(INTERVAL - timedelta(minutes=1))
    assert len(notifier.office.mails) == 2
    await notifier.play(timedelta(minutes=1))
    assert len(notifier.office.mails) == 3


async def test_a_mail_that_comes_again_is_in_the_words_of_the_first_whatever_was_changed_meanwhile(
    notifier: Notifier,
) -> None:
    await notifier.company()
    await notifier.hire("mia", "admin", language="de")
    await notifier.take_in(a_flag())
    notifier.office.tell(Step.KEPT, CUT)
    await notifier.play(WAIT)
    await notifier.pool.execute("UPDATE contacts SET language = 'en', name = 'Maria'")
    await notifier.pool.execute("UPDATE companies SET name = 'Other', time_zone = 'Asia/Tokyo'")
    await notifier.play(timedelta(minutes=1))
    first, again = notifier.office.mails
    assert (first.message_id, first.subject, first.text) == (again.message_id, again.subject, again.text)


async def test_news_do_not_hurry_what_was_put_off_and_a_mended_address_does(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    notifier.office.at_rcpt["mia@example.com"] = "451 try later"
    await notifier.take_in(a_flag(number=1))
    await notifier.play(WAIT)
    notifier.office.visits.clear()
    for number in range(2, 12):
        await notifier.take_in(a_flag(number=number, in_hours=1))
        await notifier.play(SECOND)
    assert notifier.office.visits == []
    await notifier.pool.execute("UPDATE contacts SET email = 'maria@example.com'")
    await notifier.send()
    assert notifier.office.took() == ["maria@example.com"]


async def test_attempts_at_a_server_that_was_away_do_not_lengthen_the_wait_for_a_mail_that_is_put_off_later(
    notifier: Notifier,
) -> None:
    await notifier.company(mia="admin")
    await notifier.office.stop()
    await notifier.take_in(a_flag())
    await notifier.play(timedelta(hours=1))
    await notifier.office.start()
    notifier.office.tell(Step.BODY, "452 mailbox full")
    await notifier.play(timedelta(minutes=1, seconds=1))
    assert len(notifier.office.mails) == 1


async def test_one_whom_we_cannot_look_at_does_not_keep_the_others_from_their_mails(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.company("other", olga="admin")
    await notifier.take_in(a_flag("other", in_hours=90), a_flag(in_hours=3))
    await notifier.pool.execute("UPDATE alerts SET flag = '{}' WHERE company_id = 'praxis'")
    await notifier.play(WAIT)
    assert notifier.office.took() == ["olga@example.com"]
    flag = msgspec.json.encode(a_flag()).decode()
    await notifier.pool.execute("UPDATE alerts SET flag = $1", flag)
    await notifier.play(timedelta(minutes=15))
    assert notifier.office.took() == ["olga@example.com", "mia@example.com"]


async def test_twenty_thousand_that_were_told_do_not_keep_anybody_waiting(notifier: Notifier) -> None:
    """Whatever PostgreSQL believes of the tables: it has not looked at them since they grew."""
    (mia,) = (await notifier.company(mia="admin")).values()
    flag = msgspec.json.encode(a_flag()).decode()
    await notifier.pool.execute(
        "INSERT INTO alerts (company_id, flag_id, kind, verified, deadline_at, taken_at, flag)"
        " SELECT 'praxis', gen_random_uuid(), 'ORPHANED_LOCAL', true, $1, $1, $2::json FROM generate_series(1, 20000)",
        NOW,
        flag,
    )
    await notifier.pool.execute(
        "INSERT INTO tellings (company_id, recipient_id, flag_id, told_in)"
        " SELECT company_id, $1, flag_id, 1 FROM alerts",
        mia,
    )
    async with asyncio.timeout(5):
        assert await notifier.send() == 0


# --- the log -----------------------------------------------------------------------------------------------------


async def test_the_offset_moves_with_what_it_led_to(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    await notifier.store.take_in([a_flag()], "log", {0: 7, 2: 3}, NOW)
    assert await notifier.store.positions("log", [0, 1, 2]) == {0: 7, 2: 3}
    assert await notifier.store.positions("another log", [0, 1, 2]) == {}
    with pytest.raises(asyncpg.PostgresError):
        await notifier.store.take_in([a_flag()], "log", {0: -1}, NOW)
    assert await notifier.pool.fetchval("SELECT count(*) FROM seen_flags") == 1


async def test_what_ended_long_ago_is_forgotten_and_what_is_open_is_not(notifier: Notifier) -> None:
    await notifier.company(mia="admin")
    gone, still = a_flag(number=1, in_hours=9999), a_flag(number=2, in_hours=9999)
    await notifier.take_in(gone, still)
    await notifier.play(WAIT)
    await notifier.take_in(resolving(gone))
    await notifier.play(INTERVAL)
    notifier.clock.at += timedelta(days=91)
    await forget(notifier.pool, notifier.clock.at)
    assert await notifier.pool.fetchval("SELECT count(*) FROM alerts") == 1
    assert await notifier.pool.fetchval("SELECT count(*) FROM tellings") == 1
    assert await notifier.pool.fetchval("SELECT count(*) FROM letters") == 0


@pytest.mark.parametrize("over", [{"customer_name": "x" * 5000}, {"customer_name": "\r\nBcc: a@example.com"}])
async def test_a_name_of_any_kind_ends_in_one_harmless_mail(notifier: Notifier, over: dict[str, Any]) -> None:
    """Scenario 48, through a real server."""
    await notifier.company(mia="admin")
    flag = a_flag()
    assert flag.appointment is not None
    await notifier.take_in(replace(flag, appointment=replace(flag.appointment, **over)))
    await notifier.play(WAIT)
    (mail,) = notifier.office.mails
    assert "\nBcc:" not in mail.raw
    assert len(mail.raw) < 100_000


def test_the_wait_between_attempts_doubles_up_to_a_quarter_of_an_hour() -> None:
    def bounds(attempts: Iterable[int]) -> list[bool]:
        most = [min(900.0, 30.0 * 2 ** (n - 1)) for n in attempts]
        return [high / 2 <= retry_seconds(n) <= high for n, high in zip(attempts, most, strict=True)]

    assert all(bounds(range(1, 12)))
