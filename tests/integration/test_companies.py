"""The register of tenants on a real database."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from schemas.rules import COMPARED, Waiting
from services.cli import main
from services.companies import admin, endpoints
from services.companies.admin import Changes, CompanyError, ContactChanges, NewCompany, NewContact
from services.companies.endpoints import NewEndpoint
from services.companies.model import Delivery, Purpose
from services.companies.register import Register
from services.plumbing.postgres import Pool
from services.plumbing.secrets import Vault, new_key
from services.plumbing.settings import SettingsError

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
MIA = NewContact(person="Mia Muster <mia@example.com>", language="de")
#: A transaction's time is the machine's own: secrets are made "now".
VAULT = Vault(new_key())


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    opened: Pool = await asyncpg.create_pool(dsn, min_size=1, max_size=2)
    yield opened
    await opened.close()


async def add(pool: Pool, company_id: str = "acme", **more: Any) -> admin.Added:
    async with pool.acquire() as conn:
        return await admin.add(conn, VAULT, NewCompany(company_id=company_id, name="Acme", **more))


async def test_what_was_added_is_in_the_register(pool: Pool) -> None:
    register = Register()
    added = await add(pool, contacts=(MIA,), window_seconds=60)
    assert await register.refresh(pool, VAULT)
    assert register.loaded
    assert register.companies == {"acme": added.company}
    assert register.company("acme") == added.company
    assert register.contacts("acme") == added.contacts
    assert (added.contacts[0].name, added.contacts[0].email, added.contacts[0].language) == (
        "Mia Muster",
        "mia@example.com",
        "de",
    )
    for purpose, clear in (
        (Purpose.CALCOM_WEBHOOK, added.calcom_webhook),
        (Purpose.APP_WEBHOOK, added.app_webhook),
        (Purpose.INGEST_TOKEN, added.ingest_token),
    ):
        assert register.secrets("acme", purpose, NOW) == (clear.encode(),)


async def test_secrets_are_generated_apart_and_kept_encrypted(pool: Pool) -> None:
    one, two = await add(pool, "one"), await add(pool, "two")
    clear = {added.calcom_webhook for added in (one, two)} | {
        one.app_webhook,
        two.app_webhook,
        one.ingest_token,
        two.ingest_token,
    }
    assert len(clear) == 6
    assert (len(one.calcom_webhook), one.app_webhook[:6], one.ingest_token[:4]) == (64, "whsec_", "rct_")
    stored = b" ".join(row[0] for row in await pool.fetch("SELECT ciphertext FROM company_secrets"))
    assert not [secret for secret in clear if secret.encode() in stored or secret in repr(one)]


async def test_given_secrets_are_taken(pool: Pool) -> None:
    added = await add(
        pool, calcom_webhook="given at cal.com", ingest_token="rct_given", calcom_api_key="cal_live_given"
    )
    assert (added.calcom_webhook, added.ingest_token) == ("given at cal.com", "rct_given")
    register = Register()
    await register.refresh(pool, VAULT)
    assert register.secrets("acme", Purpose.CALCOM_API_KEY, NOW) == ()  # its client's alone
    assert await pool.fetchval("SELECT count(*) FROM company_secrets") == 4


async def test_who_asks_for_api_keys_gets_them_and_nothing_else(pool: Pool) -> None:
    await add(pool, calcom_api_key="cal_live_given")
    register = Register(opens={Purpose.CALCOM_API_KEY})
    await register.refresh(pool, VAULT)
    assert register.secrets("acme", Purpose.CALCOM_API_KEY, NOW) == (b"cal_live_given",)
    assert register.secrets("acme", Purpose.CALCOM_WEBHOOK, NOW) == ()


async def test_whether_a_company_has_a_key_that_counts_is_known_without_a_vault(pool: Pool) -> None:
    await add(pool, "with", calcom_api_key="cal_live_given")
    await add(pool, "without")
    register = Register()
    await register.refresh(pool)
    assert register.holds("with", Purpose.CALCOM_API_KEY, NOW)
    assert not register.holds("without", Purpose.CALCOM_API_KEY, NOW)
    assert not register.holds("nobody", Purpose.CALCOM_API_KEY, NOW)
    await pool.execute("UPDATE company_secrets SET expires_at = $1 WHERE purpose = 'calcom_api_key'", NOW)
    await register.refresh(pool)
    assert register.holds("with", Purpose.CALCOM_API_KEY, NOW - timedelta(seconds=1))
    assert not register.holds("with", Purpose.CALCOM_API_KEY, NOW)


async def test_how_far_a_company_was_loaded_is_kept_whatever_else_changes(pool: Pool) -> None:
    await add(pool)
    async with pool.acquire() as conn:
        await admin.set_company(conn, "acme", Changes(history_began_at=NOW, calcom_loaded_at=NOW))
        changed = await admin.set_company(conn, "acme", Changes(verification_wait_seconds=60))
        assert (changed.verification_wait_seconds, changed.history_began_at) == (60, NOW)
        assert (changed.app_loaded_at, changed.calcom_loaded_at) == (None, NOW)
        assert await admin.list_companies(conn) == [changed]
        with pytest.raises(CompanyError, match="^app_loaded_at: "):
            await admin.set_company(conn, "acme", Changes(app_loaded_at=NOW.replace(tzinfo=None)))


async def test_everything_is_read_only_when_something_changed(pool: Pool) -> None:
    register = Register()
    await add(pool)
    assert [await register.refresh(pool, VAULT) for _ in range(3)] == [True, False, False]
    async with pool.acquire() as conn:
        await admin.add_contact(conn, "acme", MIA)
    assert [await register.refresh(pool, VAULT) for _ in range(2)] == [True, False]


async def test_a_database_that_is_away_leaves_the_last_snapshot(pool: Pool) -> None:
    register = Register()
    await add(pool)
    await register.refresh(pool, VAULT)
    await pool.close()
    with pytest.raises(asyncpg.InterfaceError):
        await register.refresh(pool, VAULT)
    assert register.company("acme") is not None


async def test_a_rotated_secret_counts_beside_the_old_one_until_that_ends(pool: Pool) -> None:
    old = (await add(pool)).calcom_webhook
    async with pool.acquire() as conn:
        new = await admin.rotate_secret(conn, VAULT, "acme", Purpose.CALCOM_WEBHOOK, keep_old_seconds=60, now=NOW)
    register = Register()
    await register.refresh(pool, VAULT)
    assert register.secrets("acme", Purpose.CALCOM_WEBHOOK, NOW + timedelta(seconds=59)) == (new.encode(), old.encode())
    assert register.secrets("acme", Purpose.CALCOM_WEBHOOK, NOW + timedelta(seconds=60)) == (new.encode(),)


async def test_a_rotation_at_once_ends_all_old_ones(pool: Pool) -> None:
    await add(pool)
    async with pool.acquire() as conn:
        for _ in range(2):
            await admin.rotate_secret(conn, VAULT, "acme", Purpose.INGEST_TOKEN, keep_old_seconds=60, now=NOW)
        with pytest.raises(CompanyError, match="3 are active already"):
            await admin.rotate_secret(conn, VAULT, "acme", Purpose.INGEST_TOKEN, keep_old_seconds=60, now=NOW)
        new = await admin.rotate_secret(conn, VAULT, "acme", Purpose.INGEST_TOKEN, keep_old_seconds=0, now=NOW)
    register = Register()
    await register.refresh(pool, VAULT)
    assert register.secrets("acme", Purpose.INGEST_TOKEN, NOW) == (new.encode(),)


async def test_a_removed_company_is_gone_and_its_id_is_not_given_again(pool: Pool) -> None:
    await add(pool, contacts=(MIA,))
    async with pool.acquire() as conn:
        await admin.remove_company(conn, "acme", NOW)
        register = Register()
        await register.refresh(pool, VAULT)
        assert (register.companies, register.contacts("acme")) == ({}, ())
        assert register.secrets("acme", Purpose.CALCOM_WEBHOOK, NOW) == ()
        assert await admin.list_companies(conn) == []
        with pytest.raises(CompanyError, match="^id: there is no company 'acme'"):
            await admin.remove_company(conn, "acme", NOW)
    with pytest.raises(CompanyError, match="^id: acme is there already, or was removed"):
        await add(pool)


async def test_with_a_company_go_its_endpoints_and_what_there_was_to_tell(pool: Pool) -> None:
    tables = ("endpoints", "endpoint_messages", "alerts", "notify_turns")
    for company_id in ("acme", "other"):
        await add(pool, company_id, contacts=(MIA,))
        async with pool.acquire() as conn:
            made, _ = await endpoints.add(
                conn, VAULT, company_id, NewEndpoint(url="https://a.example/", format="slack")
            )
        await pool.execute(
            "INSERT INTO endpoint_messages (company_id, endpoint_id, flag_id, flag, created_at)"
            " VALUES ($1, $2, $2, '{}', $3)",
            *(company_id, made.endpoint_id, NOW),
        )
        await pool.execute(
            "INSERT INTO alerts (company_id, flag_id, kind, verified, deadline_at, taken_at, flag)"
            " VALUES ($1, $2, 'WEBHOOK_SILENT', true, $3, $3, '{}')",
            *(company_id, made.endpoint_id, NOW),
        )
    async with pool.acquire() as conn:
        await admin.remove_company(conn, "acme", NOW)
    for table in tables:
        assert {row[0] for row in await pool.fetch(f"SELECT company_id FROM {table}")} == {"other"}


async def test_rules_change_one_by_one(pool: Pool) -> None:
    before = (await add(pool)).company
    async with pool.acquire() as conn:
        after = await admin.set_company(conn, "acme", Changes(window_seconds=60, time_zone="Europe/Vienna"))
        assert (after.window_seconds, after.time_zone, after.name) == (60, "Europe/Vienna", before.name)
        assert await admin.list_companies(conn) == [after]
        with pytest.raises(CompanyError, match="^window_seconds: "):
            await admin.set_company(conn, "acme", Changes(window_seconds=0))
        with pytest.raises(CompanyError, match="^id: there is no company"):
            await admin.set_company(conn, "other", Changes())


async def test_people_come_and_go_once_an_address(pool: Pool) -> None:
    await add(pool)
    async with pool.acquire() as conn:
        mia = await admin.add_contact(conn, "acme", MIA)
        with pytest.raises(CompanyError, match="^contact: acme has MIA@example.com already"):
            await admin.add_contact(conn, "acme", NewContact(person="MIA@example.com"))
        assert await admin.list_contacts(conn, "acme") == [mia]
        await admin.remove_contact(conn, "acme", "Mia@example.com")
        with pytest.raises(CompanyError, match="^contact: "):
            await admin.remove_contact(conn, "acme", "mia@example.com")


async def test_a_person_changes_field_by_field_and_is_looked_at_anew(pool: Pool) -> None:
    before = (await add(pool, contacts=(MIA,))).contacts[0]
    await pool.execute("UPDATE notify_turns SET due_at = 'infinity'")
    changes = ContactChanges(delivery="daily", daily_at="07:30", mute=("sync_success", "ORPHANED_LOCAL"))
    async with pool.acquire() as conn:
        after = await admin.set_contact(conn, "acme", "MIA@example.com", changes)
        assert (after.delivery, after.daily_at, after.muted_kinds) == (
            Delivery.DAILY,
            time(7, 30),
            ("ORPHANED_LOCAL", "SYNC_SUCCESS"),
        )
        assert (after.contact_id, after.name, after.role, after.language) == (
            before.contact_id,
            before.name,
            before.role,
            before.language,
        )
        assert await pool.fetchval("SELECT isfinite(due_at) FROM notify_turns") is False
        assert await pool.fetchval("SELECT due_at < now() FROM notify_turns") is True
        more = ContactChanges(name="Dr. Mia Muster", role="manager", language="en", unmute=("SYNC_SUCCESS",))
        again = await admin.set_contact(conn, "acme", "mia@example.com", more)
        assert (again.name, again.role, again.language, again.muted_kinds, again.delivery) == (
            *("Dr. Mia Muster", "manager", "en"),
            ("ORPHANED_LOCAL",),
            Delivery.DAILY,
        )
        assert await admin.list_contacts(conn, "acme") == [again]
        assert await admin.get_contact(conn, "acme", "Mia@example.com") == again
    register = Register()
    await register.refresh(pool, VAULT)
    assert register.contacts("acme") == (again,)


async def test_an_address_that_was_refused_takes_mail_again_once_somebody_says_so(pool: Pool) -> None:
    await add(pool, contacts=(MIA,))
    await pool.execute("UPDATE contacts SET suppressed_at = $1, suppressed_reason = '550 no such user'", NOW)
    async with pool.acquire() as conn:
        same = await admin.set_contact(conn, "acme", "mia@example.com", ContactChanges(language="en"))
        assert (same.suppressed_at, same.suppressed_reason) == (NOW, "550 no such user")
        mended = await admin.set_contact(conn, "acme", "mia@example.com", ContactChanges(deliver_again=True))
        assert (mended.suppressed_at, mended.suppressed_reason) == (None, None)


async def test_a_person_with_a_new_address_is_the_same_person_and_the_old_one_has_no_key_to_them(pool: Pool) -> None:
    before = (await add(pool, contacts=(MIA, NewContact(person="tom@example.com")))).contacts[0]
    await pool.execute("UPDATE contacts SET suppressed_at = $1, suppressed_reason = '550 no such user'", NOW)
    token = "SELECT preferences_token FROM contacts WHERE contact_id = $1"
    known = await pool.fetchval(token, before.contact_id)
    async with pool.acquire() as conn:
        with pytest.raises(CompanyError, match="^contact: acme has TOM@example.com already"):
            await admin.set_contact(conn, "acme", "mia@example.com", ContactChanges(email="TOM@example.com"))
        same = await admin.set_contact(conn, "acme", "mia@example.com", ContactChanges(email="mia@example.com"))
        assert (same.suppressed_at, await pool.fetchval(token, before.contact_id)) == (NOW, known)
        after = await admin.set_contact(conn, "acme", "mia@example.com", ContactChanges(email="mia@praxis.example"))
    assert (after.contact_id, after.name, after.email) == (before.contact_id, before.name, "mia@praxis.example")
    assert (after.suppressed_at, after.suppressed_reason) == (None, None)
    assert await pool.fetchval(token, before.contact_id) != known


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (ContactChanges(email="mia"), "email"),
        (ContactChanges(delivery="weekly"), "delivery"),
        (ContactChanges(daily_at="8 o'clock"), "daily_at"),
        (ContactChanges(mute=("EVERYTHING",)), "mute"),
        (ContactChanges(unmute=("",)), "unmute"),
        (ContactChanges(mute=("SYNC_SUCCESS",), unmute=("sync-success",)), "mute"),
        (ContactChanges(role="boss"), "role"),
        (ContactChanges(language="fr"), "language"),
        (ContactChanges(name=" "), "name"),
    ],
)
async def test_a_change_of_a_person_that_cannot_be_is_refused_by_its_name(
    pool: Pool, changes: ContactChanges, field: str
) -> None:
    await add(pool, contacts=(MIA,))
    async with pool.acquire() as conn:
        with pytest.raises(CompanyError, match=f"^{field}: "):
            await admin.set_contact(conn, "acme", "mia@example.com", changes)
        with pytest.raises(CompanyError, match="^contact: acme has nobody of the address 'x@example.com'"):
            await admin.set_contact(conn, "acme", "x@example.com", ContactChanges())


async def test_a_company_that_is_refused_leaves_nothing(pool: Pool) -> None:
    with pytest.raises(CompanyError, match="^role: "):
        await add(pool, contacts=(MIA, NewContact(person="x@example.com", role="boss")))
    assert await pool.fetchval("SELECT count(*) FROM companies") == 0


async def test_a_key_that_opens_nothing_is_an_error_and_one_that_opens_some_is_logged(pool: Pool) -> None:
    await add(pool)
    other, register = Vault(new_key()), Register()
    with pytest.raises(SettingsError, match="RECONCAL_SECRET_KEY"):
        await register.refresh(pool, other)
    assert not register.loaded
    async with pool.acquire() as conn:
        await admin.rotate_secret(conn, other, "acme", Purpose.APP_WEBHOOK, keep_old_seconds=0, now=NOW)
    with capture_logs() as lines:
        await register.refresh(pool, other)
    assert len(register.secrets("acme", Purpose.APP_WEBHOOK, NOW)) == 1
    assert register.secrets("acme", Purpose.CALCOM_WEBHOOK, NOW) == ()
    assert {(line["event"], line["company"]) for line in lines} == {("companies.secret_unreadable", "acme")}


async def test_without_a_vault_no_secret_is_opened(pool: Pool) -> None:
    await add(pool)
    register = Register()
    await register.refresh(pool)
    assert (list(register.companies), register.secrets("acme", Purpose.INGEST_TOKEN, NOW)) == (["acme"], ())


async def test_who_follows_is_told_of_every_change(pool: Pool) -> None:
    register, stop, changed = Register(), asyncio.Event(), asyncio.Event()
    following = asyncio.ensure_future(register.follow(pool, 0.01, stop, vault=VAULT, changed=changed.set))
    await asyncio.wait_for(changed.wait(), 5)
    changed.clear()
    await add(pool)
    await asyncio.wait_for(changed.wait(), 5)
    assert register.company("acme") is not None
    stop.set()
    await asyncio.wait_for(following, 5)


async def test_a_companys_rules_are_what_was_set_and_the_register_follows(pool: Pool) -> None:
    register = Register()
    await add(pool, time_zone="Europe/Vienna")
    await register.refresh(pool, VAULT)
    known = register.company("acme")
    assert known is not None
    assert (known.country, known.compared_fields, known.unpaid_policy) == ("AT", COMPARED, Waiting.IGNORE)
    changes = Changes(
        country="ch",
        settling_window_seconds=60,
        unconfirmed_policy="ignore",
        compared_fields=("status", "starts_at"),
        match_by_attendee=False,
    )
    async with pool.acquire() as conn:
        changed = await admin.set_company(conn, "acme", changes)
    assert await register.refresh(pool, VAULT)
    assert register.company("acme") == changed
    assert (changed.country, changed.settling_window_seconds, changed.unconfirmed_policy) == ("CH", 60, Waiting.IGNORE)
    assert (changed.compared_fields, changed.match_by_attendee) == (("starts_at", "status"), False)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("country", "Germany"),
        ("settling_window_seconds", -1),
        ("unpaid_window_seconds", 0),
        ("unconfirmed_policy", "perhaps"),
        ("unpaid_policy", ""),
        ("compared_fields", ("starts_at", "price")),
        ("verification_wait_seconds", 0),
        ("calcom_base_url", "https://mia:geheim@cal.example/v2"),
        ("group_wait_seconds", -1),
        ("group_interval_seconds", 0),
        ("reminder_seconds", float("nan")),
        ("urgent_within_seconds", 367 * 86400),
        ("orphans_per_day_max", -1),
        ("failed_checks_per_hour_max", 10**9),
        ("waiting_for_review_max", -1),
        ("sync_success_min_percent", 100.5),
    ],
)
async def test_a_rule_that_cannot_be_is_refused_by_its_name(pool: Pool, rule: str, value: Any) -> None:
    with pytest.raises(CompanyError, match=f"^{rule}: "):
        await add(pool, **{rule: value})


def test_the_command_line_sets_every_rule_and_shows_it(dsn: str) -> None:
    """In one process: what `companies list --json` says is what `add` and `set` were given."""
    environ = {"RECONCAL_POSTGRES_DSN": dsn, "RECONCAL_SECRET_KEY": new_key()}

    def call(*arguments: str) -> str:
        called = CliRunner().invoke(main, ["companies", *arguments], env=environ, catch_exceptions=False)
        assert called.exit_code == 0, called.output
        return called.stdout

    rules = {
        "country": "CH",
        "window_seconds": 240.0,
        "settling_window_seconds": 120.0,
        "unconfirmed_window_seconds": 7200.0,
        "unconfirmed_policy": "ignore",
        "unpaid_window_seconds": 3600.0,
        "unpaid_policy": "flag",
        "match_by_attendee": False,
        "verification_wait_seconds": 600.0,
        "group_wait_seconds": 0.0,
        "group_interval_seconds": 60.0,
        "reminder_seconds": 3600.0,
        "urgent_within_seconds": 0.0,
        "orphans_per_day_max": 0,
        "failed_checks_per_hour_max": 3,
        "waiting_for_review_max": 1000,
        "sync_success_min_percent": 99.5,
    }
    switches = [f"--{name.replace('_', '-')}={value}" for name, value in rules.items() if name != "match_by_attendee"]
    switches += ["--compare", "starts_at,status", "--no-match-by-attendee"]
    expected = rules | {"compared_fields": ["starts_at", "status"]}
    call("add", "acme", "--name", "Acme", *switches)
    assert expected.items() <= json.loads(call("list", "--json")).items()
    said = json.loads(call("set", "acme", "--settling-window-seconds", "0", "--match-by-attendee", "--json"))
    assert (expected | {"settling_window_seconds": None, "match_by_attendee": True}).items() <= said.items()
    assert json.loads(call("list", "--json")) == said


def test_the_command_line_says_whose_cal_com_can_be_asked_and_shows_no_key(dsn: str, tmp_path: Path) -> None:
    environ = {"RECONCAL_POSTGRES_DSN": dsn, "RECONCAL_SECRET_KEY": new_key(), "COLUMNS": "120"}
    key = tmp_path / "key"
    key.write_text("cal_live_sesame")

    def call(*arguments: str) -> str:
        called = CliRunner().invoke(main, ["companies", *arguments], env=environ, catch_exceptions=False)
        assert called.exit_code == 0, called.output
        return called.stdout

    call("add", "acme", "--name", "Acme")
    assert json.loads(call("list", "--json"))["has_calcom_api_key"] is False
    assert "no API key" in call("list")
    said = call("set", "acme", "--calcom-api-key-file", str(key), "--json")
    assert json.loads(said)["has_calcom_api_key"] is True
    assert "asked, for 4 h" in call("list")
    assert "sesame" not in said + call("list") + call("list", "--json")


def test_the_command_line_changes_how_a_person_is_told_and_shows_it(dsn: str) -> None:
    environ = {"RECONCAL_POSTGRES_DSN": dsn, "RECONCAL_SECRET_KEY": new_key()}

    def call(*arguments: str, exit_code: int = 0) -> str:
        called = CliRunner().invoke(main, ["companies", *arguments], env=environ, catch_exceptions=False)
        assert called.exit_code == exit_code, called.output
        return called.output

    call("add", "acme", "--name", "Acme", "--contact", "Mia Muster <mia@example.com>")
    change = ("contacts", "set", "acme", "mia@example.com")
    said = call(*change, "--delivery", "daily", "--daily-at", "07:30", "--mute", "SYNC_SUCCESS", "--language", "de")
    assert said == "Mia Muster <mia@example.com>, admin, de: mail daily at 07:30; not about SYNC_SUCCESS.\n"
    told = json.loads(call(*change, "--unmute", "sync_success", "--role", "manager", "--name", "M. Muster", "--json"))
    assert (told["delivery"], told["daily_at"], told["muted_kinds"]) == ("daily", "07:30:00", [])
    assert (told["role"], told["name"]) == ("manager", "M. Muster")
    assert "daily at 07:30" in call("contacts", "list", "acme")
    assert call(*change, "--daily-at", "25:00", exit_code=2).startswith("reconcal: daily_at: '25:00'")
    assert call(*change, "--delivery", "weekly", exit_code=2).startswith("reconcal: delivery: 'weekly' is none of")
    assert call("contacts", "add", "acme", "Tom <tom@praxis>", exit_code=2) == (
        "reconcal: email: 'tom@praxis' has no complete domain\n"
    )
    assert "at least one option" in call(*change, exit_code=2)
    assert call(*change, "--email", "m@praxis.example").startswith("M. Muster <m@praxis.example>, manager, de: ")


def test_the_command_line_lists_the_figures_that_are_a_companys_own(dsn: str) -> None:
    environ = {"RECONCAL_POSTGRES_DSN": dsn, "RECONCAL_SECRET_KEY": new_key()}

    def call(*arguments: str) -> str:
        called = CliRunner().invoke(main, ["companies", *arguments], env=environ, catch_exceptions=False)
        assert called.exit_code == 0, called.output
        return called.output

    call("add", "acme", "--name", "Acme")
    assert "figures" not in call("list")
    call("set", "acme", "--orphans-per-day-max", "20", "--group-wait-seconds", "1.5")
    (said,) = [line for line in call("list").splitlines() if "figures" in line]
    assert said == "acme has figures of its own: --group-wait-seconds 1.5, --orphans-per-day-max 20"


async def test_the_command_line_shows_why_mail_is_refused_and_what_to_do(pool: Pool, dsn: str) -> None:
    await add(pool, contacts=(MIA,))
    await pool.execute("UPDATE contacts SET suppressed_at = $1, suppressed_reason = '550 no such user'", NOW)

    async def call(*arguments: str) -> str:
        called = await asyncio.to_thread(
            CliRunner().invoke, main, ["companies", "contacts", *arguments], env={"RECONCAL_POSTGRES_DSN": dsn}
        )
        assert called.exit_code == 0, called.output
        return called.output

    listed = await call("list", "acme")
    assert "2026-11-24 09:00:00" in listed
    assert "550 no such user" in listed
    assert "reconcal companies contacts set acme EMAIL --deliver-again" in listed
    assert (await call("set", "acme", "mia@example.com", "--deliver-again")).endswith("mail at once.\n")
    assert "550" not in await call("list", "acme")


def test_the_command_line_names_the_rule_that_it_refuses(dsn: str) -> None:
    environ = {"RECONCAL_POSTGRES_DSN": dsn, "RECONCAL_SECRET_KEY": new_key()}
    for option, value, field in (
        ("--country", "Germany", "country"),
        ("--compare", "price", "compared_fields"),
        ("--unpaid-window-seconds", "0", "unpaid_window_seconds"),
        ("--unpaid-policy", "perhaps", "--unpaid-policy"),
        ("--group-interval-seconds", "0", "group_interval_seconds"),
        ("--sync-success-min-percent", "101", "sync_success_min_percent"),
        ("--orphans-per-day-max", "few", "--orphans-per-day-max"),
        ("--contact", "Mia Muster <mia>", "email"),
    ):
        arguments = ["companies", "add", "acme", "--name", "Acme", option, value]
        called = CliRunner().invoke(main, arguments, env=environ)
        assert called.exit_code != 0
        assert field in called.output
