"""How calls are spelt, to the byte."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from services.verifier.answers import Reason, Webhook
from services.verifier.ports import (
    Account,
    Call,
    CreateWebhook,
    GetBooking,
    ListQuery,
    ListWebhooks,
    PatchWebhook,
)
from services.verifier.wire import calls
from services.verifier.wire.calls import Unaskable

AT = datetime(2026, 3, 1, 10, 30, 15, 123999, tzinfo=timezone(timedelta(hours=2)))
HOOK = Webhook(id="a b/c", subscriber_url="https://x.example", active=False, triggers=())

#: Call and what comes after the base URL.
TARGETS: list[tuple[Call, str]] = [
    (GetBooking("bFJeNb2uX8ANpT3JL5EfXw"), "GET /bookings/bFJeNb2uX8ANpT3JL5EfXw"),
    (GetBooking("a/../b?c#d e%2F+\u00e4"), "GET /bookings/a%2F..%2Fb%3Fc%23d%20e%252F%2B%C3%A4"),
    (ListQuery(), "GET /bookings?take=100"),
    (ListQuery(take=250, skip=500), "GET /bookings?take=250&skip=500"),
    (ListQuery(take=50, cursor="a+b/="), "GET /bookings?take=50&cursor=a%2Bb%2F%3D"),
    (
        ListQuery(attendee_email="mia+x&y=@example.com", after_start=AT, before_end=AT + timedelta(hours=1)),
        (
            "GET /bookings?attendeeEmail=mia%2Bx%26y%3D%40example.com"
            "&afterStart=2026-03-01T08%3A30%3A15.123Z&beforeEnd=2026-03-01T09%3A30%3A15.123Z&take=100"
        ),
    ),
    (
        ListQuery(after_updated_at=datetime(2026, 3, 1, tzinfo=UTC), sort_start="desc", sort_updated_at="asc"),
        "GET /bookings?afterUpdatedAt=2026-03-01T00%3A00%3A00.000Z&sortStart=desc&sortUpdatedAt=asc&take=100",
    ),
    (ListWebhooks(), "GET /webhooks?take=250"),
    (CreateWebhook(subscriber_url="https://x.example", triggers=("A",), secret="s"), "POST /webhooks"),
    (PatchWebhook(webhook=HOOK), "PATCH /webhooks/a%20b%2Fc"),
]


@pytest.mark.parametrize(("call", "target"), TARGETS, ids=[target for _, target in TARGETS])
def test_a_call_has_one_spelling(call: Call, target: str) -> None:
    asked = calls.spell(call)
    assert f"{asked.method} {asked.target}" == target


def test_a_new_webhook_is_active_and_has_our_secret() -> None:
    asked = calls.spell(CreateWebhook(subscriber_url="https://x.example", triggers=("A", "B"), secret="s3cret"))
    assert msgspec.json.decode(asked.body or b"") == {
        "subscriberUrl": "https://x.example",
        "triggers": ["A", "B"],
        "active": True,
        "secret": "s3cret",
    }
    assert "s3cret" not in repr(asked)


def test_a_change_names_nothing_but_what_changes() -> None:
    def change(call: PatchWebhook) -> object:
        return msgspec.json.decode(calls.spell(call).body or b"")

    assert change(PatchWebhook(webhook=HOOK)) == {}
    assert change(PatchWebhook(webhook=HOOK, active=False, triggers=())) == {"active": False, "triggers": []}
    assert change(PatchWebhook(webhook=HOOK, secret="s", drop_template=True)) == {
        "secret": "s",
        "payloadTemplate": None,
    }


@pytest.mark.parametrize("uid", ["", ".", "..", "\ud83d"])
def test_a_name_that_would_mean_another_address_is_not_asked_for(uid: str) -> None:
    """An empty uid would ask for the list, and any of its rows would pass for the booking."""
    with pytest.raises(Unaskable) as caught:
        calls.spell(GetBooking(uid))
    assert caught.value.reason is Reason.REJECTED


@pytest.mark.parametrize(
    ("base_url", "told"),
    [
        ("https://api.cal.com/v2", ("https", "api.cal.com", None, "api.cal.com", "/v2")),
        ("https://api.cal.com/v2/", ("https", "api.cal.com", None, "api.cal.com", "/v2")),
        ("HTTP://Cal.Example:3004", ("http", "cal.example", 3004, "cal.example:3004", "")),
        ("https://[2001:db8::1]:8443/a b/v2", ("https", "2001:db8::1", 8443, "[2001:db8::1]:8443", "/a%20b/v2")),
        (
            "https://termine.m\u00fcller.example/v2",
            ("https", "termine.xn--mller-kva.example", None, "termine.xn--mller-kva.example", "/v2"),
        ),
    ],
)
def test_a_base_url_is_host_port_and_path(base_url: str, told: tuple[object, ...]) -> None:
    assert msgspec.structs.astuple(calls.place(base_url)) == told


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "/v2",
        "api.cal.com/v2",
        "file:///etc/passwd",
        "https://",
        "https://h:x",
        "https://h:99999",
        "http://[::1",
        "https://u:p4ss@h/v2",
        "https://h/v2?a=b",
        "https://h/v2#c",
        "https://a..b",
        f"https://{'a' * 64}.example",
    ],
)
def test_anything_else_is_no_base_url_and_is_not_quoted(base_url: str) -> None:
    with pytest.raises(Unaskable) as caught:
        calls.place(base_url)
    assert caught.value.reason is Reason.UNREACHABLE
    assert "p4ss" not in caught.value.detail


def test_no_account_and_no_call_shows_what_is_secret() -> None:
    account = Account(company_id="acme", base_url="https://h", api_key="k3y", budget_id="b")
    made = CreateWebhook(subscriber_url="https://x.example", triggers=(), secret="s3cret")
    changed = PatchWebhook(webhook=HOOK, secret="s3cret")
    shown = f"{account} {account!r} {made} {made!r} {changed} {changed!r}"
    assert "k3y" not in shown
    assert "s3cret" not in shown
