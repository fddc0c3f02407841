"""Back to an earlier release on one host, in the same phases as a deployment."""

from __future__ import annotations

from dataclasses import replace

from ..build.observe import observe
from ..errors import VerificationFailed
from ..events import shorten_list
from ..remote.shell import Script, failed, quote
from ..session.going_live import Switching, Tree
from ..site import records, state
from ..site.records import Record


class Rollback(Switching):
    """Back to an earlier release on one host."""

    command = "rollback"

    def choose(self, wanted: str | None) -> Record:
        """The release to go back to. Raises NoSuchRelease."""
        found = records.rollback_target(self.records, self.state.live, wanted)
        self.record = found
        self.result.release = found.id
        self.result.strategy = found.strategy
        return found

    @property
    def records(self) -> dict[str, Record]:
        """Releases whose directory is there."""
        found = {name: r for name, r in self.state.records.items() if name in self.state.directories}
        # One that says "live" and isn't was, before a switch whose record could not be written.
        return {
            name: r.become(records.GOOD) if r.state == records.LIVE and name != self.state.live else r
            for name, r in found.items()
        }

    def prepare(self, release: str) -> None:
        """See that the release is whole."""
        self.take_over()
        with self.step("verify"):
            if self._seems_whole(release):
                return
            manifest = state.read_manifest(self.host, self.layout.state_of(release)).manifest
            if manifest is None:
                self.host.note(
                    "warn", f"what release {release} has to hold is not known: it can't be verified"
                )
            found = observe(self.host, self.layout.release(release))
            missing = [e.path for e in manifest or () if found.get(e.path) is None]
            if missing:
                raise VerificationFailed(
                    f"Release {release} on {self.host.name} is not whole any more.",
                    f"{len(missing)} paths are missing: {shorten_list(missing)}",
                    "Choose another with --to ID (see `fab releases`), or deploy again.",
                )

    def _seems_whole(self, release: str) -> bool:
        """Whether no path of the manifest is missing, as far as the host can tell (odd names it can't)."""
        manifest = quote(f"{self.layout.state_of(release)}/manifest")
        script = f"""
[ -f {manifest} ] || exit 1
cd {quote(self.layout.release(release))} || exit 1
{{ find . | sed 's|^[.]/||'; echo; tail -n +2 {manifest} | cut -f 6; }} |
  LC_ALL=C awk '!n && $0 == "" {{ n = 1; next }} !n {{ have[$0]; next }} !($0 in have) {{ exit 1 }}'
"""
        return self.host.shell.run(script, what="Looking at the release", check=False).status == 0

    def switch(self) -> None:
        """Make it live."""
        assert self.record is not None
        self.go_live(self.record.id)

    def prove(self) -> None:
        """The same as after a deployment: services are told, health is checked."""
        assert self.record is not None
        self.after_switch(Tree(self.record.id, self.layout.release(self.record.id), self.record.revision))
        self.check_health()

    def finish(self) -> None:
        """Write down who is live and who was left."""
        assert self.record is not None
        changed = [replace(self.record.become(records.LIVE), left=False)]
        before = self.state.records.get(self.state.live or "")
        # It is the same release where the host went back by itself a moment ago.
        if before and before.id != self.record.id and before.state in records.NOT_LIVE_ANY_MORE:
            changed.append(before.become(records.NOT_LIVE_ANY_MORE[before.state]))
        written = Script("Writing the records", records.write(self.layout, *changed), needed=False)
        (wrote,) = self.close([written], "unlock")
        if wrote.status != 0:
            raise failed(written.what, wrote)

    def abandon(self) -> None:
        """Nothing was built: only the lock is to be given back."""
        self.unlock()
