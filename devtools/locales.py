"""Titles, labels and tooltips of the nodes in other languages: ``locales/<language>/nodeDefs.json``.

``locales/en`` is written from the schemas. A translation is kept as long as its English text stands unchanged; when
that changes, it is dropped, and the test asks for a new one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .console import ROOT, say

LANGUAGES = ("zh", "ja", "ko", "de", "fr", "es")
SOURCE = "en"
FOLDER = ROOT / "locales"
PREFIX = "HSpace"

Texts = dict[str, Any]


def describe_nodes(facts: Mapping[str, Mapping[str, Any]]) -> Texts:
    """The English texts of all nodes of the pack.

    Args:
        facts: what the host's ``/object_info`` says.

    Returns:
        node id to its ``display_name``, ``description``, ``inputs`` and ``outputs``, as the editor wants them.
    """
    return {name: _describe(node) for name, node in sorted(facts.items()) if name.startswith(PREFIX)}


def _describe(node: Mapping[str, Any]) -> Texts:
    inputs = {}
    for group in node["input"].values():
        for name, declaration in group.items():
            options = declaration[1] if len(declaration) > 1 else {}
            inputs[name] = _named(options.get("display_name") or name, options.get("tooltip"))
    tooltips = node.get("output_tooltips") or [None] * len(node["output_name"])
    outputs = {
        str(index): _named(label, tooltip)
        for index, (label, tooltip) in enumerate(zip(node["output_name"], tooltips, strict=True))
    }
    return {
        "display_name": node["display_name"],
        "description": node["description"],
        "inputs": inputs,
        "outputs": outputs,
    }


def _named(label: str, tooltip: str | None) -> Texts:
    return {"name": label, "tooltip": tooltip} if tooltip else {"name": label}


def flatten(texts: Texts) -> dict[tuple[str, ...], str]:
    """Every text by the keys that lead to it."""
    flat: dict[tuple[str, ...], str] = {}
    for key, value in texts.items():
        if isinstance(value, str):
            flat[(key,)] = value
        else:
            flat.update({(key, *rest): text for rest, text in flatten(value).items()})
    return flat


def nest(flat: Mapping[tuple[str, ...], str]) -> Texts:
    """The inverse of :func:`flatten`."""
    texts: Texts = {}
    for keys, text in flat.items():
        place = texts
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = text
    return texts


def read(language: str, name: str = "nodeDefs") -> Texts:
    """One file of ``locales/``; empty if it is not there."""
    path = FOLDER / language / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(language: str, texts: Texts, name: str = "nodeDefs") -> Path:
    """Write one file of ``locales/``."""
    path = FOLDER / language / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(texts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path


def keep_valid(translated: Texts, former: Texts, now: Texts) -> Texts:
    """The translations whose English text is what they were made from, in the order of the English."""
    mine, before = flatten(translated), flatten(former)
    return nest({keys: mine[keys] for keys, text in flatten(now).items() if keys in mine and before.get(keys) == text})


def add_catalogue(translated: Texts, now: Texts, catalogue: Mapping[str, str]) -> Texts:
    """Fill what is missing from a table of English texts and their translations.

    The texts that are translated already belong to the table: a label that many nodes share is translated once.
    """
    mine, english = flatten(translated), flatten(now)
    known = {text: mine[keys] for keys, text in english.items() if keys in mine} | dict(catalogue)
    return nest(
        {keys: mine.get(keys) or known[text] for keys, text in english.items() if keys in mine or text in known}
    )


def missing(translated: Texts, now: Texts) -> dict[tuple[str, ...], str]:
    """The English texts that have no translation, by their keys."""
    mine = flatten(translated)
    return {keys: text for keys, text in flatten(now).items() if not mine.get(keys)}


def update(now: Texts, catalogues: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Rewrite ``locales/`` for the nodes as they are.

    Args:
        now: from :func:`describe_nodes`.
        catalogues: language to a table of English texts and their translations.

    Returns:
        language to the English texts that it lacks, each once.
    """
    former = read(SOURCE)
    lacking = {}
    for language in LANGUAGES:
        texts = keep_valid(read(language), former, now)
        texts = add_catalogue(texts, now, catalogues.get(language, {}))
        write(language, texts)
        lacking[language] = sorted(set(missing(texts, now).values()))
    write(SOURCE, now)
    return lacking


def main(paths: list[str]) -> int:
    """Rewrite the files; ``paths`` are tables ``<language>.json`` of English texts and their translations.

    What is lacking then is written as such a table, to be filled, beside the logs.
    """
    from .console import LOGS
    from .server import Server

    catalogues = {Path(path).stem: json.loads(Path(path).read_text(encoding="utf-8")) for path in paths}
    unknown = sorted(set(catalogues) - set(LANGUAGES))
    if unknown:
        say("locales", f"no such language: {', '.join(unknown)}; there are {', '.join(LANGUAGES)}")
        return 2
    with Server("locales", fresh=True) as server, server.client() as client:
        lacking = update(describe_nodes(client.get("/object_info")), catalogues)
    for language, texts in lacking.items():
        if texts:
            table = LOGS / f"{language}.json"
            table.write_text(json.dumps(dict.fromkeys(texts, ""), ensure_ascii=False, indent=1), encoding="utf-8")
            say("locales", f"{language}: {len(texts)} texts to translate, in {table}")
    return 1 if any(lacking.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
