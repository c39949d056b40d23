"""Draw all sample mails in both languages: `python -m tests.look.mails DIR`; `--snapshots` writes those of the tests.

DIR gets each mail's HTML, and, where Chromium is, a picture of it at 360 and at 800 pixels, light and (`--dark`) dark.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Final

from services.notifier import samples
from services.notifier.mail.compose import compose, message_id
from services.words.tongue import LANGUAGES

SNAPSHOTS: Final = Path(__file__).parents[1] / "unit" / "mails"
CONSOLE: Final = "https://console.example.com"
MAIL_FROM: Final = "Reconcal <reconcal@mail.example.com>"
#: What a snapshot shows of the head.
HEADERS: Final = ("Subject", "From", "To", "Message-ID", "In-Reply-To", "References", "List-Id", "List-Unsubscribe")
#: Chromium's windows are at least 500 pixels wide: a narrow one is a frame in a wider page.
_FRAME: Final = (
    '<body style="margin:0"><iframe src="{name}" width="{width}" height="{height}" style="border:0"></iframe>'
)
_WIDTHS: Final = (360, 800)
#: Where a page's height could not be measured.
_HEIGHT: Final = 3400
#: Writes each frame's height into its `title`, for `--dump-dom` to show.
_MEASURE: Final = """<body>{frames}<script>
onload = () => {{ for (const one of document.querySelectorAll("iframe"))
  one.title = one.contentDocument.documentElement.offsetHeight; }};
</script>"""
_MEASURED: Final = re.compile(r'src="([^"]+)" width="(\d+)"[^>]* title="(\d+)"')
_PICTURE_SECONDS: Final = 60


def drawn(name: str, language: str) -> EmailMessage:
    """Give a sample's mail as a mail program gets it."""
    to = samples.recipient(language)
    mail = compose(
        samples.letter(name),
        samples.COMPANY,
        to,
        console_url=CONSOLE,
        mail_from=MAIL_FROM,
        message_id=message_id(to.recipient_id, 4, MAIL_FROM),
        sent_at=samples.AT,
    )
    read = message_from_bytes(mail.as_bytes(), policy=policy.default)
    assert isinstance(read, EmailMessage)
    return read


def part(mail: EmailMessage, kind: str) -> str:
    """Give one part's text, its lines ended by LF."""
    body = mail.get_body((kind,))
    assert body is not None
    content: str = body.get_content()
    return content.replace("\r\n", "\n")


def snapshot(name: str, language: str) -> str:
    """Give what a person reads: the head and the text."""
    mail = drawn(name, language)
    head = "".join(f"{header}: {mail[header]}\n" for header in HEADERS if mail[header])
    return f"{head}\n{part(mail, 'plain')}"


def snapshots() -> list[tuple[Path, str, str]]:
    """Give each snapshot's place, sample and language."""
    both = [(name, language) for name in samples.NAMES for language in LANGUAGES]
    return [(SNAPSHOTS / f"{name}.{language}.txt", name, language) for name, language in both]


def write_snapshots() -> None:
    """Write all snapshots anew, and remove those of samples that there are no more."""
    SNAPSHOTS.mkdir(exist_ok=True)
    for old in SNAPSHOTS.glob("*.txt"):
        old.unlink()
    for path, name, language in snapshots():
        path.write_text(snapshot(name, language), "utf-8")


def draw(folder: Path, *, dark: bool) -> None:
    """Write each sample's HTML, and pictures where there is a Chromium."""
    folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    pages = [(folder / f"{name}.{language}.html", name, language) for name in samples.NAMES for language in LANGUAGES]
    for page, name, language in pages:
        page.write_text(part(drawn(name, language), "html"), "utf-8")
    if chromium:
        heights = _heights(chromium, [page for page, _, _ in pages])
        for (page, width), height in heights.items():
            _picture(chromium, page, width, height, dark=dark)
    print(f"{folder}: {'HTML and pictures' if chromium else 'HTML; no Chromium was found for pictures'}")  # noqa: T201


def _heights(chromium: str, pages: list[Path]) -> dict[tuple[Path, int], int]:
    """Measure how high each page is at each width, in pixels: all at once in one page of frames."""
    folder, wanted = pages[0].parent, [(page, width) for page in pages for width in _WIDTHS]
    frames = "".join(f'<iframe src="{page.name}" width="{width}" height="10"></iframe>' for page, width in wanted)
    measuring = folder / ".heights.html"
    measuring.write_text(_MEASURE.format(frames=frames), "utf-8")
    shown = _run(chromium, "--allow-file-access-from-files", "--virtual-time-budget=20000", "--dump-dom", measuring)
    measuring.unlink()
    measured = {(folder / name, int(width)): int(height) for name, width, height in _MEASURED.findall(shown)}
    return {one: measured.get(one, _HEIGHT) for one in wanted}


def _picture(chromium: str, page: Path, width: int, height: int, *, dark: bool) -> None:
    frame = page.with_name(f".frame-{width}.html")
    frame.write_text(_FRAME.format(name=page.name, width=width, height=height), "utf-8")
    shade = ["--blink-settings=preferredColorScheme=0"] if dark else []
    picture = page.with_name(f"{page.stem}.{width}{'.dark' if dark else ''}.png")
    _run(chromium, *shade, f"--screenshot={picture}", f"--window-size={max(width, 500)},{height}", frame)
    frame.unlink()


def _run(chromium: str, *arguments: str | Path) -> str:
    """Let Chromium do something with the page that is the last argument; gives what it prints."""
    *options, page = arguments
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             f"--user-data-dir={profile}", *map(str, options), Path(page).resolve().as_uri()],
            check=True, capture_output=True, timeout=_PICTURE_SECONDS, text=True,
        )  # fmt: skip
    return done.stdout


def main() -> None:
    """Draw, or write snapshots."""
    parser = argparse.ArgumentParser(prog="python -m tests.look.mails", description=__doc__)
    parser.add_argument("folder", metavar="DIR", nargs="?", type=Path)
    parser.add_argument("--snapshots", action="store_true", help="write tests/unit/mails anew")
    parser.add_argument("--dark", action="store_true", help="as people see it whose screens are dark")
    given = parser.parse_args()
    if given.snapshots:
        write_snapshots()
    if given.folder:
        draw(given.folder, dark=given.dark)


if __name__ == "__main__":
    main()
