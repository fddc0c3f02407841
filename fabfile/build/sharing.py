"""What one host shares between its releases: seeded, linked, followed, and told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import CommandFailed
from ..events import shorten_list
from ..remote.shell import Result, Script
from ..site.manifest import Entry, Manifest, RemoteContents
from . import shared, transfers
from .shared import Linked, Shared
from .upload import StagedUpload, UploadTarget, stage

if TYPE_CHECKING:
    from .release_build import ReleaseBuild


class Sharing:
    """The shared paths of one release on one host."""

    def __init__(self, build: ReleaseBuild) -> None:
        self.build = build
        self.what = Shared(build.settings.shared.dirs, build.settings.shared.files)
        self.linked = Linked()
        self._uploaded: list[str] = []

    @property
    def paths(self) -> list[str]:
        """The shared paths."""
        return self.what.paths

    def links_of_live(self) -> list[str]:
        """The paths that are links in the live release, or are to be in the new one."""
        record = self.build.state.records.get(self.build.state.live or "")
        return sorted({*self.paths, *(record.shared if record else [])})

    def upload(self) -> StagedUpload | None:
        """Upload what the source has for shared paths that the host hasn't yet, or that become shared now."""
        build = self.build
        entries = self._seeds()
        self._look_around()
        if not entries:
            return None
        folder = f"{build.layout.incoming}/{build.id}.seeds"
        transfer = transfers.choose(build.host, build.settings.transfer).transfer
        wanted = Manifest(entries)
        update = stage(
            build.host, UploadTarget(folder, f"{folder}.part"), RemoteContents(), build.source, wanted,
            RemoteContents().difference(wanted), transfer, lambda files, size: None,
        )  # fmt: skip
        build.result.count(update.difference)
        self._uploaded = [entry.path for entry in entries if entry.kind != "dir"]
        self.what = replace(self.what, seeds=folder)
        return update

    def _look_around(self) -> None:
        build = self.build
        record = build.state.records.get(build.live or "")
        before = record.shared if record else []
        self.what = replace(
            self.what,
            live=build.live_directory or "",
            fresh=[path for path in self.paths if path not in before],
            files_of_source=[entry for entry in build.source.seeds if entry.kind != "dir"],
        )

    def _seeds(self) -> list[Entry]:
        present, live = self.build.state.shared_present, self.build.live_directory
        record = self.build.state.records.get(self.build.live or "")
        before = record.shared if record else []
        due = [path for path in self.paths if path not in present or (live and path not in before)]
        return [e for e in self.build.source.seeds if any(_at_or_below(e.path, path) for path in due)]

    def parts(self, seeds: StagedUpload | None) -> list[Script]:
        """What puts the links into the release."""
        build = self.build
        script = shared.link(build.layout, build.directory, self.what, keep_links=build.strategy.keeps_links)
        return [
            *([Script("Seeding what is shared", seeds.script)] if seeds else []),
            Script("Linking what is shared", script),
        ]

    def take(self, said: Result) -> None:
        """Read what the links were found to be. Raises CommandFailed where that can't be understood."""
        self.linked = self._parsed(said)
        result = self.build.result
        served = [path for path in self._uploaded if path not in self.linked.unserved]
        result.seeds = [p for p in served if not any(_at_or_below(p, kept) for kept in self.linked.kept)]
        result.unserved = sorted({*result.unserved, *self.linked.unserved})
        self._tell("were seeded from the source into shared/, once")

    def foresee(self) -> None:
        """What would be seeded, and what would not be served. Changes nothing."""
        build, result = self.build, self.build.result
        self._look_around()
        said = build.host.shell.run(shared.unserved(build.layout, self.what), what="Looking at shared/")
        missing = self._parsed(said, whole=False).unserved
        due = {entry.path for entry in self._seeds()}
        result.seeds = [path for path in missing if path in due]
        result.unserved = [path for path in missing if path not in due]
        self._tell("would be seeded from the source into shared/, once")

    def _parsed(self, said: Result, *, whole: bool = True) -> Linked:
        try:
            found = shared.parse(said.text, self.what)
            if whole and not found.way:
                raise ValueError("the way from a release to shared/ is missing")
            return found
        except ValueError as error:
            raise CommandFailed("What the host said of shared/ is not understood.", str(error)) from error

    def _tell(self, seeded: str) -> None:
        host, result, linked = self.build.host, self.build.result, self.linked
        if result.seeds:
            host.note("info", f"{_files(result.seeds)} {seeded}: {shorten_list(result.seeds)}")
        if linked.kept:
            host.note(
                "info", f"shared/ has begun with what the live release had: {shorten_list(linked.kept)}"
            )
        if linked.left:
            host.note(
                "warn", f"links of the live release, not copied to shared/: {shorten_list(linked.left)}"
            )
        if unserved := [path for path in result.unserved if _below_any(path, self.paths)]:
            host.note(
                "warn",
                f"{_files(unserved)} of the source lie in what is shared, and are not served, since shared/ "
                f"was seeded before: {shorten_list(unserved)}",
            )


def _files(paths: list[str]) -> str:
    return "1 file" if len(paths) == 1 else f"{len(paths)} files"


def _at_or_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _below_any(path: str, folders: list[str]) -> bool:
    return any(_at_or_below(path, folder) for folder in folders)
