"""What an endpoint's answer means: pure."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from msgspec import Struct

#: An endpoint may have us wait so long at most.
RETRY_MOST_SECONDS: Final = 3_600.0

_PAGE: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html)\b", re.IGNORECASE)
#: Slack says why in a word, such as `no_service`. Anything else in an answer may quote what is secret.
_WORD: Final = re.compile(rb"[a-z]+(?:_[a-z]+)*")
_LONGEST_WORD: Final = 60
_PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_NOTHING: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})


class Reply(Struct, frozen=True, kw_only=True):
    """An answer. `beginning`: of the body, as far as it was read."""

    status: int
    retry_after: str = ""
    beginning: bytes = b""


class NotTaken(Exception):  # noqa: N818 - says what the message is
    """An endpoint did not take what it was told.

    `reason`: why, in words without secrets. `advice`: what somebody has to do; None: it may pass by itself.
    `retry_seconds`: how long it asked us to wait. `gone`: it says that nothing will ever be taken there. `ours`: it is
    no fault of the endpoint's. `in_doubt`: it may have the message all the same.
    """

    def __init__(
        self,
        reason: str,
        *,
        advice: str | None = None,
        retry_seconds: float | None = None,
        gone: bool = False,
        ours: bool = False,
        in_doubt: bool = False,
    ) -> None:
        """Keep the decision with the error."""
        super().__init__(reason)
        self.reason, self.advice, self.retry_seconds = reason, advice, retry_seconds
        self.gone, self.ours, self.in_doubt = gone, ours, in_doubt


def taken(reply: Reply, now: datetime) -> str:
    """Give what was answered by an endpoint that has taken a message. Raises NotTaken for every other answer.

    A web page with status 200 is what a wrong address answers. Slack's own `ok` is called text/html and is none.
    """
    status, word = reply.status, _word(reply.beginning)
    said = f"status {status}, {word}" if word else f"status {status}"
    retry_seconds = _seconds(reply.retry_after, now)
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's own numbers, here and below
        if _PAGE.match(reply.beginning):
            raise NotTaken(f"it answers with a web page ({said})", advice=_ADDRESS)
        return f"{status} {word}".rstrip()
    if status == HTTPStatus.GONE:
        raise NotTaken(f"it says that it is gone for good ({said})", advice=_ADDRESS, gone=True)
    if 300 <= status < 400:  # noqa: PLR2004
        advice = "Redirects are not followed: give the address that it leads to."
        raise NotTaken(f"it sends us to another address ({said})", advice=advice)
    if status in _NOTHING:
        raise NotTaken(f"it knows no webhook there ({said})", advice=_ADDRESS, retry_seconds=retry_seconds)
    if status in _REFUSED:
        advice = "Have its owner let Reconcal in, or give another address."
        raise NotTaken(f"it refuses us ({said})", advice=advice, retry_seconds=retry_seconds)
    passing = status in _PASSING or status >= 500  # noqa: PLR2004
    mend = None if passing else "Ask its owner why."
    raise NotTaken(f"it answers {said}", advice=mend, retry_seconds=retry_seconds)


_ADDRESS: Final = "That is no webhook's address: remove it and add the right one."


def _word(beginning: bytes) -> str:
    text = beginning.strip()
    return text.decode() if len(text) <= _LONGEST_WORD and _WORD.fullmatch(text) else ""


def _seconds(retry_after: str, now: datetime) -> float | None:
    """Read Retry-After: seconds or a date, an hour at most."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), RETRY_MOST_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((aware - now).total_seconds(), 0.0), RETRY_MOST_SECONDS)
