"""The shell: login shells, forced commands, start-up files, limits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.lab.faults.declared import SFTP_SERVER, fault, faults, sshd
from tests.support.accounts import account
from tests.support.examined import ExaminedHost
from tests.support.programs import wrapper
from tests.support.sshd import Sshd


@fault("shell-restricted")
def a_restricted_shell() -> Iterator[ExaminedHost]:
    with account("/bin/rbash") as user:
        yield from sshd(user=user)


@fault("shell-restricted")
def an_account_without_a_shell() -> Iterator[ExaminedHost]:
    with account("/usr/sbin/nologin") as user:
        yield from sshd(user=user)


@fault("shell-restricted")
def a_shell_that_only_says_no() -> Iterator[ExaminedHost]:
    with account("/bin/false") as user:
        yield from sshd(user=user)


@fault("shell-forced")
def a_forced_command() -> Iterator[ExaminedHost]:
    yield from sshd("ForceCommand echo hi")


@fault("shell-noise")
def a_shell_that_prints() -> Iterator[ExaminedHost]:
    with account() as user:
        _noisy(user)
        yield from sshd(user=user)


@fault("shell-noise")
def a_shell_that_prints_into_sftp() -> Iterator[ExaminedHost]:
    with account() as user:
        _noisy(user)
        yield from sshd(user=user, sftp=SFTP_SERVER)


def _noisy(user: str) -> None:
    Path(f"/home/{user}/.bashrc").write_text("echo welcome to this host\n")


@fault("home-missing")
def no_home_directory() -> Iterator[ExaminedHost]:
    with account(home=False) as user:
        yield from sshd(user=user)


@contextlib.contextmanager
def starting_with(
    text: str, *, shell: str = "/bin/bash", file: str = ".bashrc", **how: object
) -> Iterator[ExaminedHost]:
    """An account with this start-up file."""
    with account(shell) as user:
        Path(f"/home/{user}/{file}").write_text(text)
        with Sshd(user=user, **how) as server:  # type: ignore[arg-type]
            yield ExaminedHost(server, deploy_to=server.new_dir())


@fault("shell-startup")
def a_start_up_file_that_exits() -> Iterator[ExaminedHost]:
    with starting_with("exit 0\n") as place:
        yield place


@fault("shell-startup", slow=True)
def a_start_up_file_that_exits_before_sftp_too() -> Iterator[ExaminedHost]:
    with starting_with("exit 0\n", sftp=SFTP_SERVER) as place:
        yield place


@fault("shell-startup")
def a_start_up_file_that_fails() -> Iterator[ExaminedHost]:
    with starting_with("[ -f /opt/site/env ] || exit 3\n") as place:
        yield place


@fault("shell-startup", slow=True)
def a_start_up_file_that_sleeps() -> Iterator[ExaminedHost]:
    with starting_with("sleep 30\n") as place:
        yield place


@fault("shell-startup", slow=True)
def a_start_up_file_that_takes_its_time() -> Iterator[ExaminedHost]:
    with starting_with("sleep 3\n") as place:
        yield place


@fault("shell-startup")
def a_start_up_file_that_starts_another_program() -> Iterator[ExaminedHost]:
    with starting_with("exec cat\n") as place:
        yield place


@fault("shell-startup")
def a_start_up_file_that_empties_the_path() -> Iterator[ExaminedHost]:
    with starting_with("export PATH=\n") as place:
        yield place


@fault("shell-forced")
def a_forced_command_that_prints_the_command() -> Iterator[ExaminedHost]:
    yield from sshd('ForceCommand echo "$SSH_ORIGINAL_COMMAND"')


@fault("shell-noise")
def a_forced_command_that_logs_and_runs_ours() -> Iterator[ExaminedHost]:
    with wrapper('#!/bin/sh\necho "audit: $(date)"\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n') as program:
        yield from sshd(f"ForceCommand {program}")


@fault("limits", mends=False)  # PAM does not apply limits.conf to this sshd
def few_open_files() -> Iterator[ExaminedHost]:
    with starting_with("ulimit -n 14\n") as place:
        yield place


@fault("limits", mends=False)
def few_processes() -> Iterator[ExaminedHost]:
    with starting_with("ulimit -u 12\n") as place:
        yield place


@fault("limits", mends=False)
def next_to_no_processes() -> Iterator[ExaminedHost]:
    with starting_with("ulimit -u 2\n") as place:
        yield place


@fault("umask")
def a_umask_that_shuts_others_out() -> Iterator[ExaminedHost]:
    with starting_with("umask 077\n") as place:
        yield place


@fault("umask")
def a_umask_that_shuts_everybody_out() -> Iterator[ExaminedHost]:
    with starting_with("umask 0777\n") as place:
        yield place


def _starting(text: str, **how: str) -> Iterator[ExaminedHost]:
    with starting_with(f"{text}\n", **how) as place:
        yield place


faults(
    "shell-startup",
    {
        "a start up file that asks for a terminal": lambda: _starting("test -t 0 || exit 1"),
        "a start up file that takes the output away": lambda: _starting("exec >/dev/null"),
        "a start up file that ends its shell by force": lambda: _starting("kill -9 $$"),
        "a start up file that ends the connection": lambda: _starting("kill $PPID", sftp=SFTP_SERVER),
        "a start up file that reads all its input": lambda: _starting("cat >/dev/null"),
        "another shell s start up file that exits": lambda: _starting(
            "exit 3", shell="/bin/zsh", file=".zshenv"
        ),
        "a start up file that names no usable path": lambda: _starting("export PATH=/opt/no/such"),
    },
    mends=False,  # a line at the head of ~/.bashrc, for the login shell that reads it
)
faults(
    "shell-noise",
    {
        "csh s start up file that prints": lambda: _starting("echo hello", shell="/bin/tcsh", file=".tcshrc"),
        "a start up file that prints a lot": lambda: _starting("seq 1 20000"),
        "a start up file that prints what is no text": lambda: _starting("printf '\\033]0;web1\\007\\377'"),
    },
    mends=False,
)
faults("umask", {"a umask that shuts the web server out": lambda: _starting("umask 027")})
faults(
    "shell-restricted",
    {
        "an account for git only": lambda: _login_shell("/usr/bin/git-shell"),
        "an account whose shell is another program": lambda: _login_shell("/bin/cat"),
        "an account whose shell says yes": lambda: _login_shell("/bin/true"),
    },
)


def _login_shell(path: str) -> Iterator[ExaminedHost]:
    with account(path) as user:
        yield from sshd(user=user)


def _key_command(command: str) -> Iterator[ExaminedHost]:
    with Sshd() as server:
        keys = server.folder / "authorized_keys"
        keys.write_text(f'command="{command}" {keys.read_text()}')
        yield ExaminedHost(server, deploy_to=server.new_dir())


faults(
    "shell-forced",
    {
        "a key with a command of its own": lambda: _key_command("echo backup done"),
        "a key for rsync only": lambda: _key_command("/usr/bin/rrsync /srv"),
        "a forced command that is not there": lambda: sshd("ForceCommand /opt/no/such/program"),
        "a forced command that says the date": lambda: sshd("ForceCommand date"),
    },
    mends=False,  # it stands before the key, or the line is not the one that the advice names
)
