"""Usage out: handed over in order, and dropped on the right acknowledgement only."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from nacl.signing import SigningKey

from apps.common import gate, outbox, usage
from apps.common.backoff import BackOff
from apps.common.gate import BatchTaken
from apps.common.testing import PostgresServer, small_disk, wait_until
from apps.common.usage import BatchError, Play, Record, Sale, Stat
from apps.content_sync import usage_out
from apps.content_sync.hangar import HangarError, RefusedError
from apps.content_sync.spool import Spool, SpoolError
from apps.content_sync.tests.conftest import KEY, OWNER
from apps.content_sync.usage_out import UsageOut

Answer = Callable[[BatchTaken], BatchTaken]


class Hangar:
    """One that takes batches, and says of them what `answer` makes of the truth."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.answer: Answer = lambda taken: taken
        self.closed = 0

    def put_batch(self, number: int, batch: bytes) -> BatchTaken:
        """Take it."""
        self.came.append(batch)
        head = usage.open_batch(batch, [KEY.verify_key]).head
        assert head.number == number
        return self.answer(
            BatchTaken(
                registration=head.registration,
                spool=head.spool,
                number=number,
                sha256=hashlib.sha256(batch).hexdigest(),
                records=1,
            )
        )

    def close(self) -> None:
        """Hang up."""
        self.closed += 1


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EVERY", "RETRY_FIRST", "RETRY_MAX"):
        monkeypatch.setattr(usage_out, name, 0.05)


@pytest.fixture
def hangar() -> Hangar:
    """A Hangar."""
    return Hangar()


@pytest.fixture
def out(url: str, hangar: Hangar) -> Iterator[UsageOut]:
    """Usage out of an aircraft, started, without a link."""
    out = UsageOut(Spool(url, "EC-LAB", KEY, limit=10_000_000), lambda: hangar)
    out.start()
    yield out
    out.close()


def _sale() -> Sale:
    return Sale(item="cola", quantity=1, amount=350, currency="EUR", payment="card")


def _append(url: str, *records: Record) -> None:
    engine = outbox.connect(url, "test")
    for record in records:
        outbox.write(engine, [record])
    engine.dispose()


def _waiting(url: str) -> int:
    """Records that wait; -1 while there are no tables yet."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        try:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM usage_outbox) + coalesce(sum(records), 0) "
                "FROM usage_batch"
            ).fetchone()
        except psycopg.errors.UndefinedTable:
            return -1
    assert row is not None
    return int(row[0])


def test_all_goes_out_while_there_is_a_link(url: str, spool: Spool, hangar: Hangar) -> None:
    spool.depth()
    _append(url, Play(media="film", seconds=1), _sale())
    out = UsageOut(spool, lambda: hangar)
    out.start()
    try:
        # In flight they lie where they are: a batch of two would cost a round trip later.
        wait_until(lambda: out.depth().records == 2, "it has looked")
        assert out.depth().batches == 0
        assert not out.is_idle
        out.link(up=True)
        assert out.wait_idle(10)
        assert [usage.head_of(batch).kind for batch in hangar.came] == ["sale", "play"]
        assert out.depth().records == 0
        _append(url, _sale())
        wait_until(lambda: len(hangar.came) == 3, "what comes later goes, too")
        out.link(up=False)
        assert not out.is_idle
        wait_until(lambda: _waiting(url) == 0, "the last one is acknowledged")
        _append(url, _sale())
        wait_until(lambda: out.depth().records == 1, "it has looked")
        assert len(hangar.came) == 3
    finally:
        out.close()
    assert hangar.closed == 1


@pytest.mark.parametrize(
    "lie",
    [
        {"number": 2},
        {"spool": uuid4()},
        {"sha256": "0" * 64},
        {"registration": "EC-TWO"},
    ],
)
def test_an_acknowledgement_of_something_else_drops_nothing(
    out: UsageOut, url: str, hangar: Hangar, lie: dict[str, object]
) -> None:
    hangar.answer = lambda taken: taken.model_copy(update=lie)
    wait_until(lambda: _waiting(url) == 0, "the tables are there", 30)
    _append(url, _sale())
    out.link(up=True)
    wait_until(lambda: len(hangar.came) > 2, "it is tried again")
    assert "was given batch 1" in str(out.trouble)
    assert _waiting(url) == 1
    assert not out.is_idle
    assert len(set(hangar.came)) == 1, "and it is the same batch, byte for byte"
    hangar.answer = lambda taken: taken
    assert out.wait_idle(10)
    assert (_waiting(url), out.trouble) == (0, None)


def test_an_acknowledgement_of_another_batch_of_ours_drops_neither(
    out: UsageOut, url: str, hangar: Hangar
) -> None:
    """A Hangar that answers one batch with the acknowledgement of the one before."""
    truth: list[BatchTaken] = []

    def late(taken: BatchTaken) -> BatchTaken:
        truth.append(taken)
        return truth[0]

    wait_until(lambda: _waiting(url) == 0, "the tables are there", 30)
    _append(url, _sale(), Play(media="film", seconds=1))
    hangar.answer = late
    out.link(up=True)
    wait_until(lambda: len(hangar.came) > 3, "the second is tried again and again")
    assert _waiting(url) == 1


def test_a_batch_that_is_refused_stays_and_holds_no_other_up(
    out: UsageOut, url: str, hangar: Hangar
) -> None:
    def refuse_sales(taken: BatchTaken) -> BatchTaken:
        if usage.head_of(hangar.came[-1]).kind == "sale":
            raise RefusedError(422, "wrong-record", "what is that?")
        return taken

    wait_until(lambda: _waiting(url) == 0, "the tables are there", 30)
    hangar.answer = refuse_sales
    _append(url, _sale(), Stat(name="n", value=1))
    out.link(up=True)
    assert out.wait_idle(10), "there is nothing more that could go"
    wait_until(lambda: out.trouble, "it says so")
    assert "refuses 1 batches" in str(out.trouble)
    assert _waiting(url) == 1
    # The Hangar is mended.
    hangar.answer = lambda taken: taken
    wait_until(lambda: _waiting(url) == 0 and out.trouble is None, "it goes")


@pytest.mark.parametrize("slug", ["no-aircraft", "unknown-aircraft", "wrong-certificate", "forged"])
def test_of_an_aircraft_that_is_refused_not_all_is_sent_again_and_again(
    url: str, spool: Spool, hangar: Hangar, monkeypatch: pytest.MonkeyPatch, slug: str
) -> None:
    def refuse(_: BatchTaken) -> BatchTaken:
        raise RefusedError(403, slug, "not you")

    hangar.answer = refuse
    spool.depth()
    for _ in range(6):
        _append(url, _sale())
        spool.seal()
    monkeypatch.setattr(usage_out, "BackOff", lambda *_: BackOff(3600, 3600))
    out = UsageOut(spool, lambda: hangar)
    out._is_up = True
    out.start()
    try:
        wait_until(lambda: out.trouble, "it is told", 20)
        assert "not you" in str(out.trouble)
        assert len(hangar.came) <= usage_out.IN_FLIGHT
        assert _waiting(url) == 6
        hangar.answer = lambda taken: taken
        out.link(up=True)
        assert out.wait_idle(20)
        assert (_waiting(url), out.trouble) == (0, None)
    finally:
        out.close()


def test_what_a_former_key_has_signed_holds_no_other_up(
    url: str, spool: Spool, hangar: Hangar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hangar knows the key of today alone."""
    former = Spool(url, "EC-LAB", SigningKey.generate(), limit=10_000_000)
    former.depth()
    _append(url, _sale())
    former.seal()
    former.close()
    _append(url, _sale())
    spool.seal()
    put_batch = hangar.put_batch

    def knows_one_key(number: int, batch: bytes) -> BatchTaken:
        try:
            return put_batch(number, batch)
        except BatchError as error:
            raise RefusedError(403, error.reason, error.detail) from error

    monkeypatch.setattr(hangar, "put_batch", knows_one_key)
    out = UsageOut(spool, lambda: hangar)
    out.start()
    try:
        out.link(up=True)
        wait_until(lambda: _waiting(url) == 1, "the other goes", 20)
        wait_until(lambda: out.trouble, "it is told")
        assert "refuses 1 batches" in str(out.trouble)
    finally:
        out.close()


def test_a_number_that_was_given_twice_is_given_anew(
    out: UsageOut, url: str, hangar: Hangar
) -> None:
    def knows_another(taken: BatchTaken) -> BatchTaken:
        if taken.number == 1:
            raise RefusedError(409, "other-batch", "there is another batch 1")
        return taken

    wait_until(lambda: _waiting(url) == 0, "the tables are there", 30)
    hangar.answer = knows_another
    sale = _sale()
    _append(url, sale)
    out.link(up=True)
    wait_until(lambda: _waiting(url) == 0, "it goes by another number")
    before, after = (usage.open_batch(raw, [KEY.verify_key]) for raw in hangar.came[:2])
    assert before.head.spool != after.head.spool
    assert before.lines == after.lines == [usage.line(sale)]


def test_a_batch_that_has_decayed_stays_and_holds_no_other_up(
    url: str, spool: Spool, hangar: Hangar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by a number that was given twice, so that it would have to be sealed anew."""
    put_batch = hangar.put_batch

    def knows_another(number: int, batch: bytes) -> BatchTaken:
        if number == 1:
            raise RefusedError(409, "other-batch", "there is another batch 1")
        return put_batch(number, batch)

    spool.depth()
    _append(url, _sale(), Stat(name="n", value=1))
    spool.seal()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("UPDATE usage_batch SET batch = set_byte(batch, 0, 0) WHERE number = 1")
    monkeypatch.setattr(hangar, "put_batch", knows_another)
    out = UsageOut(spool, lambda: hangar)
    out.start()
    try:
        out.link(up=True)
        assert out.wait_idle(10), "there is nothing more that could go"
        wait_until(lambda: out.trouble, "it says so")
        assert "batches: malformed" in str(out.trouble)
        assert _waiting(url) == 1
        _append(url, _sale())
        wait_until(lambda: len(hangar.came) == 2, "what comes later goes, too")
    finally:
        out.close()
    assert [usage.head_of(batch).kind for batch in hangar.came] == ["stat", "sale"]


def test_a_hangar_that_knows_another_of_each_is_given_time_and_it_is_told(
    out: UsageOut, url: str, hangar: Hangar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Hangar that answers everything with 409, as one that mixes aircraft up would."""

    def knows_another(taken: BatchTaken) -> BatchTaken:
        raise RefusedError(409, "other-batch", f"there is another batch {taken.number}")

    wait_until(lambda: _waiting(url) == 0, "the tables are there", 30)
    monkeypatch.setattr(usage_out, "BackOff", lambda *_: BackOff(3600, 3600))
    out = UsageOut(Spool(url, "EC-LAB", KEY, limit=10_000_000), lambda: hangar)
    hangar.answer = knows_another
    sale = _sale()
    _append(url, sale, Play(media="film", seconds=1))
    out._is_up = True
    out.start()
    try:
        wait_until(lambda: out.trouble, "it is told", 20)
        assert "another batch" in str(out.trouble)
        assert [usage.head_of(batch).number for batch in hangar.came] == [1, 2]
        assert not out.is_idle
        hangar.answer = lambda taken: taken
        out.link(up=True)
        assert out.wait_idle(10)
        assert out.trouble is None
        assert {usage.head_of(batch).number for batch in hangar.came[2:]} == {3, 4}
    finally:
        out.close()


def test_a_link_that_comes_while_we_look_leaves_nothing_that_waits_unseen(
    url: str, spool: Spool, hangar: Hangar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits was left unsealed for want of a link, and the link is there just after that."""
    monkeypatch.setattr(usage_out, "EVERY", 3600)
    spool.depth()
    _append(url, _sale())
    out = UsageOut(spool, lambda: hangar)
    depth = spool.depth
    idle: list[bool] = []

    def link_comes() -> gate.Spool:
        if not idle:
            out.link(up=True)
            idle.append(out.is_idle)
        return depth()

    put_batch = hangar.put_batch

    def look(number: int, batch: bytes) -> BatchTaken:
        idle.append(out.is_idle)
        return put_batch(number, batch)

    monkeypatch.setattr(spool, "depth", link_comes)
    monkeypatch.setattr(hangar, "put_batch", look)
    out.start()
    try:
        assert out.wait_idle(10)
        assert _waiting(url) == 0
        _append(url, _sale())
        monkeypatch.setattr(usage_out, "EVERY", 0.05)
        out._wanted.set()
        wait_until(lambda: _waiting(url) == 0, "what comes later goes, too")
    finally:
        out.close()
    assert idle == [False, False, False]


def test_a_hangar_that_is_away_is_tried_again(out: UsageOut, url: str, hangar: Hangar) -> None:
    def away(_taken: BatchTaken) -> BatchTaken:
        raise HangarError("the Hangar does not answer")

    wait_until(lambda: _waiting(url) == 0, "the tables are there", 30)
    hangar.answer = away
    _append(url, _sale())
    out.link(up=True)
    wait_until(lambda: len(hangar.came) > 3, "it is tried")
    assert out.trouble == "the Hangar does not answer"
    hangar.answer = lambda taken: taken
    assert out.wait_idle(10)
    assert out.trouble is None


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk takes root rights")
def test_a_full_disk_loses_nothing_that_was_written_and_all_goes_on_when_there_is_room() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="ife-") as folder,
        small_disk(Path(folder), "90M") as disk,
        PostgresServer(disk) as server,
    ):
        url = server.url(server.create(OWNER), OWNER)
        spool = Spool(url, "EC-LAB", KEY, limit=10_000_000)
        spool.depth()
        engine = outbox.connect(url, "test")
        written = [_sale() for _ in range(50)]
        outbox.write(engine, written)
        spool.seal()
        (disk / "filled").write_bytes(b"")
        try:
            with (disk / "filled").open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(65536))
        except OSError:
            pass
        refused = None
        while refused is None:
            some = [_sale() for _ in range(50)]
            try:
                outbox.write(engine, some)
                written += some
                spool.seal()
            except OSError as error:
                refused = error
        (disk / "filled").unlink()

        def works() -> bool:
            try:
                # Whether they were written is not certain: they are written again.
                outbox.write(engine, some)
                while spool.seal():
                    pass
            except SpoolError:
                return False
            except OSError:
                server.start()
                return False
            return True

        wait_until(works, "it works again", 30)
        written += some
        hangar = Hangar()
        found = set()
        sealed = spool.next()
        while sealed is not None:
            usage_out.check(sealed, hangar.put_batch(sealed.number, sealed.batch))
            batch = usage.open_batch(sealed.batch, [KEY.verify_key])
            found |= {usage.parse("sale", line).id for line in batch.lines}
            spool.acknowledged(sealed)
            sealed = spool.next(sealed)
        assert found >= {sale.id for sale in written}
        engine.dispose()
        spool.close()
