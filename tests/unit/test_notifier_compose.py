"""A flag as a mail: what a person reads, where a click leads, and what must never get through."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from uuid import UUID

import pytest
from msgspec.structs import replace

from schemas.flags import AppointmentFacts, BookingFacts, Flag, FlagType, Inconsistency, Kind, Why
from schemas.verification import Verdict
from services.notifier.compose import Unaddressable, compose, message_id, sender
from services.notifier.inbox import notification, notification_id
from services.notifier.story import Company, Contact, in_zone, review_url, tell
from services.notifier.words import CAUSES, HAPPENED, NEXT, SAID, plain
from services.verifier.answers import Reason

CONSOLE = "https://console.example.com/"
MAIL_FROM = "Reconcal <reconcal@mail.a-rather-long-name-of-a-company.example>"
STARTS_AT = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
SENT_AT = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
COMPANY = Company(company_id="praxis", name="Praxis am See", time_zone="Europe/Berlin")
CONTACT = Contact(contact_id=UUID(int=7), name="Mia Muster", email="mia@example.com")
APPOINTMENT = AppointmentFacts(
    appointment_id="4711", status="confirmed", starts_at=STARTS_AT, customer_name="Jörg Patient"
)
BOOKING = BookingFacts(
    uid="bFJeAbc", chain=("bFJeAbc",), status="ACCEPTED", starts_at=STARTS_AT, attendee_name="Nora Guest"
)
FLAG = Flag(
    id=UUID(int=1),
    type=FlagType.ORPHANED_LOCAL,
    company_id="praxis",
    record_id=UUID(int=2),
    kind=Kind.ORPHANED_LOCAL,
    generation=1,
    decided_at=SENT_AT,
    reason="no booking came",
    verdict="not_verified",
    appointment=APPOINTMENT,
)
MISMATCH = replace(
    FLAG,
    type=FlagType.DATA_MISMATCH,
    kind=Kind.DATA_MISMATCH,
    booking=BOOKING,
    inconsistencies=(
        Inconsistency("starts_at", "2026-12-01T09:00:00+00:00", "2026-12-01T10:30:00+00:00"),
        Inconsistency("status", "confirmed", "CANCELLED"),
    ),
)
SILENT = replace(
    FLAG,
    type=FlagType.WEBHOOK_SILENT,
    kind=Kind.WEBHOOK_SILENT,
    reason="Cal.com has switched the webhook off.",
    appointment=None,
)
RESOLVED = replace(FLAG, id=UUID(int=9), type=FlagType.RESOLVED, resolves=FLAG.id, resolved_by="auto")


def mailed(flag: Flag = FLAG, company: Company = COMPANY, contact: Contact = CONTACT, **over: str) -> EmailMessage:
    """Give the mail as a mail program gets it."""
    mail = compose(flag, company, contact, console_url=CONSOLE, mail_from=MAIL_FROM, sent_at=SENT_AT, **over)
    read = message_from_bytes(mail.as_bytes(), policy=policy.default)
    assert isinstance(read, EmailMessage)
    return read


def part(mail: EmailMessage, kind: str) -> str:
    body = mail.get_body((kind,))
    assert body is not None
    content: str = body.get_content()
    return content.replace("\r\n", "\n")


def named(name: str) -> Flag:
    return replace(FLAG, appointment=replace(APPOINTMENT, customer_name=name))


def test_the_subject_names_the_appointment() -> None:
    assert mailed()["Subject"] == "Cal.com Sync Issue: Appointment #4711"


def test_without_an_appointment_the_subject_names_the_booking_and_the_link_leads_to_the_record() -> None:
    mail = mailed(replace(FLAG, kind=Kind.ORPHANED_CALCOM, appointment=None, booking=BOOKING))
    assert mail["Subject"] == "Cal.com Sync Issue: Booking bFJeAbc"
    assert f"https://console.example.com/records/{FLAG.record_id}" in part(mail, "plain")
    assert "Nora Guest" in part(mail, "plain")


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_both_parts_say_what_happened_to_whom_and_when_and_what_to_do(kind: str) -> None:
    text = part(mailed(), kind)
    for said in (
        HAPPENED[Kind.ORPHANED_LOCAL],
        NEXT[Kind.ORPHANED_LOCAL],
        "#4711",
        "Jörg Patient",
        "Praxis am See",
        "01.12.2026 10:00 (Europe/Berlin, CET)",
        "https://console.example.com/admin/appointments/4711/sync-review",
    ):
        assert said in text


def test_the_text_reads_like_this() -> None:
    assert part(mailed(replace(MISMATCH, verdict="found_different")), "plain") == (
        """\
Cal.com sync issue

The appointment in your booking app and its booking at Cal.com differ.

Cal.com was asked at 22.11.2026 10:00 (Europe/Berlin, CET) and has the booking, but not as your booking app has it.

Company:     Praxis am See
Appointment: #4711
Booking:     bFJeAbc
Customer:    Jörg Patient
Time:        01.12.2026 10:00 (Europe/Berlin, CET)

What differs:
- Start
  Booking app: 01.12.2026 10:00 (Europe/Berlin, CET)
  Cal.com:     01.12.2026 11:30 (Europe/Berlin, CET)
- Status
  Booking app: confirmed
  Cal.com:     CANCELLED

Decide which side is right and correct the other one; the review page shows both.

Review: https://console.example.com/admin/appointments/4711/sync-review

-- 
Sent by Reconcal to Mia Muster as an admin or manager of this company.
"""  # noqa: W291 - the mark of a signature ends with a blank
    )


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_its_words(kind: Kind) -> None:
    story = tell(replace(FLAG, kind=kind), COMPANY, console_url=CONSOLE)
    assert story.happened
    assert story.next_step


@pytest.mark.parametrize("verdict", SAID)
@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.WEBHOOK_SILENT])
def test_whatever_cal_com_said_is_one_sentence_in_every_mail(kind: Kind, verdict: str) -> None:
    flag = replace(FLAG, kind=kind, verdict=verdict)
    said = tell(flag, COMPANY, console_url=CONSOLE).grounds
    assert said is not None
    assert said.startswith("Cal.com ")
    assert said.endswith(".")
    assert not set("{}") & set(said)
    assert said in part(mailed(flag), "plain")
    assert said in part(mailed(flag), "html")
    assert said in notification(flag, COMPANY, console_url=CONSOLE).details


def test_every_verdict_that_a_flag_can_have_has_a_sentence() -> None:
    assert {*SAID, "absent_once", "unauthorised"} == {*Verdict, "not_verified"}


def test_that_cal_com_has_no_such_booking_is_said_with_the_moment() -> None:
    asked = Why(observed_at=SENT_AT - timedelta(minutes=4), answer="not_found")
    text = part(mailed(replace(FLAG, verdict="absent", why=asked)), "plain")
    assert "Cal.com was asked at 22.11.2026 09:56 (Europe/Berlin, CET) and says that it has no such booking." in text


def test_a_booking_that_stands_alone_is_not_compared_with_an_appointment_that_there_is_not() -> None:
    alone = replace(FLAG, kind=Kind.ORPHANED_CALCOM, appointment=None, booking=BOOKING, verdict="found_equal")
    text = part(mailed(alone), "plain")
    assert "and has the booking.\n" in text
    assert "as your booking app has it" not in text


def test_a_booking_that_cal_com_has_no_longer_is_said_to_be_gone() -> None:
    gone = replace(FLAG, booking=BOOKING, verdict="absent")
    assert "its booking is at Cal.com no longer" in part(mailed(gone), "plain")


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("timeout", "it did not answer in time"),
        ("not_calcom", "what answered was not Cal.com"),
        ("a word of tomorrow {at}", "it gave no answer that counts"),
        (None, "it gave no answer that counts"),
    ],
)
def test_why_cal_com_could_not_be_asked_is_said_in_plain_words(answer: str | None, cause: str) -> None:
    flag = replace(
        FLAG,
        type=FlagType.VERIFICATION_ERROR,
        kind=Kind.VERIFICATION_ERROR,
        verdict="unknown",
        why=Why(observed_at=SENT_AT, answer=answer, attempts=4),
    )
    mail = mailed(flag)
    assert mail["Subject"] == "Cal.com Sync Issue: Appointment #4711"
    assert HAPPENED[Kind.VERIFICATION_ERROR] in part(mail, "plain")
    said = f"Cal.com could not be asked, the last time at 22.11.2026 10:00 (Europe/Berlin, CET): {cause}."
    assert said in part(mail, "plain")


def test_every_reason_of_the_verifier_has_plain_words() -> None:
    assert CAUSES.keys() >= {reason.value for reason in Reason}


@pytest.mark.parametrize("verdict", ["", "a word of tomorrow", "{at}"])
def test_a_verdict_that_is_not_known_is_passed_over(verdict: str) -> None:
    assert tell(replace(FLAG, verdict=verdict), COMPANY, console_url=CONSOLE).grounds is None
    assert HAPPENED[Kind.ORPHANED_LOCAL] in part(mailed(replace(FLAG, verdict=verdict)), "plain")


@pytest.mark.parametrize("verdict", ["absent", "unknown"])
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("flag_type", [FlagType.WEBHOOK_SILENT, FlagType.THRESHOLD, FlagType.RESOLVED])
def test_a_flag_of_which_nothing_more_is_known_is_told_all_the_same(
    flag_type: FlagType, kind: Kind, verdict: str
) -> None:
    bare = replace(FLAG, type=flag_type, kind=kind, verdict=verdict, appointment=None, reason="")
    naive = replace(bare, decided_at=SENT_AT.replace(tzinfo=None))
    for flag in (bare, naive):
        assert part(mailed(flag), "plain") == part(mailed(bare), "plain")
        assert notification(flag, COMPANY, console_url=CONSOLE).details


def test_a_mail_about_a_silent_webhook_reads_like_this() -> None:
    mail = mailed(SILENT)
    assert mail["Subject"] == "Cal.com Webhook Silent: Praxis am See"
    assert part(mail, "plain") == (
        """\
Cal.com webhook silent

Cal.com's webhook to Reconcal is silent: new and changed bookings come late or not at all.

Cal.com has switched the webhook off.

Company:     Praxis am See
Noticed:     22.11.2026 10:00 (Europe/Berlin, CET)

Whoever runs Reconcal can see what is wrong and mend it with the commands below. Until then you get no mails about \
single appointments or bookings without a counterpart; all of them are on the review page.

    reconcal companies webhook --company praxis check
    reconcal companies webhook --company praxis repair

Review: https://console.example.com/review

-- 
Sent by Reconcal to Mia Muster as an admin or manager of this company.
"""  # noqa: W291 - the mark of a signature ends with a blank
    )


def test_the_html_says_of_a_silent_webhook_what_the_text_says() -> None:
    html = part(mailed(SILENT), "html")
    for said in ("Cal.com has switched the webhook off.", "webhook --company praxis repair", CONSOLE + "review"):
        assert said in html


def test_a_webhook_that_is_heard_again_is_said_to_be_in_the_thread() -> None:
    mail = mailed(replace(SILENT, type=FlagType.RESOLVED, resolves=SILENT.id), replies_to="<first@example.com>")
    assert mail["Subject"] == "Re: Cal.com Webhook Silent: Praxis am See"
    text = part(mail, "plain")
    assert text.startswith("Resolved\n\nThis is resolved: Cal.com's webhook to Reconcal works again.\n")
    assert "repair" not in text


def test_the_inbox_says_why_a_webhook_is_silent() -> None:
    said = notification(SILENT, COMPANY, console_url=CONSOLE)
    assert (said.issue_type, said.appointment_id, said.requires_action) == ("WEBHOOK_SILENT", None, True)
    assert said.details.endswith("Cal.com has switched the webhook off.")


def test_an_appointment_that_was_deleted_is_said_to_be_deleted() -> None:
    gone = replace(FLAG, kind=Kind.ORPHANED_CALCOM, appointment=replace(APPOINTMENT, status="deleted"), booking=BOOKING)
    assert "was deleted in your booking app" in part(mailed(gone), "plain")


def test_what_is_not_known_is_said_to_be_not_known() -> None:
    text = part(mailed(replace(FLAG, appointment=None)), "plain")
    assert "Customer:    not known" in text
    assert "Time:        not known" in text


@pytest.mark.parametrize(
    ("moment", "time_zone", "shown"),
    [
        (datetime(2026, 3, 29, 0, 59, tzinfo=UTC), "Europe/Berlin", "29.03.2026 01:59 (Europe/Berlin, CET)"),
        (datetime(2026, 3, 29, 1, 0, tzinfo=UTC), "Europe/Berlin", "29.03.2026 03:00 (Europe/Berlin, CEST)"),
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "Europe/Berlin", "25.10.2026 02:30 (Europe/Berlin, CEST)"),
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "Europe/Berlin", "25.10.2026 02:30 (Europe/Berlin, CET)"),
        (STARTS_AT, "Asia/Kolkata", "01.12.2026 14:30 (Asia/Kolkata, IST)"),
        (STARTS_AT, "Nowhere/Land", "01.12.2026 09:00 (UTC)"),
        (STARTS_AT, "../etc/passwd", "01.12.2026 09:00 (UTC)"),
        (STARTS_AT, "", "01.12.2026 09:00 (UTC)"),
        (datetime.max.replace(tzinfo=UTC), "Europe/Berlin", "31.12.9999 23:59 (UTC)"),
    ],
)
def test_a_time_is_shown_on_the_companys_clock(moment: datetime, time_zone: str, shown: str) -> None:
    assert in_zone(moment, replace(COMPANY, time_zone=time_zone)) == shown


@pytest.mark.parametrize(
    ("appointment_id", "path"),
    [
        ("4711", "/admin/appointments/4711/sync-review"),
        ("a/b?c#d", "/admin/appointments/a%2Fb%3Fc%23d/sync-review"),
        ("Ä 1", "/admin/appointments/%C3%84%201/sync-review"),
        ("..", f"/records/{FLAG.record_id}"),
    ],
)
def test_the_link_survives_every_appointment_id(appointment_id: str, path: str) -> None:
    flag = replace(FLAG, appointment=replace(APPOINTMENT, appointment_id=appointment_id))
    assert review_url(flag, CONSOLE) == f"https://console.example.com{path}"


def test_the_message_id_is_made_from_flag_and_person() -> None:
    identity = message_id(FLAG.id, CONTACT.contact_id, MAIL_FROM)
    assert identity == f"<{FLAG.id}.{CONTACT.contact_id}@mail.a-rather-long-name-of-a-company.example>"
    assert mailed()["Message-ID"] == identity
    assert mailed()["Auto-Submitted"] == "auto-generated"
    assert mailed()["Date"].datetime == SENT_AT


def test_a_resolution_keeps_the_subject_and_stands_in_the_thread() -> None:
    first = message_id(FLAG.id, CONTACT.contact_id, MAIL_FROM)
    raw = compose(
        RESOLVED, COMPANY, CONTACT, console_url=CONSOLE, mail_from=MAIL_FROM, sent_at=SENT_AT, replies_to=first
    ).as_bytes()
    assert f"In-Reply-To: {first}\r\n".encode() in raw  # letter by letter: an encoded word would match nothing
    assert f"References: {first}\r\n".encode() in raw
    mail = mailed(RESOLVED, replies_to=first)
    assert mail["Subject"] == "Re: Cal.com Sync Issue: Appointment #4711"
    assert mail["Message-ID"] != first
    assert part(mail, "plain").startswith("Resolved\n\nThis is resolved")


EVIL = [
    "Mia\r\nBcc: victim@example.com",
    "Mia\nBcc: victim@example.com\n\nhello",
    "Mia\u2028Bcc: victim@example.com",
    "Mia\x85Bcc: victim@example.com",
    "\u202egnp.exe\u2066 Mia\x00\x1b[31m",
    "Mia\ud800",
]


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize(
    "place",
    [
        lambda evil: mailed(named(evil)),
        lambda evil: mailed(replace(FLAG, appointment=replace(APPOINTMENT, appointment_id=evil.replace("\ud800", "")))),
        lambda evil: mailed(replace(FLAG, appointment=None, booking=replace(BOOKING, uid=evil))),
        lambda evil: mailed(replace(SILENT, reason=evil)),
        lambda evil: mailed(replace(FLAG, verdict="unknown", why=Why(answer=evil))),
        lambda evil: mailed(SILENT, company=replace(COMPANY, name=evil)),
        lambda evil: mailed(contact=replace(CONTACT, name=evil)),
        lambda evil: mailed(company=replace(COMPANY, name=evil)),
        lambda evil: mailed(replace(MISMATCH, inconsistencies=(Inconsistency("status", evil, evil),))),
    ],
)
def test_no_text_from_outside_becomes_a_header_or_turns_a_line_around(
    place: Callable[[str], EmailMessage], evil: str
) -> None:
    mail = place(evil)
    assert mail["Bcc"] is None
    assert [address.addr_spec for address in mail["To"].addresses] == ["mia@example.com"]
    text = str(mail["Subject"]) + str(mail["To"]) + part(mail, "plain") + part(mail, "html")
    assert not set(text) & set("\x00\x1b\x85\u202e\u2028\u2066\ud800")
    assert not any(line.startswith("Bcc:") for line in text.splitlines())


def test_markup_in_a_name_is_shown_and_does_nothing() -> None:
    html = part(mailed(named("<script>alert(1)</script><img src=//x>&")), "html")
    assert "<script>" not in html
    assert "<img" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_the_html_loads_nothing_from_elsewhere() -> None:
    html = part(mailed(MISMATCH), "html")
    assert not any(word in html for word in ("<img", "<link", "<script", "src=", "url(", "@import"))


@pytest.mark.parametrize("name", ['Müller, "Hänschen" <root@example.org>', "Mia (admin); <x@y.z>", "", "日本" * 90])
def test_a_persons_name_never_changes_the_address(name: str) -> None:
    assert [a.addr_spec for a in mailed(contact=replace(CONTACT, name=name))["To"].addresses] == ["mia@example.com"]


@pytest.mark.parametrize(
    "email",
    ["", "mia", "mia@", "@example.com", "mia@example.com\r\nBcc: x@y.z", "m ia@example.com", "müll@example.com"],
)
def test_what_is_no_address_is_said_to_be_none(email: str) -> None:
    with pytest.raises(Unaddressable):
        mailed(contact=replace(CONTACT, email=email))


def test_a_domain_with_umlauts_is_written_as_servers_read_it() -> None:
    mail = mailed(contact=replace(CONTACT, email="mia@müller.example"))
    assert mail["To"].addresses[0].addr_spec == "mia@xn--mller-kva.example"


@pytest.mark.parametrize("mail_from", ["", "Reconcal", "Reconcal <reconcal>"])
def test_a_sender_without_an_address_is_refused(mail_from: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        sender(mail_from)


def test_long_text_is_cut_and_joiners_stay() -> None:
    assert plain("x" * 300) == "x" * 199 + "…"
    assert plain("👩\u200d⚕️") == "👩\u200d⚕️"


def test_the_inbox_says_the_same_as_the_mail() -> None:
    said = notification(MISMATCH, COMPANY, console_url=CONSOLE)
    assert said.issue_type == "DATA_MISMATCH"
    assert said.appointment_id == "4711"
    assert said.customer_name == "Jörg Patient"
    assert said.appointment_time == "2026-12-01T10:00:00+01:00"
    assert said.requires_action
    assert said.url == "https://console.example.com/admin/appointments/4711/sync-review"
    assert "Start: 01.12.2026 10:00 (Europe/Berlin, CET) in the booking app" in said.details
    assert not notification(RESOLVED, COMPANY, console_url=CONSOLE).requires_action
    assert notification_id(FLAG.id, CONTACT.contact_id) == notification_id(FLAG.id, CONTACT.contact_id)


def test_a_moment_without_a_zone_is_utc() -> None:
    naive = replace(FLAG, appointment=replace(APPOINTMENT, starts_at=STARTS_AT.replace(tzinfo=None)))
    assert "01.12.2026 10:00" in part(mailed(naive), "plain")
    assert STARTS_AT.utcoffset() == timedelta(0)
