"""What all tasks do: flags to settings, reports, exit codes."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fabric
from invoke.exceptions import Exit

from ..errors import ConfigError, SwitchoverError
from ..events import Event, Listener
from ..fleet import Outcome, Target
from ..report.outlet import Outlet, outlet
from ..settings import Settings, load
from ..typed import Typed
from . import signals
from .executor import Executor, addresses

Json = dict[str, Any]

EXECUTOR = f"tasks:\n  executor_class: {Executor.__module__}.{Executor.__name__}"


def settings(env: str, config: str, *, ref: str = "", source: str = "", **overrides: object) -> Settings:
    """Load the configuration; an override that is None or "" was not given.

    ref: the git revision. source: the folder to deploy. Raises ConfigError, also where there is no repository
    that `ref` could be one of.
    """
    given = {key: value for key, value in overrides.items() if value not in (None, "")}
    if source:
        given["source"] = {"path": source}
    file = Path(config) if config else None
    chosen = load(file, env=env or None, overrides=given)
    if not ref:
        return chosen
    if chosen.source is None or not chosen.source.git:
        folder = f"the folder {chosen.source.path}" if chosen.source else "not configured"
        raise ConfigError(
            f"--ref {ref} is a revision of a git repository, but the source is {folder}.",
            "a folder is deployed as it is; it has no revisions",
            "Leave --ref out, or set source.git in the configuration.",
        )
    return load(file, env=env or None, overrides={**given, "source": {"ref": ref}})


def targets(c: Any) -> list[Target]:
    """The hosts of -H.

    Raises ConfigError where Fabric calls us for one host after the other (another executor than ours, or
    another task that calls this one): that would make several deployments of one.
    """
    if hasattr(c, "targets"):
        return list(c.targets)
    named = _all_hosts()
    if not isinstance(c, fabric.Connection):  # called once, as a task that comes before another
        return [Target(each) for each in named or []]
    if named is None:
        raise ConfigError(
            "This task was called for one host, and it is not known whether others follow.",
            "the program that runs is neither `fab` nor `switchover`",
            f"Give it our executor: executor_class={Executor.__module__}.{Executor.__name__}.",
        )
    if len(named) > 1:
        raise ConfigError(
            f"-H names {len(named)} hosts, but this task was called for one of them.",
            "they would be as many deployments, one after the other, instead of one: another task has called "
            "it, or the fabric.yaml that was read names another executor",
            "Type it as a task of its own, after the other one. If fabric.yaml names an executor, let it be:"
            f"\n{EXECUTOR}",
        )
    port = "" if c.port == 22 else f":{c.port}"
    return [Target(f"{c.user}@{c.original_host}{port}")]


def _all_hosts() -> list[str] | None:
    """What -H names, as Fabric's own program has read it; None: it is not what runs."""
    from fabric.main import program

    core = getattr(program, "core", None)
    return addresses(core[0].args.hosts.value) if core else None


def fabric_config(c: Any) -> fabric.Config | None:
    """Fabric's configuration; None under Invoke's program, which has another."""
    return c.config if isinstance(c.config, fabric.Config) else None


def given(c: Any) -> dict[str, Any]:
    """What Fabric has read of a call, as the functions of `fleet` take it: hosts, and its configuration."""
    return {"targets": targets(c), "config": fabric_config(c)}


def refuse_dry(c: Any, command: str, instead: str) -> None:
    """Raises ConfigError under Fabric's -R (--dry): it would keep our commands from running, not us from
    deploying.
    """
    if c.config.run.dry:
        raise ConfigError(
            f"{command} can't be done as a dry run (-R, --dry), and was not started.",
            "Fabric's -R prints shell commands instead of running them; a deployment is more than those",
            instead,
        )


def typed(c: Any, env: str, config: str, deploy_to: str) -> Typed:
    """How we were called, but for what is to be done."""
    given = (("--config", config), ("--env", env), ("--deploy-to", deploy_to))
    flags = [word for flag, value in given if value for word in (flag, value)]
    base: Typed = c.typed if hasattr(c, "targets") else Typed()
    return replace(base, flags=tuple(flags))


def run(
    as_json: bool,
    work: Callable[[Listener], Outcome],
    document: Callable[[Outcome], Json],
    show: Callable[[Outcome], None],
    *,
    names: Callable[[], Mapping[str, str] | None] = lambda: None,
) -> None:
    """Do `work` with a live report, then say how it went, and leave with its exit code.

    names: what the document hides.
    What can't be printed changes nothing: neither the work nor the exit code.
    """
    with signals.handled():
        with _Report(as_json) as report:
            outcome = _attempt(lambda: work(report))
        out, err = outlet(), outlet(to_stderr=True)
        (err if as_json else out).drain()
        if as_json:
            _write_document(out, document, outcome, names())
        else:
            with contextlib.suppress(Exception):
                show(outcome)
            out.drain()
        if outcome.exit_code:
            from ..report import console

            with contextlib.suppress(Exception):
                console.show_error(outcome)
        _confess(out, err, as_json)
        err.drain()
    if outcome.exit_code:
        raise Exit(code=outcome.exit_code)


def _write_document(
    out: Outlet, document: Callable[[Outcome], Json], outcome: Outcome, names: Mapping[str, str] | None
) -> None:
    """The JSON document, whatever happens to it on the way."""
    from .. import redaction

    text = json.dumps(redaction.document(document(outcome), names), indent=2, allow_nan=False)
    out.write(f"{text}\n", always=True)
    out.drain()


def _confess(out: Outlet, err: Outlet, as_json: bool) -> None:
    """Say on standard error what standard output did not take. A reader that has gone has seen enough."""
    if out.failure is not None and (as_json or not isinstance(out.failure, BrokenPipeError)):
        what = "The JSON document" if as_json else "What was to be read"
        err.write(f"! {what} could not be written: {out.failure}. The exit code tells how it went.\n")
    elif out.left_out:
        err.write(f"! {out.left_out} lines were left out, because nobody took them.\n")


class _Report:
    """The live report, from the first event on: until then we connect, and need not wait for Rich."""

    def __init__(self, to_stderr: bool) -> None:
        self._to_stderr = to_stderr
        self._live: contextlib.ExitStack = contextlib.ExitStack()
        self._listen: Listener | None = None
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._listen is None:
                from ..report import live

                self._listen = self._live.enter_context(live.Live(self._to_stderr)).listen
        self._listen(event)

    def __enter__(self) -> _Report:
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)


def _attempt(work: Callable[[], Outcome]) -> Outcome:
    try:
        return work()
    except SwitchoverError as error:
        return Outcome(error.exit_code, error)
    except KeyboardInterrupt:
        why = f"{signals.received() or 'Ctrl-C'}, before anything was changed"
        return Outcome(1, SwitchoverError("Interrupted.", why, "Run the same command again."))
