"""Who gets into the Hangar by SSH: the keys that the role leaves there, and what sshd bears."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from apps.hangar import aircraft
from tests.roles.ground import knows_penalties, sshd_told
from tests.roles.helpers import AIRLINE, ROOT, ansible_playbook, render

ROLE = ROOT / "roles/hangar"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="keys of root's take root rights")


def _provision(folder: Path, **variables: object) -> subprocess.CompletedProcess[str]:
    """Have the role check its variables, then bring and take away keys, into `folder`."""
    for name in ("EC-LAB", "EC-TWO"):
        (folder / name).mkdir()
        (folder / name / "gate_ssh.pub").write_text(f"ssh-ed25519 AAAA {name}\n")
        (folder / name / "usage.pub").write_text("A" * 43 + "\n")
    (folder / "pki").mkdir()
    for name in ("root.crt", "hangar.crt", "hangar.key", "ssh_host_ed25519_key"):
        (folder / "pki" / name).touch()
    text = (ROLE / "tasks/ssh.yml").read_text().replace("/etc/ssh/", f"{folder}/")
    tasks = [task for task in YAML(typ="safe").load(text) if "ife_aircraft" in str(task)]
    fleet = {"src": str(ROLE / "templates/fleet.json.j2"), "dest": str(folder / "fleet.json")}
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": [
            {"ansible.builtin.include_role": {"name": "hangar", "tasks_from": "preflight"}},
            *tasks,
            {"ansible.builtin.template": {**fleet, "mode": "0644"}},
        ],
    }
    (folder / "play.json").write_text(json.dumps([play]))
    given = {
        "pki_directory": str(folder / "pki"),
        "hangar_airline": AIRLINE,
        "hangar_wheel": str(folder / "ife.whl"),
        "hangar_requirements": str(folder / "requirements.txt"),
        "hangar_content_directory": str(folder / "content"),
        "hangar_aircraft": [
            {"registration": name, "type": "", "pki_directory": str(folder / name)}
            for name in ("EC-LAB", "EC-TWO")
        ],
    }
    return ansible_playbook(
        folder / "play.json", "--extra-vars", json.dumps(given | variables), ANSIBLE_NOCOLOR="1"
    )


@as_root
def test_an_aircraft_that_is_revoked_loses_its_keys(tmp_path: Path) -> None:
    keys = tmp_path / "ife_aircraft"
    keys.mkdir()
    # What the run before has brought.
    (keys / "ife-ec-two").write_text("ssh-ed25519 AAAA EC-TWO\n")
    done = _provision(tmp_path, hangar_revoked_aircraft=["EC-TWO"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in keys.iterdir()] == ["ife-ec-lab"]
    assert list(aircraft.load(tmp_path / "fleet.json")) == ["EC-LAB"]


@as_root
def test_one_that_is_misspelt_is_told(tmp_path: Path) -> None:
    done = _provision(tmp_path, hangar_revoked_aircraft=["EC-TOW"])
    assert done.returncode != 0
    assert "that hangar_aircraft has, and it has not EC-TOW" in " ".join(done.stdout.split())
    assert not (tmp_path / "fleet.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="sshd wants its folder in /run, which takes root")
def test_one_address_neither_shuts_all_others_out_nor_its_whole_airport(tmp_path: Path) -> None:
    file = render(tmp_path, "hangar", "sshd.conf.j2")
    penalties = {"crash:90", "authfail:0", "noauth:0", "grace-exceeded:0"}
    (line,) = (each for each in file.read_text().splitlines() if "Penalties" in each)
    assert set(line.split()[1:]) == {f"{penalty}s" for penalty in penalties}
    told = sshd_told(file, tmp_path)
    assert {
        "logingracetime 20",
        "maxstartups 100:30:300",
        "persourcemaxstartups 50",
        "persourcenetblocksize 32:64",
    } <= set(told)
    if knows_penalties():
        (line,) = (each for each in told if each.startswith("persourcepenalties "))
        assert penalties <= set(line.split())
