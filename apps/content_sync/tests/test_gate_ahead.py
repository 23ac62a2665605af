"""Which files are fetched ahead: by the word of files that may say anything."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from apps.common.content import is_metadata_path
from apps.content_sync.ahead import MAX_ROUNDS, ROOTS_AHEAD, Ahead

DIGEST = "ab" * 32


def signed(**fields: Any) -> bytes:
    return json.dumps({"signed": fields, "signatures": []}).encode()


def metas(**versions: int) -> bytes:
    return signed(meta={f"{role}.json": {"version": number} for role, number in versions.items()})


HANGAR = {
    "timestamp.json": metas(snapshot=7),
    "7.snapshot.json": metas(targets=2, news=5, films=3),
    "2.targets.json": signed(targets={}),
    "5.news.json": signed(
        targets={"news/catalogue.json": {"length": 100, "hashes": {"sha256": DIGEST}}}
    ),
    "3.films.json": signed(targets={}),
    **{f"{number}.root.json": signed() for number in range(1, 12)},
    "6.snapshot.json": metas(targets=1),
    "9.secret.json": b"",
}


def fetch(hangar: dict[str, bytes], here: dict[str, bytes], root: int) -> list[list[str]]:
    """The rounds that it takes until there is nothing more to ask for."""
    ahead = Ahead(here.get, root)
    rounds: list[list[str]] = []
    while names := ahead.names():
        assert len(rounds) < MAX_ROUNDS
        rounds.append(names)
        here |= {name: hangar[name] for name in names if name in hangar}
    return rounds


def test_three_rounds_bring_all_that_the_newest_set_has_and_no_more() -> None:
    here: dict[str, bytes] = {}
    rounds = fetch(HANGAR, here, 11)
    assert [name for name in rounds[0] if "root" not in name] == ["timestamp.json"]
    assert rounds[1:] == [["7.snapshot.json"], ["2.targets.json", "5.news.json", "3.films.json"]]
    assert {name for name in here if "root" not in name} == set(HANGAR) - {
        *("6.snapshot.json", "9.secret.json"),
        *(f"{number}.root.json" for number in range(1, 12)),
    }
    ahead = Ahead(here.get, 11)
    assert ahead.catalogues() == {"news": (DIGEST, 100)}
    assert ahead.current() == set(here) | {f"{number}.root.json" for number in range(1, 12)}


def test_what_is_here_is_not_fetched_again_but_the_timestamp() -> None:
    here = dict(HANGAR)
    assert fetch(HANGAR, here, 11) == [
        ["timestamp.json", *(f"{number}.root.json" for number in range(12, 12 + ROOTS_AHEAD))]
    ]


def test_many_new_roots_are_fetched_some_at_a_time() -> None:
    here: dict[str, bytes] = {}
    fetch(HANGAR, here, 1)
    assert {f"{number}.root.json" for number in range(2, 12)} <= set(here)


lies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["signed", "meta", "version", "snapshot.json", "news.json", "../x.json"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
).map(lambda lie: json.dumps(lie).encode())


@given(st.dictionaries(st.sampled_from(sorted(HANGAR)), lies | st.binary(max_size=40)))
def test_whatever_a_hangar_says_only_metadata_are_asked_for_and_not_for_ever(
    said: dict[str, bytes],
) -> None:
    hangar = HANGAR | said
    here: dict[str, bytes] = {}
    for names in fetch(hangar, here, 1):
        assert all(is_metadata_path(f"metadata/{name}") for name in names)
    Ahead(here.get, 1).catalogues()
