"""Several hosts on one machine: each its own sshd, each with its own tree under the same path."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.sshd import Sshd


class IsolatedHost(Sshd):
    """An Sshd that lives in a mount namespace of its own, where `common` is another directory.

    site: that directory, as everybody else sees it.
    """

    def __init__(self, common: Path, *, extra: str = "") -> None:
        super().__init__(extra=extra)
        self.site = self.new_dir()
        wrapper = self.folder / "sshd"
        wrapper.write_text(
            "#!/bin/sh\n"
            "exec unshare -m --propagation private sh -c "
            f"""'mount --bind {self.site} {common} && exec {self._binary} "$@"' sh "$@"\n"""
        )
        wrapper.chmod(0o755)
        self._binary = wrapper

    @property
    def address(self) -> str:
        """What -H is given."""
        return f"{self.user}@{self.host}:{self.port}"


class IsolatedHosts:
    """`count` hosts as a context manager; needs root.

    common: the path that is another directory on each of them.
    All take the key `identity`.
    """

    def __init__(self, count: int, *, extra: str = "") -> None:
        if os.geteuid() != 0:
            raise PermissionError("mount namespaces need root")
        self.common = Path(tempfile.mkdtemp(prefix="switchover-common-")).resolve()
        self.common.chmod(0o755)
        self.hosts = [IsolatedHost(self.common, extra=extra) for _ in range(count)]
        self._open = contextlib.ExitStack()

    @property
    def identity(self) -> Path:
        """The private key that every host takes."""
        return self.hosts[0].identity

    @property
    def addresses(self) -> str:
        """All of them, for -H."""
        return ",".join(host.address for host in self.hosts)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as started:
            started.callback(shutil.rmtree, self.common, ignore_errors=True)
            for host in self.hosts:
                started.enter_context(host)
            key = (self.identity.with_suffix(".pub")).read_bytes()
            for host in self.hosts:
                (host.folder / "authorized_keys").write_bytes(key)
            self._open = started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
