"""Apache Kafka's jars from Maven, fetched once into `.kafka/libs` at the repository's root."""

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
KAFKA_DIR: Final = ROOT / ".kafka"
LIBS: Final = KAFKA_DIR / "libs"
POM: Final = Path(__file__).with_name("pom.xml")
_FETCH_SECONDS: Final = 300


class NoKafkaError(Exception):
    """Apache Kafka cannot be fetched or run here: one line that says why."""


def fetch() -> Path:
    """Give the directory of the jars; fetches them where they are missing or `pom.xml` has changed.

    Several at once do no harm: each fetches into a directory of its own, and a rename makes it the one.
    """
    java()
    if not _fetched():
        KAFKA_DIR.mkdir(exist_ok=True)
        new = Path(mkdtemp(prefix="libs.", dir=KAFKA_DIR))
        try:
            _copy_dependencies(new)
            _put_in_place(new)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return LIBS


def java() -> str:
    """Find Java: `JAVA_HOME`, then the path. Raises NoKafkaError."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None)
    if found is None:
        raise NoKafkaError("java is not there; Apache Kafka needs Java 17 or newer")
    return found


def _fetched() -> bool:
    mark = LIBS / POM.name
    return mark.is_file() and mark.read_bytes() == POM.read_bytes()


def _copy_dependencies(into: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise NoKafkaError("mvn is not there; Apache Kafka is fetched with Maven")
    command = [maven, "--batch-mode", "--quiet", "--file", str(POM), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={into}"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=_FETCH_SECONDS)
    except subprocess.TimeoutExpired:
        raise NoKafkaError(f"Maven did not fetch Apache Kafka within {_FETCH_SECONDS} s") from None
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if "ERROR" in line] or ["it said nothing"]
        raise NoKafkaError(f"Maven cannot fetch Apache Kafka: {said[0]}")
    shutil.copyfile(POM, into / POM.name)


def _put_in_place(new: Path) -> None:
    new.chmod(0o755)
    if LIBS.exists() and not _fetched():
        LIBS.rename(new.with_name(f"{new.name}.old"))
        shutil.rmtree(new.with_name(f"{new.name}.old"))
    try:
        new.rename(LIBS)
    except OSError:
        if not _fetched():
            raise
