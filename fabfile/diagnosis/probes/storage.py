"""Storage: whether the file system under deploy_to takes what a deployment does to it. Tried, not guessed."""

from __future__ import annotations

from ...events import count
from ...release.layout import Layout
from ...remote.shell import quote
from ..examination import PROBE, Evidence, Examination, lines
from ..finding import Fix

FEW_INODES = 200
FEW_BYTES = 16 << 20
MIB = 1 << 20

SCRIPT = r"""
row() { printf '%s\t%s\n' "$1" "$2"; }
try() { key=$1; shift; why=$( "$@" 2>&1 ) && row "$key" ok || row "$key" "$(echo "$why" | tail -n 1)"; }
whose() { stat -c '%U:%G, mode %a' "$1" 2>/dev/null; }
root=ROOT
p=$root; while [ ! -d "$p" ] && [ -n "$p" ]; do p=${p%/*}; done; p=${p:-/}
row at "$p"; row whose "$(whose "$p")"
row type "$(stat -f -c %T "$p" 2>/dev/null)"
row df "$(df -Pk "$p" 2>/dev/null | tail -n 1)"; row dfi "$(df -Pi "$p" 2>/dev/null | tail -n 1)"
for d in releases cache shared .switchover .switchover/incoming .switchover/lock .switchover/releases; do
  d=$root/$d; [ -d "$d" ] || continue
  if [ ! -w "$d" ] || [ ! -x "$d" ]; then row closed "$d	$(whose "$d")"; fi
done
t=$p/NAME
try mkdir mkdir -m 700 "$t"
[ -d "$t" ] || exit 0
try write sh -c 'head -c 1048576 /dev/zero > "$1"' sh "$t/mb"
size=$(wc -c 2>/dev/null < "$t/mb" || echo 0); row written "$size"
try files sh -c 'for n in 1 2 3 4 5 6 7 8; do : > "$1/$n" || exit 1; done' sh "$t"
try symlink ln -s a "$t/link"
ln -s b "$t/fresh" 2>/dev/null
try mv_T mv -fT "$t/fresh" "$t/link"
row link "$(readlink "$t/link")"
try reflink cp --reflink=always "$t/mb" "$t/mb2"
try hardlink ln "$t/mb" "$t/mb3"
for d in releases cache .switchover .switchover/incoming; do
  d=$root/$d; [ -d "$d" ] && [ -w "$d" ] || continue
  f=$d/NAME-x; : > "$f" 2>/dev/null || continue
  try "across	${d#"$root"/}" ln "$f" "$t/across"; rm -f "$f" "$t/across"
done
rm -rf "$t"
"""


def try_it(e: Examination) -> str:
    """Everything that a deployment does to its file system, once, on a small scale."""
    assert e.layout is not None
    script = SCRIPT.replace("ROOT", quote(e.layout.deploy_to)).replace("NAME", f"{PROBE}{e.token}-s")
    found = e.script(script, timeout=30.0)
    if "at" not in found:
        raise OSError("the host's shell did not answer the storage script")
    e.facts["file system"] = lines(found, "type") or "?"
    space = _space(found)
    e.facts["free"] = f"{space['free'] / (1 << 30):.1f} GiB" if space["free"] is not None else "?"
    e.grant("deploy_to")
    if not _room(e, e.layout, found, space):
        return "nothing can be written there"
    _rights(e, e.layout, found)
    _links(e, found)
    _copies(e, found)
    _devices(e, found)
    return ""


def _space(found: dict[str, list[str]]) -> dict[str, int | None]:
    """Bytes and inodes that are free; None where they are not counted."""

    def column(key: str, number: int) -> int | None:
        words = lines(found, key).split()
        return int(words[number]) if len(words) > number and words[number].isdigit() else None

    free, total = column("df", 3), column("dfi", 1)
    return {
        "free": None if free is None else free * 1024,
        "free_inodes": column("dfi", 3) if total else None,
        "inodes": total,
    }


def _room(e: Examination, layout: Layout, found: dict[str, list[str]], space: dict[str, int | None]) -> bool:
    """Whether anything can be written at all; names what is in the way, and gives False, where not."""
    at = lines(found, "at")
    why = next(
        (said for what in ("mkdir", "write", "files") if (said := lines(found, what)) not in ("ok", "")),
        "",
    )
    evidence: Evidence = {"path": at, "error": why, **space}
    if "Read-only file system" in why:
        e.fail(
            "read-only", f"The file system of {at} is mounted read-only.", why,
            "Often after a disk error: the kernel's log says (dmesg). Ask whoever runs the host.",
            Fix("host", f"mount -o remount,rw \"$(df -P {quote(at)} | tail -n 1 | awk '{{print $6}}')\""),
            **evidence,
        )  # fmt: skip
    elif "quota" in why.lower():
        e.fail(
            "quota", f"The account's quota at {at} is used up.",
            f"{why}; df still shows {e.facts['free']} free",
            "Remove what is not needed (keep_releases: fewer), or have it raised.",
            _fewer(e), **evidence,
        )  # fmt: skip
    elif "No space left" in why and _no_inodes(space):
        e.fail(
            "inodes-full", f"The file system of {at} has no inodes left.",
            f"{why}; {space['free_inodes']} inodes and {e.facts['free']} are free",
            "There are too many files, however small: remove some (keep_releases: fewer), or have a file "
            "system with more inodes made.", **evidence,
        )  # fmt: skip
    elif "No space left" in why:
        e.fail(
            "disk-full", f"The file system of {at} is full.", f"{why}; {e.facts['free']} free",
            "Remove what is not needed there (old releases: keep_releases), or have it enlarged.", **evidence,
        )  # fmt: skip
    elif why:
        _forbidden(e, layout, at, lines(found, "whose"), why)
    else:
        _low(e, at, space)
        return True
    return False


def _no_inodes(space: dict[str, int | None]) -> bool:
    """Whether it is inodes that are missing; a file system that does not count them never lacks them."""
    free, inodes = space["free"] or 0, space["free_inodes"]
    return inodes is not None and (inodes == 0 or free > 2 * MIB)


def _fewer(e: Examination) -> Fix:
    return Fix("config.yaml", f"keep_releases: {max(1, e.settings.keep_releases - 2)}")


def _low(e: Examination, at: str, space: dict[str, int | None]) -> None:
    releases = e.state.records.values() if e.state else ()
    needed = max((record.bytes for record in releases), default=0)
    free, inodes = space["free"], space["free_inodes"]
    if free is not None and free < max(needed, FEW_BYTES):
        e.warn(
            "disk-full", f"The file system of {at} is nearly full.",
            f"{free / MIB:.0f} MiB free; the largest release here has {needed / MIB:.0f} MiB",
            "The next release may not fit. Keep fewer (keep_releases), or have it enlarged.",
            _fewer(e), free=free, needed=needed,
        )  # fmt: skip
        if e.settings.strategy == "cache":
            _advise_previous(e, "it needs no cache/, which is one more copy of the source")
    else:
        e.ok("disk-full", free=free, needed=needed)
    if inodes is not None and inodes < FEW_INODES:
        e.warn(
            "inodes-full", f"The file system of {at} has few inodes left.", f"{inodes} free",
            "Each file takes one. Remove some, or have a file system with more made.", free_inodes=inodes,
        )  # fmt: skip
    else:
        e.ok("inodes-full", free_inodes=inodes)


def _forbidden(e: Examination, layout: Layout, at: str, whose: str, why: str) -> None:
    user, root = e.said.get("user", ""), quote(layout.deploy_to)
    e.fail(
        "permissions",
        f"{user} may not write in {at}.",
        f"{why}; it belongs to {whose or '?'}"
        + ("" if at == layout.deploy_to else f"; {layout.deploy_to} does not exist yet"),
        "Have deploy_to made, and given to the account.",
        Fix("host", f"mkdir -p {root} && chown -R {user} {root}"), path=at, owner=whose, user=user,
    )  # fmt: skip


def _rights(e: Examination, layout: Layout, found: dict[str, list[str]]) -> None:
    closed = [row.partition("\t")[::2] for row in found.get("closed", [])]
    if not closed:
        e.ok("permissions", user=e.said.get("user"), path=layout.deploy_to)
        return
    user = e.said.get("user", "")
    names = " ".join(quote(path) for path, _ in closed)
    e.fail(
        "permissions",
        f"{user} may not write in {', '.join(path for path, _ in closed)}.",
        "; ".join(f"{path} belongs to {whose}" for path, whose in closed),
        "Somebody else made it (a deployment as another user, sudo). Give it back to the account.",
        Fix("host", f"chown -R {user} {names} && chmod -R u+rwX {names}"),
        paths=[path for path, _ in closed], owners=[whose for _, whose in closed], user=user,
    )  # fmt: skip


def _links(e: Examination, found: dict[str, list[str]]) -> None:
    at, said = lines(found, "at"), lines(found, "symlink")
    if said != "ok":
        e.fail(
            "no-symlink", f"The file system of {at} takes no symlinks.", f"{said} ({e.facts['file system']})",
            "A release goes live by a symlink. Choose a deploy_to on a file system that has them (ext4, "
            "xfs, btrfs).",
            Fix("config.yaml", f"deploy_to: {e.said.get('home', '/srv')}/site"), error=said,
        )  # fmt: skip
        return
    replaced = lines(found, "link") == "b"
    extensions = e.facts.get("SFTP extensions", "")
    if replaced or "posix-rename" in extensions:
        e.ok("no-atomic-rename", by="mv -T" if replaced else "SFTP posix-rename")
        return
    e.fail(
        "no-atomic-rename", "A link can't be replaced in one step there.",
        f"mv -T: {lines(found, 'mv_T')}; SFTP has no posix-rename",
        "Install coreutils or BusyBox on the host, or have OpenSSH's SFTP enabled.",
        Fix("sshd_config", "Subsystem sftp internal-sftp"), mv=lines(found, "mv_T"),
    )  # fmt: skip


def _copies(e: Examination, found: dict[str, list[str]]) -> None:
    reflink, hardlink = lines(found, "reflink") == "ok", lines(found, "hardlink") == "ok"
    modes = [name for name, can in (("reflink", reflink), ("hardlink", hardlink), ("full", True)) if can]
    e.facts["copies"] = ", ".join(modes)
    wanted = e.settings.copy
    if wanted in ("auto", *modes):
        e.ok("no-reflink", f"Copies can be made by {', '.join(modes)}.", modes=modes)
        return
    e.fail(
        "no-reflink", f"The file system can't copy by {wanted}.",
        f"cp: {lines(found, wanted)} ({e.facts['file system']})",
        "copy: auto takes the best that the host can do.",
        Fix("config.yaml", "copy: auto"), modes=modes, wanted=wanted,
    )  # fmt: skip


def _devices(e: Examination, found: dict[str, list[str]]) -> None:
    rows = [row.partition("\t")[::2] for row in found.get("across", [])]
    apart = [(name, why) for name, why in rows if "cross-device" in why.lower()]
    e.facts["file systems under deploy_to"] = str(1 + len(apart)) if apart else "1"
    # Only its own strategy uses the cache; shared/ is only ever linked to, and may be anywhere.
    matter = [(name, why) for name, why in apart if name != "cache" or e.settings.strategy == "cache"]
    if not matter:
        e.ok("cross-device", looked_at=[name for name, _ in rows])
        return
    names = [name for name, _ in matter]
    other_helps = "cache" in names and e.settings.strategy == "cache"
    e.judge(
        "fail" if e.settings.copy == "hardlink" else "warn",
        "cross-device",
        f"deploy_to spans {count(1 + len(matter), 'file system')}: {', '.join(names)} "
        f"{'is' if len(names) == 1 else 'are'} elsewhere.",
        "; ".join(f"{name}: {why}" for name, why in matter),
        "What a rename does in a moment becomes a copy of all bytes; hardlinks and reflinks are "
        "impossible. Have all of deploy_to on one file system.",
        Fix("config.yaml", "strategy: previous") if other_helps else None,
        apart=names,
    )  # fmt: skip
    if other_helps:
        _advise_previous(e, "it copies from release to release, which are on one file system")


def _advise_previous(e: Examination, because: str) -> None:
    e.warn(
        "strategy-advice", "The other strategy fits this host better.",
        f"strategy is cache; previous: {because}",
        "Each release is then the live one, copied, with the changes uploaded into it: hand edits carry "
        "over.",
        Fix("config.yaml", "strategy: previous"), strategy="previous",
    )  # fmt: skip
