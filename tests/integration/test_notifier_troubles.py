"""What keeps letters from going out, in a real database that two processes share: said once, over when it is."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from structlog.typing import EventDict

from services.notifier.measure import measure
from services.notifier.ports import SMTP, Trouble, TroubleKind
from services.notifier.troubles import PostgresTroubles
from services.plumbing import postgres
from services.plumbing.postgres import Pool
from services.plumbing.settings import load
from tests.support.hand_clock import HandClock

NOW: Final = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)

AWAY: Final = Trouble(TroubleKind.SMTP_UNREACHABLE, "smtp.example.com does not answer. Look at RECONCAL_SMTP_HOST.")
AUTH: Final = Trouble(TroubleKind.SMTP_AUTH, "smtp.example.com refuses the password. Look at RECONCAL_SMTP_PASSWORD.")
PUTS_OFF: Final = Trouble(TroubleKind.SMTP_PUTS_OFF, "smtp.example.com puts off all mails.")


class Scene:
    """Two notifiers with clocks of their own hands, and the lines that both log."""

    def __init__(self, pool: Pool, lines: list[EventDict]) -> None:
        self.pool, self.lines = pool, lines
        self.clock = HandClock(NOW)
        self.one, self.other = self.begin(), self.begin()

    def begin(self) -> PostgresTroubles:
        """Give what a process has after its start."""
        return PostgresTroubles(self.pool, self.clock)

    @property
    def said(self) -> list[tuple[str, str]]:
        """Give what the log says: opened or over, and the kind."""
        return [(line["event"].removeprefix("notifier."), line["kind"]) for line in self.lines]

    async def rows(self) -> dict[tuple[str, str], int]:
        """Give the incidents, and how often each was written."""
        return {(row["company_id"], row["kind"]): row["seen"] for row in await self.pool.fetch("TABLE incidents")}

    async def put(self, table: str, **row: Any) -> None:
        """Put a row into a table."""
        numbers = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        await self.pool.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({numbers})", *row.values())

    async def contact(self, company_id: str, **over: Any) -> UUID:
        """Put a contact into a company."""
        contact_id = uuid4()
        plain = {"name": "Mia", "email": f"{contact_id}@example.com", "role": "admin"}
        await self.put("contacts", company_id=company_id, contact_id=contact_id, **(plain | over))
        return contact_id

    async def endpoint(self, company_id: str, **over: Any) -> UUID:
        """Put an endpoint into a company."""
        endpoint_id = uuid4()
        plain = {"format": "standard", "host": "hooks.example.com", "url_ciphertext": b""}
        await self.put("endpoints", company_id=company_id, endpoint_id=endpoint_id, **(plain | over))
        return endpoint_id

    async def shown(self, name: str, **labels: str) -> float | None:
        """Measure, and give what `/metrics` shows."""
        await measure(self.pool, self.clock.now())
        return REGISTRY.get_sample_value(name, labels)


@pytest.fixture
async def scene(dsn: str) -> AsyncIterator[Scene]:
    pool = await postgres.connect(load({"RECONCAL_POSTGRES_DSN": dsn}), name="tests", size=2)
    with capture_logs() as lines:
        yield Scene(pool, lines)
    await postgres.close(pool)


# --- the mail server ---------------------------------------------------------------------------------------------


async def test_trouble_is_said_once_whoever_sees_it_and_however_often_they_start(scene: Scene) -> None:
    for troubles in (scene.one, scene.other, scene.begin()):
        await troubles.seen("", AWAY)
        await troubles.seen("", AWAY)
    assert scene.said == [("trouble", "smtp_unreachable")]
    assert scene.lines[0]["detail"] == AWAY.detail
    assert scene.lines[0]["log_level"] == "warning"


async def test_the_same_trouble_is_written_once_a_minute(scene: Scene) -> None:
    for seconds in (0, 1, 30, 59, 60, 61):
        scene.clock.seconds = seconds
        await scene.one.seen("", AWAY)
    assert await scene.rows() == {("", "smtp_unreachable"): 2}


async def test_a_mail_that_was_taken_ends_it_and_the_next_is_an_episode_of_its_own(scene: Scene) -> None:
    await scene.one.seen("", AWAY)
    await scene.one.over("", *SMTP)
    assert await scene.rows() == {}
    await scene.one.seen("", AWAY)
    assert scene.said == [
        ("trouble", "smtp_unreachable"),
        ("trouble_over", "smtp_unreachable"),
        ("trouble", "smtp_unreachable"),
    ]


async def test_what_another_process_has_seen_is_over_within_a_minute_of_mails_that_are_taken(scene: Scene) -> None:
    await scene.one.over("", *SMTP)
    await scene.other.seen("", AWAY)
    scene.clock.seconds = 60
    await scene.one.over("", *SMTP)
    assert await scene.rows() == {}


async def test_nothing_is_asked_of_the_database_while_mails_go_out(scene: Scene) -> None:
    await scene.one.over("", *SMTP)
    await scene.pool.close()
    await scene.one.over("", *SMTP)


async def test_other_trouble_is_said_too_and_replaces_what_is_seen_no_more(scene: Scene) -> None:
    await scene.one.seen("", AWAY)
    scene.clock.seconds = 60
    await scene.one.seen("", AUTH)
    assert set(await scene.rows()) == {("", "smtp_unreachable"), ("", "smtp_auth")}
    scene.clock.seconds = 661
    await scene.one.seen("", AUTH)
    assert set(await scene.rows()) == {("", "smtp_auth")}
    assert scene.said == [
        ("trouble", "smtp_unreachable"),
        ("trouble", "smtp_auth"),
        ("trouble_over", "smtp_unreachable"),
    ]


async def test_a_server_that_changes_its_mind_all_the_time_is_said_to_do_so_once(scene: Scene) -> None:
    for number in range(60):
        scene.clock.seconds = number * 30
        await scene.one.seen("", AWAY if number % 2 else AUTH)
    assert scene.said == [("trouble", "smtp_auth"), ("trouble", "smtp_unreachable")]


async def test_mails_that_are_put_off_now_and_then_are_one_episode_that_ends_when_none_was_for_long(
    scene: Scene,
) -> None:
    for number in range(10):
        scene.clock.seconds = number * 120
        await scene.one.seen("", PUTS_OFF)
        await scene.one.over("", *SMTP)
    assert scene.said == [("trouble", "smtp_puts_off")]
    assert await scene.shown("reconcal_delivery_troubles", kind="smtp_puts_off") == 1
    scene.clock.seconds += 601
    assert await scene.shown("reconcal_delivery_troubles", kind="smtp_puts_off") == 0
    assert scene.said[1:] == [("trouble_over", "smtp_puts_off")]


async def test_errors_of_the_database_go_up(scene: Scene) -> None:
    await scene.pool.execute("DROP TABLE incidents")
    with pytest.raises(Exception, match="incidents"):
        await scene.one.seen("", AWAY)
    assert scene.said == []


# --- addresses and endpoints -------------------------------------------------------------------------------------


def endpoint_trouble(host: str, why: str) -> Trouble:
    return Trouble(TroubleKind.ENDPOINT, f"The webhook at {host} takes nothing: {why}. Ask its owner.")


async def test_an_endpoint_is_said_once_an_episode_whatever_it_answers_next(scene: Scene) -> None:
    for troubles in (scene.one, scene.one, scene.other, scene.begin()):
        for why in ("it answers with a web page", "timeout"):
            scene.clock.seconds += 61
            await troubles.seen("acme", endpoint_trouble("a.example.com", why))
    await scene.other.over("acme", TroubleKind.ENDPOINT)
    assert scene.said == [("trouble", "endpoint"), ("trouble_over", "endpoint")]


async def test_each_endpoint_of_a_company_is_said(scene: Scene) -> None:
    for _ in range(3):
        for host in ("a.example.com", "b.example.com"):
            scene.clock.seconds += 61
            await scene.one.seen("acme", endpoint_trouble(host, "timeout"))
    await scene.one.seen("beta", endpoint_trouble("a.example.com", "timeout"))
    assert [(line["company_id"], line["detail"].split()[3]) for line in scene.lines] == [
        ("acme", "a.example.com"),
        ("acme", "b.example.com"),
        ("beta", "a.example.com"),
    ]


async def test_one_companys_endpoint_says_nothing_of_anothers_or_of_the_mail_server(scene: Scene) -> None:
    await scene.one.seen("", AWAY)
    for company_id in ("acme", "beta"):
        await scene.one.seen(company_id, endpoint_trouble("a.example.com", "timeout"))
    await scene.one.over("acme", TroubleKind.ENDPOINT)
    assert set(await scene.rows()) == {("", "smtp_unreachable"), ("beta", "endpoint")}


async def test_a_refused_address_is_in_the_log_and_has_no_row(scene: Scene) -> None:
    refused = Trouble(TroubleKind.ADDRESS_REFUSED, "mia@example.com takes no mail: no such user.")
    await scene.one.seen("acme", refused)
    assert [(line["company_id"], line["detail"]) for line in scene.lines] == [("acme", refused.detail)]
    assert await scene.rows() == {}


async def test_what_is_known_of_episodes_is_bounded(scene: Scene) -> None:
    for number in range(1100):
        await scene.one.seen(f"company-{number}", endpoint_trouble("a.example.com", "timeout"))
    assert len(scene.one._known) == 1000
    scene.clock.seconds = 61
    await scene.one.seen("company-0", endpoint_trouble("a.example.com", "cut"))
    assert len(scene.said) == 1100, "what was forgotten is in the table"


# --- metrics -----------------------------------------------------------------------------------------------------


async def test_troubles_are_counted_from_the_tables_so_that_they_are_right_after_a_restart(scene: Scene) -> None:
    await scene.put("companies", company_id="acme", name="Acme")
    await scene.put("companies", company_id="gone", name="Gone", removed_at=NOW)
    for company_id in ("acme", "gone"):
        for _ in range(2):
            await scene.contact(company_id, suppressed_at=NOW, suppressed_reason="550 no such user")
        await scene.contact(company_id, suppressed_at=NOW, role="viewer")
        await scene.endpoint(company_id, failing_since=NOW)
        await scene.endpoint(company_id, failing_since=NOW, disabled_at=NOW)
        await scene.endpoint(company_id)
    await scene.other.seen("", AWAY)
    shown = {kind: await scene.shown("reconcal_delivery_troubles", kind=kind) for kind in TroubleKind}
    assert {kind: count for kind, count in shown.items() if count} == {
        "smtp_unreachable": 1,
        "address_refused": 2,
        "endpoint": 1,
    }
    assert set(shown.values()) <= {0, 1, 2}, "kinds without trouble are there too"
    assert await scene.shown("reconcal_endpoints_off") == 1


async def test_companies_that_have_nobody_to_tell_are_counted(scene: Scene) -> None:
    for name in ("well", "nobody", "viewer", "refused", "quiet", "slack", "daily", "gone"):
        removed = {"removed_at": NOW} if name == "gone" else {}
        await scene.put("companies", company_id=name, name=name, **removed)
    await scene.contact("well", role="manager")
    await scene.contact("well", suppressed_at=NOW)
    await scene.contact("viewer", role="viewer")
    await scene.contact("refused", suppressed_at=NOW)
    await scene.contact("quiet", delivery="none")
    await scene.contact("slack", delivery="none")
    await scene.endpoint("slack", format="slack")
    await scene.contact("daily", delivery="daily")
    assert await scene.shown("reconcal_companies_without_recipient") == 4
    await scene.pool.execute("UPDATE endpoints SET disabled_at = $1", NOW)
    assert await scene.shown("reconcal_companies_without_recipient") == 5


async def test_silent_webhooks_are_open_alerts(scene: Scene) -> None:
    plain = {"verified": False, "deadline_at": NOW, "taken_at": NOW, "flag": "{}"}
    for company_id, kind, resolved_at in (
        ("a", "WEBHOOK_SILENT", None), ("b", "WEBHOOK_SILENT", NOW), ("c", "ORPHANED_LOCAL", None),
    ):  # fmt: skip
        row = {"company_id": company_id, "kind": kind, "resolved_at": resolved_at, "flag_id": uuid4()}
        await scene.put("alerts", **plain, **row)
    assert await scene.shown("reconcal_webhooks_silent") == 1


async def test_who_waits_is_counted_and_for_how_long(scene: Scene) -> None:
    assert await scene.shown("reconcal_recipients_waiting") == 0
    assert await scene.shown("reconcal_oldest_letter_seconds") == 0
    turn = {"company_id": "acme", "channel": "mail"}
    put_off, plain = uuid4(), {"occasion": "news", "content": "{}", "told": [], "ended": [], "message_id": "<1@x>"}
    await scene.put("notify_turns", **turn, recipient_id=uuid4(), due_at=NOW + MINUTE)
    await scene.put("notify_turns", **turn, recipient_id=uuid4(), due_at=datetime.max.replace(tzinfo=UTC))
    await scene.put("notify_turns", **turn, recipient_id=uuid4())
    await scene.put("notify_turns", **turn, recipient_id=uuid4(), due_at=NOW - MINUTE)
    assert await scene.shown("reconcal_recipients_waiting") == 2
    assert await scene.shown("reconcal_oldest_letter_seconds") == 60
    await scene.put("notify_turns", **turn, recipient_id=put_off, due_at=NOW + MINUTE, number=3, attempts=2)
    await scene.put(
        "letters", **turn, **plain, recipient_id=put_off, number=4, recipient="mia@example.com", state="put_off",
        created_at=NOW - 10 * MINUTE,
    )  # fmt: skip
    assert await scene.shown("reconcal_recipients_waiting") == 3
    assert await scene.shown("reconcal_oldest_letter_seconds") == 600
