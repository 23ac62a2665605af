"""``ife-publish``: the command line. Exit status: 0 done, 1 not, or not all of it, 2 wrong use."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from apps.common.content import KINDS, Airline, Entry
from apps.common.files import write_whole
from apps.publish import disk
from apps.publish.keys import Keys, KeysError, passphrase
from apps.publish.push import push
from apps.publish.repository import KEYS, ROLES, PublishError, Repository, Signed

_NUMBERS = re.compile(rf"({'|'.join(ROLES)})=([1-9])/([1-9])")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (PublishError, KeysError) as error:
        print(f"ife-publish: {error}", file=sys.stderr)
    except OSError as error:
        print(f"ife-publish: {error.filename or ''}: {error.strerror}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ife-publish",
        description="Makes and signs the content that aircraft trust (apps/publish/README.md).",
    )
    parser.add_argument("--passphrase-file", type=Path, help="of the keys")
    parser.add_argument("--keys", type=Path, help="folder of the keys, else DIR/keys")
    parser.add_argument(
        "--offline", type=Path, help="folder of the keys of root and targets, else DIR/offline"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], about: str) -> _Adder:
        one = commands.add_parser(name, help=about, description=about)
        one.set_defaults(command=command)
        one.add_argument("directory", type=Path, metavar="DIR")
        return one.add_argument

    argument = add("init", _init, "Make a repository and its keys")
    argument("--airline", required=True, help="its designator of ICAO: EXA")
    numbers = "N of M keys must sign: firmware=2/3"
    argument("--keys-of", action="append", default=[], metavar="ROLE=N/M", help=numbers)
    argument = add("add", _add, "Put an entry, with its files, into the draft of a kind")
    argument("kind", choices=KINDS)
    argument("entry", type=Path, help="a file of JSON; its files lie beside it")
    argument("--files", type=Path, help="or in this folder")
    argument = add("retire", _retire, "Take entries out of the draft of a kind")
    argument("kind", choices=KINDS)
    argument("ids", nargs="+", metavar="ID")
    argument = add("sign", _sign, "Publish what has changed, as far as the keys at hand go")
    argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; else all")
    argument = add("rotate", _rotate, "Replace a key by a new one")
    argument("role", choices=ROLES)
    argument("--number", type=int, default=1, help="which of its keys, from 1")
    argument = add("expire", _expire, "Have a role expire in so many days")
    argument("role", choices=ROLES)
    argument("--days", type=int, required=True)
    argument = add("disk", _disk, "Make a crew disk")
    argument("to", type=Path, help="a folder; with --image a file, or a whole stick: /dev/sdX")
    argument("--image", action="store_true", help="as an ext4 file system; a stick is overwritten")
    argument = add("push", _push, "Bring what is published to a Hangar")
    argument("to", help="a folder, as rsync names it: hangar:/srv/ife/content")
    argument = add("plan", _plan, "What an aircraft would fetch, and how long that takes")
    argument("--has", type=int, help="the set that it has; else none")
    argument("--rate", type=float, default=5.0, help="of its link, in Mbit/s; 5 unless given")
    add("prune", _prune, "Remove files that neither the newest set nor a draft has")
    add("status", _status, "Versions, expiry, and what waits for signatures")
    return parser


_Adder = Callable[..., argparse.Action]


def _open(options: argparse.Namespace, *, signs: bool = False) -> Repository:
    folders = (
        options.keys or options.directory / "keys",
        options.offline or options.directory / "offline",
    )
    secret = passphrase(options.passphrase_file) if signs else b""
    repository = Repository(options.directory, Keys(folders, secret))
    if options.command is not _init and not repository.is_there:
        raise PublishError(f"{options.directory} has no repository: make one with ife-publish init")
    return repository


def _init(options: argparse.Namespace) -> int:
    numbers = dict(KEYS)
    for text in options.keys_of:
        match = _NUMBERS.fullmatch(text)
        if not match:
            raise PublishError(f"--keys-of {text}: write firmware=2/3")
        numbers[match[1]] = int(match[2]), int(match[3])
    try:
        airline = TypeAdapter(Airline).validate_python(options.airline)
    except ValidationError:
        raise PublishError("--airline: three capital letters, as EXA") from None
    repository = _open(options, signs=True)
    repository.begin(airline, numbers)
    root = options.directory / "root.json"
    write_whole(root, repository.root_path.read_bytes())
    offline = options.offline or options.directory / "offline"
    print(f"{options.directory} has an empty repository of {airline}.")
    print(f"Next: move {offline} to where nobody gets at it by a network,")
    print(f"and give each aircraft {root} (content_sync_root in the inventory).")
    return 0


def _add(options: argparse.Namespace) -> int:
    try:
        entry = Entry.model_validate_json(options.entry.read_bytes())
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, problem['loc'])) or 'the file'}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise PublishError(f"{options.entry}: " + "; ".join(lines)) from None
    repository = _open(options)
    with repository.alone():
        repository.add(options.kind, entry, options.files or options.entry.parent)
    print(f"{entry.id} is in the draft of {options.kind}.")
    print(f"Next: ife-publish sign {options.directory}")
    return 0


def _retire(options: argparse.Namespace) -> int:
    repository = _open(options)
    with repository.alone():
        repository.retire(options.kind, set(options.ids))
    print(f"Out of the draft of {options.kind}. Next: ife-publish sign {options.directory}")
    return 0


def _sign(options: argparse.Namespace) -> int:
    unknown = set(options.kinds) - set(KINDS)
    if unknown:
        raise PublishError(f"there is no kind {', '.join(sorted(unknown))}")
    repository = _open(options, signs=True)
    with repository.alone():
        return _say(repository, repository.sign(options.kinds or KINDS))


def _rotate(options: argparse.Namespace) -> int:
    repository = _open(options, signs=True)
    with repository.alone():
        return _say(repository, repository.rotate(options.role, options.number))


def _expire(options: argparse.Namespace) -> int:
    repository = _open(options, signs=True)
    with repository.alone():
        return _say(repository, repository.expire(options.role, options.days))


def _say(repository: Repository, done: Signed) -> int:
    for role, version in done.published.items():
        print(f"{role} {version} is published.")
    for role, (has, needs) in done.waiting.items():
        print(f"{role} waits: it has {has} of {needs} signatures.")
    for role, others in done.held.items():
        print(
            f"{role} is signed, and waits: enough keys have to sign {' and '.join(others)} first."
        )
    for role, why in done.unfit.items():
        print(
            f"{role} is signed, but not published: {why}. Aircraft would refuse the whole set.\n"
            f"Next: have {role} signed anew, as it should be: "
            f"ife-publish sign {repository.folder} {role}."
        )
    over = _say_late(repository)
    if done.unfit:
        return 1
    if done.waiting or done.held:
        print("Next: who has the other keys runs ife-publish sign on this folder.")
        return 1
    if not done.published:
        print("Nothing has changed.")
    print(f"The newest set is {repository.version}.")
    return int(over)


def _say_late(repository: Repository) -> bool:
    """Tell what has to be signed anew; whether aircraft refuse everything until it is."""
    over = False
    for role, expires, is_over in repository.late():
        over |= is_over
        if is_over:
            told = f"has expired on {expires:%Y-%m-%d}. Until it is signed, aircraft refuse all."
        else:
            told = f"expires on {expires:%Y-%m-%d}. From then on aircraft refuse all sets."
        print(f"{role} {told}")
        print(
            f"Next: who has its keys runs ife-publish expire {repository.folder} {role} --days 365."
        )
    return over


def _disk(options: argparse.Namespace) -> int:
    repository = _open(options)
    if options.image:
        version, total = disk.to_image(repository, options.to)
    else:
        tell = _bar if sys.stderr.isatty() else _no_bar
        version, total = disk.to_folder(repository, options.to, tell)
    print(f"{options.to} has set {version}, {_size(total)}.")
    print("Next: unmount it, and have the crew insert it into a port for crew disks.")
    return 0


def _push(options: argparse.Namespace) -> int:
    version = push(_open(options), options.to)
    print(f"{options.to} has set {version}.")
    return 0


def _no_bar(done: int, total: int) -> None:
    """Nobody watches."""


def _bar(done: int, total: int) -> None:
    end = "\n" if done == total else "\r"
    print(f"{_size(done)} of {_size(total)}", end=end, file=sys.stderr, flush=True)


def _plan(options: argparse.Namespace) -> int:
    repository = _open(options)
    files = repository.files()
    has = repository.files(options.has) if options.has else {}
    here = {file.digest for file in has.values()}
    bytes_a_second = options.rate * 1e6 / 8
    if bytes_a_second <= 0:
        raise PublishError("--rate: more than nothing")
    print(f"{'kind':15} {'files':>7} {'size':>10} {'time':>9}")
    total = count = 0
    for kind in KINDS:
        new = {
            file.digest: file.length
            for name, file in files.items()
            if name.startswith(f"{kind}/") and file.digest not in here
        }
        here |= set(new)
        total, count = total + sum(new.values()), count + len(new)
        if new:
            size = sum(new.values())
            print(f"{kind:15} {len(new):7} {_size(size):>10} {_time(size / bytes_a_second):>9}")
    print(f"{'all':15} {count:7} {_size(total):>10} {_time(total / bytes_a_second):>9}")
    return 0


def _prune(options: argparse.Namespace) -> int:
    repository = _open(options)
    with repository.alone():
        count, freed = repository.prune()
    print(f"{count} files are gone, {_size(freed)}.")
    return 0


def _status(options: argparse.Namespace) -> int:
    repository = _open(options)
    print(f"The newest set is {repository.version}.")
    for role, version, expires in repository.states():
        print(f"{role:15} version {version:4}, expires {expires:%Y-%m-%d}")
    over = _say_late(repository)
    waiting = sorted(path.stem for path in (options.directory / "unsigned").glob("*.json"))
    for role in waiting:
        print(f"{role} waits for signatures: ife-publish sign {options.directory}")
    repository.check_clock()
    return int(over)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


if __name__ == "__main__":
    sys.exit(main())
