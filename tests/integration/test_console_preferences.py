"""The page that every mail links to, over real HTTP on a real database: what one is mailed, and scenario 74."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
from structlog.testing import capture_logs

from schemas.flags import Kind
from services.console import preferences
from services.console.security import HEADERS
from tests.support.pages import Page, Window, console_settings, window
from tests.support.processes import Service
from tests.support.tcp_proxy import TcpProxy
from tests.support.wait import until

KINDS: Final = frozenset(kind.value for kind in Kind)
FORM: Final = {"content-type": "application/x-www-form-urlencoded"}
#: As Gmail and Yahoo send it, and as RFC 8058 allows it, too; and what else may come of that sort.
ONE_CLICKS: Final = {
    "gmail": ("application/x-www-form-urlencoded", b"List-Unsubscribe=One-Click"),
    "multipart": (
        "multipart/form-data; boundary=---FormBoundaryjWmhtjORrn",
        (
            b"-----FormBoundaryjWmhtjORrn\r\n"
            b'Content-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n'
            b"-----FormBoundaryjWmhtjORrn--\r\n"
        ),
    ),
    "button": ("application/x-www-form-urlencoded", b""),
    "nothing": ("", b""),
    "strange": ("application/json", b'{"\xff'),
}


@pytest.fixture
async def console(dsn: str) -> AsyncIterator[Window]:
    async with window(console_settings(dsn)) as running:
        yield running


@pytest.fixture
async def mia(console: Window) -> UUID:
    """The token of an admin who gets every mail at once, in English."""
    return await console.person(await console.company(), "mia@example.com", name="Mia Muster")


def changed(page: Page, **fields: str) -> list[tuple[str, str]]:
    """Give the form as somebody sends it who has changed these fields."""
    return [pair for pair in page.fields() if pair[0] not in fields] + list(fields.items())


def without(page: Page, *kinds: str) -> list[tuple[str, str]]:
    """Give the form as somebody sends it who has taken these marks away."""
    return [pair for pair in page.fields() if not (pair[0] == "kinds" and pair[1] in kinds)]


async def test_the_form_shows_what_holds(console: Window) -> None:
    company = await console.company()
    token = await console.person(
        company, "mia@example.com", delivery="daily", daily_at=time(7, 30), muted_kinds=["DATA_MISMATCH"]
    )
    page = await console.get(f"/preferences/{token}")
    fields = page.fields()
    assert dict(fields) | {"delivery": "daily", "daily_at": "07:30", "language": "en"} == dict(fields)
    assert {value for name, value in fields if name == "kinds"} == KINDS - {"DATA_MISMATCH"}
    assert "Praxis am See" in page.words
    assert "Europe/Berlin" in page.words
    assert "Missing at Cal.com" in page.words
    assert page.all("html", lang="en")


async def test_the_pages_speak_the_persons_language(console: Window) -> None:
    token = await console.person(await console.company(), "mia@example.com", language="de")
    form = await console.get(f"/preferences/{token}")
    assert form.all("html", lang="de")
    assert "Ihre E-Mails" in form.words
    ask = await console.get(f"/preferences/{token}/unsubscribe")
    assert "Alle E-Mails abbestellen?" in ask.words
    done = await console.post(f"/preferences/{token}/unsubscribe", {})
    assert "Sie bekommen keine E-Mails mehr" in done.words
    english = await console.post(f"/preferences/{token}", changed(form, language="en"))
    assert english.all("html", lang="en")
    assert "Saved." in english.words


async def test_what_is_saved_holds_and_is_shown(console: Window, mia: UUID) -> None:
    page = await console.get(f"/preferences/{mia}")
    fields = changed(page, delivery="daily", daily_at="17:45")
    fields.remove(("kinds", "ORPHANS_A_DAY"))
    saved = await console.post(f"/preferences/{mia}", fields)
    assert "You get one email a day at 17:45" in saved.words
    assert dict(saved.fields())["delivery"] == "daily"
    kept = await console.kept(mia)
    assert (kept["delivery"], kept["daily_at"], kept["muted_kinds"]) == ("daily", time(17, 45), ["ORPHANS_A_DAY"])
    again = await console.get(f"/preferences/{mia}")
    assert again.fields() == saved.fields()


async def test_saving_what_holds_already_writes_nothing(console: Window, mia: UUID) -> None:
    page = await console.get(f"/preferences/{mia}")
    before = await console.kept(mia)
    await console.post(f"/preferences/{mia}", page.fields())
    assert await console.kept(mia) == before


async def test_kinds_that_the_page_did_not_show_stay_muted(console: Window) -> None:
    token = await console.person(await console.company(), "mia@example.com", muted_kinds=["OF_TOMORROW"])
    page = await console.get(f"/preferences/{token}")
    await console.post(f"/preferences/{token}", without(page, "ORPHANED_LOCAL"))
    assert (await console.kept(token))["muted_kinds"] == ["OF_TOMORROW", "ORPHANED_LOCAL"]
    only = {"delivery": "immediate", "daily_at": "08:00", "language": "en", "kinds": "ORPHANED_LOCAL"}
    await console.post(f"/preferences/{token}", only | {"shown": "ORPHANED_LOCAL"})
    assert (await console.kept(token))["muted_kinds"] == ["OF_TOMORROW"]


@pytest.mark.parametrize(
    ("field", "given", "message"),
    [
        ("daily_at", "8 o'clock", "Give a time of day, like 08:00."),
        ("daily_at", "24:00", "Give a time of day, like 08:00."),
        ("daily_at", "", "Give a time of day, like 08:00."),
        ("delivery", "weekly", "Choose when you want emails."),
        ("language", "fr", "Choose a language."),
    ],
)
async def test_wrong_input_is_kept_and_named_beside_its_field(
    console: Window, mia: UUID, field: str, given: str, message: str
) -> None:
    before = await console.kept(mia)
    fields = changed(await console.get(f"/preferences/{mia}"), **({"delivery": "daily"} | {field: given}))
    page = await console.post(f"/preferences/{mia}", fields, status=422)
    assert page.words.count(message) == 2  # at the top, and beside the field
    assert page.all("a", href=f"#{field}")
    assert [attributes for _, attributes in page.tags if attributes.get("id") == field]
    if field == "daily_at":
        assert dict(page.fields())["daily_at"] == given
    assert await console.kept(mia) == before


async def test_no_kind_at_all_is_said_to_be_no_choice(console: Window, mia: UUID) -> None:
    page = await console.get(f"/preferences/{mia}")
    refused = await console.post(f"/preferences/{mia}", without(page, *KINDS), status=422)
    assert "Choose at least one" in refused.words
    taken = [pair for pair in changed(page, delivery="none") if pair[0] != "kinds"]
    await console.post(f"/preferences/{mia}", taken)
    assert (await console.kept(mia))["delivery"] == "none"


@pytest.mark.parametrize("sort", ONE_CLICKS)
async def test_one_click_stops_all_mails_once_and_for_all(console: Window, mia: UUID, sort: str) -> None:
    """RFC 8058: no cookie, no sign-in, no page looked at before; a repeat is as good as the first."""
    content_type, body = ONE_CLICKS[sort]
    headers = {"content-type": content_type} if content_type else {}
    path = f"/preferences/{mia}/unsubscribe"
    answer = await console.client.post(path, content=body, headers=headers)
    assert answer.status_code == 200
    kept = await console.kept(mia)
    assert kept["delivery"] == "none"
    again = await console.client.post(path, content=body, headers=headers)
    assert (again.status_code, again.text) == (200, answer.text)
    assert await console.kept(mia) == kept
    page = Page(answer.text)
    assert "The review page and the inbox in Reconcal still have everything." in page.words
    assert page.all("a", href=f"/preferences/{mia}")


async def test_the_link_shows_a_button_and_changes_nothing(console: Window, mia: UUID) -> None:
    """Scenario 74: a scanner of mails follows every link."""
    before = await console.everybody()
    page = await console.get(f"/preferences/{mia}/unsubscribe")
    assert page.all("form", method="post", action=f"/preferences/{mia}/unsubscribe")
    assert "Stop all emails" in page.words
    assert await console.everybody() == before


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "DELETE", "PROPFIND"])
async def test_nothing_but_a_post_changes_anything(console: Window, mia: UUID, method: str) -> None:
    """On every route that there is, and beside them."""
    before = await console.everybody()
    paths = [*console.routes(), "/preferences/{token}/", "/preferences", "/", "/nowhere"]
    assert "/preferences/{token}/unsubscribe" in paths
    body = b"delivery=none&daily_at=08:00&language=de&List-Unsubscribe=One-Click"
    for path in paths:
        for query in ("", "?delivery=none&_method=POST"):
            headers = FORM | {"x-http-method-override": "POST"}
            answer = await console.client.request(method, path.format(token=mia) + query, content=body, headers=headers)
            assert answer.status_code in {200, 404, 405}
            assert answer.status_code != 405 or "allow" in answer.headers
    assert await console.everybody() == before


async def test_a_token_changes_its_own_contact_alone(console: Window, mia: UUID) -> None:
    """Neither the same company's nor another one's, be it the same address."""
    others = [
        await console.person("praxis", "tom@example.com"),
        await console.person(await console.company("klinik", "Klinik"), "mia@example.com"),
    ]
    before = [await console.kept(other) for other in others]
    fields = changed(await console.get(f"/preferences/{mia}"), delivery="daily", company_id="klinik", contact_id="x")
    await console.post(f"/preferences/{mia}", fields)
    await console.post(f"/preferences/{mia}/unsubscribe", {"email": "tom@example.com"})
    assert (await console.kept(mia))["delivery"] == "none"
    assert [await console.kept(other) for other in others] == before


async def test_when_nobody_of_a_company_gets_mail_any_more_the_page_says_so(console: Window, mia: UUID) -> None:
    """Viewers are never mailed, and an address that was refused gets none: they are no comfort."""
    warning, alone = "Nobody at your company gets emails about problems now.", "You are the only one"
    await console.person("praxis", "viewer@example.com", role="viewer")
    await console.person("praxis", "gone@example.com", suppressed_at=datetime(2026, 1, 1, tzinfo=UTC))
    tom = await console.person("praxis", "tom@example.com", role="manager")
    path = f"/preferences/{mia}/unsubscribe"
    assert warning not in (await console.post(path, {})).words
    assert alone in (await console.get(f"/preferences/{tom}/unsubscribe")).words
    assert warning in (await console.post(f"/preferences/{tom}/unsubscribe", {})).words
    assert warning in (await console.get(f"/preferences/{mia}")).words
    await console.post(f"/preferences/{mia}", changed(await console.get(f"/preferences/{mia}"), delivery="daily"))
    assert warning not in (await console.get(f"/preferences/{tom}")).words


async def test_who_gets_no_mail_for_another_reason_is_told_it(console: Window, mia: UUID) -> None:
    viewer = await console.person("praxis", "viewer@example.com", role="viewer")
    gone = await console.person("praxis", "gone@example.com", suppressed_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert "Only admins and managers get emails." in (await console.get(f"/preferences/{viewer}")).words
    assert "has refused emails to this address" in (await console.get(f"/preferences/{gone}")).words
    assert "refused" not in (await console.get(f"/preferences/{mia}")).words


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "' onmouseover='alert(1)",
        "{{ 7 * 7 }} %(zone)s {% raw %}",
        "\u202egnitset\u202c <b>\r\nSet-Cookie: a=b",
        "é" * 10_000,
    ],
)
async def test_names_from_outside_do_no_harm(console: Window, name: str) -> None:
    """The page has the tags of the template and no others, whatever people and companies are called."""
    usual = await console.person(await console.company("usual"), "mia@example.com", name="Mia")
    odd = await console.person(await console.company("odd", name), "mia@example.com", name=name)
    for path in ("/preferences/{}", "/preferences/{}/unsubscribe"):
        ours, theirs = await console.get(path.format(usual)), await console.get(path.format(odd))
        assert [tag for tag, _ in theirs.tags] == [tag for tag, _ in ours.tags]
        assert not [one for _, attributes in theirs.tags for one in attributes if one.startswith("on")]
        assert "\u202e" not in theirs.words
        assert "49 " not in theirs.words


async def test_what_was_typed_comes_back_harmless(console: Window, mia: UUID) -> None:
    fields = changed(await console.get(f"/preferences/{mia}"), daily_at='"><script>x()', delivery="<script>")
    page = await console.post(f"/preferences/{mia}", fields, status=422)
    assert not page.all("script")
    assert dict(page.fields())["daily_at"] == '"><script>x()'


async def test_every_answer_has_the_headers(console: Window, mia: UUID) -> None:
    asked = [
        ("GET", f"/preferences/{mia}", b"", {}, 200),
        ("HEAD", f"/preferences/{mia}", b"", {}, 200),
        ("POST", f"/preferences/{mia}/unsubscribe", b"", {}, 200),
        ("POST", f"/preferences/{mia}", b"", FORM, 422),
        ("POST", f"/preferences/{mia}", b"a=%ff", FORM, 400),
        ("POST", f"/preferences/{mia}", b"&".join([b"a=1"] * 200), FORM, 400),
        ("POST", f"/preferences/{mia}", b"{}", {"content-type": "application/json"}, 415),
        ("POST", f"/preferences/{mia}", b"a=" + b"x" * 20_000, FORM, 413),
        ("POST", f"/preferences/{mia}/unsubscribe", b"x" * 20_000, {}, 413),
        ("DELETE", f"/preferences/{mia}", b"", {}, 405),
        ("GET", f"/preferences/{uuid4()}", b"", {}, 404),
        ("GET", f"/preferences/{mia}/", b"", {}, 404),
        ("GET", "/", b"", {}, 404),
        ("GET", "/review?status=failed", b"", {}, 404),
        ("GET", "/static/console.css", b"", {}, 200),
        ("GET", "/static/../main.py", b"", {}, 404),
        ("GET", "/livez", b"", {}, 200),
        ("GET", "/readyz", b"", {}, 200),
        ("GET", "/metrics", b"", {}, 200),
    ]
    for method, path, body, headers, status in asked:
        answer = await console.client.request(method, path, content=body, headers=headers)
        assert answer.status_code == status, (method, path, answer.text)
        for name, value in HEADERS.items():
            assert answer.headers.get_list(name) == [value], (method, path, name)
        assert "set-cookie" not in answer.headers
        assert "location" not in answer.headers
        assert "server" not in answer.headers


async def test_a_page_needs_nothing_that_its_policy_forbids(console: Window, mia: UUID) -> None:
    """No script, no style of its own, nothing from elsewhere."""
    for path in (f"/preferences/{mia}", f"/preferences/{mia}/unsubscribe", "/nowhere"):
        page = Page((await console.client.get(path)).text)
        assert not [tag for tag, _ in page.tags if tag in {"script", "style", "img", "iframe"}]
        assert not [name for _, attributes in page.tags for name in attributes if name == "style"]
        links = [
            one for _, attributes in page.tags for name in ("href", "src", "action") if (one := attributes.get(name))
        ]
        assert links
        assert not [link for link in links if urlsplit(link).netloc]
        style = page.all("link", rel="stylesheet")[0]["href"]
        assert style is not None
        assert "@import" not in (sheet := (await console.client.get(style)).text)
        assert "url(" not in sheet


async def test_every_field_has_its_label_and_every_reference_its_target(console: Window, mia: UUID) -> None:
    form = await console.get(f"/preferences/{mia}")
    wrong = await console.post(f"/preferences/{mia}", changed(form, delivery="", daily_at="x", language=""), status=422)
    for page in (form, wrong):
        ids = [one for _, attributes in page.tags if (one := attributes.get("id"))]
        assert len(ids) == len(set(ids))
        labelled = {label["for"] for label in page.all("label")}
        assert {field.get("id") for field in page.all("input") if field.get("type") != "hidden"} == labelled
        described = " ".join(one for _, attributes in page.tags if (one := attributes.get("aria-describedby")))
        assert set(described.split()) <= set(ids)
        assert {link["href"] for link in page.all("a")} <= {f"#{one}" for one in ids}


async def test_a_console_below_a_path_links_below_it(dsn: str) -> None:
    async with window(console_settings(dsn, console_url="https://example.com/reconcal/")) as console:
        token = await console.person(await console.company(), "mia@example.com")
        page = await console.get(f"/preferences/{token}")
        assert page.all("form", action=f"/reconcal/preferences/{token}")
        assert page.all("link", href="/reconcal/static/console.css")


async def test_an_unknown_token_and_one_that_is_none_are_answered_alike(console: Window, mia: UUID) -> None:
    gone = await console.person(await console.company("gone"), "mia@example.com")
    await console.db.execute("UPDATE companies SET removed_at = now() WHERE company_id = 'gone'")
    nowhere = await console.client.get("/nowhere")
    for token in (uuid4(), gone, "x", mia.hex, f"{{{mia}}}", f"urn:uuid:{mia}", "%00", "..%2f", "a" * 5000, "é"):
        for path in (f"/preferences/{token}", f"/preferences/{token}/unsubscribe"):
            for method in ("GET", "POST"):
                answer = await console.client.request(method, path, content=b"{}")
                assert (answer.status_code, answer.text) == (404, nowhere.text), (method, path)
    assert "This page does not exist" in nowhere.text
    german = await console.get("/nowhere", 404, **{"accept-language": "de-AT,de;q=0.9,en;q=0.8"})
    assert "Diese Seite gibt es nicht" in german.words
    assert (await console.client.get(f"/preferences/{str(mia).upper()}")).status_code == 200


async def test_the_log_names_routes_and_never_a_token(console: Window, mia: UUID) -> None:
    """An error of ours says where it came from, and no token either."""
    paths = (f"/preferences/{mia}", f"/preferences/{mia}/unsubscribe", f"/preferences/{mia}/x", f"/PREFERENCES/{mia}")
    with capture_logs() as lines:
        for path in paths:
            for method in ("GET", "POST", "DELETE", str(mia)):
                await console.client.request(method, path, content=b"delivery=daily", headers=FORM)
        await console.db.execute("ALTER TABLE contacts DROP CONSTRAINT contacts_delivery_check")
        await console.db.execute("UPDATE contacts SET delivery = preferences_token::text")
        broken = await console.client.get(paths[0])
    assert broken.status_code == 500
    assert str(mia) not in broken.text
    assert broken.headers.items() >= HEADERS.items()
    assert "The fault is ours" in broken.text
    assert str(mia) not in str(lines).lower()
    assert {line["route"] for line in lines} == {
        "/preferences/{token}",
        "/preferences/{token}/unsubscribe",
        None,
    }
    assert lines[0]["company"] == "praxis"
    assert lines[-1]["status"] == 500
    assert "ValueError" in lines[-1]["exception"]


async def test_a_body_that_does_not_come_is_not_waited_for(
    console: Window, mia: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preferences, "READ_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection(console.client.base_url.host, console.client.base_url.port)
    writer.write(f"POST /preferences/{mia}/unsubscribe HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nList".encode())
    answer = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert (await console.kept(mia))["delivery"] == "immediate"


async def test_pages_say_that_the_database_is_away_and_come_back_by_themselves(dsn: str) -> None:
    parts = urlsplit(dsn)
    assert parts.hostname
    assert parts.port
    async with TcpProxy(parts.hostname, parts.port) as wire:
        there = parts._replace(netloc=parts.netloc.replace(str(parts.port), str(wire.port))).geturl()
        async with window(console_settings(there), database=dsn) as console:
            mia = await console.person(await console.company(), "mia@example.com")
            await wire.cut()
            for method, path in (("GET", ""), ("POST", "/unsubscribe")):
                answer = await console.client.request(method, f"/preferences/{mia}{path}")
                assert answer.status_code == 503
                assert answer.headers["retry-after"] == "5"
                assert "Nothing is lost." in answer.text
            assert await until(lambda: trouble(console), 10)
            assert (await console.client.get("/nowhere")).status_code == 404
            assert (await console.kept(mia))["delivery"] == "immediate"
            await wire.heal()
            await console.ready()
            await console.get(f"/preferences/{mia}")


async def trouble(console: Window) -> str | None:
    answer = await console.client.get("/readyz")
    troubles: dict[str, str] = answer.json()["troubles"]
    assert (answer.status_code == httpx.codes.OK) is (not troubles)
    return troubles.get("postgres")


async def test_a_database_that_says_nothing_holds_up_neither_page_nor_end(dsn: str) -> None:
    """`window` bounds the end by 10 s."""
    parts = urlsplit(dsn)
    assert parts.hostname
    assert parts.port
    async with TcpProxy(parts.hostname, parts.port) as wire:
        there = parts._replace(netloc=parts.netloc.replace(str(parts.port), str(wire.port))).geturl()
        async with window(console_settings(there), database=dsn) as console:
            mia = await console.person(await console.company(), "mia@example.com")
            wire.stall()
            answer = await asyncio.wait_for(console.client.get(f"/preferences/{mia}"), 12)
            assert answer.status_code == 503
            late = asyncio.ensure_future(console.client.get(f"/preferences/{mia}"))
            await until(lambda: trouble(console), 10)
        assert isinstance((await asyncio.gather(late, return_exceptions=True))[0], (httpx.Response, httpx.HTTPError))


async def test_a_console_begins_while_the_database_is_away(dsn: str) -> None:
    parts = urlsplit(dsn)
    nobody = parts._replace(netloc=parts.netloc.replace(str(parts.port), "1")).geturl()
    async with window(console_settings(nobody), database=dsn, ready=False) as console:
        assert await trouble(console)
        assert (await console.client.get(f"/preferences/{uuid4()}")).status_code == 503
        assert (await console.client.get("/livez")).status_code == 200


async def test_as_a_process_it_needs_no_kafka_and_ends_when_told(dsn: str, tmp_path: Path) -> None:
    service = Service.start("console", console_settings(dsn), tmp_path / "console.log")
    try:
        await service.ready()
        service.tell_to_stop()
        await service.ended(10)
        assert service.exit_code == 0
        assert [line["event"] for line in service.lines()] == ["service.started", "service.stopped"]
    finally:
        service.kill()
