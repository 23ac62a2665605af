"""The spool: what is appended is in exactly one batch, and stays until it is acknowledged."""

from __future__ import annotations

import logging
import secrets
import threading
from contextlib import ExitStack
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from nacl.signing import SigningKey

from apps.common import outbox, usage
from apps.common.outbox import Outbox
from apps.common.testing import PostgresServer, wait_until
from apps.common.usage import Bite, Play, Record, RecordError, Sale, Stat, Survey
from apps.content_sync import spool as spool_module
from apps.content_sync.spool import Sealed, Spool, SpoolError
from apps.content_sync.tests.conftest import KEY, OWNER


def _sale(number: int = 1) -> Sale:
    return Sale(item=f"cola-{number}", quantity=1, amount=350, currency="EUR", payment="card")


def _bulky() -> Survey:
    """A record of some 600 bytes."""
    return Survey(survey="s", answers={"q": secrets.token_hex(240)})


def _append(url: str, *records: Record) -> None:
    engine = outbox.connect(url, "test")
    outbox.write(engine, records)
    engine.dispose()


def _all(spool: Spool) -> list[Sealed]:
    found: list[Sealed] = []
    sealed = spool.next()
    while sealed is not None:
        found.append(sealed)
        sealed = spool.next(sealed)
    return found


def _ids(spool: Spool) -> list[UUID]:
    """The ids of all records of all batches."""
    found = []
    for sealed in _all(spool):
        batch = usage.open_batch(sealed.batch, [KEY.verify_key])
        found += [usage.parse(batch.head.kind, line).id for line in batch.lines]
    return found


@pytest.fixture
def ready(spool: Spool) -> Spool:
    """A spool whose tables are there."""
    spool.depth()
    return spool


def test_each_record_is_in_exactly_one_batch_of_its_kind(ready: Spool, url: str) -> None:
    records = [_sale(1), Play(media="film", seconds=60, seat="12C"), _sale(2)]
    _append(url, *records)
    assert ready.seal() == 3
    assert ready.seal() == 0
    sales, plays = _all(ready)
    first = usage.open_batch(sales.batch, [KEY.verify_key])
    second = usage.open_batch(plays.batch, [KEY.verify_key])
    assert (first.head.kind, first.head.number, first.head.registration) == ("sale", 1, "EC-LAB")
    assert [usage.parse("sale", line) for line in first.lines] == [records[0], records[2]]
    assert [usage.parse("play", line) for line in second.lines] == [records[1]]
    assert second.head.number == 2
    assert second.head.spool == first.head.spool


def test_what_is_worth_most_goes_first_and_then_the_oldest(ready: Spool, url: str) -> None:
    for record in (Stat(name="x", value=1), _sale(1), Bite(part="seat 1A", fault="hot"), _sale(2)):
        _append(url, record)
        ready.seal()
    kinds = [usage.head_of(sealed.batch) for sealed in _all(ready)]
    assert [(head.kind, head.number) for head in kinds] == [
        ("sale", 2),
        ("sale", 4),
        ("bite", 3),
        ("stat", 1),
    ]


def test_a_batch_stays_as_it_is_until_it_is_acknowledged(ready: Spool, url: str) -> None:
    _append(url, _sale(1))
    ready.seal()
    _append(url, _sale(2))
    ready.seal()
    first, second = _all(ready)
    again = Spool(url, "EC-LAB", KEY, limit=1)
    assert _all(again) == [first, second]
    again.acknowledged(first)
    assert _all(ready) == [second]
    again.close()


def test_many_records_are_several_batches(ready: Spool, url: str) -> None:
    records = [_bulky() for _ in range(3000)]
    _append(url, *records)
    assert ready.has_full_batch() is False
    assert ready.seal() == 3000
    assert len(_all(ready)) == 2, "a batch has a megabyte at most"
    assert all(len(sealed.batch) <= usage.MAX_BATCH for sealed in _all(ready))
    assert _ids(ready) == [record.id for record in records]
    _append(url, *(Play(media="m", seconds=1) for _ in range(spool_module.CHUNK)))
    assert ready.has_full_batch() is True


def test_a_full_spool_drops_by_priority_the_oldest_first_and_never_sales(
    ready: Spool, url: str
) -> None:
    for record in (_sale(1), Survey(survey="s", answers={}), Stat(name="a", value=1)):
        for _ in range(2):
            _append(url, record.model_copy(update={"id": uuid4()}))
            ready.seal()

    def seal_with_room_for(limit: int) -> list[tuple[str, int]]:
        spool = Spool(url, "EC-LAB", KEY, limit)
        _append(url, _sale(2))
        spool.seal()
        spool.close()
        heads = [usage.head_of(sealed.batch) for sealed in _all(ready)]
        return [(head.kind, head.number) for head in heads]

    everything = ready.depth().bytes
    sales = [("sale", 1), ("sale", 2), ("sale", 7)]
    surveys = [("survey", 3), ("survey", 4)]
    assert seal_with_room_for(everything + 100) == [*sales, *surveys, ("stat", 6)]
    assert ready.depth().dropped == 1
    # There is no room for the sales, even.
    assert seal_with_room_for(1) == [*sales, ("sale", 8)]
    depth = ready.depth()
    assert (depth.records, depth.batches, depth.dropped) == (4, 4, 4)


def test_what_is_no_record_is_dropped_and_holds_nothing_up(
    ready: Spool, postgres: PostgresServer, database: str, url: str
) -> None:
    postgres.run(
        database,
        """INSERT INTO usage_outbox (kind, line) VALUES
           ('sale', '{"item": "cola"}'), ('member', '{}'), ('play', 'rubbish'),
           ('stat', E'{"id": "00000000-0000-4000-8000-000000000000",\n'
                     '"at": 1, "name": "n", "value": 1}')""",
    )
    _append(url, _sale(1))
    assert ready.seal() == 5
    (sealed,) = _all(ready)
    assert usage.head_of(sealed.batch).kind == "sale"
    assert ready.depth().dropped == 4


def test_an_app_may_append_and_nothing_else(
    ready: Spool, postgres: PostgresServer, database: str, url: str
) -> None:
    postgres.create("ife-app")
    as_app = postgres.url(database, "ife-app")
    _append(as_app, _sale(1))
    ready.seal()
    with psycopg.connect(as_app.replace("+psycopg", ""), autocommit=True) as connection:
        for statement in (
            "SELECT * FROM usage_outbox",
            "DELETE FROM usage_outbox",
            "UPDATE usage_outbox SET line = ''",
            "INSERT INTO usage_outbox OVERRIDING SYSTEM VALUE VALUES (1, 'a', 'b')",
            "SELECT * FROM usage_batch",
            "DELETE FROM usage_batch",
            "UPDATE usage_spool SET next_number = 1",
            "CREATE TABLE mine (id integer)",
            "TRUNCATE usage_outbox",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(
                "INSERT INTO usage_outbox (kind, line) SELECT 'a', repeat('x', 9000)"
            )
    assert len(_all(ready)) == 1


def test_two_that_seal_at_once_give_no_number_twice_and_lose_nothing(url: str) -> None:
    spools = [Spool(url, "EC-LAB", KEY, limit=10_000_000) for _ in range(2)]
    spools[0].depth()
    records = [_sale(number) for number in range(60)]
    errors: list[SpoolError] = []

    def seal(spool: Spool) -> None:
        try:
            while len(done) < len(records) or spool.seal():
                spool.seal()
        except SpoolError as error:
            errors.append(error)

    done: list[Sale] = []
    threads = [threading.Thread(target=seal, args=(spool,)) for spool in spools]
    for thread in threads:
        thread.start()
    for sale in records:
        _append(url, sale)
        done.append(sale)
    for thread in threads:
        thread.join(timeout=30)
    assert errors == []
    assert sorted(_ids(spools[0])) == sorted(sale.id for sale in records)
    numbers = [usage.head_of(sealed.batch).number for sealed in _all(spools[0])]
    assert numbers == list(range(1, len(numbers) + 1))
    for spool in spools:
        spool.close()


def test_a_spool_that_was_set_back_begins_anew(ready: Spool, url: str) -> None:
    _append(url, _sale(1), Play(media="film", seconds=1))
    ready.seal()
    first, second = _all(ready)
    before = usage.head_of(first.batch)
    ready.renew(first)
    renewed = _all(ready)[0]
    after = usage.head_of(renewed.batch)
    assert after.spool != before.spool
    assert after.number == 3
    assert (
        _ids(ready)[0]
        == usage.parse("sale", usage.open_batch(first.batch, [KEY.verify_key]).lines[0]).id
    )
    # The next one that is refused joins it there, and new ones follow.
    ready.renew(second)
    _append(url, _sale(2))
    ready.seal()
    heads = [usage.head_of(sealed.batch) for sealed in _all(ready)]
    assert {head.spool for head in heads} == {after.spool}
    assert sorted(head.number for head in heads) == [3, 4, 5]
    # One that is gone meanwhile is not renewed.
    ready.renew(second)
    assert len(_all(ready)) == 3


def test_what_a_former_key_has_sealed_is_sealed_anew_by_the_one_of_today(
    ready: Spool, url: str
) -> None:
    _append(url, _sale(1))
    ready.seal()
    (first,) = _all(ready)
    key = SigningKey.generate()
    today = Spool(url, "EC-LAB", key, limit=10_000_000)
    today.renew(first)
    (renewed,) = _all(today)
    today.close()
    before = usage.open_batch(first.batch, [KEY.verify_key])
    after = usage.open_batch(renewed.batch, [key.verify_key])
    assert after.lines == before.lines
    assert after.head.spool != before.head.spool


def test_records_wait_for_postgresql_and_the_app_does_not(
    postgres: PostgresServer,
    database: str,
    url: str,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[OSError] = []

    def noted(*args: Any) -> None:
        try:
            write(*args)
        except OSError as error:
            tries.append(error)
            raise

    write = outbox._insert
    monkeypatch.setattr(outbox, "_insert", noted)
    box = Outbox(url, "test")
    box.start()
    try:
        # The table is not there yet, as on an aircraft without a Hangar: that is no fault.
        box.append(Play(media="one", seconds=1))
        wait_until(lambda: len(tries) > 1, "it has tried")
        assert box.trouble is None
        spool.depth()
        wait_until(lambda: spool.depth().records == 1, "it is there")
        postgres.run(database, "ALTER TABLE usage_outbox RENAME COLUMN line TO other")
        box.append(Play(media="three", seconds=1))
        wait_until(lambda: box.trouble, "it says so")
        postgres.run(database, "ALTER TABLE usage_outbox RENAME COLUMN other TO line")
        box.append(Play(media="two", seconds=1))
        wait_until(lambda: box.trouble is None, "it writes")
        wait_until(lambda: spool.depth().records == 3, "all are there")
        with pytest.raises(ValueError, match="must not be lost"):
            box.append(_sale())
    finally:
        box.close()
    spool.seal()
    assert len(_ids(spool)) == 3


def test_the_oldest_goes_when_too_many_wait(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING", 3)
    box = Outbox(url, "test")
    plays = [Play(media=f"m{number}", seconds=1) for number in range(5)]
    for play in plays:
        box.append(play)
    assert list(box._waiting) == [("play", usage.line(play).decode()) for play in plays[2:]]
    assert box.lost == 2


def test_records_that_go_are_told(
    postgres: PostgresServer,
    database: str,
    url: str,
    ready: Spool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once while PostgreSQL is away, and how many they were when it is back."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(outbox, "MAX_WAITING", 3)
    monkeypatch.setattr(outbox, "RETRY_MAX", 0.5)
    postgres.run(database, "ALTER TABLE usage_outbox RENAME COLUMN line TO other")
    box = Outbox(url, "test")
    box.start()
    try:
        box.append(Play(media="first", seconds=1))
        wait_until(lambda: box.trouble, "it is away", 30)
        assert "gone" not in str(box.trouble)
        # Some may be just in hand.
        for number in range(20):
            box.append(Play(media=f"m{number}", seconds=1))
        assert f"records wait to be written, {box.lost} are gone" in str(box.trouble)
        assert box.lost > 10
        postgres.run(database, "ALTER TABLE usage_outbox RENAME COLUMN other TO line")
        wait_until(lambda: box.trouble is None, "it is back", 30)
    finally:
        box.close()
    words = [record.message for record in caplog.records if record.name == outbox.__name__]
    assert words.count("too many records wait: from now on the oldest go") == 1
    (back,) = [one for one in caplog.records if one.message == "records are written again"]
    assert back.__dict__["gone"] == box.lost


def test_a_record_that_is_too_long_is_refused_and_takes_no_other_along(
    ready: Spool, url: str
) -> None:
    answers: dict[str, int | str] = {f"q{number}": "x" * 500 for number in range(20)}
    long = Survey(survey="s", answers=answers)
    short = [_bulky(), Play(media="one", seconds=1)]
    box = Outbox(url, "test")
    box.append(short[0])
    with pytest.raises(RecordError, match=r"this survey is not kept: the record has \d+ bytes"):
        box.append(long)
    box.append(short[1])
    assert box.lost == 1
    box.start()
    box.close()
    ready.seal()
    assert _ids(ready) == [record.id for record in short]


def test_the_three_connections_of_who_hands_over_stay(spool: Spool) -> None:
    def connections() -> set[int]:
        with ExitStack() as stack:
            return {
                int(
                    stack.enter_context(spool._engine.connect())
                    .exec_driver_sql("SELECT pg_backend_pid()")
                    .scalar_one()
                )
                for _ in range(3)
            }

    first = connections()
    assert len(first) == 3
    assert connections() == first


def test_without_postgresql_a_spool_says_so(postgres: PostgresServer) -> None:
    spool = Spool(postgres.url("nothing", OWNER), "EC-LAB", KEY, limit=1)
    with pytest.raises(SpoolError, match="nothing"):
        spool.seal()
    spool.close()


def test_an_outbox_that_nobody_empties_keeps_what_is_worth_most(ready: Spool, url: str) -> None:
    """By who may only add to it: what is worth least goes first, of it the oldest."""
    _append(url, _sale(), Play(media="film", seconds=60))
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(
            "INSERT INTO usage_outbox (kind, line) SELECT CASE WHEN n <= 10 THEN 'bite' "
            "WHEN n <= 15 THEN 'rubbish' WHEN n <= 15015 THEN 'stat' ELSE 'play' END, n "
            "FROM generate_series(1, 1020000) AS n"
        )
    _append(url, Play(media="song", seconds=60))
    depth = ready.depth()
    assert depth.dropped == 20_001
    assert depth.records == 1_000_002
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        kept = connection.execute("SELECT kind, count(*) FROM usage_outbox GROUP BY kind")
        assert dict(kept.fetchall()) == {"sale": 1, "bite": 10, "play": 999_991}
        plays = connection.execute("SELECT line FROM usage_outbox WHERE kind = 'play' ORDER BY seq")
        assert plays.fetchone() == ("20011",)


def test_the_bound_knows_what_records_are_worth(ready: Spool, url: str) -> None:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        (source,) = connection.execute(
            "SELECT prosrc FROM pg_proc WHERE proname = 'usage_outbox_bound'"
        ).fetchone() or ("",)
    may_go = [kind.kind for kind in usage.KINDS.values() if kind.priority is not None]
    assert str(may_go[::-1]) in source
    assert {kind for kind in usage.KINDS if f"<> '{kind}'" in source} == {*usage.KINDS} - {*may_go}


def test_an_outbox_that_an_earlier_hangar_left_is_bound(ready: Spool, url: str) -> None:
    ready.depth()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("DROP TRIGGER bound ON usage_outbox")
        connection.execute("DROP FUNCTION usage_outbox_bound")
        connection.execute("ALTER TABLE usage_spool DROP COLUMN bounded")
        connection.execute("UPDATE content_sync_alembic_version SET version_num = '0001'")
    spool_module.bound_what_is_left(url, threading.Event())
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        found = connection.execute("SELECT tgname FROM pg_trigger WHERE tgname = 'bound'")
        assert found.fetchall() == [("bound",)]


def test_where_there_was_never_a_hangar_nothing_is_made(postgres: PostgresServer) -> None:
    url = postgres.url(postgres.create(OWNER), OWNER)
    spool_module.bound_what_is_left(url, threading.Event())
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        found = connection.execute("SELECT to_regclass('usage_outbox')").fetchone()
        assert found == (None,)
