"""What came of trying a deployment's work on the host's file systems: from each failed step to a finding."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import DENIED, NO_SPACE, NOT_PERMITTED, QUOTA, READ_ONLY
from ...remote.shell import quote
from ..case import Case
from ..finding import Fix
from . import filesystem
from .tried import Failure, Rows, Tried

SHOWN = 6

# What a path says whose mount has lost its server (strerror of ESTALE, ENOTCONN, EHOSTDOWN, ETIMEDOUT, …).
_SERVER_GONE = (
    "Stale file handle", "Stale NFS file handle", "Transport endpoint is not connected", "Host is down",
    "Connection timed out", "No such device", "Remote I/O error", "Socket not connected",
)  # fmt: skip


def server_gone(said: str) -> bool:
    """Whether these words are those of a mount that has lost its server."""
    return any(words in said for words in _SERVER_GONE)


def hangs(case: Case, rows: Rows, ended: bool, waited: float) -> bool:
    """Whether the script was still busy in a folder when its time was over."""
    done = rows.get("done", ())
    busy = [folder for folder in rows.get("begun", ()) if folder not in done]
    if ended or not busy:
        return False
    mount_gone(
        case,
        busy[:1],
        f"writing there had not ended after {waited:g} s, and the connection answers meanwhile",
    )
    return True


def mount_gone(case: Case, paths: Sequence[str], why: str) -> None:
    """These paths don't answer, or say that their server is gone."""
    first = min(paths, key=len)
    case.missed("paths", why)
    case.abilities["deploy_to"] = "path-hangs"
    case.fail(
        "path-hangs", f"Deployments hang or fail at {first}: it does not answer.", why,
        "Something is mounted there whose server is gone (NFS, SSHFS, another FUSE): see `mount`, and mount "
        "it anew. A deployment would hang there until its time is over.",
        Fix("host", f"umount -l {quote(first)}"), silent=list(paths),
    )  # fmt: skip


def judge(case: Case, tried: Tried, needed: int) -> str:
    """All findings about storage. needed: bytes of the largest release. What could not be seen, or ""."""
    case.facts["free"] = f"{tried.free / (1 << 30):.1f} GiB" if tried.free is not None else "?"
    if _odd(case, tried) or _immutable(case, tried):
        case.missed("folders", "; ".join(map(str, tried.failures)))
        return "nothing can be written there"
    if tried.denied is not None:
        case.missed("folders", str(tried.denied))
        _blocked(case, tried, [tried.denied])
        return "nothing can be written there"
    filesystem.room(case, tried, needed)
    _folders(case, tried)
    filesystem.links(case, tried)
    filesystem.copies(case, tried)
    filesystem.devices(case, tried)
    return ""


def _odd(case: Case, tried: Tried) -> bool:
    """Whether something else stands in the place of deploy_to, of a folder above it, or of one of ours."""
    if not (row := tried.first("odd")):
        case.ok("deploy-to-odd")
        return False
    path, _, listed = row.partition("\t")
    kind = "a link that leads nowhere" if listed.startswith("l") else "not a directory"
    root = tried.layout.deploy_to
    folder = path if path.startswith(f"{root}/") else root
    case.fail(
        "deploy-to-odd", f"Nothing can be deployed there: {path} is {kind}.", f"ls -ld says: {listed}",
        f"{folder} has to be a directory. Move away what stands there, or choose another deploy_to.",
        Fix("host", f"mv {quote(path)} {quote(path + '.before-switchover')} && mkdir -p {quote(folder)}; "
            f"chown {quote(tried.user)} {quote(folder)}"),
        path=path, listed=listed,
    )  # fmt: skip
    return True


def _immutable(case: Case, tried: Tried) -> bool:
    """Whether a folder has the attribute that keeps everybody, root too, from changing it (chattr(1))."""
    rows = dict(row.partition("\t")[::2] for row in tried.rows.get("locked", ()))
    if not rows:
        case.ok("immutable")
        return False
    case.fail(
        "immutable", f"Nothing can be deployed: {', '.join(rows)} is locked against changes (chattr).",
        "; ".join(f"{path} has the attributes {flags} (lsattr)" for path, flags in rows.items()),
        "i: nothing in it may change; a: files may only grow. Not even root can, before the attribute is "
        "taken off.",
        Fix("host", f"chattr -ia {' '.join(quote(path) for path in rows)}"), attributes=rows,
    )  # fmt: skip
    return True


# -- steps that failed -----------------------------------------------------------------------------------


def _folders(case: Case, tried: Tried) -> None:
    """The folders that are there already, each tried by itself."""
    for failure in tried.failures:
        case.named("user", *failure.whose.partition(",")[0].split(":"))
    if tried.failures:
        case.missed("folders", "; ".join(map(str, tried.failures)))
        _blocked(case, tried, list(tried.failures))
    elif not _sticky(case, tried):
        case.saw("folders")
        case.ok("permissions", user=tried.user, path=tried.layout.deploy_to)


def _blocked(case: Case, tried: Tried, failures: list[Failure]) -> None:
    """By reason: each finding names all folders that it is about."""
    for kind, rule in (
        (lambda f: server_gone(f.said), _gone),
        (lambda f: f.reason == READ_ONLY, _read_only),
        (lambda f: f.reason == QUOTA, _quota),
        (lambda f: f.no_inodes, _no_inodes),
        (lambda f: f.reason == NO_SPACE, _full),
        (lambda f: f.step in ("mkdir", "write") and f.reason in (DENIED, NOT_PERMITTED), _forbidden),
        (lambda f: f.step == "rename", _no_rename),
        (lambda f: f.step in ("chmod", "remove"), _half_forbidden),
    ):
        if hit := [failure for failure in failures if kind(failure)]:
            rule(case, tried, hit)
            failures = [failure for failure in failures if failure not in hit]
    if failures:
        case.unexplained("storage", "; ".join(map(str, failures)), failures=[vars(f) for f in failures])


def _where(tried: Tried, hit: list[Failure]) -> str:
    names = [failure.folder for failure in hit]
    return tried.layout.deploy_to if tried.layout.deploy_to in names else ", ".join(names[:SHOWN])


def _told(hit: list[Failure]) -> str:
    return "; ".join(map(str, hit[:SHOWN]))


def _gone(case: Case, tried: Tried, hit: list[Failure]) -> None:
    mount_gone(case, [failure.folder for failure in hit], _told(hit))


def _read_only(case: Case, tried: Tried, hit: list[Failure]) -> None:
    first = quote(hit[0].folder)
    case.fail(
        "read-only", f"Nothing can be deployed: {_where(tried, hit)} is mounted read-only.", _told(hit),
        "Often after a disk error: the kernel's log says (dmesg). See `mount` for just that folder, and ask "
        "whoever runs the host.",
        Fix("host", f"mount -o remount,rw \"$(df -P {first} | tail -n 1 | awk '{{print $6}}')\""),
        paths=[failure.folder for failure in hit],
    )  # fmt: skip


def _quota(case: Case, tried: Tried, hit: list[Failure]) -> None:
    case.fail(
        "quota", f"No release fits any more: the quota at {_where(tried, hit)} is used up.",
        f"{_told(hit)}; df still shows {case.facts['free']} free",
        "Remove what is not needed (keep_releases: fewer), or have it raised.",
        filesystem.fewer(case), paths=[failure.folder for failure in hit],
    )  # fmt: skip


def _no_inodes(case: Case, tried: Tried, hit: list[Failure]) -> None:
    case.fail(
        "inodes-full", f"No release fits any more: {_where(tried, hit)} has no inodes left.",
        f"{_told(hit)}; {case.facts['free']} are free",
        "There are too many files, however small: remove some (keep_releases: fewer), or have a file system "
        "with more inodes made.", paths=[failure.folder for failure in hit],
    )  # fmt: skip


def _full(case: Case, tried: Tried, hit: list[Failure]) -> None:
    alone = "" if tried.layout.deploy_to in [f.folder for f in hit] or tried.denied else (
        "; the rest of deploy_to can be written to: it is a mount of its own"
    )  # fmt: skip
    case.fail(
        "disk-full", f"No release fits any more: the file system of {_where(tried, hit)} is full.",
        f"{_told(hit)}; {hit[0].free or 0} KiB are free{alone}",
        "Remove what is not needed there (old releases: keep_releases), or have it enlarged.",
        paths=[failure.folder for failure in hit], free=(hit[0].free or 0) * 1024,
    )  # fmt: skip


def _forbidden(case: Case, tried: Tried, hit: list[Failure]) -> None:
    root, user = tried.layout.deploy_to, tried.user
    if tried.denied is not None:
        absent = "" if tried.at == root else f"; {root} does not exist yet"
        names = quote(root)
        change = f"mkdir -p {names} && chown -R {quote(user)} {names} && chmod u+rwx {names}"
        told, hint = f"{_told(hit)}{absent}", "Have deploy_to made, and given to the account."
    else:
        names = " ".join(quote(failure.folder) for failure in hit)
        change = f"chown -R {quote(user)} {names} && chmod -R u+rwX {names}"
        told = _told(hit)
        hint = "Somebody else made it (a deployment as another user, sudo). Give it back to the account."
    case.fail(
        "permissions", f"Nothing can be deployed: {user} may not write in {_where(tried, hit)}.", told, hint,
        Fix("host", change), paths=[f.folder for f in hit], owners=[f.whose for f in hit], user=user,
    )  # fmt: skip


def _no_rename(case: Case, tried: Tried, hit: list[Failure]) -> None:
    case.missed("link", _told(hit))
    case.fail(
        "no-atomic-rename",
        f"No release can go live: the file system of {_where(tried, hit)} refuses renames.",
        f"{_told(hit)}; files can be made there",
        "A release goes live by a rename, and so does each uploaded file. Choose a deploy_to on a file "
        "system that has them (ext4, xfs, btrfs).",
        Fix("config.yaml", f"deploy_to: {case.said.get('home', '/srv')}/site"),
        paths=[failure.folder for failure in hit],
    )  # fmt: skip


def _half_forbidden(case: Case, tried: Tried, hit: list[Failure]) -> None:
    case.fail(
        "permissions",
        f"Nothing can be deployed: files can be made in {_where(tried, hit)}, and not be "
        f"{'given modes' if hit[0].step == 'chmod' else 'removed'}.",
        _told(hit),
        "So do file systems without owners and modes (FAT, exFAT, some network shares), and some that a "
        "security module watches. Choose a deploy_to on ext4, xfs or btrfs.",
        Fix("config.yaml", f"deploy_to: {case.said.get('home', '/srv')}/site"),
        paths=[failure.folder for failure in hit], step=hit[0].step,
    )  # fmt: skip


def _sticky(case: Case, tried: Tried) -> bool:
    """Whether `current` is somebody else's, in a folder where only its owner may replace it."""
    owner, _, folder = tried.first("sticky").partition("\t")
    if not owner or tried.user in (owner, folder, "root"):
        return False
    current, root = tried.layout.current, tried.layout.deploy_to
    case.missed("folders", f"{current} belongs to {owner}")
    case.fail(
        "permissions", f"No release can go live: {tried.user} may not replace {current}.",
        f"it belongs to {owner}, and {root} is sticky: only owners may replace what is theirs",
        "Give the link to the account, or take the sticky bit off.",
        Fix("host", f"chown -h {quote(tried.user)} {quote(current)}"), owner=owner, user=tried.user,
    )  # fmt: skip
    return True
