"""Sends samples the way that alerts go, for `reconcal notify test`. Bounded in time."""

import asyncio
from datetime import datetime
from email.message import EmailMessage
from typing import Final
from uuid import UUID, uuid4

import msgspec
from msgspec import Struct

from services.cli.context import connected
from services.cli.failures import Wrong
from services.companies import admin, checks, incidents
from services.companies.incidents import EVERYBODYS
from services.companies.model import Contact, Format
from services.notifier import samples
from services.notifier.hooks import delivery, slack
from services.notifier.hooks.endpoints import Standings, Target
from services.notifier.hooks.outgoing import Outgoing
from services.notifier.hooks.replies import NotTaken
from services.notifier.letter import Company, Letter, Recipient
from services.notifier.mail.compose import Unaddressable, compose, message_id
from services.notifier.mail.smtp import Postman
from services.notifier.ports import SMTP, Undelivered
from services.plumbing import postgres
from services.plumbing.clock import WallClock
from services.plumbing.settings import Settings

#: A `Postman` keeps to three times the time of one answer; should it not, it is left after so many.
_ANSWERS: Final = 4
#: The `type` of a signed webhook that tells of nothing.
TEST_TYPE: Final = "sync.test"


class Tried(Struct, frozen=True, kw_only=True):
    """What became of a sample. `server`: `host:port`, or an endpoint's host; `security`: of the way to it.

    `reason`: why it was not taken; `advice`: what somebody has to do about it; `in_doubt`: it may have arrived all the
    same. `message_id`: of a mail or a signed webhook.
    """

    to: str
    server: str
    security: str
    taken: bool
    answer: str | None = None
    reason: str | None = None
    advice: str | None = None
    in_doubt: bool = False
    message_id: str | None = None
    notes: tuple[str, ...] = ()


async def by_mail(settings: Settings, company_id: str, to: str, language: str | None) -> Tried:
    """Mail a sample to an address, whoever has it. Raises CompanyError, Wrong."""
    address = checks.email(to)
    company, person = await _there(settings, company_id, address)
    recipient = Recipient(
        recipient_id=uuid4(),
        name=person.name if person else address,
        address=address,
        language=language or (person.language if person else "en"),
    )
    mail = composed(settings, samples.letter("sample"), company, recipient, WallClock().now())
    tried = Tried(
        to=address,
        server=f"{settings.smtp_host}:{settings.smtp_port}",
        security={"none": "no TLS", "starttls": "STARTTLS", "tls": "TLS"}[settings.smtp_security],
        taken=False,
        message_id=str(mail["Message-ID"]),
        notes=tuple(_notes(company_id, address, person)),
    )
    done = await _hand_over(settings, mail, tried)
    return await _over(settings, done) if done.taken else done


async def by_endpoint(settings: Settings, company_id: str, endpoint_id: UUID, language: str | None) -> Tried:
    """Send a sample to an endpoint, on or off; nothing is noted of it. Raises CompanyError, Wrong."""
    company, _ = await _there(settings, company_id, None)
    pool = await postgres.connect(settings, name="cli", size=1)
    try:
        found = await Standings(pool).find(company_id, endpoint_id)
    finally:
        await postgres.close(pool)
    if found is None:
        raise Wrong(f"{company_id} has no endpoint {endpoint_id}: `reconcal companies endpoints` lists them")
    target, form, its_language = found
    tried = Tried(to=f"endpoint {endpoint_id}", server=target.host, security=form.value, taken=False)
    outgoing = Outgoing(settings, WallClock(), connections=1)
    try:
        if form is Format.SLACK:
            answer = await _post_slack(settings, outgoing, target, company, language or its_language)
        else:
            answer = await _post_signed(outgoing, target)
    except NotTaken as error:
        said = {"reason": error.reason, "advice": error.advice, "in_doubt": error.in_doubt}
        return msgspec.structs.replace(tried, **said)
    finally:
        await outgoing.close()
    return msgspec.structs.replace(tried, taken=True, answer=answer)


def composed(settings: Settings, letter: Letter, company: Company, to: Recipient, at: datetime) -> EmailMessage:
    """Write a mail as the notifier does. Raises Wrong."""
    try:
        name = message_id(to.recipient_id, 0, settings.mail_from)
    except ValueError as error:
        raise Wrong(f"RECONCAL_MAIL_FROM: {error}") from None
    where = {"console_url": settings.console_url, "mail_from": settings.mail_from}
    try:
        return compose(letter, company, to, message_id=name, sent_at=at, **where)
    except Unaddressable as error:
        raise Wrong(f"email: {error}") from None


async def _hand_over(settings: Settings, mail: EmailMessage, tried: Tried) -> Tried:
    postman = Postman(settings)
    seconds = _ANSWERS * settings.smtp_timeout_seconds
    try:
        async with asyncio.timeout(seconds):
            answer = await postman.send(mail)
    except Undelivered as error:
        advice = error.trouble.detail if error.trouble else None
        return msgspec.structs.replace(tried, reason=error.reason, advice=advice, in_doubt=error.in_doubt)
    except TimeoutError:
        return msgspec.structs.replace(tried, reason=f"no answer in {seconds:g} s", in_doubt=True)
    finally:
        await postman.close()
    return msgspec.structs.replace(tried, taken=True, answer=answer)


async def _over(settings: Settings, tried: Tried) -> Tried:
    """End the mail server's trouble that was noted: it takes mails. A notifier that has any notes it again."""
    async with connected(settings) as connection:
        ended = await incidents.over(connection, EVERYBODYS, SMTP)
    if not ended:
        return tried
    note = f"what was wrong with the mail server is over: {', '.join(sorted(ended))}."
    return msgspec.structs.replace(tried, notes=(*tried.notes, note))


async def _there(settings: Settings, company_id: str, address: str | None) -> tuple[Company, Contact | None]:
    """Give a company, and its contact of that address, if there is one. Raises CompanyError."""
    async with connected(settings) as connection:
        found = await admin.get_company(connection, company_id)
        people = await admin.list_contacts(connection, company_id) if address else []
    company = Company(company_id=company_id, name=found.name, time_zone=found.time_zone)
    return company, next((one for one in people if address and one.email.lower() == address.lower()), None)


def _notes(company_id: str, address: str, person: Contact | None) -> list[str]:
    if person is None:
        return [f"{address} is no contact of {company_id}, and is told of nothing but this."]
    notes = []
    if person.suppressed_at is not None:
        again = f"`reconcal companies contacts set {company_id} {address} --deliver-again`"
        notes.append(f"alerts are not mailed to it, for it was refused; if the sample arrives: {again}")
    if person.delivery == "none" or person.role == "viewer":
        notes.append("alerts are not mailed to this person, as their role or preferences say.")
    return notes


async def _post_slack(settings: Settings, outgoing: Outgoing, target: Target, company: Company, language: str) -> str:
    body = slack.body(samples.letter("sample"), company, language=language, console_url=settings.console_url)
    return await outgoing.post(outgoing.open(target.url_ciphertext), body, {})


async def _post_signed(outgoing: Outgoing, target: Target) -> str:
    """Post something that no receiver takes for a decision: its type is TEST_TYPE, its id a new one."""
    now, name = WallClock().now(), uuid4()
    told = {
        "id": name,
        "type": TEST_TYPE,
        "company_id": target.company_id,
        "decided_at": now,
        "reason": "Somebody tries the channel: nothing is wrong.",
    }
    body = delivery.body_of(msgspec.json.encode(told).decode())
    secret = outgoing.open(target.secret_ciphertext or b"")
    return await outgoing.post(outgoing.open(target.url_ciphertext), body, delivery.signed(secret, name, now, body))
