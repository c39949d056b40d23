"""Jinja2 templates that speak a language: those of mails and those of pages."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from services.words import tongue
from services.words.plain import plain, unlinked


@cache
def environment(package: str, language: str) -> Environment:
    """Give the templates in the folder `templates` of a package; `.html` is escaped, a missing name an error."""
    made = Environment(
        loader=PackageLoader(package),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n"],
    )
    made.filters |= {"plain": plain, "unlinked": unlinked}
    # The extension adds this at run time.
    made.install_gettext_translations(tongue.of(language).translations, newstyle=True)  # type: ignore[attr-defined]
    return made
