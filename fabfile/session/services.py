"""What a project has to say about a release on one host: its hooks run, its health is checked."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .. import interruption
from ..errors import HealthCheckFailed, HookFailed, SwitchoverError
from ..events import Output
from ..results import UNKNOWN, ServedAgain
from . import hooks
from .session import HostSession, HostView

SERVED_WITHIN = 30.0  # seconds for after_switch and health in what is live again, once a signal came
BACK = "switch-back"  # SWITCHOVER_COMMAND of hooks that run because a link was put back
_NOT_KEPT = "Its folder is removed again: log in, and run it by hand where you can look at it."


class Tree(NamedTuple):
    """A release as hooks see it."""

    id: str
    folder: str
    revision: str


def tree_before(view: HostView) -> Tree | None:
    """What was live when the command began; None where nothing was."""
    target = view.state.target
    if target is None:
        return None
    name = view.state.live or posixpath.basename(target)
    record = view.state.records.get(name)
    folder = posixpath.normpath(posixpath.join(view.layout.deploy_to, target))
    return Tree(name, folder, record.revision if record else "")


class Services:
    """The hooks and the health check of one host. command: SWITCHOVER_COMMAND."""

    def __init__(self, session: HostSession, command: str) -> None:
        self.session = session
        self.command = command
        self.begun = 0  # how many after_switch hooks were begun in the new release

    def run_hooks(self, name: str, commands: tuple[str, ...], tree: Tree, kept: bool = True) -> None:
        """Run the hooks called `name` in a release, as one step. kept: its folder stays if they fail."""
        if commands:
            hint = _by_hand(tree) if kept else _NOT_KEPT
            with self.session.step(name):
                self._run(name, name, commands, tree, self.command, hint)

    def after_switch(self, tree: Tree) -> None:
        """Have the services take up the new release."""
        commands = self.session.settings.hooks.after_switch
        self.begun = len(commands)
        try:
            self.run_hooks("after_switch", commands, tree)
        except HookFailed as error:
            self.begun = error.number
            raise

    def check_health(self, step: str = "health") -> bool:
        """The health check, as a step called `step`; False where there is none to do."""
        health = self.session.settings.health
        if health is None:
            return False
        with self.session.step(step):
            hooks.check_health(self.session.host, health.url, health.expect_status, int(health.timeout))
        return True

    def after_switch_again(self, tree: Tree) -> list[str]:
        """The scripts that have the services take up `tree` once it is live again."""
        commands, environment = self.session.settings.hooks.after_switch, self._environment(tree, BACK)
        return [hooks.script(command, tree.folder, environment) for command in commands]

    def serve_again(self, tree: Tree, again: ServedAgain, done: Callable[[], bool]) -> None:
        """Have the services take up `tree`, which is live again, and see whether it is healthy. What comes of
        it is told, and written to `again`: it is no reason to stop going back.

        done: whether the host has run the hooks by itself.
        """
        try:
            with self.cut_short(SERVED_WITHIN):
                self._after_switch_again(tree, again, done)
                if self.check_health("health again"):
                    again.health = "ok"
        except HookFailed as error:
            again.hooks, again.error = "failed", error
            # What it did for the new release, it has done again: up to that hook.
            again.may_serve_other = error.number < self.begun
        except HealthCheckFailed as error:
            again.health, again.error = "failed", error
        except SwitchoverError as error:
            again.error = error
            if again.hooks == UNKNOWN:
                again.may_serve_other = True
            else:
                again.health = UNKNOWN
        if again.error:
            self.session.host.note("warn", f"after the switch back: {again.error.what} {again.error.why}")

    @contextmanager
    def cut_short(self, seconds: float) -> Iterator[None]:
        """For hooks on the way back: a further signal ends them with Stopped, and so do `seconds` after an
        earlier one.
        """
        connection = self.session.host.connection
        kept, connection.interrupted = connection.interrupted, interruption.Patience(seconds)
        try:
            yield
        finally:
            connection.interrupted = kept

    def _after_switch_again(self, tree: Tree, again: ServedAgain, done: Callable[[], bool]) -> None:
        commands, step = self.session.settings.hooks.after_switch, "after_switch again"
        if not commands:
            return
        again.hooks = UNKNOWN
        jobs, called = f"back_{self.session.lock.owner.token[:8]}", f"after_switch (again, in {tree.id})"
        if not done():
            with self.session.step(step):
                self._run(step, jobs, commands, tree, BACK, _by_hand(tree), called)
        again.hooks = "ok"

    def _run(
        self,
        step: str,
        jobs: str,
        commands: tuple[str, ...],
        tree: Tree,
        command: str,
        hint: str,
        called: str = "",
    ) -> None:
        host = self.session.host
        hooks.run(
            self.session.jobs,
            jobs,
            commands,
            tree.folder,
            self._environment(tree, command),
            hint,
            lambda line: host.emit(Output(host.name, step, line)),
            called=called,
        )

    def _environment(self, tree: Tree, command: str) -> dict[str, str]:
        """What hooks see beside the account's own environment."""
        return {
            "SWITCHOVER_APPLICATION": self.session.settings.application or "",
            "SWITCHOVER_COMMAND": command,
            "SWITCHOVER_DEPLOY_TO": self.session.layout.deploy_to,
            "SWITCHOVER_RELEASE": tree.id,
            "SWITCHOVER_RELEASE_PATH": self.session.layout.release(tree.id),
            "SWITCHOVER_REVISION": tree.revision,
        }


def _by_hand(tree: Tree) -> str:
    return f"Run it by hand in {tree.folder} on the host."
