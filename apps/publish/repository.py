"""A publisher's folder: a TUF repository, what it is made from, and who signs what.

::

    repository/     what is published (apps/common/content.py has the layout)
    drafts/         a catalogue of each kind as it is to be, with its files
    keys/           the keys that are needed day by day
    offline/        the keys of root and targets: to be kept elsewhere
    unsigned/       metadata that waits for further signatures
    .lock           held by whoever writes to any of these

`targets` has no files of its own; it says which keys sign which kind.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from apps.common.commands import Strict
from apps.common.content import (
    CATALOGUE,
    KINDS,
    MADE,
    MAX_CATALOGUE,
    MAX_KIND,
    MAX_SET,
    METADATA,
    OBJECTS,
    Airline,
    Catalogue,
    Entry,
    FileName,
    Kind,
    SetFile,
    TargetName,
    object_path,
    target_name,
)
from apps.common.files import sync, take_lock, write_whole
from apps.publish.keys import Keys

ONLINE = ("snapshot", "timestamp")
OFFLINE = ("root", "targets")
ROLES = (*OFFLINE, *ONLINE, *KINDS)

KEYS: Mapping[str, tuple[int, int]] = {
    "root": (2, 3),
    "targets": (2, 3),
    "firmware": (2, 2),
    "configuration": (2, 2),
}
"""How many keys must sign, of how many there are; of other roles one of one."""

DAYS: Mapping[str, int] = {"root": 730, "targets": 730, "snapshot": 60, "timestamp": 30}
"""After how many days each expires; kinds after a year. The timestamp's is how long a crew disk is
good for, and how long somebody who withholds what is new can go unnoticed."""

DAYS_OF_KINDS = 365

LATE = 0.25
"""What has less than this of its time left is signed anew, or told."""

AHEAD = timedelta(days=1)
"""By this much the clock may have been ahead. It costs what is signed next as much of its time."""

ALONE_WITHIN = 30.0
"""Seconds to wait for somebody else, who may be adding a film."""

MAX_KEYS = 9
STAGE = ".stage-"
"""How folders begin that are there for the time of one command."""

CHUNK = 1024 * 1024


class PublishError(Exception):
    """It cannot be done; the message says why, or what to do first."""


class Draft(Strict):
    """A kind as it is to be: its catalogue, and each of its files."""

    catalogue: Catalogue
    files: dict[FileName, SetFile]


@dataclass
class Signed:
    """What signing has come to: roles that are published now, and those that wait.

    Attributes:
        published: with their versions.
        waiting: with the number of signatures that they have, and need.
        held: signed, and with those that have to be signed first: aircraft would refuse them.
        unfit: signed, and why aircraft would refuse the whole set because of it.
    """

    published: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, tuple[int, int]] = field(default_factory=dict)
    held: dict[str, list[str]] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)


class Repository:
    """A publisher's folder.

    Args:
        folder: of it.
        keys: those at hand.
        now: the time.
    """

    def __init__(
        self, folder: Path, keys: Keys, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.folder = folder
        self._keys = keys
        self._now = now
        self.published = folder / "repository"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """During the block nobody else is: two at once would give one version to two things.

        Raises:
            PublishError: somebody else is at work, and does not come to an end.
        """
        lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            # Who may write to the folder may take it, whoever has made it.
            with suppress(PermissionError):
                os.fchmod(lock, 0o666)
            if not take_lock(lock, ALONE_WITHIN):
                raise PublishError(
                    f"somebody else is at work in {self.folder}: try again in a minute"
                )
            yield
        finally:
            os.close(lock)

    # -- looking ------------------------------------------------------------------------------

    @property
    def is_there(self) -> bool:
        """Whether there is a repository in the folder."""
        return (self.published / METADATA / "timestamp.json").exists()

    @property
    def root_path(self) -> Path:
        """The newest root: what an aircraft is given to begin with."""
        return self.published / METADATA / f"{self._newest('root')}.root.json"

    @property
    def version(self) -> int:
        """Of the newest set."""
        version: int = self._load("timestamp").signed.snapshot_meta.version
        return version

    def files(self, version: int | None = None) -> dict[TargetName, SetFile]:
        """Every file of a set, by default of the newest.

        Raises:
            PublishError: there is no such set, or not any more.
        """
        return {
            name: SetFile(digest=target.hashes["sha256"], length=target.length)
            for kind in KINDS
            for name, target in self._load_of(version, kind).signed.targets.items()
        }

    def metadata(self) -> list[Path]:
        """Every file of metadata that somebody needs for the newest set."""
        folder = self.published / METADATA
        roots = [folder / f"{n}.root.json" for n in range(1, self._newest("root") + 1)]
        snapshot = self._load("snapshot", self.version).signed
        named = [folder / f"{meta.version}.{name}" for name, meta in snapshot.meta.items()]
        return [*roots, folder / "timestamp.json", folder / f"{self.version}.snapshot.json", *named]

    def draft(self, kind: Kind) -> Draft:
        """What a kind is to be."""
        return Draft.model_validate_json(self._draft_path(kind).read_bytes())

    def states(self) -> Iterator[tuple[str, int, datetime]]:
        """Each role with its version, and when it expires."""
        for role in ROLES:
            signed = self._load(role).signed
            yield role, signed.version, signed.expires

    def late(self) -> Iterator[tuple[str, datetime, bool]]:
        """Roles that somebody has to sign anew soon: when they expire, and whether they have.

        Once one has, aircraft refuse every set, whatever else is in it.
        """
        for role, _, expires in self.states():
            if role not in ONLINE and self._is_late(role):
                yield role, expires, expires <= self._now()

    def check_clock(self) -> None:
        """See that aircraft will not take for expired what is signed now.

        Raises:
            PublishError: what is published was signed on a day that is still to come, and to
                aircraft that have it that is the date.
        """
        if not self._newest("timestamp") or not self._is_trusted("timestamp"):
            return
        made = datetime.fromisoformat(self._load("timestamp").signed.unrecognized_fields[MADE])
        if made > self._now() + AHEAD:
            raise PublishError(
                f"the newest set was signed on {made:%Y-%m-%d}, and this machine says that it is "
                f"{self._now():%Y-%m-%d}: set its clock or, if it was wrong then, have aircraft "
                "forget that day, by `rotate DIR timestamp --number 1` and the offline keys"
            )

    # -- content ------------------------------------------------------------------------------

    def add(self, kind: Kind, entry: Entry, folder: Path) -> None:
        """Put an entry into the draft of a kind, in place of one of the same id.

        Args:
            kind: of it.
            entry: it.
            folder: where its files are.

        Raises:
            PublishError: a file is not there, or of the same name as another entry's, and differs.
            OSError: it cannot be written.
        """
        draft = self.draft(kind)
        others = tuple(one for one in draft.catalogue.entries if one.id != entry.id)
        theirs = {name for one in others for name in one.names()}
        files = dict(draft.files)
        for name in sorted(set(entry.names())):
            found = self._add_object(folder / name)
            if name in theirs and files[name] != found:
                raise PublishError(f"another entry has a file {name}, which is not the same")
            files[name] = found
        # All are written before the first is waited for: the disk takes them together.
        self._sync({files[name].digest for name in entry.names()})
        self._write_draft(draft.catalogue, (*others, entry), files)

    def retire(self, kind: Kind, ids: Collection[str]) -> None:
        """Take entries out of the draft of a kind.

        Raises:
            PublishError: there is none of that id.
        """
        draft = self.draft(kind)
        missing = set(ids) - {entry.id for entry in draft.catalogue.entries}
        if missing:
            raise PublishError(f"there is no entry {', '.join(sorted(missing))} in {kind}")
        rest = tuple(entry for entry in draft.catalogue.entries if entry.id not in ids)
        self._write_draft(draft.catalogue, rest, draft.files)

    def prune(self) -> tuple[int, int]:
        """Remove objects that neither the newest set nor a draft has; how many, and their bytes.

        What somebody left behind who was killed goes as well.
        """
        for path in self.folder.glob(f"{STAGE}*"):
            with suppress(OSError), _lock_of(path) as lock:
                if take_lock(lock, 0):
                    shutil.rmtree(path)
        for path in (self.published / OBJECTS).glob(".*.new"):
            path.unlink()
        needed = {file.digest for file in self.files().values()}
        needed |= {file.digest for kind in KINDS for file in self.draft(kind).files.values()}
        count = freed = 0
        for path in sorted((self.published / OBJECTS).glob("??/*")):
            if path.name not in needed:
                count, freed = count + 1, freed + path.stat().st_size
                path.unlink()
        return count, freed

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """A folder of one's own beside the repository, which is gone after the block.

        Raises:
            PublishError: somebody takes it for one that was left behind.
        """
        with (
            tempfile.TemporaryDirectory(dir=self.folder, prefix=STAGE) as name,
            _lock_of(Path(name)) as lock,
        ):
            if not take_lock(lock, 0):
                raise PublishError(f"somebody prunes {self.folder}: try again in a minute")
            yield Path(name)

    def _write_draft(
        self, former: Catalogue, entries: tuple[Entry, ...], files: dict[FileName, SetFile]
    ) -> None:
        try:
            catalogue = Catalogue(kind=former.kind, airline=former.airline, entries=entries)
        except ValidationError as error:
            raise PublishError(f"{former.kind}: {error.errors()[0]['msg']}") from error
        names = catalogue.names()
        draft = Draft(catalogue=catalogue, files={name: files[name] for name in sorted(names)})
        write_whole(self._draft_path(former.kind), _json(draft))

    def _draft_path(self, kind: Kind) -> Path:
        return self.folder / "drafts" / f"{kind}.json"

    def _add_object(self, path: Path) -> SetFile:
        """Copy a file into the repository by its hash."""
        aside = self.published / OBJECTS / f".{os.getpid()}.new"
        digest, length = hashlib.sha256(), 0
        try:
            with path.open("rb") as source, aside.open("wb") as target:
                while chunk := source.read(CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
                    length += len(chunk)
        except FileNotFoundError as error:
            raise PublishError(f"{path} is not there") from error
        self._place(aside, digest.hexdigest())
        return SetFile(digest=digest.hexdigest(), length=length)

    def _add_bytes(self, data: bytes) -> SetFile:
        digest = hashlib.sha256(data).hexdigest()
        place = self.published / object_path(digest)
        place.parent.mkdir(exist_ok=True)
        write_whole(place, data)
        sync(place.parent.parent)
        return SetFile(digest=digest, length=len(data))

    def _place(self, aside: Path, digest: str) -> None:
        place = self.published / object_path(digest)
        place.parent.mkdir(exist_ok=True)
        aside.chmod(0o644)
        aside.replace(place)

    def _sync(self, digests: Collection[str]) -> None:
        paths = [self.published / object_path(digest) for digest in digests]
        for path in (*paths, *{path.parent for path in paths}, self.published / OBJECTS):
            sync(path)

    # -- signing ------------------------------------------------------------------------------

    def begin(self, airline: Airline, numbers: Mapping[str, tuple[int, int]] = KEYS) -> None:
        """Make a repository, empty, with new keys: offline ones in the last of their folders.

        Args:
            airline: whose it is.
            numbers: see `KEYS`.

        Raises:
            PublishError: there is one already, or the numbers make no sense.
        """
        if self.published.exists():
            raise PublishError(f"{self.folder} has a repository already")
        for role, (threshold, count) in numbers.items():
            if not 1 <= threshold <= count <= MAX_KEYS:
                raise PublishError(f"{role}: {threshold} of {count} keys make no sense")
        for inner in ("drafts", "unsigned", f"repository/{METADATA}", f"repository/{OBJECTS}"):
            (self.folder / inner).mkdir(parents=True)
        root = Root(version=1, expires=self._expiry("root"))
        delegations = Delegations(keys={}, roles={})
        targets = Targets(version=1, expires=self._expiry("targets"), delegations=delegations)
        for role in ROLES:
            threshold, count = numbers.get(role, (1, 1))
            if role in KINDS:
                assert delegations.roles is not None  # noqa: S101 - as made above
                delegations.roles[role] = DelegatedRole(
                    role, [], threshold, terminating=True, paths=[f"{role}/*"]
                )
            else:
                root.roles[role].threshold = threshold
            for _ in range(count):
                key = self._keys.make(self._folder_of(role), role).public_key
                (targets if role in KINDS else root).add_key(key, role)
        self._submit("root", Metadata(root))
        self._submit("targets", Metadata(targets))
        for kind in KINDS:
            catalogue = Catalogue(kind=kind, airline=airline)
            write_whole(self._draft_path(kind), _json(Draft(catalogue=catalogue, files={})))
            self._submit(kind, Metadata(Targets(version=1, expires=self._expiry(kind))))
        self._release(Signed())

    def sign(self, kinds: Collection[Kind] = KINDS) -> Signed:
        """Publish what has changed, as far as the keys at hand go, and what expires before long.

        The timestamp is signed anew, but for one that is of today: aircraft take the set, and crew
        disks are good, for its whole time from now on. What lacks signatures waits; whoever has the
        other keys calls this as well.

        Raises:
            PublishError: see `check_clock`.
        """
        done = Signed()
        for kind in kinds:
            current = self._load(kind).signed
            targets = self._targets(kind)
            if targets != current.targets or (self._is_late(kind) and self._signers(kind)):
                expires = self._expiry(kind)
                new = Targets(version=current.version + 1, expires=expires, targets=targets)
                self._submit(kind, Metadata(new))
            else:
                self._withdraw(kind, targets)
        if root := self._waiting("root"):
            self._submit("root", root)
        self._renew(kinds)
        fresh = self._expiry("timestamp")
        old = self._load("timestamp").signed.expires < fresh - timedelta(days=1)
        renewed = old and all(self._signers(role) for role in ONLINE)
        self._release(done, timestamp_expires=fresh if renewed else None)
        return done

    def expire(self, role: str, days: int) -> Signed:
        """Have a role expire in so many days: it is signed anew.

        Raises:
            PublishError: see `check_clock`.
        """
        done = Signed()
        expires = self._now() + timedelta(days=days)
        if role == "snapshot":
            self._release(done, afresh=True, snapshot_expires=expires)
            return done
        if role == "timestamp":
            self._release(done, timestamp_expires=expires)
            return done
        signed = self._coming(role).signed
        signed.version = self._newest(role) + 1
        signed.expires = _whole_seconds(expires)
        self._submit(role, Metadata(signed))
        self._release(done)
        return done

    def rotate(self, role: str, number: int) -> Signed:
        """Replace a key of a role, the one of that number among those in force, by a new one.

        Who trusts the role trusts the new key from then on, and the old one no more. It takes the
        keys of whoever says so: root's, or for a kind those of targets. Before all that the old key
        has signed is signed by others, it is not published.

        Raises:
            PublishError: there is no such key; see `check_clock`, of other roles' keys.
        """
        done = Signed()
        parent = _parent(role)
        signed = self._coming(parent).signed
        known = list(self._load(parent).signed.get_delegated_role(role).keyids)
        if not 1 <= number <= len(known):
            raise PublishError(f"{role} has {len(known)} keys, so there is no number {number}")
        if known[number - 1] not in signed.get_delegated_role(role).keyids:
            raise PublishError(
                f"{role}'s key {number} is being replaced already: whoever has the other keys signs"
            )
        for one in (parent, role):
            # With another passphrase than these have, nobody could open the new one.
            self._keys.of(one)
        if role in KINDS:
            self._withdraw(role, self._targets(role))
        new = self._keys.make(self._folder_of(role), role).public_key
        signed.revoke_key(known[number - 1], role)
        signed.add_key(new, role)
        signed.version = self._newest(parent) + 1
        self._submit(parent, Metadata(signed))
        # What waits of other kinds is not signed on the way.
        self._renew((role,) if role in KINDS else ())
        self._release(done)
        return done

    def _withdraw(self, kind: Kind, targets: dict[str, TargetFile]) -> None:
        """Have nothing wait that the draft no longer has: others would sign what was retired."""
        if (waiting := self._waiting(kind)) and waiting.signed.targets != targets:
            self._waiting_path(kind).unlink()

    def _targets(self, kind: Kind) -> dict[str, TargetFile]:
        draft = self.draft(kind)
        if not draft.catalogue.entries and not self._load(kind).signed.targets:
            return {}
        text = _json(draft.catalogue)
        if len(text) > MAX_CATALOGUE:
            raise PublishError(f"the catalogue of {kind} is too long: {len(text)} bytes")
        files = {CATALOGUE: self._add_bytes(text), **draft.files}
        return {
            target_name(kind, name): TargetFile(
                file.length, {"sha256": file.digest}, target_name(kind, name)
            )
            for name, file in files.items()
        }

    def _release(
        self,
        done: Signed,
        *,
        afresh: bool = False,
        snapshot_expires: datetime | None = None,
        timestamp_expires: datetime | None = None,
    ) -> None:
        """Publish what is signed by enough, with a snapshot and a timestamp on it.

        These two are made if something has changed, or `afresh`.
        """
        self._publish(done)
        meta = {f"{role}.json": self._meta_of(role) for role in ("targets", *KINDS)}
        version = self._newest("snapshot")
        if (
            afresh
            or self._waiting("snapshot")
            or not self._is_trusted("snapshot")
            # The timestamp would not be good for its time.
            or (
                self._load("snapshot").signed.expires < self._expiry("timestamp")
                and self._signers("snapshot")
            )
            or meta != self._load("snapshot").signed.meta
        ):
            version += 1
            expires = snapshot_expires or self._expiry("snapshot")
            snapshot = Snapshot(version=version, expires=_whole_seconds(expires), meta=meta)
            if not self._publish_online("snapshot", Metadata(snapshot), done):
                return
        if (
            not timestamp_expires
            and not done.published
            and not self._waiting("timestamp")
            and self._is_trusted("timestamp")
            and self.version == version
        ):
            return
        made = _whole_seconds(self._now())
        timestamp = Timestamp(
            version=self._newest("timestamp") + 1,
            expires=_whole_seconds(timestamp_expires or self._expiry("timestamp")),
            snapshot_meta=self._meta_of("snapshot", version),
            unrecognized_fields={MADE: made.strftime("%Y-%m-%dT%H:%M:%SZ")},
        )
        self._publish_online("timestamp", Metadata(timestamp), done)

    def _meta_of(self, role: str, version: int | None = None) -> MetaFile:
        version = version or self._newest(role)
        data = (self.published / METADATA / f"{version}.{role}.json").read_bytes()
        return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})

    def _submit(self, role: str, metadata: Metadata[Any]) -> None:
        """Sign as far as the keys at hand go, and put it with what waits."""
        other = self._waiting(role)
        # Times apart, it is the same that others have signed.
        if other and other.signed.version == metadata.signed.version and _alike(other, metadata):
            metadata = other
        for signer in self._signers(role, metadata if role == "root" else None):
            metadata.sign(signer, append=True)
        write_whole(self._waiting_path(role), metadata.to_bytes())

    def _renew(self, kinds: Collection[Kind]) -> None:
        """Have signed anew what too few keys have signed of those that are to be trusted."""
        for role in ("targets", *kinds):
            metadata = self._coming(role)
            if not self._is_signed(role, metadata, self._coming(_parent(role))):
                metadata.signed.version = self._newest(role) + 1
                self._submit(role, Metadata(metadata.signed))

    def _publish(self, done: Signed) -> None:
        """Publish of what waits as much as aircraft will believe, and tell of the rest."""
        waiting = {
            role: metadata for role in (*OFFLINE, *KINDS) if (metadata := self._waiting(role))
        }
        done.unfit = self._all_unfit(waiting)
        for kind in done.unfit:
            del waiting[kind]
        ready: dict[str, Metadata[Any]] = {}
        # Who trusts whom changes in one step with all that has to be signed for that.
        for parents in (OFFLINE, ("root",), ("targets",), ()):
            if waiting.keys() >= set(parents):
                ready, blocked = self._believed(waiting, parents)
                if not blocked:
                    break
        for role in (*KINDS, "targets", "root"):
            if role in ready:
                self._put(role, ready[role], done)
        for role in waiting.keys() - ready.keys():
            has, needs = self._signatures(role, waiting[role], self._coming(_parent(role)))
            if has < needs:
                done.waiting[role] = has, needs
            else:
                changed = [parent for parent in OFFLINE if parent in waiting]
                blocked = self._believed(waiting, changed)[1]
                done.held[role] = [other for other in blocked if other != role] or [_parent(role)]

    def _believed(
        self, waiting: Mapping[str, Metadata[Any]], parents: Collection[str]
    ) -> tuple[dict[str, Metadata[Any]], list[str]]:
        """What of `waiting` can be published together with these of root and targets.

        Returns:
            It; and the roles because of which aircraft would refuse it.
        """
        ready = {role: waiting[role] for role in parents}
        blocked: list[str] = []
        root = ready.get("root") or self._load("root")
        targets = ready.get("targets") or self._load("targets")
        if "root" in ready:
            if not self._is_signed("root", root, root):
                blocked.append("root")
            blocked += self._not_to_be_had(root)
        if parents and not self._is_signed("targets", targets, root):
            blocked.append("targets")
        for kind in KINDS:
            if kind in waiting and self._is_signed(kind, waiting[kind], targets):
                ready[kind] = waiting[kind]
            elif "targets" in ready and not self._is_signed(kind, self._load(kind), targets):
                blocked.append(kind)
        return ready, blocked

    def _all_unfit(self, waiting: Mapping[str, Metadata[Any]]) -> dict[str, str]:
        """Of the kinds that wait those because of which aircraft would refuse all, and why.

        Who has a kind's keys alone must not be able to keep other kinds from coming.
        """
        unfit: dict[str, str] = {}
        coming = {kind: self._load(kind) for kind in KINDS if self._newest(kind)}
        for kind in KINDS:
            if kind in waiting:
                others = [other for name, other in coming.items() if name != kind]
                if why := self._unfit(kind, waiting[kind], others):
                    unfit[kind] = why
                else:
                    coming[kind] = waiting[kind]
        return unfit

    def _unfit(
        self, kind: Kind, metadata: Metadata[Any], others: Collection[Metadata[Any]]
    ) -> str | None:
        signed: Targets = metadata.signed
        if signed.expires <= self._now():
            return "it has expired"
        if len(metadata.to_bytes()) > MAX_KIND:
            return f"it has more than {MAX_KIND} bytes"
        if not signed.targets:
            return None
        target = signed.targets.get(target_name(kind, CATALOGUE))
        if target is None or target.length > MAX_CATALOGUE:
            return "it has no catalogue, or one that is too long"
        if sum(map(_size_of_lists, (metadata, *others))) > MAX_SET:
            return f"with the other kinds its lists have more than {MAX_SET} bytes"
        lengths = {
            file.hashes.get("sha256"): file.length
            for other in others
            for file in other.signed.targets.values()
        }
        try:
            text = (self.published / object_path(target.hashes["sha256"])).read_bytes()
            target.verify_length_and_hashes(text)
            catalogue = Catalogue.model_validate_json(text)
            for file in signed.targets.values():
                digest = SetFile(digest=file.hashes["sha256"], length=file.length).digest
                if lengths.get(digest, file.length) != file.length:
                    return f"{file.path} has another length in another kind"
        except (OSError, KeyError, ValidationError, LengthOrHashMismatchError) as error:
            return f"its catalogue or its targets are wrong: {str(error).splitlines()[0]}"
        airline = self.draft(kind).catalogue.airline
        if (catalogue.kind, catalogue.airline) != (kind, airline):
            return f"its catalogue is one of {catalogue.kind} for {catalogue.airline}"
        missing = {target_name(kind, name) for name in catalogue.names()} - signed.targets.keys()
        return f"its catalogue names {min(missing)}, which is not signed" if missing else None

    def _not_to_be_had(self, root: Metadata[Any]) -> list[str]:
        """Of snapshot and timestamp those that could not be signed at once as a root wants it.

        An aircraft has a root as soon as it is there, so these cannot wait for anybody.
        """
        if self.is_there and all(
            self._is_signed(role, self._load(role), root) for role in ("targets", *ONLINE)
        ):
            return []
        found = []
        for role in ONLINE:
            trusted = root.signed.roles[role]
            at_hand = {signer.public_key.keyid for signer in self._keys.of(role)}
            if len(at_hand & set(trusted.keyids)) < trusted.threshold:
                found.append(role)
        return found

    def _publish_online(self, role: str, metadata: Metadata[Any], done: Signed) -> bool:
        self.check_clock()
        self._submit(role, metadata)
        metadata = self._coming(role)
        has, needs = self._signatures(role, metadata, self._load("root"))
        if has < needs:
            done.waiting[role] = has, needs
            return False
        self._put(role, metadata, done)
        return True

    def _put(self, role: str, metadata: Metadata[Any], done: Signed) -> None:
        name = f"{metadata.signed.version}.{role}.json" if role != "timestamp" else f"{role}.json"
        write_whole(self.published / METADATA / name, metadata.to_bytes())
        self._waiting_path(role).unlink()
        done.published[role] = metadata.signed.version

    def _signers(self, role: str, root: Metadata[Any] | None = None) -> list[CryptoSigner]:
        """The keys at hand that count now, or once what waits is in force.

        Args:
            role: of the keys.
            root: the one that is to be signed, where it is that.
        """
        by = [root or self._coming(_parent(role))]
        if self._newest(_parent(role)):
            by.append(self._load(_parent(role)))
        trusted = {key for one in by for key in one.signed.get_delegated_role(role).keyids}
        return [signer for signer in self._keys.of(role) if signer.public_key.keyid in trusted]

    def _signatures(
        self, role: str, metadata: Metadata[Any], parent: Metadata[Any]
    ) -> tuple[int, int]:
        """How many signatures count where `parent` is in force, and how many it takes."""
        by = [parent]
        if role == "root":
            # Both the former one and itself.
            by = [metadata]
            if metadata.signed.version > 1:
                by.append(self._load("root", metadata.signed.version - 1))
        results = [
            one.signed.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
            for one in by
        ]
        worst = min(results, key=lambda result: len(result.signed) - result.threshold)
        return len(worst.signed), worst.threshold

    def _is_signed(self, role: str, metadata: Metadata[Any], parent: Metadata[Any]) -> bool:
        has, needs = self._signatures(role, metadata, parent)
        return has >= needs

    def _is_trusted(self, role: str) -> bool:
        """Whether what is published of a role is what the published root wants."""
        return bool(self._newest(role)) and self._is_signed(
            role, self._load(role), self._load("root")
        )

    # -- files --------------------------------------------------------------------------------

    def _folder_of(self, role: str) -> Path:
        return self._keys.folders[-1] if role in OFFLINE else self._keys.folders[0]

    def _expiry(self, role: str) -> datetime:
        return _whole_seconds(self._now() + _time_of(role))

    def _is_late(self, role: str) -> bool:
        return bool(self._load(role).signed.expires < self._now() + LATE * _time_of(role))

    def _newest(self, role: str) -> int:
        if role == "timestamp":
            return int(self._load(role).signed.version) if self.is_there else 0
        paths = (self.published / METADATA).glob(f"*.{role}.json")
        return max((int(path.name.split(".")[0]) for path in paths), default=0)

    def _load(self, role: str, version: int | None = None) -> Metadata[Any]:
        name = (
            f"{role}.json"
            if role == "timestamp"
            else f"{version or self._newest(role)}.{role}.json"
        )
        return Metadata.from_file(str(self.published / METADATA / name))

    def _waiting_path(self, role: str) -> Path:
        return self.folder / "unsigned" / f"{role}.json"

    def _waiting(self, role: str) -> Metadata[Any] | None:
        """What waits of a role, if it is newer than what is published."""
        path = self._waiting_path(role)
        if not path.exists():
            return None
        metadata = Metadata[Any].from_file(str(path))
        if metadata.signed.version <= self._newest(role):
            path.unlink()  # something newer was published meanwhile
            return None
        return metadata

    def _coming(self, role: str) -> Metadata[Any]:
        """A role as it is to be: what waits of it, else what is published."""
        return self._waiting(role) or self._load(role)

    def _load_of(self, version: int | None, kind: Kind) -> Metadata[Any]:
        """A kind as it is in a set."""
        snapshot = version or self.version
        if not (self.published / METADATA / f"{snapshot}.snapshot.json").exists():
            raise PublishError(f"there is no set {snapshot}")
        meta = self._load("snapshot", snapshot).signed.meta[f"{kind}.json"]
        return self._load(kind, meta.version)


def _time_of(role: str) -> timedelta:
    """From when it is signed until it expires."""
    return timedelta(days=DAYS.get(role, DAYS_OF_KINDS))


@contextmanager
def _lock_of(folder: Path) -> Iterator[int]:
    """What `take_lock` takes to hold a folder during the block."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield lock
    finally:
        os.close(lock)


def _parent(role: str) -> str:
    """Who says which keys count for a role."""
    return "targets" if role in KINDS else "root"


def _size_of_lists(kind: Metadata[Any]) -> int:
    """Bytes of a kind's metadata and catalogue."""
    catalogues = [
        file.length for name, file in kind.signed.targets.items() if name.endswith(f"/{CATALOGUE}")
    ]
    size: int = len(kind.to_bytes()) + sum(catalogues)
    return size


def _json(model: Strict) -> bytes:
    return model.model_dump_json(by_alias=True, exclude_defaults=True).encode()


def _whole_seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _alike(one: Metadata[Any], other: Metadata[Any]) -> bool:
    fields = [metadata.signed.to_dict() for metadata in (one, other)]
    for each in fields:
        each.pop("expires")
        each.pop(MADE, None)
    return bool(fields[0] == fields[1])
