"""The verdict: which finding is the root, and which only follow from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from .finding import CATALOGUE, STAGES, Diagnosis, Difference, Finding, Root, Verdict

# Where a deployment that failed in a phase has most likely met its cause.
PHASES: Mapping[str, tuple[str, ...]] = {
    "connect": ("connect",),
    "lock": ("storage", "layout"),
    "check": ("sftp", "view", "layout"),
    "upload": ("storage", "limits", "idle", "tools"),
    "copy": ("idle", "limits", "storage", "configuration"),
    "link": ("layout", "storage"),
    "before_switch": ("idle", "configuration"),
    "verify": ("storage", "tools"),
    "switch": ("storage", "layout", "view"),
    "retain": ("storage", "layout"),
    "look": ("storage", "layout"),
    "after_switch": ("configuration", "shell", "layout"),
    "health": ("layout", "configuration"),
    "confirm": ("idle", "limits", "configuration"),
    "sync": ("storage", "limits", "idle", "tools"),
}
# Facts in which hosts of one fleet are bound to differ.
PRIVATE = {
    "address", "machine", "host key", "login", "round trip", "free", "live", "SFTP starts in", "releases",
    "sshd_config", "cipher",
}  # fmt: skip
ADVICE = ("strategy-advice",)  # never a root where there is another one


def conclude(findings: Mapping[str, Finding], facts: Mapping[str, str], phase: str = "") -> Verdict:
    """Rank what is bad: what fails before what is only risky, roots before what they explain, the phase
    that failed first, then in the order in which a deployment meets them.
    """
    bad = {id: finding for id, finding in findings.items() if finding.bad}
    parents = {id: parent for id in bad if (parent := _parent(id, bad))}
    first = PHASES.get(phase, ())

    def rank(finding: Finding) -> tuple[object, ...]:
        fails = finding.status == "fail" or any(
            bad[child].status == "fail" for child, parent in parents.items() if parent == finding.id
        )
        return (
            not fails,
            finding.id in ADVICE,
            finding.stage not in first,
            STAGES.index(finding.stage),
            list(CATALOGUE).index(finding.id),
        )

    tops = sorted((finding for id, finding in bad.items() if id not in parents), key=rank)
    roots = tuple(Root(top, tuple(bad[c] for c in bad if _top(c, parents) == top.id != c)) for top in tops)
    return Verdict(_sentence(roots, findings, facts), roots)


def _parent(id: str, bad: Collection[str]) -> str | None:
    """The finding that explains this one, if one of them does."""
    return next((other for other in bad if id in CATALOGUE[other].explains), None)


def _top(id: str, parents: Mapping[str, str]) -> str:
    seen = {id}
    while id in parents and parents[id] not in seen:
        id = parents[id]
        seen.add(id)
    return id


def _sentence(roots: tuple[Root, ...], findings: Mapping[str, Finding], facts: Mapping[str, str]) -> str:
    looked_at = sum(finding.status != "skip" for finding in findings.values())
    if not roots:
        where = f" {facts['server']}" if "server" in facts else ""
        return f"Everything a deployment needs works: {looked_at} checks against{where or ' the host'}."
    if all(root.finding.id == "unexplained" for root in roots):
        return roots[0].finding.what
    others = len(roots) - 1
    more = f" (and {others} more)" if others else ""
    if any(finding.status == "fail" for finding in findings.values()):
        return f"Deployments fail here. {roots[0].finding.what}{more}"
    return f"Deployments work here, with a reservation. {roots[0].finding.what}{more}"


def ordered(verdict: Verdict, findings: Iterable[Finding]) -> list[Finding]:
    """All findings: the roots and what they explain, then what is ok, then what was skipped."""
    ranked = [f for root in verdict.roots for f in (root.finding, *root.explains)]
    rest = [f for f in findings if not f.bad]
    order = {"ok": 0, "skip": 1}
    place = list(CATALOGUE)
    return ranked + sorted(rest, key=lambda f: (order[f.status], STAGES.index(f.stage), place.index(f.id)))


def differences(diagnoses: Iterable[Diagnosis]) -> list[Difference]:
    """In which facts and findings the hosts of a fleet differ from each other, and which hosts."""
    hosts = list(diagnoses)
    if len(hosts) < 2:
        return []
    found = []
    for fact in sorted({name for host in hosts for name in host.facts} - PRIVATE):
        found.append((fact, {host.host: host.facts.get(fact, "unknown") for host in hosts}))
    for id in CATALOGUE:
        said = {h.host: next((f.status for f in h.findings if f.id == id), "skip") for h in hosts}
        if {"warn", "fail"} & set(said.values()):
            found.append((id, said))
    return [_difference(name, said) for name, said in found if len(set(said.values())) > 1]


def _difference(name: str, said: Mapping[str, str]) -> Difference:
    values: dict[str, tuple[str, ...]] = {}
    for host, value in said.items():
        values[value] = (*values.get(value, ()), host)
    return Difference(name, dict(sorted(values.items(), key=lambda item: -len(item[1]))))
