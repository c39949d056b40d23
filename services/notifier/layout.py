"""A letter as its sections, in words: what the templates lay out. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct, structs

from schemas.flags import RECORD_KINDS, THRESHOLDS, Flag, Kind
from services.notifier.grouping import CAUSES
from services.notifier.letter import Company, Letter, Occasion
from services.words import kinds, story
from services.words.moments import in_zone, zone
from services.words.plain import plain
from services.words.story import Difference, Line, Story, Voice
from services.words.tongue import Tongue, mark, mark_n, of

_NAME_MAX: Final = 80
_SUBJECT_MAX: Final = 200
#: The company's own trouble in the order of its weight: the first one gives the subject.
_GRAVITY: Final = (Kind.WEBHOOK_SILENT, Kind.CALCOM_INCIDENT, Kind.ENDPOINT_OFF, *THRESHOLDS)
#: What a mail is called whose first news is about the company.
_CALLED: Final = {
    Kind.WEBHOOK_SILENT: mark("Cal.com Webhook Silent: %(company)s"),
    Kind.CALCOM_INCIDENT: mark("Cal.com Cannot Be Asked: %(company)s"),
    Kind.ENDPOINT_OFF: mark("Outgoing Webhook Switched Off: %(company)s"),
    Kind.ORPHANS_A_DAY: mark("Many Appointments Without a Counterpart: %(company)s"),
    Kind.FAILED_CHECKS_AN_HOUR: mark("Many Checks Fail: %(company)s"),
    Kind.WAITING_FOR_REVIEW: mark("Many Cases Wait for Review: %(company)s"),
    Kind.SYNC_SUCCESS: mark("Too Few Appointments in Sync: %(company)s"),
}


_NEED_A_LOOK: Final = mark_n("%(number)s appointment needs a look", "%(number)s appointments need a look")
_STILL_NEED_A_LOOK: Final = mark_n(
    "%(number)s appointment still needs a look", "%(number)s appointments still need a look"
)
_ARE_RESOLVED: Final = mark_n("%(number)s appointment is resolved", "%(number)s appointments are resolved")
_APPOINTMENTS: Final = mark_n("%(number)s appointment", "%(number)s appointments")
_MORE: Final = mark_n("and %(number)s more", "and %(number)s more")
_HELD_HERE: Final = mark_n(
    "At the moment this affects %(number)s case.", "At the moment this affects %(number)s cases."
)
_HELD: Final = mark_n(
    "%(number)s more case is not listed here because you were told of its cause; it is on the review page.",
    "%(number)s more cases are not listed here because you were told of their cause; all are on the review page.",
)


class Section(Struct, frozen=True, kw_only=True):
    """One block of a mail: about one flag, or a list of many.

    `tone`: "alarm", "news", "over" or "open". `steps`: what to do, where there are several each with what it is about.
    `zone`: of the times in `rows`; empty: an earlier section names it. `url`: of the button; None: likewise.
    """

    tone: str
    label: str
    title: str
    paragraphs: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    differences: tuple[Difference, ...] = ()
    rows: tuple[Line, ...] = ()
    more: str | None = None
    zone: str = ""
    steps: tuple[tuple[str, str], ...] = ()
    commands: tuple[str, ...] = ()
    url: str | None = None


class Page(Struct, frozen=True, kw_only=True):
    """A whole letter: `intro` stands before the sections."""

    language: str
    subject: str
    company: str
    intro: tuple[str, ...]
    sections: tuple[Section, ...]


class _Sorted(Struct, frozen=True, kw_only=True):
    """A letter's flags: the company's own trouble apart from records, wherever it stood."""

    notices: tuple[Flag, ...]
    over: tuple[Flag, ...]
    news: tuple[Flag, ...]
    news_total: int
    ended: tuple[Flag, ...]
    ended_total: int
    open: tuple[Flag, ...]
    open_total: int


def page(letter: Letter, company: Company, tongue: Tongue, *, console_url: str) -> Page:
    """Lay a letter out."""
    voice = Voice(tongue=tongue, time_zone=company.time_zone, console_url=console_url)
    told = _sorted(letter)
    sections = (*_notices(letter, told, voice), *_news(letter, told, voice), *_over(told, voice), *_ended(told, voice),
                *_open(letter, told, voice))  # fmt: skip
    return Page(
        language=tongue.language,
        subject=subject(letter, company, tongue),
        company=_named(company),
        intro=tuple(_intro(letter, told, voice)),
        sections=tuple(_once(sections)),
    )


def subject(letter: Letter, company: Company, tongue: Tongue) -> str:
    """Give a letter's subject, one harmless line."""
    say, told = tongue.gettext, _sorted(letter)
    if letter.occasion is Occasion.DAILY:
        worst = _of_news(told, company, tongue) if told.notices else ""
        return say("Daily digest: %(counts)s", counts=worst or _counts(told, tongue) or _named(company))
    if letter.occasion is Occasion.REMINDER:
        return say("Reminder: %(subject)s", subject=_still_open(told, company, tongue))
    if letter.occasion is Occasion.SAMPLE:
        return say("Test: %(subject)s", subject=_of_news(told, company, tongue))
    first = plain(letter.thread_subject or "", _SUBJECT_MAX)
    if first and not told.notices and not told.news_total:
        return first if first.startswith("Re: ") else f"Re: {first}"
    return _of_news(told, company, tongue)


def _sorted(letter: Letter) -> _Sorted:
    notices = [*letter.notices, *_of_company(letter.news), *_of_company(letter.open)]
    known = {flag.id: flag for flag in notices}
    over = (*letter.notices_over, *_of_company(letter.ended))
    return _Sorted(
        notices=tuple(sorted(known.values(), key=lambda flag: _GRAVITY.index(flag.kind))),
        over=tuple(sorted(over, key=lambda flag: _GRAVITY.index(flag.kind))),
        news=_of_records(letter.news),
        news_total=sum(number for kind, number in letter.news_counts.items() if kind in RECORD_KINDS),
        ended=_of_records(letter.ended),
        ended_total=max(letter.ended_total - len(_of_company(letter.ended)), 0),
        open=_of_records(letter.open),
        open_total=max(letter.open_total - len(_of_company(letter.open)), 0),
    )


def _of_records(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    return tuple(flag for flag in flags if kinds.about_records(flag.kind))


def _of_company(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    return tuple(flag for flag in flags if flag.kind in _GRAVITY)


def _named(company: Company) -> str:
    return plain(company.name, _NAME_MAX) or company.company_id


def _specified(flag: Flag) -> str:
    """Give the subject that was specified for one issue: the same in every language, for people sort mail by it."""
    return f"Cal.com Sync Issue: {story.about(flag, of('en'))}"


def _of_news(told: _Sorted, company: Company, tongue: Tongue) -> str:
    if told.notices:
        return tongue.gettext(_CALLED[told.notices[0].kind], company=_named(company))
    if told.news_total > 1 or (told.news_total and not told.news):
        return tongue.gettext("Cal.com Sync Issues: %(said)s", said=tongue.ngettext(*_NEED_A_LOOK, told.news_total))
    if told.news:
        return _specified(told.news[0])
    if told.over:
        return f"Re: {tongue.gettext(_CALLED[told.over[0].kind], company=_named(company))}"
    if told.ended_total == 1 and told.ended:
        said = _specified(told.ended[0])
        return f"Re: {said}"
    return tongue.gettext("Cal.com Sync Issues: %(said)s", said=tongue.ngettext(*_ARE_RESOLVED, told.ended_total))


def _still_open(told: _Sorted, company: Company, tongue: Tongue) -> str:
    if told.notices:
        return tongue.gettext(_CALLED[told.notices[0].kind], company=_named(company))
    if told.open_total == 1 and told.open:
        return _specified(told.open[0])
    return tongue.ngettext(*_STILL_NEED_A_LOOK, told.open_total)


def _counts(told: _Sorted, tongue: Tongue) -> str:
    """Say how many are new, resolved and still open, of what there is any."""
    counts = (
        (mark("%(number)s new"), told.news_total),
        (mark("%(number)s resolved"), told.ended_total),
        (mark("%(number)s still open"), told.open_total),
    )
    return ", ".join(tongue.gettext(said, number=tongue.number(number)) for said, number in counts if number)


def _intro(letter: Letter, told: _Sorted, voice: Voice) -> Iterable[str]:
    say = voice.tongue.gettext
    if letter.occasion is Occasion.SAMPLE:
        yield say(
            "This is a test: somebody is checking whether messages from Reconcal reach you. The case below is made up, "
            "and there is nothing to do."
        )
    if letter.occasion is Occasion.REMINDER:
        yield say("A reminder: you were told of this before, and it is still open. Nothing new has come up.")
    if letter.occasion is Occasion.DAILY:
        counts = _counts(told, voice.tongue)
        yield (
            say("This is your daily digest: %(counts)s.", counts=counts)
            if counts
            else say("This is your daily digest.")
        )
    if letter.failing_since:
        since = in_zone(letter.failing_since, voice.time_zone, voice.tongue)
        yield say(
            "Nothing could be delivered to you since %(since)s. This message has everything that is open now.",
            since=since,
        )
    if letter.held_total and not any(flag.kind in CAUSES for flag in told.notices):
        yield voice.tongue.ngettext(*_HELD, letter.held_total)


def _notices(letter: Letter, told: _Sorted, voice: Voice) -> Iterable[Section]:
    holding = [flag.id for flag in told.notices if flag.kind in CAUSES][-1:]
    for flag in told.notices:
        held = letter.held_total if flag.id in holding else 0
        sentences = (voice.tongue.ngettext(*_HELD_HERE, held),) if held else ()
        yield _single(story.tell(flag, voice), "alarm", voice.tongue.gettext("Please look"), *sentences)


def _over(told: _Sorted, voice: Voice) -> Iterable[Section]:
    for flag in told.over:
        yield _single(story.tell(flag, voice), "over", voice.tongue.gettext("Resolved"))


def _news(letter: Letter, told: _Sorted, voice: Voice) -> Iterable[Section]:
    say, tongue = voice.tongue.gettext, voice.tongue
    if told.news_total == 1 and told.news:
        one = story.tell(told.news[0], voice, at=letter.written_at)
        yield _single(one, "news", one.name)
    elif told.news_total:
        counts = {kind: letter.news_counts[kind] for kind in RECORD_KINDS if letter.news_counts.get(kind)}
        yield Section(
            tone="news",
            label=say("Cal.com sync issues"),
            title=tongue.ngettext(*_NEED_A_LOOK, told.news_total),
            rows=_rows(told.news, letter, voice),
            more=_more(told.news, told.news_total, tongue),
            zone=str(zone(voice.time_zone)),
            steps=tuple(
                (kinds.counted(kind, number, tongue), kinds.next_step(kind, tongue)) for kind, number in counts.items()
            ),
            url=story.queue_url(voice.console_url, counts),
        )


def _ended(told: _Sorted, voice: Voice) -> Iterable[Section]:
    say = voice.tongue.gettext
    if told.ended_total == 1 and told.ended:
        yield _single(story.tell(told.ended[0], voice), "over", say("Resolved"))
    elif told.ended_total:
        yield Section(
            tone="over",
            label=say("Resolved"),
            title=voice.tongue.ngettext(*_APPOINTMENTS, told.ended_total),
            rows=tuple(story.line(flag, voice) for flag in told.ended),
            more=_more(told.ended, told.ended_total, voice.tongue),
            zone=str(zone(voice.time_zone)),
        )


def _open(letter: Letter, told: _Sorted, voice: Voice) -> Iterable[Section]:
    say, tongue = voice.tongue.gettext, voice.tongue
    if letter.occasion is Occasion.NEWS or not told.open_total:
        return
    if told.open_total == 1 and told.open:
        yield _single(story.tell(told.open[0], voice, at=letter.written_at), "open", say("Still open"))
        return
    present = [kind for kind in RECORD_KINDS if any(flag.kind is kind for flag in told.open)]
    known = {flag.kind for flag in told.news} if told.news_total > 1 else set()
    yield Section(
        tone="open",
        label=say("Still open"),
        title=tongue.ngettext(*_APPOINTMENTS, told.open_total),
        rows=_rows(told.open, letter, voice),
        more=_more(told.open, told.open_total, tongue),
        zone=str(zone(voice.time_zone)),
        steps=_steps([kind for kind in present if kind not in known], tongue),
        url=story.queue_url(voice.console_url, present if len(told.open) == told.open_total else ()),
    )


def _single(told: Story, tone: str, label: str, *more: str) -> Section:
    said = (told.happened, told.next_step) if told.resolved else (told.happened, *more, told.grounds)
    return Section(
        tone=tone,
        label=label,
        title=told.about or told.name,
        paragraphs=tuple(sentence for sentence in said if sentence),
        facts=told.facts,
        differences=told.differences,
        steps=() if told.resolved else (("", told.next_step),),
        commands=told.commands,
        url=told.url,
    )


def _rows(flags: Sequence[Flag], letter: Letter, voice: Voice) -> tuple[Line, ...]:
    return tuple(story.line(flag, voice, at=letter.written_at) for flag in flags)


def _more(shown: Sequence[Flag], total: int, tongue: Tongue) -> str | None:
    return tongue.ngettext(*_MORE, total - len(shown)) if total > len(shown) else None


def _steps(of: Iterable[Kind], tongue: Tongue) -> tuple[tuple[str, str], ...]:
    return tuple((kinds.name(kind, tongue), kinds.next_step(kind, tongue)) for kind in of)


def _once(sections: Iterable[Section]) -> Iterable[Section]:
    """Leave out a button that leads where an earlier one leads, and a zone that was named."""
    urls: set[str | None] = {None}
    zones: set[str] = set()
    for section in sections:
        url, zone_ = section.url, section.zone
        yield structs.replace(section, url=None if url in urls else url, zone="" if zone_ in zones else zone_)
        urls.add(url)
        zones.add(zone_)
