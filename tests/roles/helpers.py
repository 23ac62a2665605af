"""Runs playbooks/pki.yml, and renders the templates of the roles."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import bench.render

ROOT = Path(__file__).parents[2]

LAYOUT = """\
title: A small cabin
classes: {economy: Economy}
zones: {cabin: Cabin}
pa_areas: {cabin: Cabin}
rows:
  - {first: 1, last: 3, letters: AC, class: economy, zone: cabin, pa_area: cabin}
doors: {1L: {before: 1, side: left}}
galleys: {G1: {after: 3, side: right}}
"""
SEATS = ("1A", "1C", "2A", "2C", "3A", "3C")
AIRLINE = "Example Airline 2"
SERVER = ("10.20.0.1", "10.22.0.1")
"""Its addresses in the cabin and for the crew."""

SESAME = "open sesame"
AUTHORITY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKk0mtUkB8U4iDcZAU8u4bPIwzsC8Tkz0Mi3tbB8u4Pa lab"
"""The public key of who signs for engineers."""


@dataclass(frozen=True)
class Run:
    """One run of playbooks/pki.yml: the result of each task by its name, and what went wrong."""

    results: dict[str, dict[str, Any]]
    failed: bool
    output: str

    @property
    def errors(self) -> list[str]:
        """What the failed tasks said."""
        return [result["msg"] for result in self.results.values() if result.get("failed")]

    @property
    def changed(self) -> set[str]:
        """The tasks that changed something."""
        return {name for name, result in self.results.items() if result.get("changed")}


@dataclass(frozen=True)
class Pki:
    """The certificates of an aircraft, in `directory`."""

    directory: Path
    registration: str
    authority: Path
    layout: Path

    def run(self, *arguments: str, **variables: object) -> Run:
        """Run the playbook."""
        given = {
            "registration": self.registration,
            "pki_directory": str(self.directory),
            "pki_authority_directory": str(self.authority),
            "pki_authority_passphrase": SESAME,
            "pki_airline": AIRLINE,
            "pki_layout": str(self.layout),
            "pki_server_addresses": ["127.0.0.1", *SERVER],
        } | variables
        done = ansible_playbook(
            ROOT / "playbooks/pki.yml",
            "--extra-vars",
            json.dumps(given),
            *arguments,
            ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
        )
        tasks = json.loads(done.stdout)["plays"][0]["tasks"]
        return Run(
            {
                task["task"]["name"].split(" : ")[-1]: task["hosts"].get("localhost", {})
                for task in tasks
            },
            done.returncode != 0,
            done.stdout + done.stderr,
        )


def ansible_playbook(
    playbook: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a playbook to its end, well or not."""
    return subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", playbook, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def told_by_preflight(folder: Path, hosts: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What the role `checked` of each host tells of its variables, where they are wrong.

    In one run, where none stops the others; `folder` is for its files.
    """
    include = {"name": "{{ checked }}", "tasks_from": "preflight"}
    play = {
        "hosts": "aircraft",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.include_role": include}],
    }
    (folder / "play.json").write_text(json.dumps([play]))
    (folder / "hosts.json").write_text(json.dumps({"aircraft": {"hosts": hosts}}))
    done = ansible_playbook(
        folder / "play.json",
        f"--inventory={folder / 'hosts.json'}",
        ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
    )
    told: dict[str, list[str]] = {}
    for task in json.loads(done.stdout)["plays"][0]["tasks"]:
        for host, result in task["hosts"].items():
            for one in (result, *result.get("results", ())):
                if one.get("failed"):
                    told.setdefault(host, []).append(str(one["msg"]))
    return {host: " ".join(" ".join(messages).split()) for host, messages in told.items()}


def load_module(name: str) -> ModuleType:
    """One of the role's own Ansible modules, to call its functions."""
    for package, folder, file in (
        ("ansible.module_utils.", "module_utils", "pki_files"),
        ("", "library", name),
    ):
        path = ROOT / "roles/pki" / folder / f"{file}.py"
        spec = importlib.util.spec_from_file_location(package + file, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[package + file] = module
        spec.loader.exec_module(module)
    return module


def render(folder: Path, role: str, template: str, **variables: object) -> Path:
    """Render a template of a role into `folder`, with its defaults and what differs."""
    rendered = folder / template.removesuffix(".j2")
    rendered.write_text(bench.render.render(role, template, **variables))
    return rendered
