"""The mail sink's window: the mails as JSON and as a plain page, over HTTP."""

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from services.embedded.mailsink import Mail, MailSink

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}"
    "article{border-top:1px solid #ccc;padding:1rem 0}pre{white-space:pre-wrap;overflow-wrap:anywhere}dt{color:#555}"
)
_HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def mailbox_app(sink: MailSink) -> Starlette:
    """Give the ASGI app: `GET /messages` (JSON, oldest first) and `GET /` (a page, newest first, no scripts)."""

    async def messages(_: Request) -> JSONResponse:
        return JSONResponse([as_json(mail) for mail in sink.mails], headers=_HEADERS)

    async def page(_: Request) -> HTMLResponse:
        return HTMLResponse(_page(list(reversed(sink.mails))), headers=_HEADERS)

    return Starlette(routes=[Route("/", page), Route("/messages", messages)])


def as_json(mail: Mail) -> dict[str, Any]:
    """Give a mail as `GET /messages` shows it."""
    return {
        "from": mail.sender,
        "to": mail.to,
        "subject": mail.subject,
        "message_id": mail.message_id,
        "in_reply_to": mail.in_reply_to,
        "text": mail.text,
        "html": mail.html,
        "raw": mail.raw,
        "received_at": mail.received_at.isoformat(),
    }


def _page(mails: list[Mail]) -> str:
    count = f"{len(mails)} mail{'' if len(mails) == 1 else 's'}"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Mailbox: {count}</title>'
    body = "".join(_article(mail) for mail in mails) or "<p>Nothing has come yet. Reload to look again.</p>"
    return (
        f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head>'
        f"<body><h1>Mailbox: {count}</h1><p>Newest first; nothing here was delivered.</p>{body}</body></html>"
    )


def _article(mail: Mail) -> str:
    facts = {
        "From": mail.sender,
        "To": ", ".join(mail.to),
        "Received": f"{mail.received_at:%Y-%m-%d %H:%M:%S} UTC",
    }
    listed = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f"<article><h2>{escape(mail.subject)}</h2><dl>{listed}</dl><pre>{escape(mail.text)}</pre></article>"
