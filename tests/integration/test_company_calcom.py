"""`reconcal companies webhook` and `backfill`, as an operator types them; Cal.com is its stand-in."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import pytest
from click.testing import CliRunner

from schemas.triggers import TRIGGERS
from services.cli import main
from services.companies import admin
from services.companies.admin import NewCompany
from services.embedded.calcom import Account, Calcom
from services.embedded.calcom.pranks import html, unauthorised
from services.plumbing.postgres import Pool
from services.plumbing.secrets import Vault, new_key
from tests.support.calcom import KEY, running_calcom
from tests.support.wait import until

SECRET: Final = "a secret of the webhook"
VAULT_KEY: Final = new_key()
URL: Final = "https://in.example.com/webhooks/calcom/acme"


class Desk:
    """An installation with one company, and Cal.com."""

    def __init__(self, dsn: str, pool: Pool, calcom: Calcom, base_url: str) -> None:
        self.pool, self.calcom, self.base_url = pool, calcom, base_url
        self.doctor: Account = calcom.join("kim-vale", KEY)
        self.environ = {
            "RECONCAL_POSTGRES_DSN": dsn,
            "RECONCAL_SECRET_KEY": VAULT_KEY,
            "RECONCAL_INGEST_PUBLIC_URL": "https://in.example.com",
            "RECONCAL_CALCOM_PRIVATE_ADDRESSES": "allow",
        }

    async def says(self, *words: str) -> tuple[int, str, str]:
        """Run `reconcal companies ...` beside the loop that Cal.com runs in; gives exit code, stdout, stderr."""
        done = await asyncio.to_thread(CliRunner().invoke, main, ["companies", *words], env=self.environ)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    async def webhook(self, act: str) -> tuple[int, dict[str, Any]]:
        """Run `companies webhook` for programs."""
        code, told, said = await self.says("webhook", act, "--company", "acme", "--json")
        assert SECRET not in told + said
        assert KEY not in told + said
        return code, json.loads(told) if told else {"error": said}

    def registered(self) -> list[Any]:
        """Give what Cal.com has for our address."""
        return [one for one in self.calcom.store.webhooks.values() if one.subscriber_url == URL]


@pytest.fixture
async def desk(dsn: str) -> AsyncIterator[Desk]:
    pool: Pool = await asyncpg.create_pool(dsn, min_size=1, max_size=2)
    async with running_calcom() as (calcom, base_url):
        made = Desk(dsn, pool, calcom, base_url)
        new = NewCompany(
            company_id="acme", name="Acme", calcom_api_key=KEY, calcom_base_url=base_url, calcom_webhook=SECRET
        )
        async with pool.acquire() as connection:
            await admin.add(connection, Vault(VAULT_KEY), new)
        yield made
    await pool.close()


async def test_a_webhook_that_is_not_there_is_missing_until_it_is_registered(desk: Desk) -> None:
    code, told = await desk.webhook("check")
    assert (code, told["state"], told["url"], told["webhook"]) == (1, "missing", URL, None)
    code, told = await desk.webhook("register")
    assert (code, told["state"], told["done"]) == (0, "well", "registered")
    (there,) = desk.registered()
    assert (there.secret, there.active, set(there.triggers)) == (SECRET, True, set(TRIGGERS))
    assert (await desk.webhook("check"))[0] == 0
    code, told = await desk.webhook("register")
    assert (code, told["done"], len(desk.registered())) == (0, "repaired", 1)


async def test_repair_switches_it_on_with_all_triggers_our_secret_and_no_template(desk: Desk) -> None:
    desk.calcom.subscribe(
        desk.doctor, URL, secret="old", triggers=["OOO_CREATED"], active=False, payload_template="{{title}}"
    )
    assert (await desk.webhook("check"))[1]["state"] == "inactive"
    code, told = await desk.webhook("repair")
    assert (code, told["state"], told["done"]) == (0, "well", "repaired")
    (there,) = desk.registered()
    assert (there.secret, there.active, there.payload_template) == (SECRET, True, None)
    assert set(there.triggers) == {*TRIGGERS, "OOO_CREATED"}


async def test_what_is_mended_has_the_verifier_look_at_once(desk: Desk) -> None:
    await desk.webhook("register")
    row = await desk.pool.fetchrow("SELECT * FROM calcom_turns WHERE kind = 'webhook'")
    assert row is not None
    assert row["due_at"] <= datetime.now(UTC)


async def test_there_is_nothing_to_repair_where_nothing_is_registered(desk: Desk) -> None:
    code, told = await desk.webhook("repair")
    assert (code, "register" in told["error"]) == (1, True)


async def test_cal_com_that_cannot_be_asked_is_no_webhook_that_is_wrong(desk: Desk) -> None:
    desk.calcom.mischief.play(html(502), times=1)
    code, told = await desk.webhook("check")
    assert (code, "did not answer" in told["error"]) == (2, True)
    desk.calcom.mischief.play(unauthorised(), times=1)
    code, told = await desk.webhook("check")
    assert (code, "refused the API key" in told["error"]) == (2, True)


async def test_without_a_key_an_address_or_a_company_it_is_said_what_is_missing(desk: Desk) -> None:
    code, _, said = await desk.says("webhook", "check", "--company", "nobody")
    assert (code, "no company 'nobody'" in said) == (2, True)
    await desk.pool.execute("DELETE FROM company_secrets WHERE purpose = 'calcom_api_key'")
    code, _, said = await desk.says("webhook", "check", "--company", "acme")
    assert (code, "no Cal.com API key" in said) == (2, True)
    desk.environ["RECONCAL_INGEST_PUBLIC_URL"] = ""
    code, _, said = await desk.says("webhook", "check", "--company", "acme")
    assert (code, "RECONCAL_INGEST_PUBLIC_URL" in said) == (2, True)


async def test_people_are_told_in_two_lines(desk: Desk) -> None:
    code, told, _ = await desk.says("webhook", "register", "--company", "acme")
    assert (code, told) == (0, f"registered: {URL}\nwell: Our webhook at Cal.com is active and complete.\n")


async def test_a_backfill_is_asked_for_and_history_begins(desk: Desk) -> None:
    code, told, _ = await desk.says("backfill", "--company", "acme", "--days", "30", "--json")
    asked = json.loads(told)
    since = datetime.fromisoformat(asked["since"])
    assert (code, asked["finished_at"]) == (0, None)
    assert abs(datetime.now(UTC) - timedelta(days=30) - since) < timedelta(minutes=1)
    company = await desk.pool.fetchrow("SELECT * FROM companies")
    assert company is not None
    assert company["history_began_at"] == datetime.fromisoformat(asked["requested_at"])


async def test_a_backfill_that_is_waited_for_says_when_all_is_loaded(desk: Desk) -> None:
    code, told, _ = await desk.says("backfill", "--company", "acme", "--wait", "--wait-seconds", "0", "--json")
    assert (code, json.loads(told)["finished_at"]) == (1, None)
    waiting = asyncio.ensure_future(desk.says("backfill", "--company", "acme", "--wait", "--wait-seconds", "20"))

    async def followed() -> bool:
        """Let a verifier have done it: the row that the waiting one has found."""
        await desk.pool.execute("UPDATE backfills SET finished_at = now(), rows_seen = 7 WHERE finished_at IS NULL")
        return waiting.done()

    await until(followed, 20)
    code, told, _ = waiting.result()
    assert (code, "All 7 bookings from" in told) == (0, True)


async def test_a_company_without_a_key_cannot_be_loaded(desk: Desk) -> None:
    await desk.pool.execute("DELETE FROM company_secrets WHERE purpose = 'calcom_api_key'")
    code, _, said = await desk.says("backfill", "--company", "acme")
    assert (code, "no Cal.com API key" in said) == (1, True)


async def test_the_app_is_said_to_have_sent_its_past_or_not(desk: Desk) -> None:
    code, told, _ = await desk.says("set", "acme", "--app-loaded", "--json")
    assert (code, json.loads(told)["app_loaded_at"] is not None) == (0, True)
    code, told, _ = await desk.says("set", "acme", "--name", "Acme again", "--json")
    assert json.loads(told)["app_loaded_at"] is not None
    code, told, _ = await desk.says("set", "acme", "--no-app-loaded", "--json")
    assert json.loads(told)["app_loaded_at"] is None
