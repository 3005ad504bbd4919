"""Every node, input, tooltip and output is there in each language, for the schemas as they are."""

from __future__ import annotations

import re

import pytest

from devtools import locales
from devtools.client import Client


@pytest.fixture(scope="module")
def english(server: Client) -> dict:
    everything = locales.describe_nodes(server.get("/object_info"))
    return {name: texts for name, texts in everything.items() if not name.startswith("HSpaceTest")}


def test_the_english_file_says_what_the_schemas_say(english):
    assert locales.read("en") == english, "run python -m devtools.locales, and translate what it asks for"


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_nothing_is_missing_and_nothing_is_left_over(english, language):
    translated = locales.read(language)
    assert locales.missing(translated, english) == {}
    assert set(locales.flatten(translated)) == set(locales.flatten(english))


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_numbers_and_methods_survive(english, language):
    translated = locales.flatten(locales.read(language))
    for keys, text in locales.flatten(english).items():
        for number in re.findall(r"\d+(?:\.\d+)?", text):
            other = translated[keys].replace("\u202f", "").replace("\xa0", "")
            assert number in other or number.replace(".", ",") in other, (keys, number)


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_tooltips_are_translated_and_not_copied(english, language):
    translated = locales.flatten(locales.read(language))
    same = [
        k
        for k, text in locales.flatten(english).items()
        if k[-1] in ("tooltip", "description") and translated[k] == text
    ]
    assert same == []


@pytest.mark.parametrize("language", ("en", *locales.LANGUAGES))
def test_menus_and_sockets_have_names(server, language):
    facts = {k: v for k, v in server.get("/object_info").items() if k.startswith("HSpace") and "Test" not in k}
    main = locales.read(language, "main")
    sockets = {kind for node in facts.values() for kind in node["output"] if str(kind).startswith("HSPACE_")}
    assert sockets <= set(main["dataTypes"])
    if language != "en":
        menus = {part for node in facts.values() for part in node["category"].split("/")[1:]}
        assert menus <= set(main["nodeCategories"])


def test_the_host_serves_them(server):
    served = server.get("/i18n")
    for language in locales.LANGUAGES:
        steer = served[language]["nodeDefs"]["HSpaceSteer"]
        assert steer == locales.read(language)["HSpaceSteer"]


def test_a_translation_goes_when_its_english_changes():
    former = {"A": {"display_name": "a", "inputs": {"x": {"name": "x", "tooltip": "one"}}}}
    now = {"A": {"display_name": "a", "inputs": {"x": {"name": "x", "tooltip": "two"}}}}
    translated = {"A": {"display_name": "A!", "inputs": {"x": {"name": "X!", "tooltip": "ONE!"}}}}
    kept = locales.keep_valid(translated, former, now)
    assert kept == {"A": {"display_name": "A!", "inputs": {"x": {"name": "X!"}}}}
    assert locales.missing(kept, now) == {("A", "inputs", "x", "tooltip"): "two"}
    filled = locales.add_catalogue(kept, now, {"two": "TWO!"})
    assert filled["A"]["inputs"]["x"]["tooltip"] == "TWO!" and locales.missing(filled, now) == {}
