"""What is tried again when a connection was lost, and what is not: without a server."""

from __future__ import annotations

import fabric
import paramiko
import pytest

from fabfile.errors import AuthenticationFailed, ConnectionFailed, ConnectionLost, HostKeyRefused, LinkLost
from fabfile.remote.attempts import UNANSWERED
from fabfile.remote.connection import Connection
from fabfile.settings import Ssh


class Unreachable(Connection):
    """Each attempt to connect fails in the next of these ways; then they work."""

    problems: list[Exception]
    tried = 0
    paused: list[float]

    def open(self) -> None:
        self.tried += 1
        if self.problems:
            raise self.problems.pop(0)

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)


def connection(*problems: Exception, attempts: int = 5) -> Unreachable:
    rules = Ssh(reconnect={"attempts": attempts, "window": 60})  # type: ignore[arg-type]
    made = Unreachable("deploy@shop.invalid", rules, fabric.Config(runtime_ssh_path="/dev/null"))
    made.problems, made.paused = list(problems), []
    return made


def fleeting() -> ConnectionFailed:
    return ConnectionFailed("No connection.", "timed out")


@pytest.mark.promise("refused")
@pytest.mark.parametrize(
    "problem",
    [AuthenticationFailed("Refused.", "publickey"), HostKeyRefused("Changed.", "another key")],
    ids=["login", "host key"],
)
def test_what_a_server_has_refused_is_not_asked_again(problem: Exception) -> None:
    """Some ban who tries often (fail2ban), and nothing will be different the next time."""
    one = connection(fleeting(), problem, fleeting())
    with pytest.raises(type(problem)):
        one.reopen("reset by peer")
    assert one.tried == 2


def test_what_the_network_has_done_is_tried_again() -> None:
    one = connection(fleeting(), fleeting())
    one.reopen("reset by peer")
    assert one.tried == 3 and one.reconnects == 1
    assert len(one.paused) == 2 and all(0 < seconds <= 6 for seconds in one.paused)


def test_it_is_not_tried_for_ever() -> None:
    one = connection(*[fleeting() for _ in range(9)], attempts=4)
    with pytest.raises(ConnectionLost) as told:
        one.reopen("reset by peer")
    assert one.tried == 4
    assert "reset by peer" in told.value.why


# -- the first connection --------------------------------------------------------------------------------


def silent(*, answered: bool) -> ConnectionFailed:
    return ConnectionFailed("No connection.", "no answer", cause="silent", answered=answered)


def test_where_nobody_answers_it_is_given_up_soon() -> None:
    """A wrong address or a firewall: nothing will have changed after the whole window."""
    one = connection(*[silent(answered=False) for _ in range(9)])
    with pytest.raises(ConnectionFailed):
        one.reach()
    assert one.tried == UNANSWERED


def test_where_somebody_is_there_the_window_is_used() -> None:
    one = connection(silent(answered=False), silent(answered=True), *[silent(answered=False)] * 2, attempts=9)
    one.reach()
    assert one.tried == 5


def test_a_host_that_was_there_gets_the_window_however_silent() -> None:
    one = connection(*[silent(answered=False) for _ in range(4)])
    one.reopen("reset by peer")
    assert one.tried == 5


# -- while it is used ------------------------------------------------------------------------------------


class Dying(Unreachable):
    """Its transport was there, and has died when the first session is asked for."""

    lives = True
    transport = object()

    @property
    def alive(self) -> bool:
        return self.lives

    def why_dead(self) -> str:
        return "reset by peer"

    def open(self) -> None:
        super().open()
        self.lives = True


def test_a_session_does_not_connect_by_itself() -> None:
    """Or one attempt would be all: only persist() tries again."""
    rules = Ssh(reconnect={"attempts": 5, "window": 60})  # type: ignore[arg-type]
    one = Dying("deploy@shop.invalid", rules, fabric.Config(runtime_ssh_path="/dev/null"))
    one.problems, one.paused = [fleeting(), fleeting()], []
    asked = []

    def operation() -> str:
        asked.append(one.tried)
        if len(asked) == 1:
            one.lives = False
            try:
                one.create_session()
            except paramiko.SSHException as error:
                raise LinkLost("The connection died.", str(error)) from error
        return "done"

    assert one.persist(operation) == "done"
    assert asked == [0, 3] and one.reconnects == 1
