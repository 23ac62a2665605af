"""Every language says everything, and nothing that is said is missing from the catalogues."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po
from flask.testing import FlaskClient

from apps.crew_web import languages

APP = Path(languages.__file__).parent
FILES = sorted((APP / "locale").glob("*.po"))

PLACEHOLDER = re.compile(r"%\(\w+\)s|(?<!%)%%|\{\w+\}")


def extracted() -> set[str | tuple[str, ...]]:
    with (APP / "babel.cfg").open() as config:
        methods, options = parse_mapping_cfg(config)  # type: ignore[no-untyped-call] # Babel's own
    return {
        message
        for _file, _line, message, _comments, _context in extract_from_dir(
            APP, method_map=methods, options_map=options
        )
    }


def catalogue(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale=path.stem, abort_invalid=True)


def messages(path: Path) -> Iterator[Message]:
    return (message for message in catalogue(path) if message.id)


def texts(what: str | tuple[str, ...] | list[str] | None) -> list[str]:
    return [what] if isinstance(what, str) else list(what or ())


def test_four_languages_are_there() -> None:
    assert {"en", "de", "es", "fr"} <= languages.load().keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_has_exactly_what_the_page_says(path: Path) -> None:
    there = {tuple(m.id) if not isinstance(m.id, str) else m.id for m in messages(path)}
    wanted = extracted()
    assert wanted - there == set(), "not translated: add them"
    assert there - wanted == set(), "said nowhere any more: remove them"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_text_is_translated_with_its_placeholders(path: Path) -> None:
    for message in messages(path):
        assert not message.fuzzy, message.id
        wanted = sorted(PLACEHOLDER.findall(texts(message.id)[-1]))
        for translation in texts(message.string):
            assert translation.strip(), message.id
            assert sorted(PLACEHOLDER.findall(translation)) == wanted, message.id


@pytest.mark.parametrize("code", ["en", "de", "es", "fr"])
def test_the_scripts_get_their_words(code: str) -> None:
    language = languages.load()[code]
    assert language.script_strings.keys() == set(languages.script_strings())
    assert "{count} of {total} selected" in language.script_strings
    same = [text for text, said in language.script_strings.items() if text == said]
    assert len(same) < 5 or code == "en"


@pytest.mark.parametrize(
    ("wanted", "heading"),
    [
        ("de-AT,de;q=0.9,en;q=0.5", "Wer sind Sie?"),
        ("es", "¿Quién es usted?"),
        ("fr-CA", "Qui êtes-vous"),
        ("ja", "Who are you?"),
        ("", "Who are you?"),
    ],
)
def test_the_browser_says_which(browser: FlaskClient, wanted: str, heading: str) -> None:
    page = browser.get("/", headers={"Accept-Language": wanted}).text
    assert heading in page


def test_the_choice_is_kept_and_wins(browser: FlaskClient) -> None:
    response = browser.post("/language", data={"language": "de"})
    assert response.status_code == 303
    page = browser.get("/", headers={"Accept-Language": "fr"}).text
    assert '<html lang="de">' in page
    browser.post("/language", data={"language": "tlh"})
    assert '<html lang="de">' in browser.get("/").text


@pytest.mark.parametrize(
    ("name", "content"),
    [("it.po", b'msgid "Log in'), ("it.po", b"\xff"), ("no-language-at-all.po", b"")],
)
def test_a_wrong_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(languages.CatalogueError, match=name):
        languages.load(tmp_path)


def test_a_language_is_added_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "it.po").write_text('msgid "Log in"\nmsgstr "Accedi"\n')
    added = languages.load(tmp_path)
    assert list(added) == ["en", "it"]
    assert added["it"].name == "Italiano"
    assert added["it"].translations.gettext("Log in") == "Accedi"
