"""The page's languages: one gettext file each, ``locale/<language>.po``, read at start.

English is what the sources say, so it has no file. To add a language is to add its file.
Strings of the JavaScript modules are in the same files; the page hands them over as data.
"""

from __future__ import annotations

import gettext
import io
from dataclasses import dataclass
from pathlib import Path

from babel import Locale, UnknownLocaleError
from babel.messages.extract import extract_javascript
from babel.messages.mofile import write_mo
from babel.messages.pofile import PoFileError, read_po

SOURCE = "en"

HERE = Path(__file__).parent


class CatalogueError(Exception):
    """A catalogue is wrong; the message names it."""


@dataclass(frozen=True)
class Language:
    """`code` is its BCP 47 tag, `name` its own name for itself."""

    code: str
    name: str
    translations: gettext.NullTranslations
    script_strings: dict[str, str]
    """What the JavaScript modules say, by what it is in English."""


def load(directory: Path = HERE / "locale") -> dict[str, Language]:
    """Every language there is, by its code, English first.

    Raises:
        CatalogueError: a file cannot be read, or its name is no language.
    """
    languages = {SOURCE: _language(SOURCE, gettext.NullTranslations())}
    for path in sorted(directory.glob("*.po")):
        try:
            languages[path.stem] = _language(path.stem, _read(path))
        except (OSError, PoFileError, UnknownLocaleError, ValueError) as error:
            raise CatalogueError(f"the catalogue {path} is wrong: {error}") from error
    return languages


def script_strings() -> list[str]:
    """What the JavaScript modules hand to `gettext`, in English."""
    found: set[str] = set()
    for path in sorted((HERE / "static").glob("*.js")):
        with path.open("rb") as file:
            messages = extract_javascript(file, {"gettext": None}, [], {})
            for message in messages:
                # With values for its placeholders it is the first of two arguments.
                text: object = message[2]
                found.add(str(text[0] if isinstance(text, tuple) else text))
    return sorted(found)


def _read(path: Path) -> gettext.GNUTranslations:
    with path.open("rb") as file:
        catalog = read_po(file, locale=path.stem, abort_invalid=True)
    compiled = io.BytesIO()
    write_mo(compiled, catalog)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def _language(code: str, translations: gettext.NullTranslations) -> Language:
    locale = Locale.parse(code, sep="-")
    name = locale.get_display_name(locale) or code
    return Language(
        code,
        name[0].upper() + name[1:],
        translations,
        {text: translations.gettext(text) for text in script_strings()},
    )
