"""What comes in which order: rules, and what holds for whatever there is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from apps.common.content import KINDS, Kind
from apps.content_sync.planner import BATCH_FILES, Item, Piece, Rate, batch, plan, size

NOW = datetime(2026, 11, 28, 6, tzinfo=UTC)
MB, GB = 10**6, 10**9


def item(kind: Kind, name: str, count: int, until: datetime | None = None) -> Item:
    piece = Piece(name.ljust(64, "0"), count, count)
    return Item(kind, name, name, count, (piece,), until)


def names(items: tuple[Item, ...]) -> list[str]:
    return [item.id for item in items]


def test_todays_newspaper_comes_before_a_film_and_smaller_films_before_larger() -> None:
    items = [
        item("films", "long", 3 * GB),
        item("films", "short", GB),
        item("news", "weekly", 5 * MB, NOW + timedelta(days=2)),
        item("news", "today", 20 * MB, NOW + timedelta(hours=18)),
        item("films", "leaving", 2 * GB, NOW + timedelta(days=1)),
        item("maps", "world", 500 * MB),
        item("news", "archive", 1 * MB, NOW - timedelta(days=1)),
    ]
    order = names(plan(items, NOW, 1.0, None).order)
    assert order == ["today", "leaving", "weekly", "world", "short", "long", "archive"]


def test_it_says_what_fits() -> None:
    items = [
        *(item("news", f"n{number}", 20 * MB) for number in range(5)),
        *(item("films", f"f{number}", 660 * MB) for number in range(5)),
    ]
    made = plan(items, NOW, 850_000.0, 42 * 60.0)
    assert made.says == "42 min at the gate, 2.1 GB of 3.4 GB: all news, 3 of 5 films"
    assert names(made.order[:5]) == ["n0", "n1", "n2", "n3", "n4"]
    assert made.fit == 8
    # The link turns out to be slower, and time has gone by.
    assert plan(items, NOW, 400_000.0, 30 * 60.0).says == (
        "30 min at the gate, 100 MB of 3.4 GB: all news, 0 of 5 films"
    )
    assert plan(items, NOW, 1.0, None).says.startswith("as long as the gate is open, 3.4 GB of")
    assert plan([], NOW, 1.0, 60.0).says == "nothing is missing"


def test_what_has_begun_comes_before_what_has_not() -> None:
    begun = Item("films", "b", "b", 900, (Piece("b" * 64, 900, 100),))
    assert names(plan([item("films", "a", 800), begun], NOW, 1.0, None).order) == ["b", "a"]


def test_one_that_has_no_time_left_keeps_out_no_other() -> None:
    made = plan([item("news", "huge", 900), item("films", "short", 50)], NOW, 1.0, 100.0)
    assert (names(made.order), made.fit) == (["short", "huge"], 1)


def test_one_that_has_no_room_is_left_out() -> None:
    made = plan([item("news", "huge", 900), item("films", "short", 50)], NOW, 1.0, None, 100)
    assert (names(made.order), names(made.no_room)) == (["short"], ["huge"])


def test_a_run_has_objects_of_one_kind_and_either_with_a_basis_or_without() -> None:
    delta = Item("news", "d", "d", 5, (Piece("d" * 64, 5, 5, delta=True),))
    order = [item("news", "a", 5), item("news", "b", 5), delta, item("films", "f", 5)]
    assert [piece.digest[0] for piece in batch(order, 1e6)] == ["a", "b"]
    assert [piece.digest[0] for piece in batch(order[2:], 1e6)] == ["d"]
    assert batch([], 1e6) == []


pieces = st.builds(
    Piece,
    st.text("0123456789abcdef", min_size=64, max_size=64),
    st.integers(0, GB),
    st.integers(0, GB),
    st.booleans(),
)
items = st.lists(
    st.builds(
        Item,
        st.sampled_from(KINDS),
        st.text("abc", min_size=1, max_size=5),
        st.just("A title"),
        st.integers(0, GB),
        st.lists(pieces, max_size=5).map(tuple),
        st.none() | st.datetimes(timezones=st.just(UTC)),
    ),
    max_size=30,
)
rates = st.floats(0, 1e9)
times = st.none() | st.floats(-1e5, 1e5)


@given(items, rates, times, st.integers(0, 10 * GB))
def test_whatever_there_is_it_is_planned_once_and_fits_as_told(
    items: list[Item], rate: float, seconds: float | None, room: int
) -> None:
    made = plan(items, NOW, rate, seconds, room)
    coming = [item for item in items if item.pieces]
    planned = [*made.order, *(item for item in made.no_room if item.pieces)]
    assert sorted(map(id, planned)) == sorted(map(id, coming))
    assert sum(item.left for item in made.order) <= room
    first = sum(item.left for item in made.order[: made.fit])
    if seconds is not None:
        assert first <= max(0.0, rate * seconds)
    else:
        assert made.fit == len(made.order)
    assert made.bytes_fit <= made.bytes_total
    assert made.says
    for fit, total in made.kinds.values():
        assert 0 <= fit <= total


@given(items, rates)
def test_runs_come_to_an_end_and_bring_each_object_once(items: list[Item], rate: float) -> None:
    left = list(plan(items, NOW, rate, None).order)
    came: set[str] = set()
    for _ in range(sum(len(item.pieces) for item in left)):
        run = batch(left, rate)
        if not run:
            break
        assert 0 < len(run) <= BATCH_FILES
        assert len({piece.digest for piece in run}) == len(run)
        assert len({piece.delta for piece in run}) == 1
        came |= {piece.digest for piece in run}
        left = [
            Item(
                item.kind,
                item.id,
                item.title,
                item.size,
                tuple(piece for piece in item.pieces if piece.digest not in came),
                item.until,
            )
            for item in left
        ]
        left = [item for item in left if item.pieces]
    assert came == {piece.digest for item in items for piece in item.pieces}


@given(st.lists(st.tuples(st.integers(0, GB), st.floats(-1, 100)), max_size=50), rates)
def test_a_rate_is_never_beyond_what_was_measured(
    measured: list[tuple[int, float]], first: float
) -> None:
    rate = Rate(first)
    for count, seconds in measured:
        rate.add(count, seconds)
    seen = [first, *(count / seconds for count, seconds in measured if seconds > 0)]
    assert min(seen) * 0.999 <= rate.value <= max(seen) * 1.001


def test_a_rate_follows_the_link() -> None:
    rate = Rate(1000.0)
    for _ in range(60):
        rate.add(100, 1.0)
    assert 100 <= rate.value < 200


def test_sizes_are_for_people() -> None:
    assert [size(count) for count in (0, 999, 1000, 20 * MB, 999_600_000, 3_400_000_000)] == [
        "0 B",
        "999 B",
        "1 kB",
        "20 MB",
        "1.0 GB",
        "3.4 GB",
    ]
