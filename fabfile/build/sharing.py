"""What one host shares between its releases: seeded, linked, followed, and told."""

from __future__ import annotations

from dataclasses import replace

from ..errors import CommandFailed
from ..events import count, shorten_list
from ..on_host.manifest import Entry, Manifest, RemoteContents
from ..remote.shell import Result, Script
from ..results import HostResult
from ..session.session import HostView
from . import shared, transfers
from .order import links_of_live
from .shared import Linked, Shared
from .source.source import Source
from .upload import StagedUpload, UploadTarget, stage


class Sharing:
    """The shared paths of one host, and what the source has for them."""

    def __init__(self, view: HostView, source: Source) -> None:
        self.view = view
        self.source = source
        dirs, files = view.settings.shared.dirs, view.settings.shared.files
        self.before = links_of_live(view)
        self.shared = Shared(
            dirs,
            files,
            live=view.live_directory or "",
            fresh=[path for path in (*dirs, *files) if path not in self.before],
            files_of_source=[entry for entry in source.seeds if entry.kind != "dir"],
        )

    def upload(self, release: str) -> StagedUpload | None:
        """Upload what the source has for shared paths that the host hasn't yet, or that become shared now."""
        entries, view = self._seeds(), self.view
        if not entries:
            return None
        folder = f"{view.layout.incoming}/{release}.seeds"
        transfer = transfers.choose(view.host, view.settings.transfer).transfer
        wanted, nothing = Manifest(entries), RemoteContents()
        target = UploadTarget(folder, f"{folder}.part")
        difference = nothing.difference(wanted)
        update = stage(
            view.host, target, nothing, self.source, wanted, difference, transfer, lambda files, size: None
        )
        view.result.count(update.difference)
        return update

    def parts(self, release: str, seeds: StagedUpload | None, *, keep_links: bool) -> list[Script]:
        """What puts the links into the release in the directory `release`."""
        what = replace(self.shared, seeds=seeds.place.target) if seeds else self.shared
        script = shared.link(self.view.layout, release, what, keep_links=keep_links)
        return [
            *([Script("Seeding what is shared", seeds.script)] if seeds else []),
            Script("Linking what is shared", script),
        ]

    def take(self, said: Result, seeds: StagedUpload | None) -> Linked:
        """Read what the links were found to be, and tell it. Raises CommandFailed where that can't be
        understood.
        """
        linked, result = self._parsed(said), self.view.result
        if not linked.way:
            raise _not_understood("the way from a release to shared/ is missing")
        uploaded = [e.path for e in seeds.difference.added if e.kind != "dir"] if seeds else []
        served = [path for path in uploaded if path not in linked.unserved]
        result.seeds = [p for p in served if not any(_at_or_below(p, kept) for kept in linked.kept)]
        result.unserved = sorted({*result.unserved, *linked.unserved})
        self._tell(result, linked, "seeded once from the source into shared/")
        return linked

    def foresee(self) -> None:
        """What would be seeded, and what would not be served. Changes nothing."""
        view, result = self.view, self.view.result
        said = view.host.shell.run(shared.unserved(view.layout, self.shared), what="Looking at shared/")
        missing = self._parsed(said).unserved
        due = {entry.path for entry in self._seeds()}
        result.seeds = [path for path in missing if path in due]
        result.unserved = [path for path in missing if path not in due]
        self._tell(result, Linked(), "would be seeded once from the source into shared/")

    def _seeds(self) -> list[Entry]:
        present, live = self.view.state.shared_present, self.view.live_directory
        paths = self.shared.paths
        due = [path for path in paths if path not in present or (live and path not in self.before)]
        return [e for e in self.source.seeds if any(_at_or_below(e.path, path) for path in due)]

    def _parsed(self, said: Result) -> Linked:
        try:
            return shared.parse(said.text, self.shared)
        except ValueError as error:
            raise _not_understood(str(error)) from error

    def _tell(self, result: HostResult, linked: Linked, seeded: str) -> None:
        note = self.view.host.note
        if result.seeds:
            note("info", f"{count(len(result.seeds), 'file')} {seeded}: {shorten_list(result.seeds)}")
        if linked.kept:
            note("info", f"shared/ has begun with what the live release had: {shorten_list(linked.kept)}")
        if linked.left:
            left = shorten_list(linked.left)
            note("warn", f"links of the live release, not copied to shared/: {left}")
        paths = self.shared.paths
        if unserved := [path for path in result.unserved if any(_at_or_below(path, p) for p in paths)]:
            note(
                "warn",
                f"{count(len(unserved), 'file')} of the source not served: shared/ was seeded before, with "
                f"other files in their place: {shorten_list(unserved)}",
            )


def _not_understood(why: str) -> CommandFailed:
    return CommandFailed("What the host said of shared/ is not understood.", why)


def _at_or_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
