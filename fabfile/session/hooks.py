"""Hooks and the health check: what a project has to say about its own deployment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..errors import CommandFailed, CommandTimedOut, HealthCheckFailed, HookFailed, JobLost
from ..remote.host import Host
from ..remote.jobs import Jobs
from ..remote.shell import quote

NO_ANSWER = "000"  # curl's %{http_code} where it had none: what it says besides tells why

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
            raise HookFailed(what, error.why, hint, number=number) from error


def script(command: str, folder: str, environment: Mapping[str, str]) -> str:
    """What runs one hook. The command is no argument of anything: every account of a host sees those."""
    exports = " ".join(f"export {key}={quote(value)};" for key, value in environment.items())
    return f"cd {quote(folder)} || exit 1\n{exports}\n{command}\n"


def check_health(host: Host, url: str, expected: int, timeout: int) -> None:
    """Fetch `url` from the host until it answers with `expected`. Raises HealthCheckFailed.

    timeout: seconds from the first try to giving up; a try a second.
    """
    script = f"""
url={quote(url)} want={int(expected)}
end=$(( $(date +%s) + {int(timeout)} ))
fetch() {{
  if command -v curl >/dev/null 2>&1; then
    # Not as an argument, which every account of the host could read: it may hold a password or a token.
    printf 'url = "%s"\n' {quote(_curl_quoted(url))} |
      curl -sS -g -o /dev/null -w '%{{http_code}}' --max-time {int(timeout)} -K - 2>&1
  elif command -v wget >/dev/null 2>&1; then
    printf '%s\n' "$url" |
      wget -S -q -T {int(timeout)} -t 1 --max-redirect=0 -O /dev/null -i - 2>&1 |
      sed -n 's/^ *HTTP[^ ]* \\([0-9][0-9]*\\).*/\\1/p' | tail -n 1
  else
    echo "neither curl nor wget is there to fetch it"
  fi
}}
while :; do
  got=$(fetch)
  [ "$got" = "$want" ] && exit 0
  [ "$(date +%s)" -lt "$end" ] || break
  sleep 1
done
printf '%s' "$got"
exit 1
"""
    result = host.shell.run(
        script, what="The health check", timeout=2 * timeout + 30, check=False, secret=True
    )
    if result.status:
        lines = [line for line in result.text.strip().splitlines() if line != NO_ANSWER]
        said = "\n".join(lines) or "no answer"
        raise HealthCheckFailed(
            f"{url} is not healthy on {host.name}.",
            f"expected status {expected} within {timeout} s, last: {said}",
            "See the log of the application on the host; --skip-health leaves the check out.",
        )


def _curl_quoted(url: str) -> str:
    """As it stands between double quotes in a file of curl's (curl(1), --config)."""
    return url.replace("\\", "\\\\").replace('"', '\\"')
