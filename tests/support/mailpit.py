"""Mailpit: a second SMTP server, written by others in another language, built once into `.mailpit/` by Go.

python -m tests.support.mailpit fetch
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from types import TracebackType
from typing import Any, Final, Self

import click
import httpx

from services.embedded.child import Child
from services.embedded.ports import HOST, free_port
from tests.support.no_mailpit import NO_MAILPIT
from tests.support.wait import until

MODULE: Final = "github.com/axllent/mailpit"
VERSION: Final = "v1.27.11"

ROOT: Final = Path(__file__).resolve().parents[2]
MAILPIT_DIR: Final = ROOT / ".mailpit"
PROGRAM: Final = MAILPIT_DIR / f"mailpit-{VERSION}"
_GO: Final = ("/usr/local/go/bin", "/usr/lib/go/bin")  # where it is installed without being on the path
_BUILD_SECONDS: Final = 600
_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 5.0
_STARTS: Final = 3


class NoMailpitError(Exception):
    """There is no Go here, so no Mailpit: one line that says so."""


class BrokenMailpitError(Exception):
    """There is Go, and yet Mailpit could not be built: one line that says why."""


def fetch() -> Path:
    """Give the program; builds it where it is missing. Several at once do no harm: a rename makes it the one."""
    if not PROGRAM.exists():
        MAILPIT_DIR.mkdir(exist_ok=True)
        new = Path(mkdtemp(prefix="build.", dir=MAILPIT_DIR))
        try:
            _build(new)
            (new / "mailpit").rename(PROGRAM)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return PROGRAM


def _build(into: Path) -> None:
    go = shutil.which("go", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_GO]))
    if go is None:
        raise NoMailpitError(NO_MAILPIT)
    try:
        done = subprocess.run(
            [go, "install", f"{MODULE}@{VERSION}"],
            env=os.environ | {"GOBIN": str(into), "CGO_ENABLED": "0"},
            cwd=into,
            capture_output=True,
            check=False,
            text=True,
            timeout=_BUILD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise BrokenMailpitError(f"Go did not build Mailpit within {_BUILD_SECONDS} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise BrokenMailpitError(f"Go cannot build Mailpit: {said[-1]}")


class Mailpit:
    """A Mailpit on 127.0.0.1 that never outlives us.

    `security`: "none", "starttls" or "tls" with the files of certificate and key. `users`: name to password; given, a
    login is required.
    """

    def __init__(
        self,
        *,
        security: str = "none",
        certificate: tuple[Path, Path] | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        self._security, self._certificate, self._users = security, certificate, users
        self._scratch = TemporaryDirectory(prefix="reconcal-mailpit-")
        self._log = Path(self._scratch.name) / "mailpit.log"
        self._child: Child | None = None
        self._choose()

    async def __aenter__(self) -> Self:
        try:
            for _ in range(_STARTS):
                if await self._started():
                    return self
                await self._http.aclose()
                self._choose()
            raise AssertionError(  # noqa: TRY301 - what was begun has to be ended
                f"Mailpit did not start:\n{self._log.read_text('utf-8')}"
            )
        except BaseException:
            await self.__aexit__(None, None, None)
            raise

    def _choose(self) -> None:
        """Choose free ports; one may be somebody else's by the time that Mailpit wants it."""
        self.smtp_port, self._http_port = free_port(), free_port()
        self._http = httpx.AsyncClient(base_url=f"http://{HOST}:{self._http_port}", trust_env=False)

    async def _started(self) -> bool:
        child = self._child = Child.start([PROGRAM, *self._options()], log=self._log, grace_seconds=_STOP_SECONDS)

        async def ready_or_ended() -> bool:
            return await self._ready() or not child.running

        await until(ready_or_ended, _START_SECONDS)
        return child.running

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._http.aclose()
        if self._child is not None:
            self._child.stop()
        self._scratch.cleanup()

    async def raw(self) -> list[bytes]:
        """Give the mails that it took, oldest first, as it keeps them."""
        listed = (await self._http.get("/api/v1/messages")).json()["messages"]
        return [(await self._http.get(f"/api/v1/message/{one['ID']}/raw")).content for one in reversed(listed)]

    async def refuse(self, trigger: str, code: int) -> None:
        """Answer with this code from now on: at "Sender", "Recipient" or "Authentication"."""
        told = {trigger: {"ErrorCode": code, "Probability": 100}}
        (await self._http.put("/api/v1/chaos", json=told)).raise_for_status()

    async def relent(self) -> None:
        """Refuse nothing from now on."""
        (await self._http.put("/api/v1/chaos", json={})).raise_for_status()

    async def _ready(self) -> bool:
        try:
            return (await self._http.get("/readyz")).is_success
        except httpx.TransportError:
            return False

    def _options(self) -> list[Any]:
        folder = Path(self._scratch.name)
        options: list[Any] = ["--smtp", f"{HOST}:{self.smtp_port}", "--listen", f"{HOST}:{self._http_port}"]
        options += ["--database", folder / "mails.db", "--enable-chaos", "--smtp-disable-rdns"]
        options += ["--disable-version-check"]
        if self._certificate is not None:
            options += ["--smtp-tls-cert", self._certificate[0], "--smtp-tls-key", self._certificate[1]]
            options += ["--smtp-require-starttls" if self._security == "starttls" else "--smtp-require-tls"]
        if self._users is not None:
            passwords = folder / "users"
            passwords.write_text("".join(f"{name}:{password}\n" for name, password in self._users.items()), "utf-8")
            options += ["--smtp-auth-file", passwords]
            options += [] if self._certificate else ["--smtp-auth-allow-insecure"]
        return options


def main(arguments: list[str]) -> int:
    """Fetch."""
    if arguments != ["fetch"]:
        click.echo("usage: python -m tests.support.mailpit fetch", err=True)
        return 2
    try:
        click.echo(str(fetch()))
    except (NoMailpitError, BrokenMailpitError) as error:
        click.echo(error, err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
