"""What no rule explains: told with all that was seen, what that excludes, what to try, and what to send."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from .case import Case
from .evidence import ABILITIES, NEEDS_DEPLOY_TO
from .finding import Finding, Fix

NEXT = {
    "connect": "Log in by hand, with `ssh -vvv`, from this machine and from another network: where the two "
    "part, there it is.",
    "shell": "Run a command by hand, `ssh HOST 'echo $((6*7))'`: 42 is the answer, and nothing else.",
    "limits": "Send something large by hand: `head -c 1000000 /dev/zero | ssh HOST 'wc -c'`, from here and "
    "from another network.",
}
UNTOLD = "Whether deployments work can't be told"
ELSEWHERE = "Run it again; if it stays so, from another network and with --deep, which watches connections."


def settle(case: Case, login: str) -> None:
    """See that nothing stays unsaid: what no rule has named is unexplained. login: user@host:port.

    Nothing that a deployment relies on is taken to work unless it was seen to.
    """
    if case.mistakes:
        _ours(case)
        return
    failed = any(finding.status == "fail" for finding in case.findings.values())
    missing = unseen(case)
    if "unexplained" not in case.findings and missing and not failed:
        case.fail("unexplained", f"{UNTOLD}: not all that they need was seen.")
    known = case.findings.get("unexplained")
    if known is None or not known.bad:
        if known is None:
            case.ok("unexplained")
        return
    case.findings["unexplained"] = _told(case, known, missing, login)


def _ours(case: Case) -> None:
    """A mistake of ours is told as that. It is no verdict about the host: nothing follows from it."""
    told = "; ".join(case.mistakes)
    case.findings["unexplained"] = Finding(
        "unexplained", "fail" if unseen(case) else "warn",
        "Switchover itself made a mistake while it looked; that is no fault of the host's.", told,
        "Please report it, with these lines; what was found besides holds. SWITCHOVER_DEBUG=1 shows where it "
        "happened.",
        {"mistakes": list(case.mistakes), "unseen": unseen(case)},
    )  # fmt: skip


def unseen(case: Case) -> list[str]:
    """The abilities that every deployment relies on and that were not seen."""
    basic = [
        ability for ability, entry in ABILITIES.items()
        if (entry.basic or (entry.at == "sftp" and case.sftp_status == "fail"))
        and (case.settings.deploy_to or ability not in NEEDS_DEPLOY_TO)
    ]  # fmt: skip
    return [ability for ability in basic if case.sights[ability].answer != "seen"]


def _told(case: Case, known: Finding, missing: list[str], login: str) -> Finding:
    because = list(dict.fromkeys(
        finding.why for finding in case.findings.values() if finding.unknown and finding.why
    ))  # fmt: skip
    parts = [
        known.why,
        case.sights.told(),
        *(f"unknown: {ABILITIES[ability].says}" for ability in missing if not case.sights[ability].words),
        *(f"not looked at: {why}" for why in because[:6]),
    ]
    stage = str(known.evidence.get("stage", "")) or (ABILITIES[missing[0]].at if missing else "")
    excluded = case.sights.excluded()
    hint = "\n".join(
        [f"What was seen rules out: {excluded}." if excluded else "Nothing is ruled out yet.",
         NEXT.get(stage, ELSEWHERE),
         "If it is not this machine's network, the hosting company can see more: send them what follows."]
    )  # fmt: skip
    why = "\n".join(part for part in parts if part)
    evidence = {**known.evidence, "unseen": missing, "sights": case.sights.as_rows()}
    return replace(known, why=why, hint=hint, evidence=evidence, fix=Fix("send", _letter(case, why, login)))


def _letter(case: Case, seen: str, login: str) -> str:
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    facts = [
        f"{name}: {case.facts[name]}" for name in ("address", "server", "os", "machine") if name in case.facts
    ]
    return "\n".join(
        [f"Deployments over SSH to {login} fail. On {when} this was seen:",
         seen, *facts,
         "Please look in sshd's log at that time (journalctl -u ssh) for this account and address, and say "
         "what ended or refused the above."]
    )  # fmt: skip
