"""The register of tenants on a real database."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from schemas.rules import COMPARED, Waiting
from services.cli import main
from services.companies import admin
from services.companies.admin import Changes, CompanyError, NewCompany, NewContact
from services.companies.model import Purpose
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


def test_the_command_line_names_the_rule_that_it_refuses(dsn: str) -> None:
    environ = {"RECONCAL_POSTGRES_DSN": dsn, "RECONCAL_SECRET_KEY": new_key()}
    for option, value, field in (
        ("--country", "Germany", "country"),
        ("--compare", "price", "compared_fields"),
        ("--unpaid-window-seconds", "0", "unpaid_window_seconds"),
        ("--unpaid-policy", "perhaps", "--unpaid-policy"),
    ):
        arguments = ["companies", "add", "acme", "--name", "Acme", option, value]
        called = CliRunner().invoke(main, arguments, env=environ)
        assert called.exit_code != 0
        assert field in called.output
