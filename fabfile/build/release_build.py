"""Build one release on one host: upload, copy, link, verify. Nobody sees it until the switch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..background import background
from ..errors import NO_SPACE, QUOTA, READ_ONLY, CommandFailed, VerificationFailed
from ..events import count, shorten_list
from ..on_host import records
from ..on_host.records import Record
from ..remote.files import PathInfo
from ..remote.host import write_file
from ..remote.jobs import Jobs
from ..remote.shell import Result, Script, quote
from ..session.session import HostView
from ..session.steps import BatchedSteps
from . import copying, proof, shared, verify
from .apply import ENTER
from .order import Comparison, Order, Plan
from .shared import Linked
from .sharing import Sharing
from .strategies import Strategy
from .upload import StagedUpload, send


class Built(NamedTuple):
    """A release as it was built. wrong: the paths that are not as they should be. seen: the release from the
    other side, where that was seen already.
    """

    record: Record
    linked: Linked
    wrong: list[str]
    seen: dict[str, PathInfo] | None


class ReleaseBuild:
    """A release that comes about on one host."""

    def __init__(self, plan: Plan, strategy: Strategy) -> None:
        self.plan = plan
        self.strategy = strategy
        self.session = plan.session
        self.sharing = Sharing(plan.session, plan.order.source)
        self.sent: frozenset[str] = frozenset()  # the paths that this deployment has written

    def compare(self) -> Comparison:
        """What the host has already, and what it lacks."""
        return compare(self.session, self.plan.order, self.strategy)

    def build(self, comparison: Comparison) -> Built:
        """Bring everything there and prove it; what is not as it should be is sent again, once.

        Raises VerificationFailed.
        """
        try:
            built = self._attempt(comparison, self.session.jobs)
        except CommandFailed as error:
            # A cache that can't be copied may be one that can be mended.
            if error.reason in (NO_SPACE, QUOTA, READ_ONLY):
                raise
            damaged = self.strategy.damage(self.plan, hashed=False)
            if not damaged:
                raise
            return self._build_again(damaged, damaged)
        if not built.wrong:
            return built
        # All that is wrong in the cache, of which a recycled release shows only a part.
        return self._build_again(built.wrong, self.strategy.damage(self.plan, hashed=True))

    def look_at_release(self, built: Built) -> None:
        """See the release from the other side. Raises VerificationFailed."""
        session, directory = self.session, self.plan.directory
        seen = built.seen or session.host.files.look(self._to_look_at())
        there = seen[directory].stat
        if there is None or there.kind != "dir":
            raise VerificationFailed(
                f"The new release is not there: {directory}.",
                f"the shell has just made it, the check sees {there.kind if there else 'nothing'}",
                "Shell and SFTP may see different trees: set ssh.sftp: off, and compare `ls` of both.",
            )
        if wrong := shared.wrong(seen, directory, self.sharing.shared.paths, built.linked.way):
            raise VerificationFailed("A shared path is not linked as it should be.", "\n".join(wrong))
        for path in shared.dangling(seen, session.layout, self.sharing.shared.files):
            place = f"{session.layout.shared}/{path}"
            session.host.note("warn", f"shared/{path} is not there yet: put it at {place}")

    def _build_again(self, wrong: Sequence[str], damaged: Sequence[str]) -> Built:
        """Send again what is wrong. damaged: what of that somebody has changed before it was copied."""
        host, again = self.session.host, frozenset((*wrong, *damaged))
        where = "cache/ was changed on the host" if damaged else "the release is not as it was sent"
        named = f"{count(len(again), 'path')} sent again: {shorten_list(sorted(again))}"
        host.note("warn", f"{where}: {named}")
        self._mark_untrusted(sorted(again))
        known = self.strategy.known(self.session, self.plan.order, afresh=True)
        known = replace(known, doubtful=known.doubtful | again)
        comparison = Comparison.of(known, self.plan.wanted)
        built = self._attempt(comparison, self.session.jobs.again(), again=True)
        if built.wrong:
            self._mark_untrusted(built.wrong)
            raise self._still_wrong(built.wrong, again)
        return built

    def _still_wrong(self, wrong: Sequence[str], again: frozenset[str]) -> VerificationFailed:
        why = f"{count(len(wrong), 'path')} missing or different: {shorten_list(wrong)}"
        if after := [path for path in wrong if path in again]:
            why += f"; {count(len(after), 'path')} also after being sent again: {shorten_list(after)}"
        return VerificationFailed(
            f"The new release on {self.session.host.name} is not what was deployed.",
            why,
            "Deploy with --from-scratch. If that does not help, the host's disk is to be checked.",
        )

    def _mark_untrusted(self, paths: Sequence[str]) -> None:
        if commands := self.strategy.mark_untrusted(self.plan, paths):
            self.session.host.run_lines(commands, "Writing down what is wrong", self.session.guard)

    def _attempt(self, comparison: Comparison, jobs: Jobs, *, again: bool = False) -> Built:
        """Build the release's directory once."""
        plan = self.plan
        update = self._upload(comparison, again=again)
        seeds = self.sharing.upload(plan.id)
        copied = [self._record_script()]
        copied += self.strategy.parts(plan, update, again=again) if update is not None else []
        linking = self._linking(seeds)
        expected = self.strategy.expected(plan, self.sent)
        shape = background(lambda: proof.expected_shape(plan.wanted))
        scripts = [*copied, *linking, verify.proving(self.session.host, expected)]
        steps = BatchedSteps(
            self.session.steps,
            ["copy"] * len(copied) + ["link"] * len(linking) + ["verify"],
            {
                "copy": copying.mode_used,
                "link": lambda _: count(len(self.sharing.shared.paths), "shared path"),
                "verify": lambda _: count(len(plan.wanted), "path"),
            },
        )
        said, seen = self._run(jobs, scripts, steps)
        self._note_copy(said[: len(copied)])
        linked = self.sharing.take(said[-3], seeds)
        wrong, seal = verify.judge(self.session.steps, expected, said[-1], shape.result())
        digest = update.digest if update is not None else ""
        record = self.strategy.proven(plan.record, digest, seal) if seal else plan.record
        return Built(record, linked, wrong, seen)

    def _run(
        self, jobs: Jobs, scripts: list[Script], steps: BatchedSteps
    ) -> tuple[list[Result], dict[str, PathInfo] | None]:
        """Run them as one job: it goes on without us, and costs one round trip. What each has left, and the
        release as it is seen from the other side.
        """
        ended = jobs.status_of("build", scripts)
        watching = self.session.host.files.watching(
            [ended, *self._to_look_at()], lambda seen: seen[ended].stat is not None
        )
        with steps.running(), watching as sight:
            try:
                said = jobs.batch("build", scripts, "Building the release", ended=steps.ended)
            except CommandFailed as error:
                explained = self.strategy.explain(self.plan, error)
                if explained is error:
                    raise
                raise explained from error
        return said, sight()

    def _upload(self, comparison: Comparison, *, again: bool) -> StagedUpload | None:
        """Send what is missing; None where the deployment that we resume had brought everything there."""
        plan = self.plan
        if not again:
            self.sent, complete = self.strategy.resumed(plan, comparison)
            if complete:
                return None
        target = self.strategy.target(plan, again=again)
        # --resume looks for the record that tells of it.
        update = send(self.session, plan.order.source, target, comparison, meanwhile=self._record_script())
        self.sent |= {entry.path for entry in update.difference.written}
        return update

    def _record_script(self) -> Script:
        return Script("Writing the record", records.write(self.plan.layout, self.plan.record))

    def _to_look_at(self) -> list[str]:
        what, directory = self.sharing.shared, self.plan.directory
        return [directory, *shared.paths_to_check(self.plan.layout, directory, what.dirs, what.files)]

    def _note_copy(self, said: list[Result]) -> None:
        printed = " ".join(result.text for result in said)
        self.session.result.copy = copying.mode_used(printed)
        if copying.DRIFTED in printed.split():
            self.session.host.note(
                "info", "the oldest release has changed since it was built: it is not recycled"
            )

    def _linking(self, seeds: StagedUpload | None) -> list[Script]:
        """Link what is shared, put REVISION in, keep the manifest with the release."""
        links = self.sharing.parts(self.plan.directory, seeds, keep_links=self.strategy.keeps_links)
        finish = "\n".join(["set -e", *self._finishing(seeds)])
        return [*links, Script("Finishing the release", finish)]

    def _finishing(self, seeds: StagedUpload | None) -> Iterator[str]:
        plan = self.plan
        yield from self.strategy.finishing(plan)
        if seeds:
            yield f"rm -rf {quote(seeds.place.target)}"
        yield f"{ENTER}umask 022; tree_in {quote(plan.layout.releases)} {plan.id}"
        if plan.wanted.get("REVISION") is None:
            yield write_file("./REVISION", plan.order.source.revision + "\n")
        # Until now nobody else could enter it.
        yield f"chmod {plan.order.source.root_mode:o} ."


def compare(view: HostView, order: Order, strategy: Strategy) -> Comparison:
    """What the host has of the source already, and what it lacks."""
    return Comparison.of(strategy.known(view, order), order.wanted)
