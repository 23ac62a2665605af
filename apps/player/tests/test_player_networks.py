"""The children on a network of their own: interfaces that come and go, and are told apart."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(120)

COMMON = """
import base64, json, os, socket, struct, subprocess, sys, tempfile, time
from ipaddress import IPv4Address
from pathlib import Path
from apps.common.pa import Signer, Source, group
from apps.common.testing import wait_until
from apps.player.testing import PaServer, unix_pair

folder = Path(tempfile.mkdtemp())
server = IPv4Address("10.9.1.2")

def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, timeout=10)

def pair(name, peer, net):
    ip("link", "add", name, "type", "veth", "peer", "name", peer)
    for number, end in enumerate((name, peer), start=1):
        ip("address", "add", f"10.9.{net}.{number}/24", "dev", end)
        ip("link", "set", end, "up")
        Path(f"/proc/sys/net/ipv4/conf/{end}/accept_local").write_text("1")

def child(module, *arguments, fds, **variables):
    variables |= {"REGISTRATION": "EC-LAB", "MULTICAST_INTERFACE": "cabin"}
    return subprocess.Popen(
        [sys.executable, "-m", module, "--parent", str(os.getpid()), *arguments],
        pass_fds=fds,
        env=os.environ | {f"IFE_{name}": str(value) for name, value in variables.items()},
    )

ip("link", "set", "lo", "up")
pair("cabin", "server", 1)
# The routing table would choose another interface.
pair("wifi", "phone", 2)
ip("route", "add", "default", "dev", "wifi")
"""

PA = (
    COMMON
    + """
key = Signer(bytes(32))
(folder / "keys").write_text(base64.urlsafe_b64encode(key.public_key).decode().rstrip("="))
(folder / "sound").touch()
ours, theirs = unix_pair()
pa = child(
    "apps.player.pa", "--tell", str(theirs.fileno()), fds=[theirs.fileno()],
    MULTICAST_SOURCE=server, PA_AREA=2, PA_PUBLIC_KEYS_FILE=folder / "keys",
    PA_SINK=f"file:{folder / 'sound'}",
)

def reports(**wanted):
    def condition():
        report = json.loads(ours.recv(600))
        return all(report[name] == value for name, value in wanted.items())
    return condition

def speaks(number):
    with PaServer(key, server, interface="server") as one:
        one.announce(Source.CREW, number)
        wait_until(reports(on=True, number=number), f"announcement {number} is heard", 15)
        one.end()
        wait_until(reports(on=False), "it is over")

def members():
    return subprocess.run(["cat", "/proc/net/mcfilter"], capture_output=True, text=True).stdout

speaks(1)
assert members().count("cabin") == 2 and "wifi" not in members(), members()

# A phone says it in the server's name, on another interface.
ip("address", "add", f"{server}/32", "dev", "phone")
with PaServer(key, server, interface="phone") as one:
    one.announce(Source.PILOT, 99)
    for _ in range(4):
        assert json.loads(ours.recv(600))["number"] != 99
ip("address", "del", f"{server}/32", "dev", "phone")

# The cable is pulled, in the middle of an announcement.
with PaServer(key, server, interface="server") as one:
    one.announce(Source.CREW, 2)
    wait_until(reports(on=True, number=2), "it is heard")
    ip("link", "set", "server", "down")
    wait_until(reports(on=False, relied_on=False), "it broke off")
    wait_until(reports(faults=["pa-multicast"]), "that is told")
    ip("link", "set", "server", "up")
    wait_until(reports(on=True, number=2), "it is heard again", 15)

# The interface goes, and comes back as another.
ip("link", "delete", "cabin")
wait_until(reports(faults=["pa-multicast"]), "that is told")
pair("cabin", "server", 1)
speaks(3)
wait_until(reports(faults=[]), "all is well")

# A switch that snoops forgets the seat. Which is not asked, so it has to say so by itself.
ip("link", "delete", "cabin")
ip("link", "add", "switch", "type", "bridge", "mcast_snooping", "1", "mcast_querier", "1")
ip("link", "set", "switch", "up")
for net, (name, port) in enumerate([("cabin", "port1"), ("server", "port2")], start=1):
    ip("link", "add", name, "type", "veth", "peer", "name", port)
    ip("link", "set", port, "master", "switch", "up")
    ip("link", "set", port, "type", "bridge_slave", "mcast_flood", "off")
    ip("address", "add", f"10.9.1.{net}/24", "dev", name)
    ip("link", "set", name, "up")
    Path(f"/proc/sys/net/ipv4/conf/{name}/accept_local").write_text("1")

def known():
    table = json.loads(subprocess.run(
        ["bridge", "-json", "mdb", "show"], capture_output=True, check=True, timeout=10).stdout)
    return [entry for entry in table[0]["mdb"] if entry["port"] == "port1"]

def forget(entries):
    for entry in entries:
        name = ["src", entry["src"]] if "src" in entry else []
        subprocess.run(["bridge", "mdb", "del", "dev", "switch", "port", "port1", "grp",
                        entry["grp"], *name], check=True, timeout=10)

groups = {str(group(area)) for area in (0, 2)}

def all_are_known():
    return groups <= {entry["grp"] for entry in known()}

with PaServer(key, server, interface="server") as one:
    one.announce(Source.CREW, 4)
    wait_until(reports(on=True, number=4), "it is heard through the switch", 20)
    wait_until(all_are_known, "the switch knows the seat")
    forget(known())
    wait_until(reports(on=False), "the switch has forgotten it")
    wait_until(reports(on=True, number=4), "it is heard again", 20)

    # It forgets one group, and what it still lets through must not hide that.
    for lost in groups:
        wait_until(all_are_known, "the switch knows the seat", 20)
        forget(entry for entry in known() if entry["grp"] == lost)
        assert not all_are_known()
        wait_until(all_are_known, f"the seat has joined {lost} again", 20)
        wait_until(reports(on=True, number=4, relied_on=True), "it is heard", 20)
pa.kill()
print("all is well")
"""
)

CHANNEL = (
    COMMON
    + """
import threading

clip = Path(sys.argv[1]).read_bytes()
SIZE = 7 * 188
over = threading.Event()
sending = threading.Event()

def send(interface, address, group):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        index = socket.if_nametoindex(interface)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF,
                        struct.pack("=4s4si", bytes(4), bytes(4), index))
        sock.bind((address, 0))
        count = len(clip) // SIZE
        began, number = time.monotonic(), 0
        while not over.is_set():
            piece = clip[number % count * SIZE:][:SIZE]
            due = began + number * 10 / count
            time.sleep(max(0, due - time.monotonic()))
            stamp = int(due * 90000) & 0xFFFFFFFF
            head = struct.pack("!BBHII", 0x80, 33, number & 0xFFFF, stamp, 7)
            if sending.is_set():
                sock.sendto(head + piece, (group, 5004))
            number += 1

ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
ours.settimeout(10)
screen = child(
    "apps.player.screen", "--agent", str(theirs.fileno()), "--folder", str(folder),
    fds=[theirs.fileno()], VIDEO_OUTPUT="dummy", AUDIO_OUTPUT="dummy",
)
news = []

def say(**order):
    ours.send(json.dumps(order).encode())

def shown():
    while True:
        news.append(json.loads(ours.recv(4096)))
        if news[-1]["event"] == "running":
            return news[-1]["shown"]

def moves():
    before = shown()
    return lambda: shown() > before + 10

def url(source, group):
    return f"rtp://{source}@{group}:5004"

threading.Thread(target=send, args=("server", "10.9.1.2", "239.192.80.1"), daemon=True).start()
threading.Thread(target=send, args=("phone", "10.9.2.2", "239.192.80.2"), daemon=True).start()
sending.set()
say(do="play", url=url("10.9.1.2", "239.192.80.1"), live=True)
wait_until(moves(), "the channel plays", 20)
members = Path("/proc/net/mcfilter").read_text()
assert "cabin" in members and "wifi" not in members, members

# Imposed over it, and back.
say(do="impose", url=url("10.9.1.2", "239.192.80.1"))
wait_until(moves(), "the imposed channel plays", 20)
say(do="impose", url=None)
wait_until(moves(), "the channel plays again", 20)

# An announcement by the agent: the channel goes on behind it, and is there at once.
say(do="hold", on=True)
wait_until(lambda: shown() is not None and not news[-1]["moving"], "it is held")
say(do="hold", on=False)
wait_until(moves(), "the channel is back")

# Nothing comes: that is to be seen in the figures.
sending.clear()
wait_until(lambda: shown() == shown() == shown(), "the picture stands still")
assert news[-1]["moving"]
sending.set()
wait_until(moves(), "it goes on", 20)

# What is on another interface is not taken, nor what another source sends.
for source, group in [("10.9.2.2", "239.192.80.2"), ("10.9.1.9", "239.192.80.1")]:
    say(do="play", url=url(source, group), live=True)
    wait_until(lambda: shown() == 0, "nothing is shown")
    for _ in range(10):
        assert shown() == 0
over.set()
screen.kill()
print("all is well")
"""
)


def _in_a_namespace(command: list[str], timeout: float = 100) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "--net", "--map-root-user", *command],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


needs_namespaces = pytest.mark.skipif(
    shutil.which("unshare") is None or _in_a_namespace(["true"]).returncode != 0,
    reason="this machine makes no network namespaces for us",
)


@needs_namespaces
def test_the_pa_is_heard_on_its_interface_alone_which_may_come_and_go() -> None:
    done = _in_a_namespace([sys.executable, "-c", PA])
    assert (done.stdout, done.returncode) == ("all is well\n", 0), done.stderr


@needs_namespaces
def test_a_channel_comes_from_its_source_on_its_interface_alone(tmp_path: Path) -> None:
    clip = tmp_path / "clip.ts"
    subprocess.run(
        [
            *("ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"),
            *("-f", "lavfi", "-i", "sine", "-t", "10", "-c:v", "libx264", "-preset", "ultrafast"),
            *("-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac", "-muxrate", "1500k"),
            *("-f", "mpegts", str(clip)),
        ],
        check=True,
        timeout=60,
    )
    done = _in_a_namespace([sys.executable, "-c", CHANNEL, str(clip)])
    assert (done.stdout, done.returncode) == ("all is well\n", 0), done.stderr
