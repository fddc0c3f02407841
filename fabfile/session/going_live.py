"""Going live on one host, proving it, and going back: what a deployment and a rollback have in common."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from ..errors import CommandFailed, HealthCheckFailed, HookFailed, HostNotReady, LockLost, SwitchoverError
from ..events import Output
from ..remote.shell import Script
from ..results import UNKNOWN, ServedAgain
from ..site import records
from ..site.records import Record
from . import deadman, hooks, switch
from .session import HostSession

SERVED_WITHIN = 30.0  # seconds for after_switch and health in what is live again, once a signal came
BACK = "switch-back"  # SWITCHOVER_COMMAND of hooks that run because a link was put back


@dataclass(frozen=True)
class Tree:
    """A release as hooks see it."""

    id: str
    folder: str
    revision: str


class Switching(HostSession):
    """A command that makes a release live on one host."""

    command = ""  # SWITCHOVER_COMMAND
    record: Record | None = None  # of the release that goes live
    tried_to_switch = False  # from here on the link may be either
    switched = False
    told = 0  # how many after_switch hooks were begun in the new release

    @property
    def before(self) -> Tree | None:
        """What was live when the command began."""
        target = self.state.target
        if target is None:
            return None
        name = self.state.live or posixpath.basename(target)
        record = self.state.records.get(name)
        folder = posixpath.normpath(posixpath.join(self.layout.deploy_to, target))
        return Tree(name, folder, record.revision if record else "")

    @property
    def asks_health(self) -> bool:
        """Whether there will be a health check."""
        return self.settings.health is not None

    def require_tools(self) -> None:
        """See HostSession.require_tools."""
        if self.asks_health and not (self.host.has("curl") or self.host.has("wget")):
            raise HostNotReady(
                f"{self.host.name} has neither curl nor wget.",
                "health.url is fetched from the host, after the switch",
                "Install curl there, or leave the check out: --skip-health, or no `health` in config.yaml.",
            )
        if self.settings.confirm and not self.host.facts.mv_no_target:
            deadman.refuse(self.host)

    # Hooks and health

    def environment(self, tree: Tree, command: str) -> dict[str, str]:
        """What hooks see beside the account's own environment."""
        return {
            "SWITCHOVER_APPLICATION": self.settings.application or "",
            "SWITCHOVER_COMMAND": command,
            "SWITCHOVER_DEPLOY_TO": self.layout.deploy_to,
            "SWITCHOVER_RELEASE": tree.id,
            "SWITCHOVER_RELEASE_PATH": self.layout.release(tree.id),
            "SWITCHOVER_REVISION": tree.revision,
        }

    def run_hooks(self, name: str, commands: tuple[str, ...], tree: Tree, kept: bool = True) -> None:
        """Run the hooks called `name` in a release, as one step. kept: its folder stays if they fail."""
        if not commands:
            return
        hint = f"Run it by hand in {tree.folder} on the host." if kept else _NOT_KEPT
        with self.step(name):
            hooks.run(
                self.jobs, name, commands, tree.folder, self.environment(tree, self.command), hint,
                lambda line: self.host.emit(Output(self.host.name, name, line)),
            )  # fmt: skip

    def after_switch(self, tree: Tree) -> None:
        """Have the services take up the new release."""
        commands = self.settings.hooks.after_switch
        self.told = len(commands)
        try:
            self.run_hooks("after_switch", commands, tree)
        except HookFailed as error:
            self.told = error.number
            raise

    def check_health(self, name: str = "health") -> bool:
        """The health check, as a step called `name`; False where there is none to do."""
        health = self.settings.health
        if health is None:
            return False
        with self.step(name):
            hooks.check_health(self.host, health.url, health.expect_status, int(health.timeout))
        return True

    # Going live

    def go_live(self, release: str, *first: Script) -> None:
        """Make `release` live. first: what goes before it, in the same round trip."""
        with self.step("switch") as tell:
            self.tried_to_switch = True
            self.result.live = UNKNOWN
            self._arm(release)
            switch.point(self.host, self.layout, f"releases/{release}", self.guard, first)
            self.switched = True
            self.result.live = release
            tell(f"{self.state.shown} → {release}, {self.host.files.settle()}")

    def _arm(self, release: str) -> None:
        confirm, old = self.settings.confirm, self.state.target
        if confirm is None:
            return
        deadman.arm(
            self.host,
            self.jobs,
            self.layout,
            release,
            old,
            self.lock.owner_file,
            confirm.within,
            self.when_left_alone(self.silence),
        )

    @property
    def silence(self) -> str:
        """Why the host goes back by itself."""
        within = self.settings.confirm.within if self.settings.confirm else 0
        return f"nothing was heard of us for {within} s after the switch"

    def when_left_alone(self, reason: str) -> str:
        """What the host writes down when it goes back by itself."""
        return ":"

    def confirm(self) -> None:
        """The new release has proved itself: disarm the timer. Raises HealthCheckFailed."""
        if self.settings.confirm is None:
            return
        with self.step("confirm"):
            if not deadman.disarm(self.host, self.jobs):
                raise HealthCheckFailed(
                    f"{self.host.name} has gone back by itself.",
                    f"it heard nothing of us for {self.settings.confirm.within} s (confirm.within)",
                    "See why the connection was lost; raise confirm.within if the network needs longer.",
                )

    # Going back

    def switch_back(self) -> None:
        """Put back what was live before. Safe where the switch did not happen, or only half."""
        with self.step("switch back") as tell:
            seen = self.host.files.readlink(self.layout.current)
            was_ours = seen == f"releases/{self.result.release}"
            if isinstance(self.result.error, LockLost):
                self._leave_to_others(seen, was_ours)
                return
            # Where the rename was refused, nothing is to be put back, and a second one would be refused too.
            if seen != self.state.target:
                switch.point(self.host, self.layout, self.state.target, self.guard)
            self.result.live = self.state.live
            if was_ours or self.switched:
                self.result.again = ServedAgain()
            tell(f"{self.state.shown} is live again")
        alone = self.switched and not was_ours and self.settings.confirm is not None
        self.write_down(self.silence if alone else "")

    def _leave_to_others(self, seen: str | None, was_ours: bool) -> None:
        """The lock is somebody else's: what is live is theirs to decide."""
        self.result.live = posixpath.basename(seen) if seen else None
        if was_ours:
            raise LockLost(
                f"{self.result.release} is live on {self.host.name}, and was not put back.",
                "the lock was broken after the switch, so it is for somebody else to change anything there",
                "Ask who broke it.",
            )

    def write_down(self, note: str) -> None:
        """Write down that the release was switched back. note: why, where the host itself decided that."""

    def write_record(self, record: Record) -> None:
        """Write a record; what is live is as it should be, so a failure is only told."""
        try:
            self.host.shell.run(
                f"{self.guard}{records.write(self.layout, record)}", what="Writing the record"
            )
        except CommandFailed as error:
            self.host.note("warn", f"{error.what} {error.why}")

    def serve_again(self) -> None:
        """Have the services take up what is live again, and see whether it is healthy. What comes of it is
        told, and kept in result.again: it is no reason to stop going back.
        """
        again, tree = self.result.again, self.before
        assert again is not None
        if tree is None:
            self.host.note(
                "warn",
                "nothing is live now; services were not told, and may go on with what they have loaded",
            )
            return
        try:
            with self.cut_short(SERVED_WITHIN):
                self._hooks_again(again, tree)
                if self.check_health("health again"):
                    again.health = "ok"
        except HookFailed as error:
            again.hooks, again.error = "failed", error
            # What it did for the new release, it has done again: up to that hook.
            again.may_serve_other = error.number < self.told
        except HealthCheckFailed as error:
            again.health, again.error = "failed", error
        except SwitchoverError as error:
            again.error = error
            if again.hooks == UNKNOWN:
                again.may_serve_other = True
            else:
                again.health = UNKNOWN
        if again.error:
            self.host.note("warn", f"after the switch back: {again.error.what} {again.error.why}")

    def _hooks_again(self, again: ServedAgain, tree: Tree) -> None:
        commands, step = self.settings.hooks.after_switch, "after_switch again"
        if not commands:
            return
        again.hooks = UNKNOWN
        with self.step(step):
            hooks.run(
                self.jobs, f"back_{self.lock.owner.token[:8]}", commands, tree.folder,
                self.environment(tree, BACK), f"Run it by hand in {tree.folder} on the host.",
                lambda line: self.host.emit(Output(self.host.name, step, line)),
                called=f"after_switch (again, in {tree.id})",
            )  # fmt: skip
        again.hooks = "ok"

    @property
    def served(self) -> str:
        """What is live, and what is known about its being served: a phrase for a person."""
        live, again, before = self.result.live, self.result.again, self.state.shown
        if live == UNKNOWN:
            return f"it is not known what is live: {self.result.release}, or {before}"
        shown = before if live == self.state.live else live or "nothing"
        if again is None:
            return f"{shown} is live"
        if self.state.target is None:
            return "nothing is live, as before; services were not told"
        words = {
            ("hooks", "ok"): "its after_switch hooks have run",
            ("hooks", "failed"): "its after_switch hooks failed",
            ("hooks", UNKNOWN): "whether its after_switch hooks ran is not known",
            ("health", "ok"): "it is healthy",
            ("health", "failed"): "it is not healthy either",
            ("health", UNKNOWN): "its health could not be checked",
        }
        told = [words.get(("hooks", again.hooks)), words.get(("health", again.health))]
        if again.may_serve_other:
            told.append(f"services may still run {self.result.release}")
        return "; ".join([f"{shown} is live again", *filter(None, told)])


_NOT_KEPT = "Its folder is removed again: log in, and run it by hand where you can look at it."
