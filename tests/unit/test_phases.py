"""The phases of a command over several hosts, and what undoes them: without any host."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from fabfile import phases
from fabfile.errors import HookFailed, NoSuchRelease, SwitchoverError
from fabfile.parallel import Fleet
from fabfile.phases import Phase, PhaseFailed, Run
from fabfile.results import HostResult, ServedAgain
from fabfile.session.steps import Steps

Log = list[tuple[str, str]]


class OneHost:
    """A host that only writes down what is done to it. fails: what it refuses to do."""

    def __init__(self, name: str, halt: threading.Event, log: Log, *fails: str) -> None:
        connection = SimpleNamespace(
            address=name, interrupted=None, reconnects=0, port=22, user="deploy", host=name
        )
        self.notes: list[str] = []
        self.host: Any = SimpleNamespace(
            name=name, emit=lambda event: None, note=self._note, connection=connection, identity=None
        )
        self.steps = Steps(self.host, HostResult(name), halt, lambda error: error)
        self.lease = SimpleNamespace(stop=lambda: None)
        self.session: Any = SimpleNamespace(
            state=SimpleNamespace(live="1", target="releases/1", shown="1"),
            layout=SimpleNamespace(current="/srv/app/current"),
        )
        self.live: Any = SimpleNamespace(switched=False)
        self.log, self.fails = log, set(fails)

    def _note(self, level: str, text: str) -> None:
        self.notes.append(text)

    def __getattr__(self, what: str) -> Callable[[], None]:
        if what.startswith("__"):
            raise AttributeError(what)
        return lambda: self.do(what)

    def do(self, what: str) -> None:
        self.log.append((what, self.host.name))
        if what == "switch_back":
            self.steps.result.live = "1"
            self.steps.result.again = ServedAgain() if what not in self.fails else None
        if what in self.fails:
            raise HookFailed(f"{what} failed.", self.host.name)


class Command:
    """Has its hosts do what they are told."""

    def __init__(self, hosts: Sequence[OneHost]) -> None:
        self.hosts = {host.host.name: host for host in hosts}

    def require(self, view: Any) -> None:
        """Nothing."""

    def choose(self, sessions: Sequence[OneHost]) -> str:
        return "2"

    def begin(self, session: OneHost, release: str) -> OneHost:
        session.steps.result.release = release
        return session


def hosts_of(*fails: tuple[str, ...]) -> tuple[Fleet, list[OneHost], Log]:
    log: Log = []
    halt = threading.Event()
    hosts = [OneHost(f"web{n}", halt, log, *each) for n, each in enumerate(fails, 1)]
    return Fleet(hosts, halt), hosts, log  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that nobody has to open."""
    monkeypatch.setattr(phases, "open_session", lambda access, require: access)
    monkeypatch.setattr(phases, "unlock", lambda access: access.do("unlock"))


def released(*fails: tuple[str, ...]) -> tuple[phases.Outcome, list[OneHost], Log]:
    fleet, hosts, log = hosts_of(*fails)
    return phases.release(fleet, Command(hosts)), hosts, log  # type: ignore[arg-type]


def order(log: Log) -> list[str]:
    """What was done, in turn, and on which hosts: `switch web1 web2`."""
    found: list[tuple[str, list[str]]] = []
    for what, host in log:
        if not found or found[-1][0] != what:
            found.append((what, []))
        found[-1][1].append(host)
    return [" ".join([what, *sorted(names)]) for what, names in found]


def test_each_phase_is_done_on_all_hosts_before_the_next() -> None:
    outcome, _, log = released((), ())
    assert outcome.exit_code == 0
    done = ("prepare", "switch", "prove", "confirm", "finish")
    assert order(log) == [f"{what} web1 web2" for what in done]


def test_what_was_begun_is_undone_on_all_hosts_the_last_first() -> None:
    """Also on a host that has only tried, and not beyond what was begun."""
    outcome, _, log = released((), ("prove",))
    assert outcome.exit_code == 3
    undone = [line for line in order(log) if line.split()[0] not in ("prepare", "switch", "prove")]
    undoing = ("switch_back", "serve_again", "abandon", "unlock")
    assert undone == [f"{what} web1 web2" for what in undoing]


def test_before_the_switch_nothing_is_switched_back() -> None:
    outcome, _, log = released((), ("prepare",))
    assert outcome.exit_code == 1
    assert order(log) == ["prepare web1 web2", "abandon web1 web2", "unlock web1 web2"]


def test_a_host_that_can_not_be_switched_back_is_left_as_it_is() -> None:
    """It needs a person: neither its tree nor its lock is taken from it; the others go on."""
    outcome, _, log = released((), ("prove", "switch_back"))
    assert outcome.exit_code == 4 and outcome.error
    assert "web2: switched to 2, could not be put back" in outcome.error.why
    assert {("abandon", "web1"), ("unlock", "web1")} <= set(log)
    assert not {("abandon", "web2"), ("unlock", "web2")} & set(log)


def test_what_a_resumed_deployment_had_switched_is_put_back_too() -> None:
    """One host had switched before the client died; now another one can't be prepared."""
    fleet, hosts, log = hosts_of((), ("prepare",))
    hosts[0].live.switched = True
    outcome = phases.release(fleet, Command(hosts))  # type: ignore[arg-type]
    assert outcome.exit_code == 3
    undone = ["switch_back web1", "serve_again web1", "abandon web1 web2", "unlock web1 web2"]
    assert order(log) == ["prepare web1 web2", *undone]


def test_a_switch_that_was_cut_in_its_middle_was_one() -> None:
    """The link had moved, though nobody had seen it to the end: it was put back, and that is said."""
    outcome, _, _ = released(("switch",))
    assert outcome.exit_code == 3


def test_what_can_not_be_tidied_is_no_failure() -> None:
    outcome, hosts, log = released(("finish",))
    assert outcome.exit_code == 0 and ("switch_back", "web1") not in log
    assert "finish failed." in hosts[0].notes[-1]


def test_a_decision_that_fails_has_failed_on_all_hosts() -> None:
    fleet, hosts, _ = hosts_of((), ())

    def decide() -> None:
        raise NoSuchRelease("There is none.")

    with pytest.raises(PhaseFailed):
        Run(fleet).together(decide)
    assert all(isinstance(host.steps.result.error, NoSuchRelease) for host in hosts)


@pytest.mark.parametrize("raised", [ZeroDivisionError, SystemExit], ids=lambda kind: kind.__name__)
def test_what_is_no_error_of_ours_is_one_of_that_host(raised: type[BaseException]) -> None:
    """A mistake of ours; a script's listener that calls sys.exit()."""
    fleet, hosts, _ = hosts_of((), ())

    def work(host: OneHost) -> None:
        if host is hosts[1]:
            raise raised

    with pytest.raises(PhaseFailed):
        Run(fleet).phase(Phase("work", work), hosts)
    error = hosts[1].steps.result.error
    assert isinstance(error, SwitchoverError) and raised.__name__ in error.why
