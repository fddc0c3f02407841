"""Addresses as people write them, and -H NAME of a configured host."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile import address, hosts
from fabfile.address import Address
from fabfile.errors import ConfigError
from fabfile.hosts import Target
from fabfile.settings import Settings, load


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("web1", Address("web1")),
        ("web1:2222", Address("web1", None, 2222)),
        ("deploy@web1", Address("web1", "deploy")),
        ("deploy@web1:2222", Address("web1", "deploy", 2222)),
        ("me@corp.example@web1", Address("web1", "me@corp.example")),
        ("10.0.0.1:22", Address("10.0.0.1", None, 22)),
        ("[10.0.0.1]:22", Address("10.0.0.1", None, 22)),
        ("::1", Address("::1")),
        ("deploy@::1", Address("::1", "deploy")),
        ("[::1]", Address("::1")),
        ("[::1]:2222", Address("::1", None, 2222)),
        ("deploy@[::1]:2222", Address("::1", "deploy", 2222)),
        ("[fe80::1%eth0]:22", Address("fe80::1%eth0", None, 22)),
        ("ssh://deploy@web1:2222", Address("web1", "deploy", 2222)),
        ("prod/web+1", Address("prod/web+1")),
    ],
)
def test_what_is_meant(text: str, meant: Address) -> None:
    assert address.parse(text) == meant
    assert address.parse(str(meant)) == meant


@pytest.mark.promise("addresses")
@pytest.mark.parametrize(
    "text",
    [
        "", "@web1", "web1:", "web1:0", "web1:65536", "web1:22x", "[::1]2222", "[::1", "::1]", "[web1:22",
        "a b", " web1", "web1\n", "web1\nProxyCommand x", "-oProxyCommand=x", "a@-x", "-x@a", "web1\x00",
        "web1\x9b", "web1;id", "$(id)", "`id`", "web'1", 'web"1', "web1,web2", "a;b@web1", "[fe80::1%a b]",
        "a\\@web1", "u\nv@web1", "1:2:3", "[::1%]",
    ],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\[user@\]host"):
        address.parse(text)


@pytest.mark.promise("addresses")
@given(st.text(max_size=30))
def test_no_address_holds_what_a_configuration_or_a_shell_would_read(text: str) -> None:
    try:
        found = address.parse(text)
    except ValueError:
        return
    for part in (found.host, found.user or "x"):
        assert not part.startswith("-") and not set(part) & set("\n\r\0\t '\"`;&|<>(){}")
    assert address.parse(str(found)) == found


CONFIGURED = """
deploy_to: /srv/x
hosts:
  - web1
  - {host: web2, user: deploy, port: 2222, identity: /keys/web2}
  - {host: twin, port: 1, user: a}
  - {host: twin, port: 2, user: b}
  - {host: "::1", user: six, port: 22}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "config.yaml").write_text(CONFIGURED)
    return load(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("web1", Target("web1")),
        ("web2", Target("deploy@web2:2222", "/keys/web2")),
        ("WEB2", Target("deploy@WEB2:2222", "/keys/web2")),
        ("root@web2", Target("root@web2:2222", "/keys/web2")),
        ("web2:22", Target("deploy@web2:22", "/keys/web2")),
        ("twin:2", Target("b@twin:2")),
        ("a@twin", Target("a@twin:1")),
        ("[::1]", Target("six@[::1]:22")),
        ("other", Target("other")),
    ],
)
def test_a_configured_host_by_its_name(settings: Settings, said: str, meant: Target) -> None:
    assert hosts._completed(Target(said), settings.hosts) == meant


def test_an_identity_of_its_own_wins(settings: Settings) -> None:
    assert hosts._completed(Target("web2", "/mine"), settings.hosts).identity == "/mine"


@pytest.mark.parametrize("said", ["twin", "c@twin", "web1\nUser root", "a b", "web1:99999"])
def test_a_name_that_does_not_say_which_host(settings: Settings, said: str) -> None:
    with pytest.raises(ConfigError) as error, hosts.opened(settings, [Target(said)], print, None):
        pass
    assert error.value.exit_code == 2
    assert "\n" not in error.value.what + error.value.why
