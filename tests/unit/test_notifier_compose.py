"""A letter as a mail, checked as bytes: what a person reads, where a click leads, and what must never get through."""

from collections.abc import Callable
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.flags import AppointmentFacts, BookingFacts, Flag, FlagType, Inconsistency, Kind, Why
from services.notifier import grouping, samples
from services.notifier.inbox import notification, notification_id
from services.notifier.letter import ROWS, Company, Letter, Occasion, Recipient
from services.notifier.mail.compose import Unaddressable, compose, message_id, sender, subject_of
from services.words import kinds, tongue
from services.words.tongue import LANGUAGES
from tests.look.mails import SNAPSHOTS, snapshot, snapshots

CONSOLE: Final = "https://console.example.com/"
MAIL_FROM: Final = "Reconcal <reconcal@mail.a-rather-long-name-of-a-company.example>"
MIA: Final = samples.recipient("en")
IDENTITY: Final = message_id(MIA.recipient_id, 7, MAIL_FROM)
PREFERENCES: Final = f"https://console.example.com/preferences/{MIA.preferences_token}"
LOCAL: Final = samples.flag(Kind.ORPHANED_LOCAL)
CALCOM: Final = samples.flag(Kind.ORPHANED_CALCOM)
MISMATCH: Final = samples.flag(Kind.DATA_MISMATCH)
SILENT: Final = samples.flag(Kind.WEBHOOK_SILENT)
HEADERS: Final = [
    "Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress", "List-Id",
    "List-Unsubscribe", "List-Unsubscribe-Post", "MIME-Version", "Content-Type",
]  # fmt: skip
ALL: Final = [(name, language) for name in samples.NAMES for language in LANGUAGES]


def of(*news: Flag, **fields: Any) -> Letter:
    counts: dict[str, int] = {}
    for flag in news:
        counts[flag.kind] = counts.get(flag.kind, 0) + 1
    return Letter(**{
        "occasion": Occasion.NEWS, "written_at": samples.AT, "news": news[:ROWS], "news_counts": counts, **fields
    })  # fmt: skip


def raw(letter: Letter, company: Company = samples.COMPANY, to: Recipient = MIA, **over: Any) -> bytes:
    given_to = {"console_url": CONSOLE, "mail_from": MAIL_FROM, "message_id": IDENTITY, "sent_at": samples.AT, **over}
    return compose(letter, company, to, **given_to).as_bytes()


def mailed(letter: Letter, company: Company = samples.COMPANY, to: Recipient = MIA, **over: Any) -> EmailMessage:
    """Give the mail as a mail program gets it."""
    read = message_from_bytes(raw(letter, company, to, **over), policy=policy.default)
    assert isinstance(read, EmailMessage)
    return read


def part(mail: EmailMessage, kind: str) -> str:
    body = mail.get_body((kind,))
    assert body is not None
    content: str = body.get_content()
    return content.replace("\r\n", "\n")


class Page(HTMLParser):
    """What a browser sees: the tags with their attributes' names, the links, the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.text += " "
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}",))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment", data))


# --- what people read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "name", "language"), snapshots(), ids=lambda value: getattr(value, "name", value))
def test_the_mail_reads_as_it_did_when_somebody_read_it(path: Any, name: str, language: str) -> None:
    """`python -m tests.look.mails --snapshots` writes them anew: read what has changed."""
    assert path.read_text("utf-8") == snapshot(name, language)


def test_every_snapshot_is_one_of_a_sample() -> None:
    assert {path.name for path in SNAPSHOTS.iterdir()} == {path.name for path, _, _ in snapshots()}


@pytest.mark.parametrize(("name", "language"), ALL)
def test_the_html_says_what_the_text_says(name: str, language: str) -> None:
    mail = mailed(samples.letter(name), to=samples.recipient(language))
    page = Page(part(mail, "html"))
    shown = {word.strip(",.:()") for word in page.text.split()} | set(page.links)
    lines = [line for line in part(mail, "plain").splitlines() if not line.startswith(("Review page:", "Prüfseite:"))]
    told = {word.strip(",.:()") for line in lines for word in line.split()}
    assert not {word for word in told - shown if word.strip("-")}


@pytest.mark.parametrize(("name", "language"), ALL)
def test_every_link_leads_to_the_console_and_stands_in_both_parts(name: str, language: str) -> None:
    mail = mailed(samples.letter(name), to=samples.recipient(language))
    links, text = Page(part(mail, "html")).links, part(mail, "plain")
    assert links
    assert PREFERENCES in links
    assert all(link.startswith(CONSOLE) and link in text for link in links)


@pytest.mark.parametrize(("name", "language"), ALL)
def test_a_mail_is_in_one_language_and_says_which(name: str, language: str) -> None:
    html = part(mailed(samples.letter(name), to=samples.recipient(language)), "html")
    assert f'<html lang="{language}">' in html
    assert (tongue.of("de").gettext("Open the review page") in html) is (language == "de")


@pytest.mark.parametrize("kind", [kind for kind in Kind if kinds.about_records(kind)])
def test_one_issue_is_told_with_all_that_the_specification_wants(kind: Kind) -> None:
    flag = samples.flag(kind)
    mail = mailed(of(flag))
    for text in (part(mail, "plain"), Page(part(mail, "html")).text):
        for said in (
            "Praxis am See",
            kinds.name(kind, tongue.of("en")),
            kinds.next_step(kind, tongue.of("en")),
            "Jörg Beispiel",
            "01.12.2026 11:00 (Europe/Berlin, CET)",
        ):
            assert said in text
        assert ("#4711" in text) is (flag.appointment is not None)


# --- the subject -------------------------------------------------------------------------------------------------

ENDED: Final = replace(LOCAL, type=FlagType.RESOLVED, resolves=LOCAL.id, resolved_by="auto")
SILENT_OVER: Final = replace(SILENT, type=FlagType.RESOLVED, resolves=SILENT.id, resolved_by="auto")


@pytest.mark.parametrize(
    ("letter", "english", "german"),
    [
        (of(LOCAL), "Cal.com Sync Issue: Appointment #4711", "Cal.com Sync Issue: Appointment #4711"),
        (of(CALCOM), "Cal.com Sync Issue: Booking bFJeAbc00", "Cal.com Sync Issue: Booking bFJeAbc00"),
        (
            of(LOCAL, news_counts={"ORPHANED_LOCAL": 1200}),
            "Cal.com Sync Issues: 1,200 appointments need a look",
            "Cal.com-Abgleich: 1.200 Termine sind zu prüfen",
        ),
        (
            of(LOCAL, CALCOM, notices=(samples.flag(Kind.ORPHANS_A_DAY), SILENT)),
            "Cal.com Webhook Silent: Praxis am See",
            "Meldungen von Cal.com bleiben aus: Praxis am See",
        ),
        (
            of(ended=(ENDED,), ended_total=1, thread_subject="Cal.com Sync Issues: 3 appointments need a look"),
            "Re: Cal.com Sync Issues: 3 appointments need a look",
            "Re: Cal.com Sync Issues: 3 appointments need a look",
        ),
        (of(ended=(ENDED,), ended_total=1, thread_subject="Re: Hello"), "Re: Hello", "Re: Hello"),
        (
            of(ended=(ENDED,), ended_total=1),
            "Re: Cal.com Sync Issue: Appointment #4711",
            "Re: Cal.com Sync Issue: Appointment #4711",
        ),
        (
            of(ended=(ENDED,), ended_total=2),
            "Cal.com Sync Issues: 2 appointments are resolved",
            "Cal.com-Abgleich: 2 Termine sind erledigt",
        ),
        (
            of(notices_over=(SILENT_OVER,)),
            "Re: Cal.com Webhook Silent: Praxis am See",
            "Re: Meldungen von Cal.com bleiben aus: Praxis am See",
        ),
        (
            of(MISMATCH, ended=(ENDED,), ended_total=1, thread_subject="Hello"),
            "Cal.com Sync Issue: Appointment #4711",
            "Cal.com Sync Issue: Appointment #4711",
        ),
        (
            of(occasion=Occasion.REMINDER, open=(LOCAL,), open_total=1),
            "Reminder: Cal.com Sync Issue: Appointment #4711",
            "Erinnerung: Cal.com Sync Issue: Appointment #4711",
        ),
        (
            of(occasion=Occasion.REMINDER, open=(LOCAL, CALCOM), open_total=32),
            "Reminder: 32 appointments still need a look",
            "Erinnerung: 32 Termine sind noch zu prüfen",
        ),
        (
            of(occasion=Occasion.REMINDER, notices=(SILENT,), open=(LOCAL,), open_total=1),
            "Reminder: Cal.com Webhook Silent: Praxis am See",
            "Erinnerung: Meldungen von Cal.com bleiben aus: Praxis am See",
        ),
        (
            of(LOCAL, occasion=Occasion.DAILY, open=(CALCOM,), open_total=5),
            "Daily digest: 1 new, 5 still open",
            "Tagesübersicht: 1 neu, 5 noch offen",
        ),
        (
            of(LOCAL, occasion=Occasion.DAILY, notices=(SILENT,)),
            "Daily digest: Cal.com Webhook Silent: Praxis am See",
            "Tagesübersicht: Meldungen von Cal.com bleiben aus: Praxis am See",
        ),
        (of(occasion=Occasion.DAILY), "Daily digest: Praxis am See", "Tagesübersicht: Praxis am See"),
        (
            samples.letter("sample"),
            "Test: Cal.com Sync Issue: Appointment #4711",
            "Test: Cal.com Sync Issue: Appointment #4711",
        ),
    ],
)
def test_the_subject_says_what_the_mail_is_about(letter: Letter, english: str, german: str) -> None:
    for language, subject in (("en", english), ("de", german)):
        assert subject_of(letter, samples.COMPANY, language) == subject
        assert mailed(letter, to=samples.recipient(language))["Subject"] == subject


@pytest.mark.parametrize(("name", "language"), ALL)
def test_a_subject_is_seen_whole_on_a_phone(name: str, language: str) -> None:
    assert len(mailed(samples.letter(name), to=samples.recipient(language))["Subject"]) <= 60


# --- digests, and what else a letter has ----------------------------------------------------------------------------


def test_a_digest_counts_by_kind_lists_the_first_and_links_to_the_rest() -> None:
    many = [samples.flag(Kind.ORPHANED_LOCAL, number) for number in range(ROWS)]
    letter = of(*many, news_counts={"ORPHANED_LOCAL": 480, "AMBIGUOUS_MATCH": 20})
    text = part(mailed(letter), "plain")
    assert (
        f"- 480 appointments are missing at Cal.com: {kinds.next_step(Kind.ORPHANED_LOCAL, tongue.of('en'))}\n" in text
    )
    assert "- 20 cases have several possible matches: " in text
    assert text.count("/sync-review") == ROWS
    assert "and 480 more\n" in text
    assert text.count(kinds.next_step(Kind.ORPHANED_LOCAL, tongue.of("en"))) == 1
    assert "Review page: https://console.example.com/review\n" in text


def test_a_digest_of_one_kind_links_to_the_queue_of_that_kind() -> None:
    links = Page(part(mailed(of(LOCAL, samples.flag(Kind.ORPHANED_LOCAL, 1))), "html")).links
    assert "https://console.example.com/review?kind=ORPHANED_LOCAL" in links


def test_the_companys_own_trouble_stands_first_wherever_the_letter_has_it() -> None:
    for letter in (of(LOCAL, notices=(SILENT,)), of(SILENT, LOCAL)):
        text = part(mailed(letter), "plain")
        assert text.index("Cal.com webhook silent") < text.index("Appointment #4711")
        assert text.count("Please look: ") == 1


def test_what_is_held_back_is_counted_where_its_cause_is_told_or_before_all_else() -> None:
    told = part(mailed(of(notices=(SILENT,), held_total=480)), "plain")
    assert "At the moment this affects 480 cases." in told
    later = part(mailed(of(LOCAL, held_total=480)), "plain")
    assert "480 more cases are not listed here because you were told of their cause" in later
    assert later.index("480 more cases") < later.index("Appointment #4711")


def test_what_has_begun_is_said_to_have_begun_in_a_list_too() -> None:
    late = samples.AT + timedelta(days=1, hours=3, minutes=35)
    text = part(mailed(of(LOCAL, samples.flag(Kind.ORPHANED_LOCAL, 20), written_at=late)), "plain")
    assert text.count("(has begun already)") == 1


def test_after_a_time_in_which_nothing_came_through_the_mail_says_so() -> None:
    text = part(mailed(of(LOCAL, failing_since=samples.AT - timedelta(hours=26))), "plain")
    assert "Nothing could be delivered to you since 29.11.2026 06:30 (Europe/Berlin, CET)." in text


def test_each_page_has_one_button_and_it_is_where_it_is_first_needed() -> None:
    both = of(notices=(SILENT, samples.flag(Kind.WAITING_FOR_REVIEW)))
    assert Page(part(mailed(both), "html")).links.count("https://console.example.com/review") == 1


def test_the_zone_of_a_list_is_named_once() -> None:
    mail = mailed(samples.letter("daily"))
    for text in (part(mail, "plain"), Page(part(mail, "html")).text):
        assert text.count("Times are those of Europe/Berlin.") == 1


@pytest.mark.parametrize("occasion", Occasion)
def test_a_letter_that_has_nothing_to_tell_is_a_mail_all_the_same(occasion: Occasion) -> None:
    assert part(mailed(of(occasion=occasion)), "plain").startswith("Praxis am See\n")


# --- headers -----------------------------------------------------------------------------------------------------


def test_a_mail_has_these_headers_and_no_others() -> None:
    assert mailed(of(LOCAL)).keys() == HEADERS


def test_the_message_id_is_made_of_the_recipient_and_the_letters_number() -> None:
    assert f"<{MIA.recipient_id}.7@mail.a-rather-long-name-of-a-company.example>" == IDENTITY
    mail = mailed(of(LOCAL))
    assert mail["Message-ID"] == IDENTITY
    assert mail["Date"].datetime == samples.AT
    assert mail["Auto-Submitted"] == "auto-generated"


def test_a_thread_is_named_letter_by_letter_oldest_first_and_bounded() -> None:
    """An encoded word would match nothing."""
    thread = tuple(message_id(MIA.recipient_id, number, MAIL_FROM) for number in range(1, 61))
    wire = raw(of(LOCAL, thread=thread))
    assert f"In-Reply-To: {thread[-1]}\r\n".encode() in wire
    named = message_from_bytes(wire, policy=policy.default)["References"].split()
    assert named == [thread[0], *thread[-19:]]
    assert all(len(line) < 998 for line in wire.split(b"\r\n"))


def test_what_is_no_message_id_is_in_no_header() -> None:
    mail = mailed(of(LOCAL, thread=("", "<a@b>\r\nBcc: x", "<a b@c>", "<ü@c>", "<good@example.com>")))
    assert mail["References"] == mail["In-Reply-To"] == "<good@example.com>"
    assert mailed(of(LOCAL, thread=("no id",)))["References"] is None


def test_one_click_unsubscribes_where_the_person_has_a_token() -> None:
    wire = raw(of(LOCAL))
    assert f"List-Unsubscribe: <{PREFERENCES}/unsubscribe>\r\n".encode() in wire
    assert b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in wire
    without = mailed(of(LOCAL), to=replace(MIA, preferences_token=None))
    assert without["List-Unsubscribe"] is without["List-Unsubscribe-Post"] is None
    assert "/preferences/" not in part(without, "plain") + part(without, "html")


@pytest.mark.parametrize(
    ("name", "company_id", "list_id"),
    [
        ("Praxis am See", "praxis", b'"Praxis am See" <praxis.reconcal.mail.'),
        ('Dr. "Zahn" \\ Söhne', "P_1-x", b"=?utf-8?"),
        ('A "B" \\ <c@d>', "P_1", b'"A \\"B\\" \\\\ <c@d>" <p-1.reconcal.mail.'),
        ("", "___", b'"___" <company.reconcal.mail.'),
    ],
)
def test_a_companys_mails_can_be_sorted_by_their_list(name: str, company_id: str, list_id: bytes) -> None:
    wire = raw(of(LOCAL), company=replace(samples.COMPANY, name=name, company_id=company_id))
    head = wire.split(b"\r\n\r\n")[0].replace(b"\r\n ", b" ")
    assert b"\r\nList-Id: " + list_id in head


@pytest.mark.parametrize(("name", "language"), ALL)
def test_a_mail_is_seven_bit_with_short_lines_and_small_enough_for_gmail(name: str, language: str) -> None:
    wire = raw(samples.letter(name), to=samples.recipient(language))
    assert wire.isascii()
    assert b"\n" not in wire.replace(b"\r\n", b"")
    assert max(len(line) for line in wire.split(b"\r\n")) <= 998
    mail = message_from_bytes(wire, policy=policy.default)
    assert not mail.defects
    assert [part.get_content_type() for part in mail.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert all(part["Content-Transfer-Encoding"] == "quoted-printable" for part in mail.iter_parts())


def test_a_full_digest_with_long_names_is_not_clipped_by_gmail() -> None:
    assert MISMATCH.appointment is not None
    name = "Maximiliane-Theodora Freifrau von und zu Musterhausen-Beispielstein 👩‍⚕️" * 3
    long = [
        replace(MISMATCH, appointment=replace(MISMATCH.appointment, customer_name=name, appointment_id="4711-" * 40))
        for _ in range(ROWS)
    ]
    ended = tuple(replace(flag, type=FlagType.RESOLVED, resolved_by=name) for flag in long)
    letter = of(*long, news_counts={"DATA_MISMATCH": 500})
    assert len(part(mailed(letter), "html").encode()) < 60_000
    full = replace(letter, occasion=Occasion.DAILY, open=tuple(long), open_total=90, ended=ended, ended_total=90,
                   notices=tuple(samples.flag(kind) for kind in Kind if not kinds.about_records(kind)))  # fmt: skip
    assert len(part(mailed(full), "html").encode()) < 90_000


# --- what must never get through ---------------------------------------------------------------------------------

EVIL: Final = [
    "Mia\r\nBcc: victim@example.com",
    "Mia\nBcc: victim@example.com\n\nhello",
    "Mia\u2028Bcc: victim@example.com",
    "Mia\x85Bcc: victim@example.com",
    "\u202egnp.exe\u2066 Mia\x00\x1b[31m",
    "Mia\ud800",
    "</td></table><script>alert(1)</script><img src=//x>&",
    '"><a href="//evil.example">Mia</a><!--',
    "{{ 7 * 7 }} %(name)s %s {company_id}",
    "=?utf-8?q?=0D=0ABcc:_x=E2=80=AEgnp?= =?utf-8?b?4oCu?=",
    "=cmd|' /C calc'!A0",
    "👩‍👩‍👧‍👦 Zoë 日本",
    "x" * 10_000,
]
Place = Callable[[str], tuple[Letter, Company, Recipient]]


def everywhere(text: str, address: str = "") -> tuple[Letter, Company, Recipient]:
    """Give a letter with that text wherever text comes from outside, in every layout that there is."""
    appointment = AppointmentFacts(appointment_id=text, status=text, starts_at=samples.AT, customer_name=text)
    booking = BookingFacts(uid=text, chain=(text,), status=text, attendee_name=text)
    why = Why(note=text, answer=text)
    local = replace(LOCAL, record_id=UUID(int=3), appointment=appointment, why=why, verdict="unknown")
    differences = (Inconsistency(text, text, text), Inconsistency("status", text, text))
    differ = replace(MISMATCH, appointment=appointment, booking=booking, why=why, inconsistencies=differences)
    alone = replace(CALCOM, record_id=UUID(int=4), booking=booking, why=why)
    ended = replace(alone, type=FlagType.RESOLVED, resolved_by=text or "?")
    letter = of(
        local,
        differ,
        alone,
        notices=(replace(SILENT, reason=f"?{text}", why=why, company_id=text),),
        ended=(ended,),
        ended_total=1,
        open=(differ,),
        open_total=1,
        occasion=Occasion.DAILY,
        thread=(text,),
        thread_subject=text,
    )
    company = Company(company_id="praxis", name=text, time_zone=text)
    return letter, company, replace(MIA, name=text, language=text, address=address or MIA.address)


BASE: Final = Page(part(mailed(*everywhere("Mia")), "html")).tags


def assert_harmless(text: str) -> None:
    mail = mailed(*everywhere(text))
    assert mail.keys() == HEADERS
    assert not mail.defects
    assert [address.addr_spec for address in mail["To"].addresses] == [MIA.address]
    page = Page(part(mail, "html"))
    assert page.tags == BASE
    assert all(link.startswith(CONSOLE) for link in page.links)
    shown = str(mail["Subject"]) + str(mail["To"]) + part(mail, "plain") + part(mail, "html")
    assert not set(shown) & set("\x00\x1b\x85\u202e\u202d\u2028\u2029\u2066\u2067\u2068\ufeff")
    assert not any("\ud800" <= character <= "\udfff" for character in shown)
    assert not any(line.startswith(("Bcc:", "Subject:")) for line in part(mail, "plain").splitlines())


@pytest.mark.parametrize("text", EVIL, ids=lambda text: ascii(text[:20]))
def test_no_text_from_outside_does_harm_in_head_text_or_html(text: str) -> None:
    assert_harmless(text)


@given(st.text() | st.text(alphabet="<>&\"'\r\n =?:;@/\\%{}\u202e\u2028\ud800a\u0301", max_size=60))
def test_whatever_stands_outside_the_mail_has_our_headers_and_our_tags(text: str) -> None:
    assert_harmless(text)


@given(st.text(max_size=80))
def test_whatever_a_subject_was_an_answer_has_it_as_one_line(text: str) -> None:
    letter = of(ended=(ENDED,), ended_total=1, thread_subject=text)
    mail = mailed(letter)
    assert mail.keys() == HEADERS
    assert len(str(mail["Subject"]).splitlines()) == 1
    assert str(mail["Subject"]).startswith("Re: ")
    assert str(mail["Subject"]) == subject_of(letter, samples.COMPANY, "en")


def test_markup_in_a_name_is_shown_and_does_nothing() -> None:
    assert LOCAL.appointment is not None
    evil = replace(LOCAL, appointment=replace(LOCAL.appointment, customer_name="<script>alert(1)</script>&"))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in part(mailed(of(evil)), "html")
    assert "<script>alert(1)</script>&" in part(mailed(of(evil)), "plain")


@pytest.mark.parametrize("name", ["praxis.example.com/pay", "https://evil.example", "mia@example.com", "Dr. Beispiel"])
def test_an_address_in_a_name_is_none_that_a_mail_program_would_find(name: str) -> None:
    """In the text of a mail it cannot be helped."""
    assert LOCAL.appointment is not None
    flag = replace(LOCAL, appointment=replace(LOCAL.appointment, customer_name=name))
    for letter in (of(flag), of(flag, CALCOM)):
        html = part(mailed(letter), "html")
        assert (name in html) is (name == "Dr. Beispiel")
        assert name in html.replace("\u2060", "")
        assert name in part(mailed(letter), "plain")


@pytest.mark.parametrize("name", samples.NAMES)
def test_the_html_loads_nothing_from_elsewhere(name: str) -> None:
    html = part(mailed(samples.letter(name)), "html")
    assert not any(word in html for word in ("<img", "<link", "<script", "src=", "url(", "@import", "<form"))


@pytest.mark.parametrize("name", ['Müller, "Hänschen" <root@example.org>', "Mia (admin); <x@y.z>", "", "日本" * 90])
def test_a_persons_name_never_changes_the_address(name: str) -> None:
    mail = mailed(of(LOCAL), to=replace(MIA, name=name))
    assert [address.addr_spec for address in mail["To"].addresses] == [MIA.address]


@pytest.mark.parametrize(
    "address",
    ["", "mia", "mia@", "@example.com", "mia@example.com\r\nBcc: x@y.z", "m ia@example.com", "müll@example.com"],
)
def test_what_is_no_address_is_said_to_be_none(address: str) -> None:
    with pytest.raises(Unaddressable):
        mailed(of(LOCAL), to=replace(MIA, address=address))


def test_a_domain_with_umlauts_is_written_as_servers_read_it() -> None:
    mail = mailed(of(LOCAL), to=replace(MIA, address="mia@müller.example"))
    assert mail["To"].addresses[0].addr_spec == "mia@xn--mller-kva.example"


@pytest.mark.parametrize("mail_from", ["", "Reconcal", "Reconcal <reconcal>"])
def test_a_sender_without_an_address_is_refused(mail_from: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        sender(mail_from)


# --- samples and the inbox -----------------------------------------------------------------------------------------


def test_there_is_a_sample_of_every_kind_by_any_spelling() -> None:
    assert {kind.lower() for kind in Kind} < set(samples.NAMES)
    assert samples.letter("Orphaned_LOCAL") == samples.letter("orphaned_local")
    with pytest.raises(KeyError):
        samples.letter("nonsense")


@pytest.mark.parametrize("name", samples.NAMES)
def test_a_sample_keeps_what_a_letter_promises(name: str) -> None:
    letter = samples.letter(name)
    for flags in (letter.news, letter.ended, letter.open):
        assert len(flags) <= ROWS
        starts = [side.starts_at for flag in flags if (side := flag.appointment or flag.booking)]
        assert starts == sorted(starts, key=str)
    assert letter.news_total >= len(letter.news)
    assert len({flag.id for flag in (*letter.news, *letter.open)}) == len(letter.news) + len(letter.open)


@pytest.mark.parametrize("name", samples.NAMES)
def test_a_sample_has_nothing_new_that_its_notices_hold_back(name: str) -> None:
    letter = samples.letter(name)
    held = grouping.held_by({flag.kind for flag in letter.notices})
    assert not held.kinds & {flag.kind for flag in (*letter.notices, *letter.news)}


@pytest.mark.parametrize(
    ("language", "start"),
    [
        ("en", "Start: 01.12.2026 11:00 in the booking app, 01.12.2026 12:30 at Cal.com."),
        ("de", "Beginn: 01.12.2026 11:00 in der Buchungs-App, 01.12.2026 12:30 bei Cal.com."),
    ],
)
def test_the_inbox_says_the_same_as_the_mail_in_the_persons_language(language: str, start: str) -> None:
    said = notification(MISMATCH, samples.COMPANY, console_url=CONSOLE, language=language)
    assert said.issue_type == "DATA_MISMATCH"
    assert said.appointment_id == "4711"
    assert said.customer_name == "Jörg Beispiel"
    assert said.appointment_time == "2026-12-01T11:00:00+01:00"
    assert said.requires_action
    assert said.url == "https://console.example.com/admin/appointments/4711/sync-review"
    assert start in said.details
    assert not notification(ENDED, samples.COMPANY, console_url=CONSOLE, language=language).requires_action


def test_the_inbox_says_why_a_webhook_is_silent() -> None:
    said = notification(SILENT, samples.COMPANY, console_url=CONSOLE, language="en")
    assert (said.issue_type, said.appointment_id, said.requires_action) == ("WEBHOOK_SILENT", None, True)
    assert said.details.endswith("Our webhook at Cal.com is switched off.")


def test_a_notification_of_a_flag_to_a_person_has_always_the_same_id() -> None:
    assert notification_id(LOCAL.id, MIA.recipient_id) == notification_id(LOCAL.id, MIA.recipient_id)
    assert notification_id(LOCAL.id, MIA.recipient_id) != notification_id(LOCAL.id, UUID(int=1))
