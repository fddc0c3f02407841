"""Hooks and the health check: what a project has to say about its own deployment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..errors import CommandFailed, CommandTimedOut, HealthCheckFailed, HookFailed, JobLost
from ..remote.host import Host
from ..remote.jobs import Jobs
from ..remote.script_files import Scripts, quote

NO_ANSWER = "000"  # curl's %{http_code} where it had none: what it says besides tells why

_scripts = Scripts(__package__)
Tell = Callable[[str], None]


def run(
    jobs: Jobs,
    name: str,
    commands: Sequence[str],
    folder: str,
    environment: Mapping[str, str],
    hint: str,
    tell: Tell,
    called: str = "",
) -> None:
    """Run hooks on the host, one after the other, in `folder`. Raises HookFailed.

    They run with the account's own environment and SWITCHOVER_* added, and exactly once: a dropped
    connection does not end them, and does not start them again. name: of their jobs, and in errors unless
    `called` says otherwise. hint: what to try where one fails.
    """
    for number, command in enumerate(commands, 1):
        try:
            jobs.run(
                f"{name}-{number}", script(command, folder, environment), f"`{command}`",
                on_line=tell, own_environment=True,
            )  # fmt: skip
        except (CommandFailed, CommandTimedOut, JobLost) as error:
            what = f"The {called or name} hook `{command}` failed."
            raise HookFailed(
                what, error.why, hint,
                number=number, reason=error.reason, status=error.status, output=error.output,
            ) from error  # fmt: skip


def script(command: str, folder: str, environment: Mapping[str, str]) -> str:
    """What runs one hook. The command is no argument of anything: every account of a host sees those."""
    exports = " ".join(f"export {key}={quote(value)};" for key, value in environment.items())
    return f"cd {quote(folder)} || exit 1\n{exports}\n{command}\n"


def check_health(host: Host, url: str, expected: int, timeout: int) -> None:
    """Fetch `url` from the host until it answers with `expected`. Raises HealthCheckFailed.

    timeout: seconds from the first try to giving up; a try a second.
    """
    script = _scripts(
        "check_health", url=url, quoted_url=curl_quoted(url), want=int(expected), seconds=int(timeout)
    )
    result = host.shell.run(
        script, what="The health check", timeout=2 * timeout + 30, check=False, secret=True
    )
    if result.status:
        lines = [line for line in result.text.strip().splitlines() if line != NO_ANSWER]
        said = "\n".join(lines)
        raise HealthCheckFailed(
            f"{url} is not healthy on {host.name}.",
            f"expected status {expected} within {timeout} s, last: {said or 'no answer'}",
            "See the log of the application on the host; --skip-health leaves the check out.",
            output=said,
        )


def curl_quoted(url: str) -> str:
    """As it stands between double quotes in a file of curl's (curl(1), --config)."""
    return url.replace("\\", "\\\\").replace('"', '\\"')
