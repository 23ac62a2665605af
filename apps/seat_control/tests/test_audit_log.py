"""The audit log in a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from apps.common.testing import PostgresServer
from apps.seat_control import audit_log
from apps.seat_control.audit_log import AuditLog
from apps.seat_control.journal import AuditRow


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    return postgres.create("ife-seat_control")


@pytest.fixture
def log(postgres: PostgresServer, database: str) -> Iterator[AuditLog]:
    log = AuditLog(postgres.url(database, "ife-seat_control"), "EC-LAB")
    yield log
    log.close()


def _row(seq: int, applied: int = 0) -> AuditRow:
    outcome = {"applied_ms": dict.fromkeys(range(applied), 1), "open": [], "refused": []}
    return AuditRow(
        seq=seq,
        version=1,
        record={
            "epoch": 1 + seq // 100,
            "issued_at": datetime(2026, 5, 1, tzinfo=UTC).isoformat(),
            "crew": "anna",
            "action": {"name": "identify"},
            "selector": {"all": True},
            "targets": ["12C"],
        },
        outcome={**outcome, "expired": [], "superseded": []},
    )


def _seqs(postgres: PostgresServer, database: str) -> list[int]:
    told = postgres.run(database, "SELECT seq FROM seat_control_command ORDER BY epoch, seq")
    return [int(line) for line in told.split()]


def test_a_newer_outcome_takes_the_place_of_the_former(
    postgres: PostgresServer, database: str, log: AuditLog
) -> None:
    log.write([_row(1)])
    log.write([_row(1, applied=3)])
    assert postgres.run(database, "SELECT seq, applied FROM seat_control_command") == "1|3"


def test_of_many_the_oldest_go(
    postgres: PostgresServer, database: str, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "KEPT", 50)
    monkeypatch.setattr(audit_log, "PRUNE_EVERY", 20)
    for first in range(0, 300, 10):
        log.write([_row(seq) for seq in range(first, first + 10)])
    seqs = _seqs(postgres, database)
    assert seqs == list(range(seqs[0], 300))
    assert 50 <= len(seqs) <= 50 + 20 + 10


def test_what_is_too_old_at_the_start_goes_bit_by_bit(
    postgres: PostgresServer, database: str, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write([_row(seq) for seq in range(200)])
    monkeypatch.setattr(audit_log, "KEPT", 50)
    monkeypatch.setattr(audit_log, "PRUNE_EVERY", 10)
    again = AuditLog(postgres.url(database, "ife-seat_control"), "EC-LAB")
    again.write([_row(200)])
    assert len(_seqs(postgres, database)) == 201 - 20
    again.write([])
    assert len(_seqs(postgres, database)) == 201 - 20
    for seq in range(201, 400):
        again.write([_row(seq)])
    again.close()
    seqs = _seqs(postgres, database)
    assert seqs == list(range(seqs[0], 400))
    assert len(seqs) <= 50 + 10
