"""Starts one program the way systemd would, and becomes it.

Supervisor runs ``python -m bench.launch --pid-file FILE … -- COMMAND``. What an earlier run of
the program left behind is ended first, as systemd does by control group. Then come the
listening socket, the limits, the umask and the user, and the command takes this process over, so
that nothing stands between it and supervisor.
"""

from __future__ import annotations

import argparse
import ctypes
import grp
import os
import pwd
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import processes

_PR_SET_PDEATHSIG = 1
_FIRST_SOCKET = 3
"""Where sd_listen_fds(3) has the first socket that the service manager passes."""


def main(arguments: Sequence[str]) -> None:
    """Become the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.launch", description=__doc__)
    parser.add_argument("--pid-file", type=Path, required=True, help="where to note the process")
    parser.add_argument("--user", help="whom to run as (default: whoever starts it)")
    parser.add_argument("--group", action="append", default=[], help="a supplementary group")
    parser.add_argument("--umask", type=lambda text: int(text, 8), default=0o022)
    parser.add_argument("--limit", action="append", default=[], help="of setrlimit(2): RTPRIO=21")
    parser.add_argument("--socket", action="store_true", help="standard input is its socket")
    parser.add_argument(
        "--end-with", default="TERM", help="signal it gets should supervisor die (default: TERM)"
    )
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)

    processes.end(options.pid_file)
    processes.write_pid_file(options.pid_file)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SUPERVISOR_")}
    if options.socket:
        _pass_socket(environment)
    for name, _, limit in (limit.partition("=") for limit in options.limit):
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (int(limit), int(limit)))
        except ValueError as error:
            # Root in a container may not raise them, and the app tells what it does without.
            print(f"limit {name}: {error}", file=sys.stderr)
    os.umask(options.umask)
    if options.user:
        _become(options.user, options.group, environment)
    # After the change of user, which clears it; execve(2) keeps it.
    end_with_parent(signal.Signals[f"SIG{options.end_with}"])
    os.execvpe(options.command[0], options.command, environment)


def end_with_parent(number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent dies (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number)) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _pass_socket(environment: dict[str, str]) -> None:
    os.dup2(0, _FIRST_SOCKET, inheritable=True)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0, inheritable=True)
    os.close(nothing)
    environment |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}


def _become(user: str, groups: Sequence[str], environment: dict[str, str]) -> None:
    entry = pwd.getpwnam(user)
    more = [grp.getgrnam(group).gr_gid for group in groups]
    os.setgroups([*os.getgrouplist(user, entry.pw_gid), *more])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    environment |= {"USER": user, "LOGNAME": user, "HOME": entry.pw_dir}


if __name__ == "__main__":
    main(sys.argv[1:])
