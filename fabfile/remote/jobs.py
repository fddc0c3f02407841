"""Jobs: work on the host that does not need our connection.

A job is a directory (0700, its files 0600): `script`, `log` (what it prints), `process` (who runs it),
`status` (its exit status, written by temp + rename), and `environment` (the account's own, for hooks).
`process` is a symlink whose target is pid, start time and boot: made in one step, it is the claim. So a job
runs once, however often it is asked for: of several runners one gets the claim, and whoever asks again
attaches to it and reads on from the byte it had. A process is signalled only while these
three prove that it is the job's.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Sequence

from ..errors import CommandFailed, CommandTimedOut, JobLost
from .job_frames import JobFrames
from .output import ANSWER, Kept, Lines
from .script_files import Scripts
from .shell import Batch, Ended, Result, Script, Shell, failed

UNSTARTED = 10  # seconds after which a job that nobody has claimed counts as lost
FOR_EVER = 10**7  # seconds; for a job that ends by itself
STRAY = re.compile(r"^stray\t([A-Za-z0-9][A-Za-z0-9_.-]{0,200})$", re.M)

_scripts = Scripts(__package__)


class Jobs:
    """The jobs of one command on one host; `folder` is the beginning of their directories' names. key: the
    host's own secret, common to all commands; where there is none nobody else finds the jobs of this one.
    """

    def __init__(
        self,
        shell: Shell,
        folder: str,
        tell: Callable[[str], None],
        guard: str = "",
        attempt: int = 1,
        key: str = "",
    ) -> None:
        self.shell = shell
        self.folder = folder
        self.tell = tell
        self.guard = guard
        self.attempt = attempt
        self.key = key or secrets.token_hex(16)

    def again(self) -> Jobs:
        """For the same work, which has to be done once more."""
        return Jobs(self.shell, self.folder, self.tell, self.guard, self.attempt + 1, self.key)

    def run(
        self,
        name: str,
        script: str,
        what: str,
        *,
        on_line: Callable[[str], None] | None = None,
        on_block: Callable[[bytes], None] | None = None,
        repeatable: bool = True,
        check: bool = True,
        own_environment: bool = False,
    ) -> Result:
        """Run `script` as the job `name`; see run(). Where the host kills what is detached, a
        `repeatable` one is run again attached, and `tell` is told.
        """
        place = self.place(name, script)
        try:
            return run(self.shell, place, self._guarded(script, own_environment), what=what, guard=self.guard,
                       on_line=on_line, on_block=on_block, check=check,
                       own_environment=own_environment)  # fmt: skip
        except JobLost as error:
            if not repeatable or own_environment:
                raise
            self.tell(f"{what} was killed on the host ({error.why}); it is run again, attached")
        attached = f"{self.guard}{{ {script}\n}} 2>&1\n"
        return self.shell.run(attached, what=what, sink=on_block, check=check)

    def _guarded(self, script: str, own_environment: bool) -> str:
        """The guard is ours, and not for the account's environment; it has run when the job was started."""
        return script if own_environment else self.guard + script

    def batch(
        self, name: str, parts: Sequence[Script], what: str, *, ended: Ended | None = None
    ) -> list[Result]:
        """Run `parts` as one job; what each of them printed. See Shell.batch."""
        batch = Batch(parts, ended)
        on_block = batch.feed if ended else None
        return batch.read(self.run(name, batch.script, what, on_block=on_block, check=False))

    def status_of(self, name: str, parts: Sequence[Script]) -> str:
        """The file that is there once batch() of these has ended."""
        return f"{self.place(name, Batch(parts).script)}/status"

    def place(self, name: str, script: str) -> str:
        """The directory of a job: it is the same only if its script is, and not only its name. Every account
        of the host may see it, so nobody without our key can tell by it whether a script is what they guess.
        """
        text = script.encode("utf-8", "surrogateescape")
        digest = hmac.digest(self.key.encode(), text, "sha256").hex()[:8]
        return f"{self.folder}.{name}-{digest}-{self.attempt}"

    def start(self, name: str, script: str, what: str, *, for_hooks: bool = False) -> None:
        """Start a job and leave it to itself; it ends by its own, or with end().

        for_hooks: it will run hooks: their environment lies beside it as `account`, and nothing of it stands
        in an argument list.
        """
        place = self.place(name, script)
        starting = _starting(place, self.guard, FOR_EVER, self.guard + script, "account" if for_hooks else "")
        self.shell.run(f"{starting}exit 0", what=what, secret=for_hooks)

    def settle(self) -> None:
        """Wait for jobs of an interrupted command that still run; forget those that did not end well."""
        script = _scripts("settle_jobs", folder=self.folder, turns=int(self.shell.timeout * 2))
        self.shell.run(self.guard + script, what="Waiting for the interrupted jobs")

    def end(self, between: str = ":") -> None:
        """End what still runs, run `between`, and remove all traces.

        As long as a job's directory is there it can't be started by a command of ours that comes late
        (from a session that was stopped, say); afterwards the guard has to be what prevents it.
        """
        said = self.shell.run(self.guard + self.ending(between), what="Ending the jobs")
        self._tell_strays(said.text)

    def ending(self, between: str = ":") -> str:
        """The script of end()."""
        return self._ending("ours", between)

    def end_others(self) -> None:
        """The same for the jobs of all other commands; only for whoever holds the lock."""
        said = self.shell.run(self.guard + self._ending("others"), what="Ending abandoned jobs")
        self._tell_strays(said.text)

    def _ending(self, whose: str, between: str = ":") -> str:
        functions = _scripts("end_jobs", folder=self.folder, whose=whose)
        return f"{functions}\neach cancel\n{between}\neach forget\n"

    def _tell_strays(self, said: str) -> None:
        for name in sorted(set(STRAY.findall(said))):
            self.tell(
                f"the job {name} does not say which process runs it: nothing was ended, and it is left there"
            )


def run(
    shell: Shell,
    folder: str,
    script: str,
    *,
    what: str,
    guard: str = "",
    on_line: Callable[[str], None] | None = None,
    on_block: Callable[[bytes], None] | None = None,
    timeout: float | None = None,
    check: bool = True,
    own_environment: bool = False,
) -> Result:
    """Start `script` as the job in `folder`, unless it was started before, and stay until it has ended.

    guard:   a script that must succeed before a job is started (not before it is attached to).
    on_line: receives each line it prints, stdout and stderr alike; on_block: its bytes, as they come.
    timeout: seconds after which the host itself ends the job and its children.
    own_environment: run it as the account's own: with its environment, its umask, and in no argument list.
    The Result's `out` is all that it printed, at most ANSWER bytes; with on_line, its end. Raises
    CommandFailed, CommandTimedOut, ConnectionLost, and JobLost where the job was killed from outside (a
    reboot; processes that don't survive a logout).
    """
    limit = shell.timeout if timeout is None else timeout
    log, mark = _Log(what, on_line, on_block), secrets.token_hex(8)
    start = _starting(folder, guard, limit, script, "environment" if own_environment else "")

    def attach() -> tuple[Result, JobFrames]:
        # The follower prints only what is new, so each attempt is a command of its own.
        both, frames = f"{start}\n{_following(folder, log.size, mark)}", JobFrames(mark, log.feed)
        said = shell.run(both, what=what, sink=frames.feed, most=None, timeout=limit + 60, check=False,
                         repeat=False, secret=own_environment)  # fmt: skip
        return said, frames

    result, frames = shell.connection.persist(attach)
    log.end()
    # What stands outside of frames is stderr's, where the host joins that to stdout.
    said = Result(result.status, bytes(log.kept.data), result.err or frames.outside)
    return _judge(said, frames.ending, what, limit, check)


class _Log:
    """What a job prints: kept as far as it is wanted, and passed on as it comes."""

    def __init__(
        self,
        what: str,
        on_line: Callable[[str], None] | None,
        on_block: Callable[[bytes], None] | None,
    ) -> None:
        self.kept = Kept(what, None if on_line else ANSWER)
        self.lines = Lines(on_line) if on_line else None
        self.on_block = on_block
        self.size = 0  # bytes

    def feed(self, block: bytes) -> None:
        """Take a block more."""
        self.size += len(block)
        self.kept.feed(block)
        if self.lines:
            self.lines.feed(block)
        if self.on_block:
            self.on_block(block)

    def end(self) -> None:
        """Nothing more comes."""
        if self.lines:
            self.lines.end()


def _following(folder: str, offset: int, mark: str) -> str:
    """What prints the log of a job from `offset` on, and behind `mark` how it has ended."""
    return _scripts(
        "follow_job",
        job=folder,
        offset=offset,
        first=mark[:8],
        second=mark[8:],
        unstarted=UNSTARTED * 5,  # turns a second
    )


def _judge(result: Result, ending: str, what: str, limit: float, check: bool) -> Result:
    """What became of the job. result: the follower's, with what the job printed as `out`; ending: see
    JobFrames.
    """
    how, _, status = ending.partition(" ")
    if how == "late":
        raise CommandTimedOut(
            f"{what} did not end.",
            f"it was ended after {limit:g} s",
            "Raise ssh.command_timeout if it needs longer.",
        )
    if how in ("gone", "unclaimed"):
        why = "its process is gone and left no status" if how == "gone" else "it was never started"
        raise JobLost(
            f"{what} was killed on the host before it ended.",
            why,
            "The host was restarted, or it ends processes at logout (systemd KillUserProcesses).",
        )
    if how != "ended" and result.status == 0:
        raise CommandFailed(
            f"{what}: the host did not say how it ended.",
            f"its answer ends with: {result.last_lines() or '(nothing)'}",
        )
    # stderr is our follower's, and tells why there was nothing to follow.
    ended = Result(int(status), result.out, b"") if how == "ended" else result
    if check and ended.status != 0:
        raise failed(what, ended)
    return ended


def _starting(folder: str, guard: str, limit: float, script: str, environment: str = "") -> str:
    """Claims and starts the job, unless that was done before. Its script goes in a here-document: as a word
    it could become an argument, which every account of the host sees.

    environment: the file for the account's own; a job with a file of the name `environment` runs in it.
    """
    end = f"end-{secrets.token_hex(8)}"  # what no script can hold, since nobody knew it
    runner = _scripts.functions("run_job")
    keep = f"take_environment {environment} <<{end}\numask $account\n{end}" if environment else ":"
    return f"""{_scripts("start_job", job=folder, limit=int(limit), runner=runner, end=end)}
if unstarted; then
{guard or ":"}
make_place
{keep}
take_script <<'{end}'
{script}
{end}
launch
fi
"""
