"""Makes json/*.json, asyncapi.yaml and openapi.json from the Structs. `python -m schemas.generate [--check]`."""

import inspect
import json
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from schemas.appointments import AppointmentEvent
from schemas.bookings import BookingEvent
from schemas.commands import Command
from schemas.dead_letters import DeadLetter
from schemas.door_docs import openapi
from schemas.flags import Flag
from schemas.observations import Check, Observation
from schemas.topic_docs import HEADERS, KEY, TOPICS, Doc, Message

HERE: Final = Path(__file__).parent
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
STRUCTS: Final[dict[str, tuple[str, Any]]] = {
    "appointment-event": ("What the booking app sends: the whole appointment, every time.", AppointmentEvent),
    "booking-event": ("What one Cal.com webhook, or one observation, amounts to, normalised.", BookingEvent),
    "observation": ("What Cal.com's API answered about a booking.", Observation),
    "check": ("What Cal.com's API answered to a question about a record.", Check),
    "command": ("What an operator asked for.", Command),
    "flag": ("What the reconciler decided.", Flag),
    "dead-letter": ("Where an envelope lies that could not be understood, and why.", DeadLetter),
}


def generate() -> dict[str, str]:
    """Give every made file's text by its path below schemas/; the same Structs give the same bytes."""
    made = {f"json/{name}.json": _json(_schema(title, struct)) for name, (title, struct) in STRUCTS.items()}
    made["json/envelope-headers.json"] = _json(_headers())
    made["openapi.json"] = _json(openapi())
    made["asyncapi.yaml"] = "# Made from the Structs by `make schemas`.\n" + _yaml(asyncapi())
    return dict(sorted(made.items()))


def stale(folder: Path = HERE) -> list[str]:
    """Name the files that are not what the Structs say, those that are there for nothing included."""
    made = generate()
    differ = {name for name, text in made.items() if _read(folder / name) != text}
    left_over = {f"json/{path.name}" for path in (folder / "json").glob("*.json")} - made.keys()
    return sorted(differ | left_over)


def write(folder: Path = HERE) -> list[str]:
    """Make the files anew; gives the names of those that changed."""
    changed = stale(folder)
    made = generate()
    (folder / "json").mkdir(exist_ok=True)
    for name in changed:
        if name in made:
            (folder / name).write_text(made[name], "utf-8")
        else:
            (folder / name).unlink()
    return changed


def asyncapi() -> dict[str, Any]:
    """Describe the topics: who sends what to whom, by which key, with which headers. AsyncAPI 3.0."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Reconcal topics",
            "version": "1.0.0",
            "description": "Everything that changes a record arrives on one of the three input topics, "
            "as CloudEvents 1.0 in binary mode: headers, and the raw body as value.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {doc.name: _channel(doc) for doc in TOPICS},
        "operations": {f"{doc.action}_{doc.name}": _operation(doc) for doc in TOPICS},
        "components": {"messages": {one.name: _message(one) for doc in TOPICS for one in doc.messages}},
    }


def _channel(doc: Doc) -> dict[str, Any]:
    return {
        "address": doc.topic,
        "title": doc.title,
        "description": doc.description,
        "messages": {one.name: {"$ref": f"#/components/messages/{one.name}"} for one in doc.messages},
        "bindings": {"kafka": {"topic": doc.topic, "bindingVersion": "0.5.0"}},
    }


def _operation(doc: Doc) -> dict[str, Any]:
    return {
        "action": doc.action,
        "summary": doc.operation,
        "channel": {"$ref": f"#/channels/{doc.name}"},
        "messages": [{"$ref": f"#/channels/{doc.name}/messages/{one.name}"} for one in doc.messages],
    }


def _message(one: Message) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": one.name,
        "title": one.title,
        "contentType": "application/json",
        "headers": {"$ref": "./json/envelope-headers.json"},
        "payload": {"type": "object"} if one.payload is None else {"$ref": f"./json/{one.payload}.json"},
        "bindings": {"kafka": {"key": {"type": "string", "description": KEY}, "bindingVersion": "0.5.0"}},
    }
    if one.normalised is not None:
        message["x-normalised"] = {"$ref": f"./json/{one.normalised}.json"}
    return message


def _schema(title: str, struct: Any) -> dict[str, Any]:  # noqa: ANN401 - a union of Structs has no type of its own
    (schema,), components = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
    whole: dict[str, Any] = {"$schema": DIALECT, "title": title, **schema, "$defs": dict(sorted(components.items()))}
    return whole


def _headers() -> dict[str, Any]:
    return {
        "$schema": DIALECT,
        "title": "Headers of a record: CloudEvents 1.0, Kafka protocol binding, binary mode; UTF-8.",
        "type": "object",
        "properties": {name: {"type": "string", "description": text} for name, text in HEADERS.items()},
    }


def _json(schema: dict[str, Any]) -> str:
    return json.dumps(_tidy(schema), indent=2, ensure_ascii=False) + "\n"


def _tidy(node: Any) -> Any:  # noqa: ANN401 - any JSON
    """Take a docstring's indentation out of the descriptions."""
    if isinstance(node, dict):
        return {key: inspect.cleandoc(v) if _is_text(key, v) else _tidy(v) for key, v in node.items()}
    return [_tidy(item) for item in node] if isinstance(node, list) else node


def _is_text(key: str, value: object) -> bool:
    return key == "description" and isinstance(value, str)


def _yaml(document: dict[str, Any]) -> str:
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110))


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.exists() else None


def main(arguments: list[str]) -> int:
    """Write the files, or with --check only say which are stale; 1: some are."""
    if "--check" in arguments:
        names = stale()
        for name in names:
            sys.stderr.write(f"schemas/{name} is stale: `make schemas` mends it\n")
        return 1 if names else 0
    for name in write():
        sys.stdout.write(f"schemas/{name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
