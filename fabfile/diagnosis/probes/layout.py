"""The layout under deploy_to: what earlier deployments, ours or others', have left."""

from __future__ import annotations

from ... import typed
from ...on_host import lock, state
from ...on_host.layout import Layout
from ...remote.shell import quote
from ..examination import Evidence, Examination, lines
from ..finding import Fix

# What other tools leave in their root: a name there, and whose it is.
OTHERS = {
    "repo": "Capistrano", "revisions.log": "Capistrano", ".dep": "Deployer", "release": "Deployer",
    "deploy-cache": "DeployHQ", "scm": "Mina", "tmp/build-": "Mina",
}  # fmt: skip


def read(e: Examination) -> None:
    """Read what the host says about its deployments, for the probes that come."""
    assert e.layout is not None
    shared = (*e.settings.shared.dirs, *e.settings.shared.files)
    e.make_room()
    asking = state.asking(e.layout, shared)
    e.state = state.parse(e.host.shell.batch([asking])[0], asking.what, e.layout)
    e.facts["releases"] = str(len(e.state.records))
    e.facts["live"] = e.state.live or e.state.target or "none"


def look(e: Examination) -> None:
    """`current`, other tools, the lock, the live release."""
    assert e.layout is not None
    if e.state is None:
        read(e)
    assert e.state is not None
    _current(e, e.layout, e.state)
    _lock(e, e.layout)
    found = e.script(_script(e, e.layout, e.state))
    _others(e, e.layout, e.state, found)
    _live(e, e.layout, e.state, found)


def _script(e: Examination, layout: Layout, known: state.State) -> str:
    live = layout.current
    shared = " ".join(quote(path) for path in (*e.settings.shared.dirs, *e.settings.shared.files)) or "''"
    return f"""
cd {quote(layout.deploy_to)} 2>/dev/null || exit 0
for n in {" ".join(quote(name) for name in OTHERS)}; do [ -e "$n" ] && printf 'other\\t%s\\n' "$n"; done
[ -d {quote(live)} ] && printf 'live\\tdir\\n'
[ -f {quote(live)}/REVISION ] && printf 'revision\\t%s\\n' "$(head -c 200 {quote(live)}/REVISION | head -n 1)"
for s in {shared}; do
  [ -n "$s" ] && [ -L {quote(live)}/"$s" ] && [ ! -e {quote(live)}/"$s" ] && printf 'dangling\\t%s\\n' "$s"
done
:
"""


def _current(e: Examination, layout: Layout, known: state.State) -> None:
    if known.current_kind in ("link", "none"):
        e.saw("current")
        e.ok("current-not-link", target=known.target)
        return
    what = "directory" if known.current_kind == "dir" else "file"
    e.missed("current", f"it is a {what}")
    kept = f"{layout.current}.before-switchover"
    e.fail(
        "current-not-link",
        f"{layout.current} is a real {what}, not a symlink.",
        f"Something was deployed there by other means; a rename can't replace a {what} by a link",
        "Move it away once; the site is down until the next deployment, so do both in one go.",
        Fix("host", f"mv {quote(layout.current)} {quote(kept)}"), kind=known.current_kind,
    )  # fmt: skip


def _lock(e: Examination, layout: Layout) -> None:
    e.make_room()
    held = lock.look(e.host, layout)
    if held.owner:
        e.named("user", held.owner.user)
        e.named("machine", held.owner.machine)
    if not held.held:
        e.ok("lock-stale")
        return
    evidence: Evidence = {
        "owner": str(held.owner or "unsigned"),
        "silent_for": held.silent_for,
        "expired": held.expired,
    }
    if not held.expired and not held.dead:
        e.ok("lock-stale", f"It is locked at this moment, by {held.owner}.", **evidence)
        return
    e.warn(
        "lock-stale",
        "A lock is left over from a deployment that is gone.",
        f"held by {held.owner or 'an unknown owner'}, without a sign of life for "
        f"{held.silent_for} s",
        "The next deployment takes it by itself. To be rid of it now:",
        Fix("here", _line(e, "unlock", "--deploy-to", layout.deploy_to, "--force")),
        **evidence,
    )  # fmt: skip


def _others(e: Examination, layout: Layout, known: state.State, found: dict[str, list[str]]) -> None:
    traces = found.get("other", [])
    strangers = sorted(known.directories - set(known.records) - set(known.damaged))
    if not traces and not strangers:
        e.ok("layout-mixed", releases=len(known.records))
        return
    tools = sorted({OTHERS[name] for name in traces})
    seen = [f"{name} ({OTHERS[name]})" for name in traces]
    if strangers:
        seen.append(f"{len(strangers)} releases without a record of ours, such as {strangers[-1]}")
    e.warn(
        "layout-mixed",
        f"Another tool deploys to {layout.deploy_to} too{f': {tools[0]}' if tools else ''}.",
        "; ".join(seen),
        "Its releases are left alone, and are never rolled back to; but it may clean up ours, and both "
        "move current. Use one of them, or another deploy_to.",
        Fix("config.yaml", f"deploy_to: {layout.deploy_to}-switchover"),
        traces=traces, unknown_releases=strangers,
    )  # fmt: skip


def _line(e: Examination, task: str, *args: str) -> str:
    return typed.line(e.connection.address, task, *args)


def _live(e: Examination, layout: Layout, known: state.State, found: dict[str, list[str]]) -> None:
    if known.current_kind != "link":
        return
    good = sorted(r.id for r in known.records.values() if r.state == "good" and r.id in known.directories)
    fix = Fix("here", _line(e, "rollback", "--to", good[-1]) if good else _line(e, "deploy"))
    if lines(found, "live") != "dir":
        e.fail(
            "release-broken",
            f"{layout.current} points at {known.target}, which is not there.",
            f"releases/ holds {', '.join(sorted(known.directories)) or 'nothing'}",
            "The site is down. Deploy, or go back to a release that is there.", fix,
            target=known.target, releases=sorted(known.directories),
        )  # fmt: skip
        return
    dangling = found.get("dangling", [])
    if dangling:
        e.fail(
            "release-broken",
            f"The live release misses {', '.join(dangling)}, which it shares.",
            f"the links lead to {layout.shared}, where these are not",
            "Somebody has removed them: put them back from a backup; deploy makes missing directories.",
            Fix("host", " && ".join(f"mkdir -p {quote(f'{layout.shared}/{path}')}" for path in dangling)),
            dangling=dangling,
        )  # fmt: skip
        return
    if known.live in known.damaged:
        e.warn(
            "release-broken", "The record of the live release can't be read.", f"record of {known.live}",
            "A deployment makes it good: it writes a new "
            "one.", Fix("here", _line(e, "deploy")),
            live=known.live,
        )  # fmt: skip
        return
    e.ok("release-broken", live=known.live, revision=lines(found, "revision") or None)
