"""What `reconcal status` says of the notifier, on a real database: who waits, and what has to be mended."""

import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
import pytest

from services.cli import notifying, verifying
from services.cli.notifying import Notifying, judge, lines
from services.cli.picture import Picture
from services.plumbing import postgres
from services.plumbing.postgres import Pool
from services.plumbing.settings import load

NOW: Final = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
NEVER: Final = datetime.max.replace(tzinfo=UTC)


class Scene:
    """A database into which rows are put."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def put(self, table: str, **row: Any) -> None:
        """Put a row into a table."""
        numbers = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        await self.pool.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({numbers})", *row.values())

    async def company(self, company_id: str, **over: Any) -> None:
        """Put a company that somebody is told of."""
        await self.put("companies", company_id=company_id, name=company_id)
        await self.contact(company_id, **over)

    async def contact(self, company_id: str, **over: Any) -> None:
        """Put a contact whose turn is not now."""
        contact_id = uuid4()
        plain = {"name": "Mia", "email": f"mia@{company_id}.example", "role": "admin"}
        await self.put("contacts", company_id=company_id, contact_id=contact_id, **(plain | over))
        await self.pool.execute("UPDATE notify_turns SET due_at = 'infinity' WHERE recipient_id = $1", contact_id)

    async def turn(self, company_id: str = "acme", **over: Any) -> UUID:
        """Put a recipient that is not due."""
        recipient_id = uuid4()
        plain = {"channel": "mail", "due_at": NEVER, "number": 0}
        await self.put("notify_turns", company_id=company_id, recipient_id=recipient_id, **(plain | over))
        return recipient_id

    async def letter(self, recipient_id: UUID, **over: Any) -> None:
        """Put a recipient's first letter."""
        plain = {
            "company_id": "acme", "number": 1, "channel": "mail", "message_id": f"<{uuid4()}@x>", "occasion": "news",
            "recipient": "mia@acme.example", "content": "{}", "told": [], "ended": [], "state": "sent",
            "created_at": NOW - MINUTE,
        }  # fmt: skip
        await self.put("letters", recipient_id=recipient_id, **(plain | over))

    async def alert(self, company_id: str, kind: str, **over: Any) -> UUID:
        """Put an open alert."""
        flag_id = uuid4()
        plain = {"verified": True, "deadline_at": NOW - MINUTE, "taken_at": NOW - MINUTE, "flag": "{}"}
        await self.put("alerts", company_id=company_id, kind=kind, flag_id=flag_id, **(plain | over))
        return flag_id

    async def flag(self, company_id: str, kind: str, body: Mapping[str, Any] | None = None, **over: Any) -> UUID:
        """Put an open flag."""
        flag_id = uuid4()
        plain = {"generation": 1, "raised_at": NOW - MINUTE, "body": msgspec.json.encode(body or {}).decode()}
        row = {"company_id": company_id, "flag_id": flag_id, "record_id": uuid4(), "kind": kind}
        await self.put("flags", **row, **(plain | over))
        return flag_id

    async def incident(self, company_id: str, kind: str, detail: str, *, minutes: int = 0, lasts: int = 60) -> None:
        """Put an incident that was seen so many minutes ago for the last time."""
        seen_at = NOW - minutes * MINUTE
        at = {"opened_at": seen_at - lasts * MINUTE, "last_seen_at": seen_at}
        await self.put("incidents", company_id=company_id, kind=kind, detail=detail, **at)

    async def endpoint(self, company_id: str, **over: Any) -> UUID:
        """Put an endpoint."""
        endpoint_id = uuid4()
        plain = {"format": "standard", "host": "hooks.example.com", "url_ciphertext": b"https://hush"}
        await self.put("endpoints", company_id=company_id, endpoint_id=endpoint_id, **(plain | over))
        return endpoint_id

    async def look(self) -> Notifying:
        """Look at all of it."""
        async with self.pool.acquire() as connection:
            return await notifying.look(connection, NOW)

    async def said(self, *names: str) -> list[str]:
        """Give what the lines of these names say."""
        return [text for what, text in lines(await self.look(), NOW) if what in names]

    async def troubles(self) -> list[str]:
        """Give what is wrong."""
        return judge(await self.look(), NOW)


@pytest.fixture
async def scene(dsn: str) -> AsyncIterator[Scene]:
    pool = await postgres.connect(load({"RECONCAL_POSTGRES_DSN": dsn}), name="tests", size=1)
    yield Scene(pool)
    await postgres.close(pool)


async def test_an_idle_notifier_is_well(scene: Scene) -> None:
    await scene.company("acme")
    found = await scene.look()
    assert found == Notifying()
    assert judge(found, NOW) == []
    assert lines(found, NOW) == [("Letters", "none in 24 hours")]


async def test_letters_of_the_last_day_are_counted_by_channel_and_state(scene: Scene) -> None:
    for number, (channel, state) in enumerate((("mail", "sent"), ("mail", "sent"), ("slack", "refused"))):
        await scene.letter(uuid4(), channel=channel, state=state, number=number)
    await scene.letter(uuid4(), created_at=NOW - 25 * 60 * MINUTE)
    assert await scene.said("Letters") == ["2 mail sent, 1 slack refused in 24 hours"]


# --- who waits ---------------------------------------------------------------------------------------------------


async def test_who_waits_for_a_digest_or_for_the_group_is_not_late(scene: Scene) -> None:
    await scene.turn(due_at=NOW + 600 * MINUTE)
    await scene.turn(due_at=NOW + MINUTE / 2)
    assert await scene.said("Waiting") == []
    assert await scene.troubles() == []


async def test_who_is_due_waits_and_for_a_notifier_if_it_is_long(scene: Scene) -> None:
    await scene.turn(due_at=NOW - MINUTE)
    assert await scene.said("Waiting") == ["1 recipient to be told, the oldest for 60 s"]
    assert await scene.troubles() == []
    await scene.turn(due_at=NOW - 6 * MINUTE)
    assert await scene.troubles() == ["1 recipient waiting for the notifier for more than 5 minutes: is one running?"]
    await scene.pool.execute("UPDATE notify_turns SET leased_until = $1", NOW + MINUTE)
    assert await scene.troubles() == [], "somebody is at it"


async def test_flags_that_no_notifier_has_taken_in_are_a_trouble(scene: Scene) -> None:
    await scene.flag("acme", "ORPHANED_LOCAL")
    taken = await scene.flag("acme", "ORPHANED_LOCAL", raised_at=NOW - 6 * MINUTE)
    await scene.put("seen_flags", company_id="acme", ce_id=taken, type="sync.orphaned_local")
    assert await scene.troubles() == []
    await scene.flag("acme", "ORPHANED_LOCAL", raised_at=NOW - 6 * MINUTE)
    assert await scene.troubles() == ["1 flag waiting for the notifier for more than 5 minutes: is one running?"]


async def test_letters_that_were_put_off_are_shown_by_reason(scene: Scene) -> None:
    for minutes, reason in ((1, "451 try later"), (7, "451 try later"), (2, "452 mailbox full")):
        recipient_id = await scene.turn(due_at=NOW + MINUTE, attempts=1)
        at = NOW - minutes * MINUTE
        await scene.letter(recipient_id, state="put_off", last_error=reason, created_at=at)
    assert await scene.said("Put off") == [
        "2 recipients by mail, the oldest since 2026-11-24 08:53 UTC: 451 try later",
        "1 recipient by mail, the oldest since 2026-11-24 08:58 UTC: 452 mailbox full",
    ]
    assert await scene.said("Waiting") == ["3 recipients to be told, the oldest for 420 s"]
    assert await scene.troubles() == []


async def test_a_letter_that_was_put_off_and_has_nothing_to_tell_any_more_is_not_shown(scene: Scene) -> None:
    recipient_id = await scene.turn(attempts=1)
    await scene.letter(recipient_id, state="put_off", last_error="451 try later")
    assert await scene.said("Put off", "Waiting") == []


# --- what somebody has to mend -----------------------------------------------------------------------------------


async def test_the_mail_servers_trouble_is_shown_with_what_to_do_and_nothing_is_well(scene: Scene) -> None:
    await scene.incident("", "smtp_unreachable", "smtp.example.com does not answer. Look at RECONCAL_SMTP_HOST.")
    assert await scene.said("Mail server") == [
        "smtp.example.com does not answer. Look at RECONCAL_SMTP_HOST. Since 2026-11-24 08:00 UTC, last at 09:00:00."
    ]
    assert await scene.troubles() == [
        "mails do not go out: smtp.example.com does not answer. Look at RECONCAL_SMTP_HOST."
    ]


async def test_who_waits_for_the_mail_server_waits_for_no_notifier(scene: Scene) -> None:
    recipient_id = await scene.turn(due_at=NOW - MINUTE, failing_since=NOW - 50 * MINUTE)
    refused = {"state": "put_off", "last_error": "no connection", "created_at": NOW - 60 * MINUTE}
    await scene.letter(recipient_id, **refused)
    await scene.turn(due_at=NOW - 50 * MINUTE)
    await scene.incident("", "smtp_unreachable", "Look at RECONCAL_SMTP_HOST.")
    assert await scene.said("Put off") == ["1 recipient by mail, the oldest since 2026-11-24 08:00 UTC: no connection"]
    assert await scene.said("Waiting") == ["2 recipients to be told, the oldest for 3600 s"]
    assert await scene.troubles() == ["mails do not go out: Look at RECONCAL_SMTP_HOST."]


async def test_trouble_that_nothing_has_tried_since_says_how_to_try(scene: Scene) -> None:
    await scene.incident("", "smtp_auth", "Look at RECONCAL_SMTP_PASSWORD.", minutes=120)
    (said,) = await scene.said("Mail server")
    assert said.endswith(
        "last at 07:00:00. Not tried since: `reconcal notify test --company ID --to EMAIL` shows whether it works."
    )


async def test_a_server_that_puts_mails_off_is_a_trouble_when_it_has_done_so_for_long(scene: Scene) -> None:
    await scene.incident("", "smtp_puts_off", "It puts off all mails.", lasts=14)
    assert len(await scene.said("Mail server")) == 1
    assert await scene.troubles() == []
    await scene.pool.execute("UPDATE incidents SET opened_at = opened_at - interval '2 minutes'")
    assert await scene.troubles() == ["mails do not go out: It puts off all mails."]


async def test_the_notifiers_troubles_are_no_incidents_of_companies_and_excuse_no_verifier(scene: Scene) -> None:
    await scene.incident("acme", "endpoint", "The webhook at hooks.example.com takes nothing.")
    assert await scene.said("Mail server") == []
    question = {"record_id": uuid4(), "number": 1, "question": "{}", "not_before": NOW - 60 * MINUTE}
    await scene.put("verifications", company_id="acme", priority=1, created_at=NOW - 60 * MINUTE, **question)
    async with scene.pool.acquire() as connection:
        found = verifying.judge(await verifying.look(connection, NOW, 300), NOW)
    assert found == ["1 questions to Cal.com wait for more than 5 minutes: is a verifier running?"]


async def test_an_address_that_refuses_mail_is_shown_with_how_to_mend_it(scene: Scene) -> None:
    await scene.company("acme")
    refused = {"suppressed_at": NOW - MINUTE, "suppressed_reason": "550 no such user"}
    await scene.contact("acme", email="tom@acme.example", **refused)
    await scene.contact("acme", email="old@acme.example", role="viewer", **refused)
    mend = "`reconcal companies contacts set ID EMAIL --deliver-again`"
    first, second = await scene.said("Refused")
    assert first == "acme: tom@acme.example since 2026-11-24 08:59 UTC: 550 no such user"
    assert mend in second
    assert await scene.troubles() == [], "the others get theirs"


async def test_endpoints_that_fail_are_shown_and_those_that_are_off_are_a_trouble(scene: Scene) -> None:
    await scene.company("acme")
    well = await scene.endpoint("acme")
    failing = await scene.endpoint("acme", failing_since=NOW - MINUTE, last_error="it answers with a web page")
    for endpoint_id in (well, failing, failing):
        message = {"flag_id": uuid4(), "flag": "{}", "created_at": NOW}
        await scene.put("endpoint_messages", company_id="acme", endpoint_id=endpoint_id, **message)
    assert await scene.troubles() == []
    off = {"disabled_at": NOW, "disabled_reason": "it took nothing for 3 days", "host": "off.example.com"}
    off_id = await scene.endpoint("acme", format="slack", failing_since=NOW - 4320 * MINUTE, **off)
    first, second = await scene.said("Endpoint")
    assert first.startswith(
        "acme: off.example.com (slack) has been off since 2026-11-24 09:00 UTC: it took nothing for 3 days."
    )
    assert first.endswith(f"`reconcal companies endpoints --company acme enable {off_id}`")
    assert second.startswith(
        "acme: hooks.example.com (standard) has failed since 2026-11-24 08:59 UTC; 2 messages waiting: it"
    )
    assert await scene.troubles() == ["1 endpoint off: `reconcal companies endpoints --company COMPANY enable ID`"]


async def test_companies_that_have_nobody_to_tell_say_why_and_with_open_flags_are_a_trouble(scene: Scene) -> None:
    for name in ("empty", "refused", "quiet", "slack"):
        await scene.put("companies", company_id=name, name=name)
    await scene.contact("empty", role="viewer")
    await scene.contact("refused", suppressed_at=NOW, suppressed_reason="550")
    await scene.contact("quiet", suppressed_at=NOW, suppressed_reason="550")
    await scene.contact("quiet", delivery="none", email="tom@quiet.example")
    await scene.endpoint("slack", format="slack")
    await scene.company("digest", delivery="daily")
    assert await scene.troubles() == [], "there is nothing to tell"
    await scene.flag("quiet", "ORPHANED_LOCAL")
    assert await scene.said("Nobody told") == [
        "quiet: its admins and managers get no mail: refused, or not wanted; 1 flag open",
        "empty: it has no admin and no manager; 0 flags open",
        "refused: the addresses of all its admins and managers refuse mail; 0 flags open",
    ]
    assert await scene.troubles() == ["quiet has open flags and nobody to tell: `reconcal companies contacts add`"]
    await scene.flag("empty", "ORPHANED_LOCAL")
    assert await scene.troubles() == [
        "empty, quiet have open flags and nobody to tell: `reconcal companies contacts add`"
    ]


# --- what is told another way ------------------------------------------------------------------------------------


async def test_what_waits_for_a_cause_is_counted_by_it(scene: Scene) -> None:
    for company_id in ("acme", "beta"):
        await scene.alert(company_id, "WEBHOOK_SILENT")
        for _ in range(3):
            await scene.alert(company_id, "ORPHANED_LOCAL")
        await scene.alert(company_id, "DATA_MISMATCH")
        await scene.alert(company_id, "ORPHANED_CALCOM", resolved_at=NOW)
    told = await scene.alert("acme", "ORPHANED_LOCAL")
    await scene.put("tellings", company_id="acme", recipient_id=uuid4(), flag_id=told, told_in=1)
    await scene.alert("gamma", "ORPHANED_LOCAL")
    await scene.alert("delta", "CALCOM_INCIDENT")
    await scene.alert("delta", "ORPHANED_LOCAL", verified=False)
    await scene.alert("delta", "ORPHANED_LOCAL")
    await scene.alert("delta", "VERIFICATION_ERROR")
    assert await scene.said("Held back") == [
        "6 ORPHANED_LOCAL: not mailed one by one while WEBHOOK_SILENT is open (2 companies)",
        "1 ORPHANED_LOCAL, 1 VERIFICATION_ERROR: not mailed one by one while CALCOM_INCIDENT is open (1 company)",
    ]
    assert await scene.troubles() == []


async def test_thresholds_that_are_crossed_are_shown_with_their_figures(scene: Scene) -> None:
    await scene.flag("acme", "ORPHANS_A_DAY", {"measured": {"value": 7.0, "limit": 5.0}})
    success = {"measured": {"value": 91.25, "limit": 95.0}}
    await scene.flag("acme", "SYNC_SUCCESS", success, raised_at=NOW)
    await scene.flag("acme", "ORPHANS_A_DAY", {"measured": {"value": 9.0, "limit": 5.0}}, resolved_at=NOW)
    assert await scene.said("Threshold") == [
        "acme: ORPHANS_A_DAY 7, limit 5, since 2026-11-24 08:59 UTC",
        "acme: SYNC_SUCCESS 91.25 %, limit 95 %, since 2026-11-24 09:00 UTC",
    ]
    assert await scene.troubles() == []


async def test_however_much_there_is_it_stays_on_one_screen_and_nothing_is_left_out_of_the_counts(scene: Scene) -> None:
    for number in range(130):
        await scene.put("companies", company_id=f"c{number:03}", name="C")
        if number != 1:
            await scene.flag(f"c{number:03}", "ORPHANED_LOCAL")
    found = await scene.look()
    assert len(found.nobody) == 100
    assert [text for what, text in lines(found, NOW) if what == "Nobody told"][-1] == "and 125 more; --json has them"
    assert judge(found, NOW) == [
        (
            "c000, c002, c003, c004, c005 and 124 more companies have open flags and nobody to tell: "
            "`reconcal companies contacts add`"
        )
    ]
    assert len(lines(found, NOW)) < 10


async def test_the_picture_as_json_has_all_of_it_and_no_secret(scene: Scene) -> None:
    await scene.company("acme", suppressed_at=NOW, suppressed_reason="550 no such user")
    await scene.endpoint("acme", disabled_at=NOW, disabled_reason="gone", secret_ciphertext=b"whsec_hush")
    told = msgspec.json.encode(Picture(at=NOW, notifier=await scene.look())).decode()
    assert re.search("hush", told) is None
    read = msgspec.json.decode(told)["notifier"]
    assert [one["email"] for one in read["refused"]] == ["mia@acme.example"]
    assert [one["host"] for one in read["endpoints"]] == ["hooks.example.com"]
