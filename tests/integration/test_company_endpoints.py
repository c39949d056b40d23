"""`reconcal companies endpoints`, as an operator types it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from services.cli import main
from services.companies import admin
from services.companies.admin import NewCompany
from services.companies.endpoints import MOST
from services.plumbing import postgres
from services.plumbing.postgres import Pool
from services.plumbing.secrets import Vault, new_key
from services.plumbing.settings import load

KEY: Final = new_key()
SLACK: Final = "https://hooks.slack.com/services/T000/B000/very-secret"


class Office:
    """An installation with one company."""

    def __init__(self, dsn: str, pool: Pool) -> None:
        self.pool = pool
        self.environ = {"RECONCAL_POSTGRES_DSN": dsn, "RECONCAL_SECRET_KEY": KEY}

    async def says(self, *words: str, **environ: str) -> tuple[int, str, str]:
        """Run `reconcal companies endpoints --company acme ...`; gives exit code, stdout, stderr."""
        command = ["companies", "endpoints", "--company", "acme", *words]
        done = await asyncio.to_thread(CliRunner().invoke, main, command, env=self.environ | environ)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert "very-secret" not in done.stdout + done.stderr
        return done.exit_code, done.stdout, done.stderr

    async def added(self, *words: str, **environ: str) -> dict[str, Any]:
        code, told, said = await self.says("add", "--json", *words, **environ)
        assert (code, said) == (0, "")
        found: dict[str, Any] = json.loads(told)
        return found

    async def listed(self) -> list[dict[str, Any]]:
        _, told, _ = await self.says("list", "--json")
        return [json.loads(line) for line in told.splitlines()]


@pytest.fixture
async def office(dsn: str) -> AsyncIterator[Office]:
    pool = await postgres.connect(load({"RECONCAL_POSTGRES_DSN": dsn}), name="test", size=1)
    async with pool.acquire() as connection:
        await admin.add(connection, Vault(KEY), NewCompany(company_id="acme", name="Acme"))
    yield Office(dsn, pool)
    await postgres.close(pool)


async def test_an_address_is_added_with_a_secret_that_is_shown_once_and_kept_encrypted(office: Office) -> None:
    made = await office.added("https://app.example.com:8443/hooks?token=very-secret", "--mute", "data_mismatch")
    assert made["host"] == "app.example.com:8443"
    assert made["secret"].startswith("whsec_")
    (shown,) = await office.listed()
    assert shown == {key: value for key, value in made.items() if key != "secret"}
    assert shown["muted_kinds"] == ["DATA_MISMATCH"]
    row = await office.pool.fetchrow("SELECT * FROM endpoints")
    assert row is not None
    vault = Vault(KEY)
    assert vault.open(row["url_ciphertext"]) == "https://app.example.com:8443/hooks?token=very-secret"
    assert vault.open(row["secret_ciphertext"]) == made["secret"]
    assert "very-secret" not in str(row)


async def test_slacks_address_comes_from_a_file_and_has_no_secret(office: Office, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(f"{SLACK}\n")
    made = await office.added("--url-file", str(file), "--format", "slack", "--language", "de")
    assert (made["format"], made["host"], made["language"], made["secret"]) == ("slack", "hooks.slack.com", "de", None)
    code, told, _ = await office.says("list")
    assert code == 0
    assert "hooks.slack.com" in told
    assert await office.pool.fetchval("SELECT channel FROM notify_turns WHERE recipient_id = $1", made["endpoint_id"])


async def test_people_are_told_what_was_made(office: Office) -> None:
    code, told, _ = await office.says("add", "https://app.example.com/very-secret")
    assert code == 0
    assert "acme is told at app.example.com (standard)." in told
    assert "Signing secret, shown this once: whsec_" in told


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["ftp://app.example.com/"], "url: an address like https://"),
        (["app.example.com"], "url: an address like https://"),
        (["https://"], "url: an address like https://"),
        (["https://app.example.com:99999/"], "url: an address like https://"),
        (["https://app.example.com/a b"], "url: an address like https://"),
        (["https://app.example.com/\x1b[2J"], "url: an address like https://"),
        (["https://mia:very-secret@app.example.com/"], "url: a user or password"),
        (["http://app.example.com/very-secret"], "url: https is wanted"),
        (["https://app.example.com/" + "x" * 2000], "url: at most 2000 characters"),
        (["https://localhost/very-secret"], "url: a private address"),
        (["https://10.1.2.3:8443/very-secret"], "url: a private address"),
        (["https://0x7f.1/"], "url: a private address"),
        (["https://[::ffff:169.254.169.254]/"], "url: a private address"),
        (["https://[64:ff9b::7f00:1]/"], "url: a private address"),
        (["https://app.example.com/", "--mute", "NONSENSE"], "muted_kinds: 'NONSENSE' is none of ORPHANED_LOCAL"),
    ],
)
async def test_what_is_no_address_is_refused_in_one_line_that_names_the_field(
    office: Office, words: list[str], field: str
) -> None:
    code, told, said = await office.says("add", *words)
    assert (code, told, len(said.splitlines())) == (2, "", 1)
    assert said.startswith(f"reconcal: {field}")
    assert await office.listed() == []


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_c2hvcnQ=", "very-secret", "whsec_" + "x" * 200, "whsec_ä", f"whsec_!{'x' * 40}"]
)
async def test_a_weak_secret_is_refused(office: Office, tmp_path: Path, secret: str) -> None:
    file = tmp_path / "secret"
    file.write_text(secret)
    code, _, said = await office.says("add", "https://app.example.com/", "--secret-file", str(file))
    assert (code, said.partition(":")[2].strip().partition(":")[0]) == (2, "secret")


async def test_plain_http_will_do_where_private_addresses_are_allowed(office: Office) -> None:
    made = await office.added("http://[::1]:8080/hook", RECONCAL_ENDPOINT_PRIVATE_ADDRESSES="allow")
    assert made["host"] == "[::1]:8080"


async def test_one_address_is_wanted_and_the_company_must_be_there(office: Office) -> None:
    assert (await office.says("add"))[0] == 2
    await office.pool.execute("UPDATE companies SET removed_at = now()")
    code, _, said = await office.says("add", "https://app.example.com/")
    assert (code, said) == (2, "reconcal: id: there is no company 'acme'\n")


async def test_a_company_has_ten_endpoints_at_most(office: Office) -> None:
    for _ in range(MOST):
        await office.pool.execute(
            "INSERT INTO endpoints (company_id, endpoint_id, format, host, url_ciphertext) "
            "VALUES ('acme', gen_random_uuid(), 'standard', 'x', '')"
        )
    code, _, said = await office.says("add", "https://app.example.com/")
    assert (code, said) == (2, "reconcal: endpoints: acme has 10 already; remove one first\n")


async def test_an_endpoint_that_is_off_says_why_and_is_enabled(office: Office) -> None:
    made = await office.added("https://app.example.com/")
    await office.pool.execute(
        "UPDATE endpoints SET disabled_at = now(), disabled_reason = 'it answers status 500', attempts = 9,"
        " failing_since = now(), not_before = now()"
    )
    _, told, _ = await office.says("list")
    assert "status 500" in " ".join(told.split())
    code, told, _ = await office.says("enable", made["endpoint_id"])
    assert (code, told) == (0, "app.example.com is told of what happens from now on.\n")
    (shown,) = await office.listed()
    assert (shown["disabled_at"], shown["failing_since"], shown["last_error"]) == (None, None, None)


async def test_an_endpoint_is_removed_with_what_waits_for_it(office: Office) -> None:
    made = await office.added("https://app.example.com/")
    await office.pool.execute(
        "INSERT INTO endpoint_messages (company_id, endpoint_id, flag_id, flag, created_at) "
        "VALUES ('acme', $1, gen_random_uuid(), '{}', now())",
        made["endpoint_id"],
    )
    code, told, _ = await office.says("remove", made["endpoint_id"])
    assert (code, told) == (0, "app.example.com is not told any more.\n")
    assert await office.listed() == []
    assert await office.pool.fetchval("SELECT count(*) FROM endpoint_messages") == 0


@pytest.mark.parametrize("act", ["remove", "enable"])
@pytest.mark.parametrize(
    ("given", "why"),
    [("7", "endpoint: an id"), ("00000000-0000-0000-0000-000000000007", "endpoint: acme has no endpoint 0")],
)
async def test_an_endpoint_that_is_not_there_is_named(office: Office, act: str, given: str, why: str) -> None:
    code, _, said = await office.says(act, given)
    assert code == 2
    assert said.startswith(f"reconcal: {why}")


async def test_a_key_that_does_not_fit_the_others_is_refused(office: Office) -> None:
    code, _, said = await office.says("add", "https://app.example.com/", RECONCAL_SECRET_KEY=new_key())
    assert (code, "RECONCAL_SECRET_KEY" in said) == (2, True)
