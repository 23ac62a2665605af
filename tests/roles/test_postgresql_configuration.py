"""The real PostgreSQL with the role's configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from apps.common.testing import wait_until
from tests.roles.helpers import render

PROGRAMS = max(
    Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None
)


@pytest.fixture(scope="module")
def socket() -> Iterator[Path]:
    """The folder of the socket of a cluster of its own, with the role and the database."""
    assert PROGRAMS, "PostgreSQL is not there: run `make install`"
    # PostgreSQL does not run as root.
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="ife-") as top:
        folder = Path(top)
        if user:
            shutil.chown(folder, user)
        data = folder / "data"
        subprocess.run(
            [PROGRAMS / "initdb", "-D", data, "-U", "postgres", "--auth=reject", "--no-sync"],
            check=True,
            capture_output=True,
            timeout=50,
            user=user,
        )
        variables = {
            "postgresql_data_directory": data,
            "postgresql_hba_file": folder / "pg_hba.conf",
            "postgresql_ident_file": data / "pg_ident.conf",
            "postgresql_pid_file": folder / "postgresql.pid",
            "postgresql_socket_directory": folder,
            "postgresql_auth_method": "trust",
            "postgresql_log_destination": "stderr",
        }
        render(folder, "postgresql", "pg_hba.conf.j2", **variables)
        configuration = render(folder, "postgresql", "postgresql.conf.j2", **variables)
        server = subprocess.Popen(
            [PROGRAMS / "postgres", "-c", f"config_file={configuration}"],
            stderr=subprocess.DEVNULL,
            user=user,
        )
        try:
            wait_until(lambda: _answers(folder), "PostgreSQL answers", timeout=20)
            with _connect(folder, "postgres", "postgres") as connection:
                connection.autocommit = True
                connection.execute('CREATE ROLE "ife-seat_control" LOGIN')
                connection.execute("CREATE ROLE mallory LOGIN")
                connection.execute('CREATE ROLE "ife-content_sync" LOGIN')
                connection.execute('CREATE DATABASE ife OWNER "ife-seat_control"')
                connection.execute('CREATE DATABASE usage OWNER "ife-content_sync"')
            yield folder
        finally:
            server.terminate()
            server.wait(timeout=10)


def _connect(socket: Path, user: str, database: str) -> psycopg.Connection:
    return psycopg.connect(host=str(socket), user=user, dbname=database, connect_timeout=5)


def _answers(socket: Path) -> bool:
    try:
        _connect(socket, "postgres", "postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def test_the_owner_reaches_its_own_database_and_nothing_else(socket: Path) -> None:
    with _connect(socket, "ife-seat_control", "ife") as connection:
        connection.execute("CREATE TABLE kept (id integer)")
    with pytest.raises(psycopg.OperationalError, match="no pg_hba"):
        _connect(socket, "ife-seat_control", "postgres")
    with pytest.raises(psycopg.OperationalError, match="no pg_hba"):
        _connect(socket, "mallory", "ife")


def test_a_writer_reaches_a_database_and_may_do_what_its_owner_lets_everybody_do(
    socket: Path,
) -> None:
    with _connect(socket, "ife-content_sync", "usage") as owner:
        owner.execute("CREATE TABLE outbox (line text)")
        owner.execute("GRANT INSERT ON outbox TO PUBLIC")
    with _connect(socket, "ife-seat_control", "usage") as writer:
        writer.execute("INSERT INTO outbox VALUES ('a line')")
    with (
        _connect(socket, "ife-seat_control", "usage") as writer,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        writer.execute("SELECT * FROM outbox")
    with pytest.raises(psycopg.OperationalError, match="no pg_hba"):
        _connect(socket, "ife-content_sync", "ife")


def test_the_socket_is_the_only_way_in_and_what_is_written_stays(socket: Path) -> None:
    wanted = {
        "listen_addresses": "",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "shared_buffers": "64MB",
    }
    with _connect(socket, "ife-seat_control", "ife") as connection:
        for name, value in wanted.items():
            shown = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
            assert shown == (value,)
        wrong = connection.execute("SELECT name FROM pg_settings WHERE pending_restart").fetchall()
        assert wrong == []
