"""Commands that prepare an installation: migrations, topics, settings."""

from pathlib import Path

import click

from services.cli.context import database_settings, json_option, located, run, settings_for
from services.cli.failures import Wrong


@click.command()
@located
@click.option("--to", type=click.IntRange(min=0), help="Go to this version, up or down; 0 takes everything down.")
@json_option
def migrate(*, data_dir: Path | None, config: Path | None, to: int | None, as_json: bool) -> None:
    """Bring the database to the newest version."""
    from services.plumbing import migrate as migrations  # noqa: PLC0415

    settings = database_settings(data_dir, config)
    taken = run(migrations.migrate(settings.postgres_dsn, to=to))
    _said(taken, "The database is up to date.", as_json=as_json)


@click.command()
@located
@json_option
def topics(*, data_dir: Path | None, config: Path | None, as_json: bool) -> None:
    """Make the topics that Kafka does not have yet."""
    from services.plumbing import kafka  # noqa: PLC0415

    settings = settings_for(data_dir, config)
    if not settings.kafka_bootstrap_servers:
        raise Wrong("RECONCAL_KAFKA_BOOTSTRAP_SERVERS is not set, and no `reconcal up` is running")

    async def work() -> list[str]:
        made = await kafka.ensure_topics(settings)
        kafka.partition_count(await kafka.inspect(settings))
        return made

    _said(run(work()), "All topics are there.", as_json=as_json)


@click.command()
@located
@click.option("--new-secret-key", is_flag=True, help="Print a new key for RECONCAL_SECRET_KEY, and nothing else.")
@json_option
def config(*, data_dir: Path | None, config: Path | None, new_secret_key: bool, as_json: bool) -> None:
    """Print the settings in force.

    As TOML; secrets are hidden.
    """
    if new_secret_key:
        from services.plumbing.secrets import new_key  # noqa: PLC0415

        click.echo(new_key())
        return
    import msgspec  # noqa: PLC0415

    from services.plumbing.settings import shown  # noqa: PLC0415

    values = shown(settings_for(data_dir, config))
    if as_json:
        click.echo(msgspec.json.encode(values))
        return
    for name, value in values.items():
        click.echo(f"{name} = {msgspec.json.encode(value).decode()}")


def _said(done: list[str], nothing: str, *, as_json: bool) -> None:
    if as_json:
        import msgspec  # noqa: PLC0415

        click.echo(msgspec.json.encode(done))
        return
    click.echo("\n".join(done) or nothing)
