"""What the file system under deploy_to can do, where it takes files at all."""

from __future__ import annotations

from ...events import count
from ..case import Case
from ..finding import Fix
from .tried import Tried

FEW_INODES = 200
FEW_BYTES = 16 << 20
MIB = 1 << 20


def fewer(case: Case) -> Fix:
    """The setting that keeps fewer releases."""
    return Fix("config.yaml", f"keep_releases: {max(1, case.settings.keep_releases - 2)}")


def room(case: Case, tried: Tried, needed: int) -> None:
    """Whether the next release fits. needed: bytes of the largest so far."""
    free, inodes, at = tried.free, tried.inodes, tried.at
    if free is not None and free < max(needed, FEW_BYTES):
        case.warn(
            "disk-full", f"The next release may not fit: the file system of {at} is nearly full.",
            f"{free / MIB:.0f} MiB free; the largest release here has {needed / MIB:.0f} MiB",
            "Keep fewer (keep_releases), or have it enlarged.",
            fewer(case), free=free, needed=needed,
        )  # fmt: skip
        if case.settings.strategy == "cache":
            _advise_previous(case, "it needs no cache/, which is one more copy of the source")
    else:
        case.ok("disk-full", free=free, needed=needed)
    if inodes is not None and inodes < FEW_INODES:
        case.warn(
            "inodes-full", f"The next release may not fit: the file system of {at} has few inodes left.",
            f"{inodes} free", "Each file takes one. Remove some, or have a file system with more made.",
            free_inodes=inodes,
        )  # fmt: skip
    else:
        case.ok("inodes-full", free_inodes=inodes)


def links(case: Case, tried: Tried) -> None:
    """Whether a link can be made, and replaced in one step."""
    said = tried.first("symlink")
    if not said:
        case.skip("no-symlink", "the host did not say whether a link could be made")
        case.skip("no-atomic-rename", "no link could be made to replace")
        return
    if said != "ok":
        case.missed("link", said)
        case.fail(
            "no-symlink", f"No release can go live: the file system of {tried.at} takes no symlinks.",
            f"{said} ({case.facts['file system']})",
            "A release goes live by a symlink. Choose a deploy_to on a file system that has them (ext4, xfs, "
            "btrfs).",
            Fix("config.yaml", f"deploy_to: {case.said.get('home', '/srv')}/site"), error=said,
        )  # fmt: skip
        return
    replaced = tried.first("link") == "b"
    # What SFTP says that it can do is not enough: it was tried there, beside deploy_to's own files.
    granted = (
        case.findings["sftp-denied"].evidence.get("granted", []) if "sftp-denied" in case.findings else []
    )
    if replaced or "posix-rename" in granted:
        if not case.bad("no-atomic-rename"):
            case.saw("link")
        case.ok("no-atomic-rename", by="mv -T" if replaced else "SFTP posix-rename")
        return
    case.missed("link", tried.first("mv_T"))
    case.fail(
        "no-atomic-rename", "No release can go live: a link can't be replaced in one step there.",
        f"mv -T: {tried.first('mv_T')}; a plain rename: {tried.first('rename')}; SFTP's posix-rename was "
        "tried and did not work, or is not there",
        "Install coreutils or BusyBox on the host, or have OpenSSH's SFTP enabled.",
        Fix("sshd_config", "Subsystem sftp internal-sftp"), mv=tried.first("mv_T"),
    )  # fmt: skip


def copies(case: Case, tried: Tried) -> None:
    """By what releases can be copied."""
    reflink, hardlink = tried.first("reflink") == "ok", tried.first("hardlink") == "ok"
    modes = [name for name, can in (("reflink", reflink), ("hardlink", hardlink), ("full", True)) if can]
    case.facts["copies"] = ", ".join(modes)
    wanted = case.settings.copy
    if wanted in ("auto", *modes):
        case.ok("no-reflink", f"Copies can be made by {', '.join(modes)}.", modes=modes)
        return
    case.fail(
        "no-reflink", f"No release can be built: the file system can't copy by {wanted}.",
        f"cp: {tried.first(wanted)} ({case.facts['file system']})",
        "copy: auto takes the best that the host can do.",
        Fix("config.yaml", "copy: auto"), modes=modes, wanted=wanted,
    )  # fmt: skip


def devices(case: Case, tried: Tried) -> None:
    """Whether deploy_to is one file system."""
    rows = [row.partition("\t")[::2] for row in tried.rows.get("across", ())]
    apart = [(name, why) for name, why in rows if "cross-device" in why.lower()]
    case.facts["file systems under deploy_to"] = str(1 + len(apart)) if apart else "1"
    # Only its own strategy uses the cache; shared/ is only ever linked to, and may be anywhere.
    matter = [(name, why) for name, why in apart if name != "cache" or case.settings.strategy == "cache"]
    if not matter:
        case.ok("cross-device", looked_at=[name for name, _ in rows])
        return
    names = [name for name, _ in matter]
    other_helps = "cache" in names and case.settings.strategy == "cache"
    case.judge(
        "fail" if case.settings.copy == "hardlink" else "warn",
        "cross-device",
        f"Deployments copy where they could rename: deploy_to spans {count(1 + len(matter), 'file system')} "
        f"({', '.join(names)} elsewhere).",
        "; ".join(f"{name}: {why}" for name, why in matter),
        "What a rename does in a moment becomes a copy of all bytes; hardlinks and reflinks are impossible. "
        "Have all of deploy_to on one file system.",
        Fix("config.yaml", "strategy: previous") if other_helps else None,
        apart=names,
    )  # fmt: skip
    if other_helps:
        _advise_previous(case, "it copies from release to release, which are on one file system")


def _advise_previous(case: Case, because: str) -> None:
    case.warn(
        "strategy-advice", "The other strategy fits this host better.",
        f"strategy is cache; previous: {because}",
        "Each release is then the live one, copied, with the changes uploaded into it: hand edits carry "
        "over.",
        Fix("config.yaml", "strategy: previous"), strategy="previous",
    )  # fmt: skip
