"""The messages and music of an aircraft are those of the controller's folders, and no others."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ruamel.yaml import YAML

from tests.roles.helpers import ROOT, ansible_playbook

ROLE = ROOT / "roles/pa_audio"


def test_what_is_no_longer_in_its_folder_is_no_longer_played(tmp_path: Path) -> None:
    given = {name: tmp_path / name for name in ("messages", "spring", "winter")}
    for folder, files in (
        ("messages", ("announcements.json", "belts.wav")),
        ("spring", ("one.wav", "two.wav")),
        ("winter", ("two.wav", "three.wav")),
    ):
        given[folder].mkdir()
        for name in files:
            (given[folder] / name).write_text(folder)
    assert _bring(tmp_path, given["messages"], given["spring"]) == {
        "pram": {"announcements.json": "messages", "belts.wav": "messages"},
        "music": {"one.wav": "spring", "two.wav": "spring"},
    }
    (given["messages"] / "belts.wav").unlink()
    there = {
        "pram": {"announcements.json": "messages"},
        "music": {"two.wav": "winter", "three.wav": "winter"},
    }
    assert _bring(tmp_path, given["messages"], given["winter"]) == there
    # Without folders the aircraft gets them otherwise.
    assert _bring(tmp_path, None, None) == there


def _bring(aircraft: Path, messages: Path | None, music: Path | None) -> dict[str, dict[str, str]]:
    """What an aircraft has after the role's tasks, by folder and file."""
    folders = ("pram", "music")
    for folder in folders:
        (aircraft / folder).mkdir(exist_ok=True)
    yaml = YAML(typ="safe")
    names = ["Bring messages and music", "Look for messages and music that are no more"]
    tasks = [
        task
        for task in yaml.load(ROLE / "tasks/main.yml")
        if task["name"] in (*names, "Take them away")
    ]
    assert len(tasks) == 3
    variables = yaml.load(
        (ROLE / "vars/main.yml").read_text().replace("/var/lib/ife", str(aircraft))
    )
    variables |= {
        "pa_audio_messages": str(messages or ""),
        "pa_audio_music": str(music or ""),
        "ansible_python_interpreter": sys.executable,
    }
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False}
    (aircraft / "play.yml").write_text(json.dumps([play | {"vars": variables, "tasks": tasks}]))
    done = ansible_playbook(aircraft / "play.yml")
    assert done.returncode == 0, done.stdout
    return {
        folder: {path.name: path.read_text() for path in (aircraft / folder).iterdir()}
        for folder in folders
    }
