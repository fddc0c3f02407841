"""What is tried again when a connection was lost, and what is not: without a server."""

from __future__ import annotations

import fabric
import pytest

from fabfile.errors import AuthenticationFailed, ConnectionFailed, ConnectionLost, HostKeyRefused
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
