"""Pages as HTML: templates, words in the reader's language, and the plain page for whatever is none of ours."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from services.words import tongue
from services.words.templates import environment
from services.words.tongue import mark

#: Heading and sentence of the answers that are no page.
_ERRORS: Final = {
    404: (
        mark("This page does not exist"),
        mark("Perhaps the address was not copied whole, or it has become invalid. Open the link in your latest email."),
    ),
    503: (
        mark("This page cannot be shown at the moment"),
        mark("Nothing is lost. Please try again in a minute."),
    ),
    500: (
        mark("Something went wrong here"),
        mark("The fault is ours, and it was written down. Please try again later."),
    ),
}
_OTHER: Final = (
    mark("This did not work"),
    mark("What your browser has sent cannot be read here. Please go back and try again."),
)
_GERMAN: Final = re.compile(r"de(-|$)", re.IGNORECASE)
_LATER: Final = {503: {"retry-after": "5"}}


class Pages:
    """Makes pages. `root`: what stands before every path in addresses, where a proxy serves us below one."""

    def __init__(self, console_url: str) -> None:
        """`console_url`: where people open the console."""
        self._root = urlsplit(console_url).path.rstrip("/")

    def page(self, template: str, language: str, status: int = 200, /, **words: object) -> Response:
        """Give a page in a language."""
        return HTMLResponse(self._render(template, language, words), status_code=status)

    def error(self, request: Request, status: int, headers: Mapping[str, str] | None = None) -> Response:
        """Give the plain page for a status, in the language of the browser; it says nothing of the request."""
        heading, sentence = _ERRORS.get(status, _OTHER)
        language = preferred(request.headers.get("accept-language", ""))
        words = {"heading": heading, "sentence": sentence}
        html = self._render("error.html", language, words)
        return HTMLResponse(html, status_code=status, headers={**_LATER.get(status, {}), **(headers or {})})

    def _render(self, template: str, language: str, words: Mapping[str, object]) -> str:
        spoken = tongue.of(language).language
        return (
            environment("services.console", spoken)
            .get_template(template)
            .render(root=self._root, language=spoken, **words)
        )


def preferred(accept_language: str) -> str:
    """Choose by a browser's `Accept-Language`: what it names first of what we speak, else English."""
    ranges = []
    for number, one in enumerate(accept_language[:500].split(",")):
        name, _, weight = one.partition(";")
        ranges.append((-_weight(weight), number, name.strip()))
    for unwanted, _, name in sorted(ranges):
        if unwanted and (_GERMAN.match(name) or name.lower().startswith("en")):
            return "de" if _GERMAN.match(name) else "en"
    return "en"


def _weight(given: str) -> float:
    found = re.fullmatch(r"\s*q\s*=\s*(\d(?:\.\d{0,3})?)\s*", given, re.ASCII)
    return min(1.0, float(found[1])) if found else 0.0 if given.strip() else 1.0
