"""What surrounds a build: which commit it is of, who waits for whom, where it may lie."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from apps.common.testing import wait_until
from image import build as building
from image.build import alone, build
from image.checkout import EPOCH, look
from image.settings import ROOT, Build, ImageError

HOLDER = """
import sys
from pathlib import Path
from image.build import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def _git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, timeout=30
    )


def test_the_version_tells_the_commit_and_whether_there_is_more(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    assert (look(tmp_path).version, look(tmp_path).epoch) == ("1.2.3", EPOCH)
    _git(tmp_path, "init")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "All", "--date=@1000000000")
    clean = look(tmp_path)
    assert clean.version.startswith("1.2.3-")
    assert len(clean.version) == len("1.2.3-bbeeefa1")
    assert clean.epoch > 1_700_000_000  # when it was committed, not written
    (tmp_path / "new").touch()
    assert look(tmp_path).version == f"{clean.version}-dirty"


def test_a_build_waits_for_another_and_says_for_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(building, "LOCK_TIMEOUT", 0.2)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        in_use = f"{tmp_path} is in use by process {holder.pid}"
        with pytest.raises(ImageError, match=in_use), alone(tmp_path):
            pass
        assert in_use in capsys.readouterr().out
        holder.stdin.close()
        wait_until(lambda: holder.poll() == 0, "the other build has ended")
    with alone(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can build")
def test_a_path_that_debians_tools_do_not_take_is_refused(tmp_path: Path) -> None:
    for name in ("my images", "C:"):
        with pytest.raises(ImageError, match="no path with a space or a colon"):
            build(Build(output=tmp_path / name / "out", cache=tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can build")
def test_a_build_that_fails_leaves_the_folders_to_whoever_owns_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    os.chown(checkout, 1234, 1234)
    monkeypatch.setattr(building, "ROOT", checkout)
    monkeypatch.setattr(building, "BUILD", checkout / "build")
    lock = tmp_path / "packages.lock"
    lock.write_text("{}")
    options = Build(output=checkout / "build/image", cache=checkout / "build/cache", lock=lock)
    with pytest.raises(ImageError):
        build(options)
    assert (checkout / "build").stat().st_uid == 1234


def test_a_lock_that_is_not_there_is_named(tmp_path: Path) -> None:
    options = Build(output=tmp_path / "out", cache=tmp_path / "cache", lock=tmp_path / "typo.lock")
    with pytest.raises(ImageError, match=r"the lock .*typo\.lock cannot be read: .*No such file"):
        building._lock(options, {})
