"""What runs in place of a command, or before it: login shells, forced commands, start-up files, limits."""

from __future__ import annotations

import subprocess
from random import Random

from tests.lab.unseen.kinds import Claim, claim, kind
from tests.lab.unseen.recipe import Host, Recipe
from tests.support.programs import tools, wrapper

EXTERNAL = "/usr/lib/openssh/sftp-server"
STOPPING = (
    "exit {n}", "[ -d /opt/app/{n} ] || exit {n}", "exec cat", "exec true", "exec sleep 100", "exec sleep 7",
    "exec </dev/null", "exec >/dev/null", "exec >/dev/null 2>&1", "kill -9 $$", "cat >/dev/null",
    "exec /opt/no/such/shell", "exec sh", "exec bash", "exec env -i sh", "exec fish", "set -e; false",
    "trap 'exit {n}' DEBUG", "while :; do sleep 1; done", "kill -STOP $$", "exec 1>&-", "exec 0<&-",
    "eval 'exit {n}'", "test -t 0 || exit {n}", "tail -f /dev/null", "exec python3 -c 'print(1)'",
    "exec 2>&1; exec tee /dev/null", "kill -TERM $PPID", "if true; then exit {n}; fi",
)  # fmt: skip
NOISE = (
    "echo welcome", "printf x", "date", "cat /etc/os-release", "head -c 100000 /dev/zero | tr '\\0' x",
    "printf '\\033]0;title\\007'", "seq 1 {n}00", "echo ok | tee /dev/stderr", "uptime", "printf 'no end'",
    "printf '\\n\\n\\n'", "head -c 300 /dev/urandom", "echo \"You have $(ls / | wc -l) messages\"",
)  # fmt: skip
HARMLESS = (
    "echo no mail >&2", "mesg n", "stty sane", "source /opt/no/such", "return {n}", "cd /",
    "set -u", "set -f",
    "logout", "alias ls='ls -l'", "ulimit -c 0", "export LD_PRELOAD=/opt/no.so", "umask 022", "umask 002",
    "export LANG=xx_XX.UTF-8", "unset HOME", "HISTSIZE=10", "trap '' HUP", "shopt -s nullglob",
)  # fmt: skip
PATHS = (
    "export PATH=/opt/no", "PATH=", "unset PATH", "export PATH=$HOME/bin", "export PATH=/usr/local/bin",
    "export PATH=/opt/a:/opt/b", "export PATH=.",
)  # fmt: skip


def _external(draw: Random, recipe: Recipe) -> str:
    """Whether the shell starts the SFTP server as well, which hides more."""
    if draw.random() < 0.3:
        recipe.sftp = EXTERNAL
        return ", external sftp-server"
    return ""


@kind("shell", weight=6)
def a_start_up_file_that_stops_commands(draw: Random, recipe: Recipe) -> Claim:
    line = draw.choice(STOPPING).format(n=draw.randint(0, 5))
    before = draw.choice(("", "# site settings\nexport EDITOR=vi\n", "alias ll='ls -l'\n"))
    recipe.start_up.append(before + line)
    quiet = line in ("cat >/dev/null", "exec sleep 7")
    return claim(line + _external(draw, recipe), "shell-startup", quiet=quiet)


@kind("shell", weight=3)
def a_start_up_file_that_waits(draw: Random, recipe: Recipe) -> Claim:
    seconds = draw.randint(1, 40)
    line = draw.choice(("sleep {}", "timeout {} tail -f /dev/null", "sleep {} & wait", "/bin/sleep {}.5"))
    recipe.start_up.append(line.format(seconds))
    return claim(line.format(seconds) + _external(draw, recipe), "shell-startup", quiet=seconds < 3)


@kind("shell", weight=3)
def a_start_up_file_that_prints(draw: Random, recipe: Recipe) -> Claim:
    line = draw.choice(NOISE).format(n=draw.randint(1, 9))
    recipe.start_up.append(line)
    return claim(line + _external(draw, recipe), "shell-noise")


@kind("shell", weight=2)
def a_start_up_file_that_does_no_harm(draw: Random, recipe: Recipe) -> Claim:
    line = draw.choice(HARMLESS).format(n=draw.randint(0, 3))
    recipe.start_up.append(line)
    ids = ("home-missing",) if "HOME" in line else ()
    return claim(line + _external(draw, recipe), *ids, quiet=True)


@kind("shell", weight=2)
def a_path_without_programs(draw: Random, recipe: Recipe) -> Claim:
    line = draw.choice(PATHS)
    recipe.start_up.append(line)
    return claim(line + _external(draw, recipe), "shell-startup", "tool-missing")


@kind("shell", weight=2)
def a_start_up_file_that_leaves_a_process(draw: Random, recipe: Recipe) -> Claim:
    line = draw.choice(("sleep 300 &", "(while :; do sleep 9; done) &", "tail -f /dev/null &"))
    recipe.start_up.append(line)
    return claim(line + _external(draw, recipe), "shell-startup", quiet=True)


@kind("shell", weight=2)
def another_shells_start_up_file(draw: Random, recipe: Recipe) -> Claim:
    file, shell = draw.choice((
        (".zshenv", "/bin/zsh"), (".tcshrc", "/bin/tcsh"), (".config/fish/config.fish", "/usr/bin/fish"),
    ))  # fmt: skip
    line, expected = draw.choice((
        ("exit 3", "shell-startup"), ("echo hello", "shell-noise"), ("sleep 6", "shell-startup"),
        ("exec cat", "shell-startup"), ("umask 077", "umask"),
    ))  # fmt: skip
    recipe.shell = shell
    recipe.changes.append(lambda host: (host.write(host.home / file, f"{line}\n"), None)[1])
    return claim(f"~/{file}: {line}", expected)


@kind("shell", weight=2)
def a_file_that_sshd_runs(draw: Random, recipe: Recipe) -> Claim:
    line, expected = draw.choice((
        ("echo hello", ("shell-noise",)), ("sleep 7", ("shell-startup",)), ("exit 1", ()),
        ("cat >/dev/null", ()),
        ("sleep 25", ("shell-startup",)), ("echo x >&2", ()),
    ))  # fmt: skip
    recipe.changes.append(lambda host: (host.write(host.home / ".ssh/rc", f"{line}\n"), None)[1])
    return claim(f"~/.ssh/rc: {line}", *expected, quiet=not expected)


@kind("shell", weight=4)
def a_limit(draw: Random, recipe: Recipe) -> Claim:
    flag, low, high, enough = draw.choice((
        ("n", 3, 60, 30), ("u", 1, 40, 24), ("f", 1, 600, 420), ("v", 500, 60_000, 30_000), ("s",
        8, 200, 100),
        ("d", 10, 4000, 2000),
    ))  # fmt: skip
    value = draw.randint(low, high)
    recipe.start_up.append(f"ulimit -{flag} {value}")
    ids = ("limits", "shell-startup") if flag in "vsd" else ("limits",)
    return claim(f"ulimit -{flag} {value}", *ids, quiet=value >= enough or flag in "vsdf")


@kind("shell", weight=2)
def a_umask(draw: Random, recipe: Recipe) -> Claim:
    value = draw.choice(("077", "027", "0777", "0177", "007", "0377", "0077", "0006", "026", "0500"))
    recipe.start_up.append(f"umask {value}")
    return claim(value, "umask", quiet=value in ("026", "0006", "0177"))


FORCED = {
    "ForceCommand echo hi": "shell-forced", "ForceCommand cat": "shell-forced",
    "ForceCommand date": "shell-forced",
    "ForceCommand exit 3": "shell-forced", "ForceCommand true": "shell-forced",
    "ForceCommand internal-sftp": "sftp-only", "ForceCommand internal-sftp -d /srv": "sftp-only",
    f"ForceCommand {EXTERNAL}": "sftp-only", "ForceCommand /usr/bin/rrsync /srv": "shell-forced",
    'ForceCommand echo "$SSH_ORIGINAL_COMMAND"': "shell-forced", "ForceCommand sleep 100": "shell-forced",
    "ForceCommand git-shell -c \"$SSH_ORIGINAL_COMMAND\"": "shell-forced",
    "ForceCommand /opt/no/such/program": "shell-forced", "ForceCommand uname -a; exit 1": "shell-forced",
    "PermitTTY no\nForceCommand echo This account is for tunnels only.": "shell-forced",
}  # fmt: skip


@kind("shell", weight=4)
def a_forced_command(draw: Random, recipe: Recipe) -> Claim:
    lines = draw.choice(list(FORCED))
    recipe.lines += lines.splitlines()
    # What says nothing could as well be a shell or a start-up file that does.
    also = (
        ("shell-restricted", "shell-startup") if any(w in lines for w in ("true", "exit 3", "sleep")) else ()
    )
    return claim(lines.replace("\n", "; "), FORCED[lines], *also)


WRAPPED = {
    'echo "audit"; exec sh -c "$SSH_ORIGINAL_COMMAND"': ("shell-noise",),
    'echo "audit" >&2; exec sh -c "$SSH_ORIGINAL_COMMAND"': (),
    'sleep {n}; exec sh -c "$SSH_ORIGINAL_COMMAND"': ("shell-startup", "shell-forced"),
    'case $SSH_ORIGINAL_COMMAND in git-*) exec $SSH_ORIGINAL_COMMAND ;; *) echo denied; exit 1 ;; esac':
        ("shell-forced",),
    'exec sh -c "$SSH_ORIGINAL_COMMAND" </dev/null': ("shell-forced", "shell-startup"),
    'exec $SSH_ORIGINAL_COMMAND': ("shell-forced",),
    'sh -c "$SSH_ORIGINAL_COMMAND"; echo bye': ("shell-noise",),
    'sh -c "$SSH_ORIGINAL_COMMAND"; exit 0': ("shell-forced",),
    'sh -c "$SSH_ORIGINAL_COMMAND" | cat': ("shell-forced",),
    'sh -c "$SSH_ORIGINAL_COMMAND" 2>&1': ("shell-noise",),
    'exec sh -c "$(echo "$SSH_ORIGINAL_COMMAND" | tr a-z A-Z)"': ("shell-forced",),
}  # fmt: skip


@kind("shell", weight=3)
def a_command_that_runs_ours(draw: Random, recipe: Recipe) -> Claim:
    text, seconds = draw.choice(list(WRAPPED)), draw.randint(3, 9)
    line = text.replace("{n}", str(seconds))

    def change(host: Host) -> None:
        program = host.open.enter_context(wrapper(f"#!/bin/sh\n{line}\n"))
        recipe.set(host, f"ForceCommand {program}", sftp=EXTERNAL)

    recipe.changes.append(change)
    # A wrapper that passes nearly everything on need not be told where deployments work.
    return claim(
        line,
        *WRAPPED[text],
        quiet=not WRAPPED[text] or "2>&1" in text or "exit 0" in text or "| cat" in text or "bye" in text,
    )


SHELLS = (
    "/usr/sbin/nologin", "/bin/false", "/bin/true", "/bin/rbash", "/usr/bin/git-shell", "/bin/cat",
    "/usr/bin/yes",
    "/usr/bin/python3", EXTERNAL, "/bin/sleep", "/bin/ls", "/usr/bin/env",
)  # fmt: skip
SCRIPTS = {
    "exit 0": ("shell-restricted",), "exit 7": ("shell-restricted",), "exec sh": ("shell-restricted",),
    "echo This account may only forward ports.": ("shell-restricted",), "sleep 60": ("shell-restricted",),
    'echo hello; exec /bin/sh "$@"': ("shell-noise",), 'sleep 5; exec /bin/sh "$@"': ("shell-startup",),
    'exec /bin/sh "$@"': (),
}  # fmt: skip


@kind("shell", weight=3)
def an_odd_login_shell(draw: Random, recipe: Recipe) -> Claim:
    path = draw.choice(SHELLS)
    recipe.shell = path
    return claim(path, "shell-restricted", *(["sftp-only"] if path == EXTERNAL else []))


@kind("shell", weight=2)
def a_login_shell_of_their_own(draw: Random, recipe: Recipe) -> Claim:
    text = draw.choice(list(SCRIPTS))

    def change(host: Host) -> None:
        program = host.open.enter_context(wrapper(f"#!/bin/sh\n{text}\n"))
        subprocess.run(["usermod", "-s", str(program), host.server.user], check=True, capture_output=True)

    recipe.changes.append(change)
    return claim(text, *SCRIPTS[text], quiet=not SCRIPTS[text])


# -- tools -----------------------------------------------------------------------------------------------

NEEDED = ("cat", "cp", "find", "ln", "mkdir", "mv", "rm", "sed", "readlink", "head", "chmod", "sleep", "df",
          "date", "awk", "wc", "ls", "grep")  # fmt: skip
USEFUL = ("tar", "sha256sum", "gzip", "setsid", "ps")


@kind("tools", weight=3)
def a_program_is_missing(draw: Random, recipe: Recipe) -> Claim:
    names = draw.sample(NEEDED + USEFUL, draw.randint(1, 2))

    def change(host: Host) -> None:
        folder = host.open.enter_context(tools(without=tuple(names)))
        recipe.set(host, f"SetEnv PATH={folder}")

    recipe.changes.append(change)
    # A folder of our own on the PATH comes before /usr/bin, which deployments look into besides.
    return claim(", ".join(names), "tool-missing", "shell-startup", quiet=True)


@kind("tools", weight=2)
def a_clock_that_is_wrong(draw: Random, recipe: Recipe) -> Claim:
    minutes = draw.randint(2, 3000)
    way = draw.choice(("ago", ""))
    text = f'#!/bin/sh\nexec /bin/date -d "{minutes} minutes {way}" "$@"\n'

    def change(host: Host) -> None:
        folder = host.open.enter_context(tools(fake={"date": text}))
        recipe.set(host, f"SetEnv PATH={folder}")

    recipe.changes.append(change)
    return claim(f"{minutes} minutes {way or 'ahead'}", "clock-skew")


REAPERS = (
    # As logind does with KillUserProcesses=yes.
    """sh -c "$SSH_ORIGINAL_COMMAND"; status=$?
for p in /proc/[0-9]*; do
  pid=${p#/proc/}
  case $(tr '\\0' '\\n' < $p/environ 2>/dev/null) in
    *"SSH_CONNECTION=$SSH_CONNECTION"*) case $(cat $p/comm) in run|sftp-server) ;; *) kill -9 $pid ;; esac ;;
  esac
done 2>/dev/null
exit $status""",
)


@kind("shell", weight=1)
def jobs_are_ended_with_the_session(draw: Random, recipe: Recipe) -> Claim:
    text = draw.choice(REAPERS)

    def change(host: Host) -> None:
        program = host.open.enter_context(wrapper(f"#!/bin/bash\n{text}\n"))
        recipe.set(host, f"ForceCommand {program}", sftp=EXTERNAL)

    recipe.changes.append(change)
    return claim("ended", "jobs-killed-at-logout")
