"""Carry out one attack, and say what came of it."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from fabfile import fleet
from fabfile.build.source.source import scan
from fabfile.commands.deployment import Options
from fabfile.errors import SwitchoverError
from fabfile.events import Event, Note
from fabfile.fleet import Outcome
from tests.attacks import canary, scenes, swapper
from tests.attacks.verdict import DONE, OWN, REFUSED, WRONG, Verdict
from tests.support.site import Site, give_all, target
from tests.support.sshd import Sshd
from tests.support.trees import Tree, tree

# Nobody but the login account, whose own state it is, can enter .switchover.
SWAPPED = ("cache", "releases", "shared")
OTHER = "nobody"


class Attack:
    """One scene on one server."""

    def __init__(self, server: Sshd, scene: scenes.Scene) -> None:
        self.server = server
        self.scene = scene
        self.folder = server.new_dir("attack-")
        self.here = Path(tempfile.mkdtemp(prefix="switchover-attack-"))
        self.site = Site(server, self.folder / "site", scene.keys)
        self.canary = canary.plant(self.folder / "canary", server)
        self.wrong: list[str] = []
        self.planted: list[Path] = []
        self.refused = ""
        self.notes = ""

    def run(self) -> Verdict:
        """All of it; nothing is left behind."""
        try:
            self._run()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.rmtree(self.here, ignore_errors=True)
        keys = self.scene.keys
        who = self.scene.swaps and f" swapped by {self.scene.swaps}"
        label = f"{keys['strategy']} {keys['transfer']} {keys['copy']}{who}"
        fate = REFUSED if self.refused else DONE
        if self.wrong:
            fate = OWN if self.scene.swaps == "same" else WRONG
        return Verdict(self.scene.seed, fate, self.wrong or [self.refused], label)

    def _run(self) -> None:
        *before, last = [
            scenes.materialise(version, self.here / str(number))
            for number, version in enumerate(self.scene.versions)
        ]
        for source in before:
            self.site.deploy(source)
        self._stage(last)
        untouched = canary.state(self.canary)
        if not self.scene.swaps:
            self.planted = scenes.plant(self.scene, self.site.deploy_to, self.canary, self.server.give)
        for action in self.scene.actions:
            live, served = self._served()
            with self._swapping():
                outcome = self._do(action, last)
            self._judge(action, outcome, last, live, served)
            harm = canary.harm(untouched, canary.state(self.canary))
            self.wrong += [f"{action}: canary: {line}" for line in harm]

    def _stage(self, last: Path) -> None:
        """What a cut upload of the last version would have left."""
        if self.scene.rng.random() < 0.3:
            named = scan(last, [], self.scene.shared, None).tree
            suffix = ".rsync" if self.scene.keys["transfer"] == "rsync" else ""
            staging = self.site.deploy_to / ".switchover/incoming" / f"{named}{suffix}"
            shutil.copytree(last, staging, symlinks=True)
            give_all(self.server, staging)

    def _swapping(self) -> AbstractContextManager[None]:
        if not self.scene.swaps:
            return nullcontext()
        links = []
        user = self.server.user if self.scene.swaps == "same" else OTHER
        place = self.folder / "swaps"
        place.mkdir(mode=0o777)
        place.chmod(0o777)
        for number, name in enumerate(("", "d", "in", "d/in")):
            link = place / f"swap-{number}"
            link.symlink_to(self.canary / name)
            link.with_name(f"{link.name}.target").symlink_to(self.canary / name)
            _give(link, user)
            links.append(link)
        folders = [self.site.deploy_to / name for name in SWAPPED]
        return swapper.swapping(swapper.Swapper(user, folders, links, self.scene.seed))

    def _do(self, action: str, source: Path) -> Outcome:
        settings, hosts = self.site.settings(source), [target(self.server)]
        if action == "rollback":
            return fleet.rollback(settings, hosts)
        if action == "releases":
            return fleet.releases(settings, hosts)[0]
        if action in ("sync", "repair", "verify"):
            return fleet.cache_sync(settings, hosts, verify=action == "verify", repair=action == "repair")
        options = Options(from_scratch=action == "scratch")
        self.notes = ""
        return fleet.deploy(settings, hosts, options=options, plan=action == "plan", listener=self._listen)

    def _listen(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes += f"{event.text}\n"

    def _served(self) -> tuple[str, Tree]:
        link = self.site.deploy_to / "current"
        says = os.readlink(link) if link.is_symlink() else ""  # noqa: PTH115
        inside = link.resolve().is_relative_to(self.folder)  # and not all of this machine
        return says, tree(link.resolve()) if inside and link.is_dir() and not self.scene.swaps else {}

    # -- what is right -------------------------------------------------------------------------------------

    def _judge(self, action: str, outcome: Outcome, source: Path, live: str, served: Tree) -> None:
        error = outcome.error
        if error is not None:
            self.refused = f"{action}: {error.what} {error.why}"
            if not isinstance(error, SwitchoverError) or error.what.startswith("Switchover itself"):
                self.wrong.append(f"{action}: {error.what} {error.why}")
            if outcome.exit_code not in (1, 3):
                self.wrong.append(f"{action}: exit {outcome.exit_code}: {error.what} {error.why}")
        now, serves = self._served()
        if self.scene.swaps == "same":
            return  # who has this account can put any tree in the place of what was proved
        if action in ("deploy", "scratch") and error is None:
            self._is_right(source, outcome)
        elif (action != "rollback" or error is not None) and (now, serves) != (live, served):
            changed = sorted(path for path in {*served, *serves} if served.get(path) != serves.get(path))
            self.wrong.append(f"{action}: what is live has changed: {live} became {now}: {changed[:9]}")
        if action == "rollback" and error is None and not self.site.current.is_dir():
            self.wrong.append(f"rollback: {self.site.current} is no directory")

    def _is_right(self, source: Path, outcome: Outcome) -> None:
        """File by file; but for what was said not to be served, and for what somebody has put there."""
        shared = [os.fsencode(path) for path in self.scene.shared]
        wanted, found = (
            tree(source, self.scene.shared),
            tree(self.site.current, ("REVISION", *self.scene.shared)),
        )
        unserved = {os.fsencode(path) for result in outcome.hosts for path in result.unserved}
        named = {path for path in wanted if self._named(path)}
        excused = {*unserved, *named}
        for path in sorted(wanted):
            if found.get(path) != wanted[path] and not _near(path, excused):
                self.wrong.append(f"{path!r}: {str(wanted[path])[:80]} became {str(found.get(path))[:80]}")
        put = {os.fsencode(path.name) for path in self.planted}
        theirs = {path for path in found if put & {*path.split(b"/")}}
        # What was exchanged for a link while the live release was copied.
        canary = os.fsencode(self.canary)
        theirs |= {path for path, what in found.items() if what[0] == "link" and what[1].startswith(canary)}
        for path in sorted(found.keys() - wanted.keys()):
            if not _near(path, theirs) and not _near(path, shared) and not _near(path, named):
                self.wrong.append(f"{path!r} has come: {str(found[path])[:80]}")
        for path in shared:
            if not (self.site.current / os.fsdecode(path)).is_symlink() and not _near(path, excused):
                self.wrong.append(f"{path!r} is not linked to shared/")

    def _named(self, path: bytes) -> bool:
        """Whether a note names it: a hand edit that carries over, or a link in the place of a directory."""
        name = os.fsdecode(path)
        return repr(name) in self.notes or f"{name} -> " in self.notes


def _near(path: bytes, others: Iterable[bytes]) -> bool:
    """Whether a path is one of these, or above or below one."""
    return any(path == o or path.startswith(o + b"/") or o.startswith(path + b"/") for o in others)


def judge(server: Sshd, seed: int) -> Verdict:
    """The verdict about one seed."""
    started = time.monotonic()
    try:
        verdict = Attack(server, scenes.draw(seed)).run()
        verdict.seconds = round(time.monotonic() - started, 1)
        return verdict
    except Exception as error:  # noqa: BLE001  (one broken attack must not end the run)
        return Verdict(seed, WRONG, [f"the harness failed: {type(error).__name__}: {error}"])


def _give(link: Path, user: str) -> None:
    if os.geteuid() == 0:
        account = pwd.getpwnam(user)
        os.chown(link, account.pw_uid, account.pw_gid, follow_symlinks=False)
