"""Catalogues and names of content: what passes, and what does not."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from apps.common.content import KINDS, Catalogue, TargetName, object_path

NAMES: TypeAdapter[str] = TypeAdapter(TargetName)


def _catalogue(**fields: Any) -> dict[str, Any]:
    file = {"name": "a.mp4", "role": "video", "languages": ["en", "pt-BR"]}
    entry = {"id": "a", "titles": {"en": "A", "de": "Ä"}, "files": [file]}
    return {"kind": "films", "airline": "EXA", "entries": [entry | fields]}


def test_a_catalogue_of_everything() -> None:
    text = _catalogue(
        texts={"en": "Two\nlines."},
        languages=["en"],
        from_age=12,
        ratings={"fsk": "12"},
        destinations=["MAD", "BCN"],
        rights={"from": "2026-11-01T00:00:00Z", "until": "2027-01-01T00:00:00+01:00"},
        images=[{"name": "a.jpg", "role": "poster", "language": "en"}],
    )
    catalogue = Catalogue.model_validate_json(json.dumps(text))
    assert set(catalogue.names()) == {"a.mp4", "a.jpg"}
    again = catalogue.model_dump_json(by_alias=True, exclude_defaults=True)
    assert Catalogue.model_validate_json(again) == catalogue


@pytest.mark.parametrize(
    "fields",
    [
        {"files": [{"name": "../x", "role": "video"}]},
        {"files": [{"name": "x/y", "role": "video"}]},
        {"files": [{"name": ".x", "role": "video"}]},
        {"files": [{"name": "catalogue.json", "role": "data"}]},
        {"titles": {}},
        {"titles": {"en": "two\nlines"}},
        {"titles": {"en": "\u202eedispu"}},
        {"destinations": ["Madrid"]},
        {"rights": {"from": "2026-11-01", "until": "2026-10-01"}},
        {"rights": {"from": "2026-11-01T00:00:00Z", "until": "2026-11-01T00:00:00Z"}},
        {"rights": {"until": "2026-11-01T00:00:00"}},
        {"more": 1},
    ],
)
def test_what_a_catalogue_cannot_have(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Catalogue.model_validate(_catalogue(**fields))


def test_two_entries_have_two_ids() -> None:
    text = _catalogue()
    with pytest.raises(ValidationError, match="one id"):
        Catalogue.model_validate(text | {"entries": text["entries"] * 2})


def _accepted(name: str) -> bool:
    try:
        NAMES.validate_python(name)
    except ValidationError:
        return False
    return True


@given(
    st.one_of(
        st.text(),
        st.binary().map(lambda data: data.decode(errors="surrogateescape")),
        st.from_regex(r"(films|news)/[A-Za-z0-9._/\\\n-]*"),
    )
)
def test_an_accepted_name_is_one_file_below_its_kind(name: str) -> None:
    if _accepted(name):
        kind, _, file = name.partition("/")
        assert kind in KINDS
        assert file
        assert not set(file) & set("/\\\n\0")
        assert not file.startswith(".")
        assert file.isascii()


@pytest.mark.parametrize("name", ["films/a\n", "films/", "films", "Films/a", "x/a", "films/a/b"])
def test_what_is_no_name(name: str) -> None:
    assert not _accepted(name)


@given(st.binary(max_size=2000))
def test_no_bytes_crash_a_reader_of_catalogues(data: bytes) -> None:
    with suppress(ValidationError):
        Catalogue.model_validate_json(data)


def test_where_an_object_is() -> None:
    assert object_path("ab" + 62 * "0") == "objects/ab/ab" + 62 * "0"


def test_the_schema_is_printed() -> None:
    """For desks that write entries with other tools."""
    done = subprocess.run(
        [sys.executable, "-m", "apps.common.content"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    schema = json.loads(done.stdout)
    assert schema["required"] == ["kind", "airline"]
    assert "from" in schema["$defs"]["Window"]["properties"]
