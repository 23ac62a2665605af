"""Every role has one shape, and its variables are documented where Ansible checks them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
SHARED = {"cabin_layout", "network_interfaces", "pki_directory", "registration"}
"""Variables that belong to the aircraft, not to a role."""

ON_CONTROLLER = {"pki"}
"""Certificates are made there."""

ON_THE_GROUND = {"hangar"}
"""Roles of the Hangar alone: no aircraft has them, and the image has nothing of them."""

ON_SERVERS = [role for role in ROLES if role not in ON_CONTROLLER]


def _read(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def _options(role: str) -> dict[str, Any]:
    specs = _read(ROOT / "roles" / role / "meta/argument_specs.yml")
    options: dict[str, Any] = specs["argument_specs"]["main"]["options"]
    return options


def test_there_are_roles() -> None:
    assert {"nginx", "pki", "postgresql", "redis", "seat_control", "crew_web"} <= set(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_the_fixed_skeleton(role: str) -> None:
    folder = ROOT / "roles" / role
    for file in ("defaults/main.yml", "meta/main.yml", "tasks/main.yml", "tasks/preflight.yml"):
        assert (folder / file).exists(), file
    text = (folder / "README.md").read_text()
    assert text.startswith(f"# {role}\n")
    assert len(text.splitlines()) <= 150


@pytest.mark.parametrize("role", ROLES)
def test_the_defaults_are_those_that_the_specification_tells(role: str) -> None:
    """Ansible shows people the specification, and uses the defaults."""
    told = {
        name: option["default"] for name, option in _options(role).items() if "default" in option
    }
    assert told == _read(ROOT / "roles" / role / "defaults/main.yml")


@pytest.mark.parametrize("role", ROLES)
def test_a_variable_is_described_and_either_required_or_has_a_default(role: str) -> None:
    for name, option in _options(role).items():
        assert option["description"].endswith("."), name
        assert option["type"], name
        assert option.get("required", False) != ("default" in option), name


@pytest.mark.parametrize("role", ROLES)
def test_a_variable_carries_the_roles_name(role: str) -> None:
    assert [n for n in _options(role) if n not in SHARED and not n.startswith(f"{role}_")] == []


def _provisioned(playbook: str) -> list[str]:
    """The roles that a playbook gives a server, all of which it checks before."""
    *_, check, provision = _read(ROOT / f"playbooks/{playbook}.yml")
    assert check["tasks"][0]["loop"] == provision["roles"]
    return [entry["role"] for entry in provision["roles"]]


@pytest.mark.parametrize("role", ON_SERVERS)
def test_a_role_is_checked_before_the_first_change(role: str) -> None:
    """A playbook calls the preflight of each role, with all that the role wants."""
    specs = _read(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]
    assert specs["preflight"] == specs["main"]
    assert role in _provisioned("hangar" if role in ON_THE_GROUND else "site")


def test_what_is_of_the_ground_stays_there() -> None:
    assert not ON_THE_GROUND & set(_provisioned("site"))
    (image,) = _read(ROOT / "playbooks/image.yml")
    assert not ON_THE_GROUND & {entry["role"] for entry in image["roles"]}
    assert set(_provisioned("site")) | ON_THE_GROUND == set(ON_SERVERS)


@pytest.mark.parametrize("role", ON_SERVERS)
def test_each_task_is_of_a_phase(role: str) -> None:
    """What the image, or any server, gets and what makes the one of it is told by the tag."""
    for task in _read(ROOT / "roles" / role / "tasks/main.yml"):
        phases = set(task["tags"])
        assert len(phases) == 1, task["name"]
        assert phases <= {"always", "packages", "image", "configuration"}, task["name"]


@pytest.mark.parametrize("role", ON_SERVERS)
def test_each_handler_can_be_called_by_a_run_that_follows_one_cut_off(role: str) -> None:
    """The playbook does not know which of them that run would have called."""
    file = ROOT / "roles" / role / "handlers/main.yml"
    for handler in _read(file) if file.exists() else []:
        assert handler["listen"] == "Apply everything", handler["name"]


@pytest.mark.parametrize("role", ON_SERVERS)
def test_packages_are_written_once(role: str) -> None:
    """The image has what <role>_packages says, and the role asks for no other."""
    for task in _read(ROOT / "roles" / role / "tasks/main.yml"):
        if "ansible.builtin.apt" in task:
            assert task["ansible.builtin.apt"]["name"] == f"{{{{ {role}_packages }}}}"
            assert _read(ROOT / "roles" / role / "vars/main.yml")[f"{role}_packages"]


@pytest.mark.timeout(300)
def test_ansible_lint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [
            Path(sys.executable).parent / "ansible-lint",
            *(
                "--offline",
                "--profile=production",
                "--nocolor",
                "-q",
                "roles",
                "playbooks",
                "inventory",
                "molecule",
            ),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
