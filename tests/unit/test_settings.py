"""config.yaml -> Settings: what is accepted, and what every mistake is answered."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fabfile.errors import ConfigError
from fabfile.settings import Health, HostEntry, Settings, Source, known_keys, load

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no configuration from outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWITCHOVER_CONFIG", raising=False)
    return tmp_path


def load_text(text: str, **arguments: object) -> Settings:
    Path("config.yaml").write_text(text, encoding="utf-8")
    return load(None, **arguments)  # type: ignore[arg-type]


def mistakes(text: str, **arguments: object) -> list[str]:
    """The lines of the ConfigError that this file gets."""
    with pytest.raises(ConfigError) as caught:
        load_text(text, **arguments)
    error = caught.value
    assert error.exit_code == 2
    assert error.what and error.hint
    return error.why.splitlines()


# ── One mistake, one line ─────────────────────────────────────────────────────────────────────────────

HOSTS = "[user@]host[:port]"

# name, file, line, key, words that decide
MISTAKES = [
    # keys
    ("misspelt", "keep_release: 3", 1, "keep_release", "unknown key; did you mean 'keep_releases'?"),
    ("misspelt-dash", "\ndeploy-to: /srv/x", 2, "deploy-to", "did you mean 'deploy_to'?"),
    ("misspelt-case", "Strategy: cache", 1, "Strategy", "did you mean 'strategy'?"),
    ("misspelt-inside", "ssh:\n  keepalive:\n    intervall: 3", 3, "ssh.keepalive.intervall", "'interval'?"),
    ("misspelt-in-list", "hosts:\n- a\n- host: b\n  prot: 3", 4, "hosts[1].prot", "did you mean 'port'?"),
    ("misspelt-environments", "enviroments: {}", 1, "enviroments", "did you mean 'environments'?"),
    ("misplaced", "before_switch: []", 1, "before_switch", "did you mean 'hooks.before_switch'?"),
    ("unlike-any", "shared: {zzz: 1}", 1, "shared.zzz", "unknown key; known here: dirs, files"),
    ("not-for-files", "base_dir: /x", 1, "base_dir", "unknown key"),
    ("key-number", "5: x", 1, "", "the key 5 is not plain text"),
    ("key-merge", "ssh:\n  <<: {sftp: auto}", 2, "ssh", "merge keys (<<) are not supported"),
    (
        "tag",
        "exclude:\n- a\n- !keep.txt",
        3,
        "exclude[1]",
        "!keep.txt; put a value that starts with ! in quotes",
    ),
    ("bad-tagged-int", "keep_releases: !!int x", 1, "keep_releases", 'found "x", which is no value'),
    # application, deploy_to
    ("application", "application: my shop", 1, "application", 'found "my shop"; allowed: letters, digits'),
    ("application-dots", "application: '..'", 1, "application", "letters, digits"),
    ("application-number", "application: 007", 1, "application", "found 007 (a number)|in quotes"),
    ("application-date", "application: 2024-01-01", 1, "application", "found 2024-01-01 (a date)"),
    ("deploy-relative", "deploy_to: srv/x", 1, "deploy_to", 'found "srv/x"; allowed: an absolute path'),
    ("deploy-home", "deploy_to: ~/x", 1, "deploy_to", "an absolute path"),
    ("deploy-root", "deploy_to: /", 1, "deploy_to", "a folder below /"),
    ("deploy-slash", "deploy_to: /srv/x/", 1, "deploy_to", "trailing slashes|such as /srv/x"),
    ("deploy-double", "deploy_to: //srv//x", 1, "deploy_to", "doubled|such as /srv/x"),
    ("deploy-up", "deploy_to: /srv/a/../x", 1, "deploy_to", "without . or ..|such as /srv/x"),
    (
        "deploy-newline",
        'deploy_to: "/srv/x\\n"',
        1,
        "deploy_to",
        r'found "/srv/x\n"|without control characters',
    ),
    ("deploy-nul", 'deploy_to: "/srv/\\0x"', 1, "deploy_to", "without control characters"),
    ("deploy-number", "deploy_to: 12", 1, "deploy_to", "found 12 (a number)"),
    # source
    ("source-text", "source: ./build", 1, "source", 'found "./build"; allowed: a mapping of path, git'),
    ("source-both", "source:\n  path: a\n  git: b", 1, "source", "both path and git; allowed: exactly one"),
    ("source-none", "source: {}", 1, "source", "neither path nor git"),
    ("source-ref-with-path", "source:\n  path: a\n  ref: b", 3, "source.ref", "allowed: ref only with git"),
    ("source-subdir-with-path", "source:\n  path: a\n  subdir: b", 3, "source.subdir", "only with git"),
    (
        "source-ref-float",
        "source:\n  git: .\n  ref: 1.10",
        3,
        "source.ref",
        "found 1.10 (a number)|in quotes",
    ),
    ("source-ref-option", "source:\n  git: .\n  ref: --x", 3, "source.ref", "not starting with -"),
    ("source-git-option", "source: {git: --upload-pack=x}", 1, "source.git", "allowed: a folder, a URL"),
    ("source-git-helper", "source: {git: 'ext::sh -c x'}", 1, "source.git", "allowed: a folder, a URL"),
    ("source-subdir-up", "source:\n  git: .\n  subdir: a/../../b", 3, "source.subdir", "stays inside"),
    (
        "source-subdir-absolute",
        "source:\n  git: .\n  subdir: /app",
        3,
        "source.subdir",
        "relative path, such as app",
    ),
    ("source-empty-path", "source: {path: ''}", 1, "source.path", 'found ""; allowed: a path'),
    # lists and enumerations
    ("exclude-text", "exclude: node_modules", 1, "exclude", 'write a list: ["node_modules"]'),
    (
        "exclude-pattern",
        "exclude:\n- ok\n- '!'",
        3,
        "exclude[1]",
        'found "!"; allowed: a valid gitignore pattern',
    ),
    ("exclude-comment", "exclude: ['#x']", 1, "exclude[0]", "pattern that matches something"),
    ("exclude-blank", "exclude:\n  - ' '", 2, "exclude[0]", "gitignore pattern"),
    ("exclude-null", "exclude:", 1, "exclude", "found nothing; allowed: a list; write []"),
    ("strategy", "strategy: cahce", 1, "strategy", "allowed: cache or previous; did you mean 'cache'?"),
    ("transfer", "transfer: scp", 1, "transfer", "allowed: auto, stream, rsync or sftp"),
    ("copy", "copy: yes", 1, "copy", 'found "yes"; allowed: auto, recycle, reflink, hardlink or full'),
    # numbers
    (
        "keep-text",
        "keep_releases: five",
        1,
        "keep_releases",
        'found "five"; allowed: a whole number from 1 to 1000',
    ),
    ("keep-quoted", "keep_releases: '5'", 1, "keep_releases", "without quotes"),
    ("keep-yes", "keep_releases: yes", 1, "keep_releases", 'found "yes"'),
    (
        "keep-true",
        "keep_releases: true",
        1,
        "keep_releases",
        "found true (a truth value); allowed: a whole number",
    ),
    ("keep-float", "keep_releases: 5.0", 1, "keep_releases", "found 5.0 (a number)"),
    ("keep-zero", "keep_releases: 0", 1, "keep_releases", "from 1 to 1000"),
    ("keep-many", "keep_releases: 1001", 1, "keep_releases", "from 1 to 1000"),
    ("timeout-bool", "ssh:\n  connect_timeout: false", 2, "ssh.connect_timeout", "a number of seconds"),
    ("timeout-nan", "ssh: {command_timeout: .nan}", 1, "ssh.command_timeout", "from 0.1 to 86400"),
    ("timeout-negative", "ssh: {reconnect: {window: -1}}", 1, "ssh.reconnect.window", "found -1 (a number)"),
    ("count-zero", "ssh: {keepalive: {count: 0}}", 1, "ssh.keepalive.count", "a whole number from 1 to 100"),
    # shared
    ("shared-list", "shared: [a]", 1, "shared", "found a list; allowed: a mapping of dirs, files"),
    ("shared-absolute", "shared:\n  dirs:\n  - /a/b", 3, "shared.dirs[0]", "a relative path, such as a/b"),
    ("shared-up", "shared: {dirs: [../a]}", 1, "shared.dirs[0]", "without .."),
    ("shared-dot", "shared: {dirs: [.]}", 1, "shared.dirs[0]", "stays inside"),
    ("shared-slash", "shared: {dirs: [a/]}", 1, "shared.dirs[0]", "trailing slashes|such as a"),
    ("shared-empty", "shared: {files: ['']}", 1, "shared.files[0]", 'found ""'),
    ("shared-revision", "shared: {files: [REVISION]}", 1, "shared.files[0]", "any path but REVISION"),
    (
        "shared-twice",
        "shared:\n  dirs: [a]\n  files: [a]",
        3,
        "shared.files[0]",
        "is the same as shared.dirs[0]",
    ),
    ("shared-inside", "shared:\n  dirs:\n  - a\n  - a/b", 4, "shared.dirs[1]", "lies inside shared.dirs[0]"),
    ("shared-holds", "shared:\n  dirs:\n  - a/b\n  - a", 4, "shared.dirs[1]", 'holds shared.dirs[0] ("a/b")'),
    # hosts
    ("hosts-text", "hosts: web1", 1, "hosts", 'write a list: ["web1"]'),
    ("host-port", "hosts:\n- web1:70000", 2, "hosts[0]", f'found "web1:70000"; allowed: {HOSTS}'),
    ("host-port-zero", "hosts: ['web1:0']", 1, "hosts[0]", HOSTS),
    ("host-ipv6-port", "hosts: ['[fe80::1]22']", 1, "hosts[0]", "IPv6 in brackets"),
    ("host-option", "hosts: [-oProxyCommand=x]", 1, "hosts[0]", HOSTS),
    ("host-space", "hosts: [a b]", 1, "hosts[0]", HOSTS),
    ("host-no-user", "hosts: ['@web1']", 1, "hosts[0]", HOSTS),
    ("host-number", "hosts:\n- a\n- 5", 3, "hosts[1]", "found 5 (a number)"),
    ("host-missing", "hosts:\n- a\n- user: b", 3, "hosts[1].host", "found nothing; this key is required"),
    ("host-mapping-port", "hosts:\n- host: a\n  port: '22'", 3, "hosts[0].port", "without quotes"),
    ("host-mapping-full", "hosts:\n- host: u@a", 2, "hosts[0].host", "a host name or an address"),
    ("host-mapping-host-port", "hosts:\n- host: a:22", 2, "hosts[0].host", "keys of their own"),
    ("host-twice", "hosts:\n- a\n- b\n- A:22", 4, "hosts[2]", "hosts[0] is the same host"),
    ("host-twice-users", "hosts:\n- x@a\n- {host: a, user: y}", 3, "hosts[1]", "hosts[0] is the same host"),
    # ssh, hooks, health
    ("host-keys", "ssh: {host_keys: accept_new}", 1, "ssh.host_keys", "did you mean 'accept-new'?"),
    (
        "sftp",
        "ssh:\n  sftp: false",
        2,
        "ssh.sftp",
        "found false (a truth value); allowed: auto, require or off",
    ),
    ("sftp-root", "ssh: {sftp_root: home}", 1, "ssh.sftp_root", "an absolute path"),
    ("known-hosts", "ssh: {known_hosts: ~no-such-user/x}", 1, "ssh.known_hosts", "no such user"),
    ("ssh-null", "application: x\nssh:", 2, "ssh", "found nothing; allowed: a mapping of connect_timeout"),
    ("hook-text", "hooks:\n  after_switch: make", 2, "hooks.after_switch", 'write a list: ["make"]'),
    (
        "hook-empty",
        "hooks:\n  local_build:\n  - make\n  - ''",
        4,
        "hooks.local_build[1]",
        "that is not empty",
    ),
    (
        "hook-nul",
        'hooks: {after_failure: ["a\\0b"]}',
        1,
        "hooks.after_failure[0]",
        r'found "a\x00b"; allowed',
    ),
    ("half-a-character", 'application: "\\ud83d"', 1, "application", r'found "\ud83d"'),
    ("key-newline", '"a\\nb": 1', 1, "", r"the key a\nb is not plain text"),
    ("bad-tagged-bool", "copy: !!bool x", 1, "copy", 'found "x", which is no value'),
    ("key-half-a-character", '"\\ud83d": x', 1, "", r"the key \ud83d is not plain text"),
    ("choice-half-a-character", 'copy: "\\ud83d"', 1, "copy", r'found "\ud83d", which is no value'),
    ("hook-colon", "hooks:\n  local_build:\n  - echo a: b", 3, "hooks.local_build[0]", "found a mapping"),
    ("health-empty", "health: {timeout: 3}", 1, "health.url", "found nothing; this key is required"),
    ("health-scheme", "health:\n  url: ftp://x/", 2, "health.url", "an http:// or https:// address"),
    ("health-no-host", "health:\n  url: http:///x", 2, "health.url", "address"),
    ("health-bad-port", "health: {url: 'http://x:99999/'}", 1, "health.url", "address"),
    (
        "health-status",
        "health:\n  url: http://x\n  expect_status: 99",
        3,
        "health.expect_status",
        "100 to 599",
    ),
    ("health-timeout", "health:\n  url: http://x\n  timeout: 0.5", 3, "health.timeout", "from 1 to 3600"),
    # environments
    ("environments-list", "environments: [a]", 1, "environments", "a mapping of names"),
    ("environment-null", "environments:\n  a:", 2, "environments.a", "found nothing|({} for none)"),
    ("environment-name", "environments:\n  a b: {}", 2, "environments.a b", "letters, digits"),
    (
        "environment-nested",
        "environments:\n  a:\n    environments: {}",
        3,
        "environments.a.environments",
        "can't hold",
    ),
    (
        "environment-value",
        "keep_releases: 3\nenvironments:\n  a:\n    keep_releases: x",
        4,
        "environments.a.keep_releases",
        'found "x"',
    ),
    (
        "environment-key",
        "environments:\n  a:\n    ssh:\n      sftpp: off",
        4,
        "environments.a.ssh.sftpp",
        "did you mean 'sftp'?",
    ),
    (
        "environment-list-item",
        "hosts: [a]\nenvironments:\n  a:\n    hosts:\n    - a\n    - a",
        6,
        "environments.a.hosts[1]",
        "again",
    ),
    (
        "environment-shared-with-base",
        "shared: {dirs: [a]}\nenvironments:\n  x:\n    shared:\n      files: [a/b]",
        5,
        "environments.x.shared.files[0]",
        "lies inside shared.dirs[0]",
    ),
    (
        "environment-ref-over-path",
        "source: {path: a}\nenvironments:\n  x:\n    source: {ref: b}",
        4,
        "environments.x.source.ref",
        "only with git",
    ),
    # duplicates
    (
        "duplicate",
        "copy: full\nhosts: []\ncopy: auto",
        3,
        "copy",
        "duplicate key; it is given on line 1 already",
    ),
    ("duplicate-inside", "ssh:\n  sftp: off\n  sftp: off", 3, "ssh.sftp", "on line 2 already"),
    ("duplicate-in-list", "hosts:\n- host: a\n  user: b\n  user: c", 4, "hosts[0].user", "on line 3 already"),
    ("duplicate-environment", "environments:\n  a: {}\n  a: {}", 3, "environments.a", "on line 2 already"),
    # YAML itself
    ("tab", "ssh:\n\tsftp: off", 2, "", "not valid YAML: a tab; indent with spaces"),
    ("star", "exclude:\n- a\n- *.log", 3, "", "put a value that starts with * in quotes"),
    ("at", "application: @x", 1, "", "put the value in quotes"),
    ("unclosed", "a: x\nhosts: [a\n", 2, "", "not valid YAML|the end of the file"),
    ("unclosed-quote", "application: 'x\n", 1, "", "a quote that is not closed"),
    ("colon", "application: a: b", 1, "", "a colon where none can be"),
    ("two-documents", "copy: auto\n---\ncopy: full", 2, "", "a second document"),
    ("control", "copy: auto\napplication: a\x01b", 2, "", "a control character"),
    ("tagged-environments", "environments: !x {}", 1, "environments", "the YAML tag !x"),
    ("alias-loop", "hosts: &a [*a]", 1, "hosts[0]", "an alias that holds itself"),
    ("empty", "", 1, "", "the file is empty"),
    ("only-comments", "# nothing\n", 1, "", "the file is empty"),
    ("list", "\n- a\n", 2, "", "a list; allowed at the top: keys, such as deploy_to"),
    ("scalar", "hello", 1, "", "a single value; allowed at the top: keys"),
]


@pytest.mark.parametrize(
    ("text", "line", "key", "words"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES]
)
def test_each_mistake_is_answered_in_plain_words(text: str, line: int, key: str, words: str) -> None:
    found = mistakes(text)
    start = f"config.yaml:{line}: " + (f"{key}: " if key else "")
    matching = [each for each in found if each.startswith(start)]
    assert matching, found
    for word in words.split("|"):
        assert word in matching[0]
    assert "Input should be" not in matching[0] and "Value error" not in matching[0]


@pytest.mark.parametrize("text", [row[1] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_one_mistake_gives_one_line(text: str) -> None:
    assert len(mistakes(text)) == 1


def test_the_table_names_each_case_once() -> None:
    assert len({row[0] for row in MISTAKES}) == len(MISTAKES) >= 40


# ── All at once ───────────────────────────────────────────────────────────────────────────────────────

MANY = """\
application: my shop
deploy_to: srv
keep_releases: 0
sourse: {path: .}
shared:
  dirs: [a, a]
  files: [/b]
hosts:
  - web1
  - web1
  - {user: x}
keep_releases: 3
health: {timeout: 5}
environments:
  staging:
    keep_releases: 7
    health: {timeout: 6}
  production:
    copy: fast
"""


def test_all_mistakes_come_at_once_in_the_order_of_the_file_and_each_once() -> None:
    assert [line.split(": ")[:2] for line in mistakes(MANY, env="stagin")] == [
        [
            "--env stagin",
            "unknown environment; config.yaml knows staging, production; did you mean 'staging'?",
        ],
        ["config.yaml:1", "application"],
        ["config.yaml:2", "deploy_to"],
        ["config.yaml:3", "keep_releases"],
        ["config.yaml:4", "sourse"],
        ["config.yaml:6", "shared.dirs[1]"],
        ["config.yaml:7", "shared.files[0]"],
        ["config.yaml:10", "hosts[1]"],
        ["config.yaml:11", "hosts[2].host"],
        ["config.yaml:12", "keep_releases"],
        ["config.yaml:13", "health.url"],
        ["config.yaml:19", "environments.production.copy"],
    ]


def test_the_count_is_in_what() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("copy: x\nstrategy: y")
    assert caught.value.what == "The configuration has 2 mistakes; nothing was contacted."


def test_every_duplicate_is_reported_with_both_lines() -> None:
    found = mistakes("copy: full\ncopy: full\nssh: {}\ncopy: auto\nssh: {}")
    assert [re.findall(r"\d+", line) for line in found] == [["2", "1"], ["4", "1"], ["5", "3"]]


def test_a_misspelt_section_is_reported_in_the_base_and_in_the_environment() -> None:
    found = mistakes("helth: {}\nenvironments:\n  a:\n    helth: {}")
    assert [line.split(": ")[1] for line in found] == ["helth", "environments.a.helth"]


# ── What is accepted ──────────────────────────────────────────────────────────────────────────────────


def test_defaults() -> None:
    settings = load_text("deploy_to: /srv/shop")
    assert (settings.application, settings.deploy_to, settings.source) == ("shop", "/srv/shop", None)
    assert (settings.strategy, settings.transfer, settings.copy) == ("cache", "auto", "auto")
    assert (settings.keep_releases, settings.exclude, settings.hosts) == (5, (".git",), ())
    assert (settings.shared.dirs, settings.shared.files, settings.health) == ((), (), None)
    assert dataclasses.astuple(settings.hooks) == ((), (), (), ())
    assert dataclasses.astuple(settings.ssh) == (
        *(10, (15, 4), (8, 300), 1800),
        *(None, None, "auto", None),
    )


def test_settings_are_frozen_and_hashable() -> None:
    settings = load_text("hosts: [a]")
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.keep_releases = 1  # type: ignore[misc]
    assert hash(settings) == hash(load_text("hosts: [a]"))


def test_off_is_a_word() -> None:
    ssh = load_text("ssh:\n  host_keys: off\n  sftp: off").ssh
    assert (ssh.host_keys, ssh.sftp) == ("off", "off")


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("web1", HostEntry("web1")),
        ("deploy@web1:2222", HostEntry("web1", "deploy", 2222)),
        ("'[2001:db8::1]:22'", HostEntry("2001:db8::1", None, 22)),
        ("u@d@10.0.0.1", HostEntry("10.0.0.1", "u@d")),
        ("{host: web1, user: deploy, port: 2222}", HostEntry("web1", "deploy", 2222)),
        ("{host: '::1'}", HostEntry("::1")),
        ("{host: '[::1]', port: 1}", HostEntry("::1", None, 1)),
    ],
)
def test_hosts(text: str, entry: HostEntry) -> None:
    assert load_text(f"hosts:\n- {text}").hosts == (entry,)


def test_two_ports_of_one_address_are_two_hosts() -> None:
    assert len(load_text("hosts: ['a:1', 'a:2']").hosts) == 2


def test_local_paths_start_from_the_files_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = folder / "home"
    monkeypatch.setenv("HOME", str(home))
    (folder / "project").mkdir()
    config = folder / "project" / "config.yaml"
    config.write_text(
        "source: {path: ../build/}\nhosts: [{host: a, identity: ~/.ssh/k}]\nssh: {known_hosts: hosts}"
    )
    settings = load(Path("project/config.yaml"))
    assert settings.source == Source(path=folder / "build")
    assert settings.hosts[0].identity == home / ".ssh/k"
    assert settings.ssh.known_hosts == folder / "project/hosts"
    assert (settings.base_dir, settings.config_path) == (folder / "project", config)


@pytest.mark.parametrize(
    ("git", "expected"),
    [
        ("https://example.com/x.git", None),
        ("ssh://git@example.com:22/x", None),
        ("git@example.com:team/x.git", None),
        ("example.com:x", None),
        (".", ""),
        ("./a:b", "a:b"),
        ("/srv/x.git", "/srv/x.git"),
    ],
)
def test_repositories(folder: Path, git: str, expected: str | None) -> None:
    source = load_text(f"source: {{git: '{git}', ref: v1, subdir: app/web}}").source
    assert source == Source(
        git=git if expected is None else str(folder / expected), ref="v1", subdir="app/web"
    )


def test_a_bom_and_windows_line_ends_do_no_harm(folder: Path) -> None:
    (folder / "config.yaml").write_bytes(b"\xef\xbb\xbfcopy: full\r\nstrategy: previous\r\n")
    settings = load(None)
    assert (settings.copy, settings.strategy) == ("full", "previous")


def test_anchors_work() -> None:
    assert load_text("hooks:\n  after_switch: &a [x]\n  after_failure: *a").hooks.after_failure == ("x",)


def test_hooks_may_have_several_lines() -> None:
    assert load_text("hooks:\n  after_switch:\n  - |\n    a\n    b\n").hooks.after_switch == ("a\nb\n",)


# ── Environments and the command line ─────────────────────────────────────────────────────────────────

LAYERED = """\
deploy_to: /srv/shop
source: {path: build}
hosts: [a, b]
ssh: {sftp: off, keepalive: {interval: 3, count: 2}}
health: {url: http://x/, timeout: 9}
environments:
  staging:
    hosts: [c]
    keep_releases: 2
    ssh: {keepalive: {count: 7}}
    source: {git: ., ref: main}
    health: {expect_status: 204}
  quiet: {health: null}
"""


def test_an_environment_is_laid_over_the_file(folder: Path) -> None:
    base, staging = load_text(LAYERED), load_text(LAYERED, env="staging")
    assert (base.environment, base.environments) == (None, ("staging", "quiet"))
    assert base.hosts == (HostEntry("a"), HostEntry("b"))
    assert base.keep_releases == 5
    assert staging.environment == "staging"
    assert staging.hosts == (HostEntry("c"),)
    assert staging.keep_releases == 2
    assert (staging.ssh.sftp, staging.ssh.keepalive.interval, staging.ssh.keepalive.count) == ("off", 3, 7)
    assert staging.source == Source(git=str(folder), ref="main")
    assert staging.health == Health("http://x/", 204, 9)
    assert load_text(LAYERED, env="quiet").health is None


def test_overrides_win_over_all(folder: Path) -> None:
    overrides = {
        "hosts": ["z"],
        "ssh": {"keepalive": {"count": 1}},
        "source": {"path": folder / "x"},
        "copy": "full",
    }
    settings = load_text(LAYERED, env="staging", overrides=overrides)
    assert settings.hosts == (HostEntry("z"),)
    assert (settings.ssh.sftp, settings.ssh.keepalive.interval, settings.ssh.keepalive.count) == ("off", 3, 1)
    assert settings.source == Source(path=folder / "x")
    assert (settings.copy, settings.keep_releases) == ("full", 2)


def test_a_ref_alone_adds_to_the_source(folder: Path) -> None:
    settings = load_text(LAYERED, env="staging", overrides={"source": {"ref": "v2"}})
    assert settings.source == Source(git=str(folder), ref="v2")
    (line,) = mistakes(LAYERED, overrides={"source": {"ref": "v2"}})
    assert line == "command line: source.ref: found next to path; allowed: ref only with git"


def test_overrides_are_checked_and_named() -> None:
    assert mistakes("copy: x", overrides={"keep_releases": 0, "transfer": "ftp"}) == [
        "command line: transfer: found \"ftp\"; allowed: auto, stream, rsync or sftp; did you mean 'sftp'?",
        "command line: keep_releases: found 0 (a number); allowed: a whole number from 1 to 1000",
        'config.yaml:1: copy: found "x"; allowed: auto, recycle, reflink, hardlink or full',
    ]


def test_without_a_file_the_command_line_suffices(folder: Path) -> None:
    settings = load(None, overrides={"source": {"path": "build"}, "deploy_to": "/srv/my shop"})
    assert settings.source == Source(path=folder / "build")
    assert (settings.application, settings.base_dir, settings.config_path) == ("my-shop", folder, None)
    settings.require("source", "deploy_to")


def test_paths_on_the_command_line_start_from_the_working_directory(folder: Path) -> None:
    (folder / "etc").mkdir()
    (folder / "etc/config.yaml").write_text("deploy_to: /srv/x")
    assert load(Path("etc/config.yaml"), overrides={"source": {"path": "b"}}).source == Source(
        path=folder / "b"
    )
    assert load(Path("etc/config.yaml"), overrides={"source": {"git": "."}}).source == Source(git=str(folder))
    for address in ("git@host:x", "https://host/x"):
        source = load(Path("etc/config.yaml"), overrides={"source": {"git": address}}).source
        assert source == Source(git=address)


def test_a_wrong_deploy_to_without_a_file() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, overrides={"deploy_to": "x"})
    assert caught.value.why.startswith('command line: deploy_to: found "x"')


def test_an_unknown_environment_names_the_known_ones() -> None:
    (line,) = mistakes("environments: {staging: {}, production: {}}", env="prodution")
    assert "config.yaml knows staging, production; did you mean 'production'?" in line
    (line,) = mistakes("copy: auto", env="x")
    assert line == "--env x: unknown environment; config.yaml has no environments"


def test_an_environment_without_a_file() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, env="x")
    assert "no configuration file was found" in caught.value.why


# ── Which file ────────────────────────────────────────────────────────────────────────────────────────


def test_the_variable_wins_over_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "config.yaml").write_text("copy: full")
    (folder / "other.yaml").write_text("copy: reflink")
    (folder / "third.yaml").write_text("copy: hardlink")
    assert load(None).copy == "full"
    monkeypatch.setenv("SWITCHOVER_CONFIG", "other.yaml")
    assert load(None).copy == "reflink"
    assert load(Path("third.yaml")).copy == "hardlink"


def test_a_named_file_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml does not exist") as caught:
        load(Path("no.yaml"))
    assert "--config" in caught.value.why
    monkeypatch.setenv("SWITCHOVER_CONFIG", "gone.yaml")
    with pytest.raises(ConfigError, match=r"gone\.yaml does not exist") as caught:
        load(None)
    assert "SWITCHOVER_CONFIG" in caught.value.why


def test_a_folder_is_not_a_file(folder: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load(folder)


def test_latin_1_is_refused_with_its_line(folder: Path) -> None:
    (folder / "config.yaml").write_bytes("copy: auto\napplication: caf\xe9\n".encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        load(None)
    assert caught.value.why == "config.yaml:2: this line is not UTF-8; save the file as UTF-8"


# ── What a task requires ──────────────────────────────────────────────────────────────────────────────


def test_require_says_what_is_missing_and_how_to_give_it(folder: Path) -> None:
    settings = load_text("copy: auto")
    settings.require("copy")
    with pytest.raises(ConfigError) as caught:
        settings.require("source", "deploy_to", "copy")
    error = caught.value
    assert "source and deploy_to" in error.what
    assert str(folder / "config.yaml") in error.why
    for way in ("source in", "--source", "deploy_to in", "--deploy-to"):
        assert way in error.hint


def test_require_without_a_file_says_where_it_was_looked_for(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, overrides={"deploy_to": "/srv/x"}).require("deploy_to", "source", "hosts")
    assert "SWITCHOVER_CONFIG is not set" in caught.value.why
    assert str(folder / "config.yaml") in caught.value.why
    assert "--deploy-to" not in caught.value.hint
    assert "-H HOST" in caught.value.hint


# ── The example ───────────────────────────────────────────────────────────────────────────────────────


def with_alternatives(text: str) -> str:
    """The example with its commented keys (`# ref: main`) made real."""
    return re.sub(r"^( *)# ([a-z_]+: \S.*)$", r"\1\2", text, flags=re.MULTILINE)


def dotted_keys(value: object, start: str = "") -> set[str]:
    """The keys of plain data, written as known_keys() writes them."""
    if isinstance(value, list):
        return {key for item in value for key in dotted_keys(item, f"{start}[]")}
    if not isinstance(value, dict):
        return set()
    names = {name: f"{start}.{name}" if start else name for name in value}
    inner = {key for name, item in value.items() for key in dotted_keys(item, names[name])}
    return inner | set(names.values())


def test_the_example_is_valid() -> None:
    assert load(EXAMPLE).application == "shop"
    assert load(EXAMPLE, env="staging").keep_releases == 2


def test_the_alternatives_in_the_example_are_valid() -> None:
    text = re.sub(r"^  path: .*\n", "", with_alternatives(EXAMPLE.read_text()), flags=re.MULTILINE)
    settings = load_text(text)
    assert settings.source and settings.source.ref == "main" and settings.source.subdir == "app"
    assert settings.hosts[1].identity


def test_the_example_has_every_key_and_no_other() -> None:
    data = YAML(typ="safe", pure=True).load(with_alternatives(EXAMPLE.read_text()))
    found = {key for key in dotted_keys(data) if not key.startswith("environments.")}
    assert found == set(known_keys())


def test_the_example_says_each_default_that_it_shows() -> None:
    defaults = Settings()
    shown = load(EXAMPLE)
    for name in ("strategy", "transfer", "copy", "keep_releases", "ssh"):
        assert getattr(shown, name) == getattr(defaults, name)
    assert f"Default: {list(defaults.exclude)}".replace("'", '"') in EXAMPLE.read_text()


def test_every_key_of_the_example_is_explained_on_the_line_above() -> None:
    lines = EXAMPLE.read_text().splitlines()
    inside_environments = lines.index("environments:")
    for number, line in enumerate(lines[: inside_environments + 1]):
        if re.match(r" *(- )?[a-z_]+:( |$)", line):
            assert lines[number - 1].strip().startswith("#"), line


NINE = ", ".join(["*{}"] * 9)
BOMBS = {
    "aliases of aliases": "a: &a ["
    + "x, " * 9
    + "]\n"
    + "".join(f"{b}: &{b} [{NINE.replace('{}', a)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "aliases in mappings": "a: &a {x: 1}\n"
    + "".join(
        f"{b}: &{b} {{{', '.join(f'k{n}: *{a}' for n in range(9))}}}\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "deep lists": "exclude: " + "[" * 20_000 + "]" * 20_000,
    "deep, and cut": "exclude: " + "[" * 20_000,
    "deep mappings": "hooks: " + "{a: " * 10_000,
    "deep blocks": "- " * 20_000,
    "deep keys": "? " * 20_000,
    "deep by lines": "".join(" " * n + "a:\n" for n in range(200)),
    "many values": "exclude:\n" + "- a\n" * 12_000,
    "large": "# nothing but words\n" * 100_000,
}


@pytest.mark.promise("bounds")
@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_a_file_that_would_not_end_is_refused(text: str) -> None:
    (line,) = mistakes(text)
    assert "more than" in line and len(line) < 500


@pytest.mark.promise("bounds")
def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigError) as caught:
        load(Path("/dev/zero"))
    assert "it is no configuration" in caught.value.why
