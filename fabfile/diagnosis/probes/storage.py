"""Storage: whether the file system under deploy_to takes what a deployment does to it. Tried, not guessed."""

from __future__ import annotations

from ...errors import NO_SPACE, QUOTA, READ_ONLY, classify
from ...events import count
from ...remote.shell import quote
from ...site.layout import Layout
from ..examination import PROBE, Evidence, Examination, lines
from ..finding import Fix

FEW_INODES = 200
FEW_BYTES = 16 << 20
MIB = 1 << 20

SCRIPT = r"""
row() { printf '%s\t%s\n' "$1" "$2"; }
try() { key=$1; shift; why=$( "$@" 2>&1 ) && row "$key" ok || row "$key" "$(echo "$why" | tail -n 1)."; }
whose() { stat -c '%U:%G, mode %a' "$1" 2>/dev/null; }
flags() { lsattr -d "$1" 2>/dev/null | cut -d ' ' -f 1; }
root=ROOT
p=$root; while [ ! -d "$p" ] && [ -n "$p" ]; do
  if [ -e "$p" ] || [ -L "$p" ]; then row odd "$p	$(ls -ld "$p" 2>&1 | tail -n 1)"; fi
  p=${p%/*}
done; p=${p:-/}
row at "$p"; row whose "$(whose "$p")"
row type "$(stat -f -c %T "$p" 2>/dev/null)"
row df "$(df -Pk "$p" 2>/dev/null | tail -n 1)"; row dfi "$(df -Pi "$p" 2>/dev/null | tail -n 1)"
for d in . releases cache shared .switchover .switchover/incoming .switchover/lock .switchover/releases \
    .switchover/jobs .switchover/cache; do
  d=$root/$d; [ -d "$d" ] || continue
  case $(flags "$d") in *[ia]*) row locked "$d	$(flags "$d")" ;; esac
  f=$d/NAME-x
  why=$( { mkdir "$f" && head -c FOLDER_BYTES /dev/zero > "$f/1" && mv -f "$f/1" "$f/2"; } 2>&1 ) ||
    row closed "$d	$(whose "$d")	$(echo "$why" | tail -n 1)"
  rm -rf "$f"
done
c=$root/current
if [ -L "$c" ]; then
  case $(flags "$root") in *[ia]*) row locked "$root	$(flags "$root")" ;; esac
  [ ! -k "$root" ] || row sticky "$(stat -c %U "$c" 2>/dev/null)	$(stat -c %U "$root" 2>/dev/null)"
fi
t=$p/NAME
try mkdir mkdir -m 700 "$t"
[ -d "$t" ] || exit 0
try write sh -c 'head -c 1048576 /dev/zero > "$1"' sh "$t/mb"
size=$(wc -c 2>/dev/null < "$t/mb" || echo 0); row written "$size"
try files sh -c 'for n in 1 2 3 4 5 6 7 8; do : > "$1/$n" || exit 1; done' sh "$t"
try symlink ln -s a "$t/link"
ln -s b "$t/fresh" 2>/dev/null
try mv_T mv -fT "$t/fresh" "$t/link"
try rename mv "$t/1" "$t/9"
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
FOLDER_BYTES = 200_000  # written in each folder: a quota or a mount may be one folder's alone


def try_it(e: Examination) -> str:
    """Everything that a deployment does to its file system, once, on a small scale."""
    assert e.layout is not None
    script = SCRIPT.replace("ROOT", quote(e.layout.deploy_to)).replace("NAME", f"{PROBE}{e.token}-s")
    found = e.script(script.replace("FOLDER_BYTES", str(FOLDER_BYTES)), timeout=20.0)
    e.facts["file system"] = lines(found, "type") or "?"
    space = _space(found)
    e.facts["free"] = f"{space['free'] / (1 << 30):.1f} GiB" if space["free"] is not None else "?"
    e.grant("deploy_to")
    if _odd(e, e.layout, found) or _immutable(e, found):
        return "nothing can be written there"
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


def _odd(e: Examination, layout: Layout, found: dict[str, list[str]]) -> bool:
    """Whether something that is no directory stands where deploy_to, or a folder above it, has to be."""
    if not (row := lines(found, "odd")):
        e.ok("deploy-to-odd")
        return False
    path, _, listed = row.partition("\t")
    kind = "a link that leads nowhere" if listed.startswith("l") else "not a directory"
    e.fail(
        "deploy-to-odd", f"{path} is {kind}.", f"ls -ld says: {listed}",
        "deploy_to has to be a directory. Move away what stands there, or choose another deploy_to.",
        Fix("host", f"mv {quote(path)} {quote(path + '.before-switchover')} && "
            f"mkdir -p {quote(layout.deploy_to)}; chown {e.said.get('user')} {quote(layout.deploy_to)}"),
        path=path, listed=listed,
    )  # fmt: skip
    return True


def _immutable(e: Examination, found: dict[str, list[str]]) -> bool:
    """Whether a folder has the attribute that keeps everybody, root too, from changing it (chattr(1))."""
    rows = dict(row.partition("\t")[::2] for row in found.get("locked", []))
    if not rows:
        e.ok("immutable")
        return False
    e.fail(
        "immutable", f"{', '.join(rows)} is locked against changes (chattr).",
        "; ".join(f"{path} has the attributes {flags} (lsattr)" for path, flags in rows.items()),
        "i: nothing in it may change; a: files may only grow. Not even root can, before the attribute "
        "is taken off.",
        Fix("host", f"chattr -ia {' '.join(quote(path) for path in rows)}"), attributes=rows,
    )  # fmt: skip
    return True


def _rights(e: Examination, layout: Layout, found: dict[str, list[str]]) -> None:
    """The folders that are there already, each tried by itself."""
    rows = [[*row.split("\t"), "", ""][:3] for row in found.get("closed", [])]
    for reason in (READ_ONLY, QUOTA, NO_SPACE):
        if hit := [(path, why) for path, _, why in rows if classify(why) == reason]:
            _full_folder(e, reason, hit)
    closed = [
        (path, whose, why) for path, whose, why in rows if classify(why) not in (READ_ONLY, QUOTA, NO_SPACE)
    ]
    user = e.said.get("user", "")
    if not closed and _sticky(e, layout, found, user):
        return
    if not closed:
        e.ok("permissions", user=user, path=layout.deploy_to)
        return
    names = " ".join(quote(path) for path, _, _ in closed)
    e.fail(
        "permissions",
        f"{user} may not write in {', '.join(path for path, _, _ in closed)}.",
        "; ".join(f"{path} belongs to {whose}: {why}" for path, whose, why in closed),
        "Somebody else made it (a deployment as another user, sudo). Give it back to the account.",
        Fix("host", f"chown -R {user} {names} && chmod -R u+rwX {names}"),
        paths=[path for path, _, _ in closed], owners=[whose for _, whose, _ in closed], user=user,
    )  # fmt: skip


def _sticky(e: Examination, layout: Layout, found: dict[str, list[str]], user: str) -> bool:
    """Whether `current` is somebody else's, in a folder where only its owner may replace it."""
    owner, _, folder = lines(found, "sticky").partition("\t")
    if not owner or user in (owner, folder, "root"):
        return False
    e.fail(
        "permissions", f"{user} may not replace {layout.current}.",
        f"it belongs to {owner}, and {layout.deploy_to} is sticky: only owners may replace what is theirs",
        "Give the link to the account, or take the sticky bit off.",
        Fix("host", f"chown -h {user} {quote(layout.current)}"), owner=owner, user=user,
    )  # fmt: skip
    return True


def _full_folder(e: Examination, reason: str, hit: list[tuple[str, str]]) -> None:
    """One folder is on another file system, or under a quota, which is used up or read-only."""
    id = {READ_ONLY: "read-only", QUOTA: "quota", NO_SPACE: "disk-full"}[reason]
    words = {
        READ_ONLY: "is mounted read-only",
        QUOTA: "is over its quota",
        NO_SPACE: "is on a full file system",
    }
    names = ", ".join(path for path, _ in hit)
    e.fail(
        id, f"{names} {words[reason]}, though the rest of deploy_to can be written to.",
        "; ".join(f"{path}: {why}" for path, why in hit),
        "It is a mount or has a quota of its own: see `df` and `mount` for just that folder.",
        Fix("host", f"mount -o remount,rw {quote(hit[0][0])}") if reason == READ_ONLY else _fewer(e),
        paths=[path for path, _ in hit],
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
    # What SFTP says that it can do is not enough: it was tried there, beside deploy_to's own files.
    tried = e.findings["sftp-denied"].evidence.get("granted", []) if "sftp-denied" in e.findings else []
    if replaced or "posix-rename" in tried:
        e.ok("no-atomic-rename", by="mv -T" if replaced else "SFTP posix-rename")
        return
    e.fail(
        "no-atomic-rename", "A link can't be replaced in one step there.",
        f"mv -T: {lines(found, 'mv_T')}; a plain rename: {lines(found, 'rename')}; SFTP's posix-rename "
        "was tried and "
        "did not work, or is not there",
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
