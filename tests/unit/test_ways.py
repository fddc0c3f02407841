"""How a host is come by, as this machine has it: key files, ssh_config, addresses."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import fabric
import pytest

from fabfile import address
from fabfile.remote import client, identities, ssh_config
from fabfile.remote.identities import Unusable, Ways


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["key", "key.pub", "key-cert.pub"])
def test_nobody_waits_at_a_fifo(tmp_path: Path, name: str) -> None:
    """A key may be the output of another program, `-i <(…)`, which has been read, or never comes."""
    os.mkfifo(tmp_path / name)
    ways = Ways(files=(str(tmp_path / "key"),), agent="none", defaults=False)
    assert list(identities.offers(ways)) == []
    (unusable,) = ways.unusable
    detail = "it is no regular file"
    assert unusable == (
        Unusable(str(tmp_path / "key"), "damaged", detail)
        if name == "key"
        else Unusable(str(tmp_path / "key"), "missing")
    )


@pytest.mark.parametrize(("jump", "token"), [("none", ""), ("nonesuch", "nonesuch"), ("hop", "hop")])
def test_the_jump_host_in_a_path(tmp_path: Path, jump: str, token: str) -> None:
    config = tmp_path / "config"
    config.write_text(f"Host shop\n  ProxyJump {jump}\n  IdentityFile /keys/%j-\n")
    answer = ssh_config.resolve(address.parse("shop"), fabric.Config(runtime_ssh_path=str(config)))
    assert answer.identities == (f"/keys/{token}-",)


def test_the_next_address_is_tried_where_this_machine_lacks_a_family(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        both = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]
        made = socket.socket

        def without_ipv6(family: int, *given: Any) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            return made(family, *given)

        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
        monkeypatch.setattr(client.socket, "socket", without_ipv6)
        with client.dial("shop", port, 5) as dialled:
            assert dialled.getpeername() == ("127.0.0.1", port)
