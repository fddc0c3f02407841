"""Jobs: work on the host that does not need our connection.

A job is a directory: `script`, `log` (what it prints), `process` (who runs it) and `status` (its exit
status, written by temp + rename). `process` is a symlink whose target is pid, start time and boot: made in
one step, it is the claim. So a job runs once, however often it is asked for: of several runners one gets
the claim, and whoever asks again attaches to it and reads on from the byte it had.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..errors import CommandTimedOut, JobLost
from .shell import Batch, Ended, Lines, Part, Result, Shell, blocks, failed, quote

LOST = 251  # exit status of our follower where a job is gone without having ended
FOR_EVER = 10**7  # seconds; for a job that ends by itself
UNSTARTED = 10  # seconds after which a job that nobody has claimed counts as lost
END = "# end of script"
LATE = "switchover: the deadline has passed"


class Jobs:
    """The jobs of one command on one host; `folder` is the beginning of their directories' names."""

    def __init__(self, shell: Shell, folder: str, tell: Callable[[str], None]) -> None:
        self.shell = shell
        self.folder = folder
        self.tell = tell
        self.guard = ""
        self.turn = 1  # raised where the same work has to be done once more

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
    ) -> Result:
        """Run `script` as the job `name`; see run(). Where the host kills what is detached, a
        `repeatable` one is run again attached, and `tell` is told.
        """
        place = self.place(name, script)
        try:
            return run(self.shell, place, self.guard + script, what=what, guard=self.guard,
                       on_line=on_line, on_block=on_block, check=check)  # fmt: skip
        except JobLost as error:
            if not repeatable:
                raise
            self.tell(f"{what} was killed on the host ({error.why}); it is run again, attached")
        attached = f"{{ {script}\n}} 2>&1\n"
        return self.shell.run(
            f"{self.guard}sh -s", what=what, stdin=lambda: _blocks(attached), sink=on_block, check=check
        )

    def batch(
        self, name: str, parts: Sequence[Part], what: str, *, ended: Ended | None = None
    ) -> list[Result]:
        """Run `parts` as one job; what each of them printed. See Shell.batch."""
        batch = Batch(parts, ended)
        on_block = batch.feed if ended else None
        return batch.read(self.run(name, batch.script, what, on_block=on_block, check=False))

    def status_of(self, name: str, parts: Sequence[Part]) -> str:
        """The file that is there once batch() of these has ended."""
        return f"{self.place(name, Batch(parts).script)}/status"

    def place(self, name: str, script: str) -> str:
        """The directory of a job: it is the same only if its script is, and not only its name."""
        digest = hashlib.sha256(script.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return f"{self.folder}.{name}-{digest}-{self.turn}"

    def start(self, name: str, script: str, what: str) -> None:
        """Start a job and leave it to itself; it ends by its own, or with end()."""
        place = self.place(name, script)
        _send(self.shell, place, self.guard, FOR_EVER, "exit 0", self.guard + script, what=what)

    def settle(self) -> None:
        """Wait for jobs of an interrupted command that still run; forget those that did not end well."""
        script = f"""{ALIVE}
for J in {quote(self.folder)}.*; do
  [ -d "$J" ] || continue
  n=0; while [ ! -f "$J/status" ] && alive && [ $n -lt {int(self.shell.timeout * 2)} ]; do
    sleep 0.5 2>/dev/null || sleep 1; n=$((n + 1)); [ $((n % 8)) != 0 ] || echo >&2
  done
  [ "$(cat "$J/status" 2>/dev/null)" = 0 ] || rm -rf "$J"
done"""
        self.shell.run(script, what="Waiting for the interrupted jobs")

    def end(self, between: str = ":") -> None:
        """End what still runs, run `between`, and remove all traces.

        As long as a job's directory is there it can't be started by a command of ours that comes late
        (from a session that was stopped, say); afterwards the guard has to be what prevents it.
        """
        self.shell.run(self.guard + self.ending(between), what="Ending the jobs")

    def ending(self, between: str = ":") -> str:
        """The script of end()."""
        pattern = f"{quote(self.folder)}.*"
        return f"{_cancelled(pattern)}; {between}; rm -rf {pattern}"

    def end_others(self) -> None:
        """The same for the jobs of all other commands; only for whoever holds the lock."""
        base = self.folder.rpartition("/")[0]
        loop = (
            f'for J in {quote(base)}/*; do case $J in {quote(self.folder)}.*) ;; *) rm -rf "$J" ;; esac; done'
        )
        cancel = _cancelled(f"{quote(base)}/*", f"{quote(self.folder)}.*")
        self.shell.run(f"{cancel}; {loop}", what="Ending abandoned jobs")


def _cancelled(pattern: str, spared: str = "''") -> str:
    return f"for J in {pattern}; do case $J in {spared}) ;; *) ( {_CANCEL} ) ;; esac; done"


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
) -> Result:
    """Start `script` as the job in `folder`, unless it was started before, and stay until it has ended.

    guard:   a script that must succeed before a job is started (not before it is attached to).
    on_line: receives each line it prints, stdout and stderr alike; on_block: its bytes, as they come.
    timeout: seconds after which the host itself ends the job and its children.
    The Result's `out` is all that it printed. Raises CommandFailed, CommandTimedOut, ConnectionLost, and
    JobLost where the job was killed from outside (a reboot; processes that don't survive a logout).
    """
    limit = shell.timeout if timeout is None else timeout
    log = bytearray()
    lines = Lines(on_line) if on_line else None

    def receive(block: bytes) -> None:
        log.extend(block)
        if lines:
            lines.feed(block)
        if on_block:
            on_block(block)

    def attach() -> Result:
        # The follower prints only what is new, so each attempt is a command of its own.
        return _send(shell, folder, guard, limit, f"offset={len(log)}\n{_FOLLOW}", script, what=what,
                     sink=receive, timeout=limit + 60, check=False, repeat=False)  # fmt: skip

    result = shell.connection.persist(attach)
    if lines:
        lines.end()
    return _judge(Result(result.status, bytes(log), result.err), what, limit, check)


def _judge(result: Result, what: str, limit: float, check: bool) -> Result:
    if result.status == LOST:
        raise JobLost(
            f"{what} was killed on the host before it ended.",
            result.err.decode("utf-8", "replace").strip(),
            "The host was restarted, or it ends processes at logout (systemd KillUserProcesses).",
        )
    if LATE.encode() in result.err:
        raise CommandTimedOut(
            f"{what} did not end.",
            f"it was ended after {limit:g} s",
            "Raise ssh.command_timeout if it needs longer.",
        )
    if check and result.status != 0:
        # What it printed is all in the log; stderr is our follower's.
        raise failed(what, Result(result.status, result.out or result.err, b""))
    return result


def _blocks(script: str) -> Iterable[bytes]:
    return blocks(f"{script}\n{END}\n")


def _send(shell: Shell, folder: str, guard: str, limit: float, then: str, script: str, **how: Any) -> Result:
    """Claim, start, and `then`: one command. The script is there whole before anything starts."""
    upload = f"{folder}.{secrets.token_hex(4)}"

    def start(take: str) -> str:
        return f"""
J={quote(folder)}; U={quote(upload)}
if [ ! -L "$J/process" ]; then
  {guard or ":"}
  mkdir -p "$J" && {take} || exit 1
  mv -f "$U" "$J/script" && : >> "$J/log" || exit 1
  if command -v setsid >/dev/null 2>&1; then
    setsid sh -c {quote(_RUNNER)} sh "$J" {int(limit)} </dev/null >/dev/null 2>&1 &
  else
    (trap '' HUP; sh -c {quote(_RUNNER)} sh "$J" {int(limit)} </dev/null >/dev/null 2>&1 &)
  fi
fi
{then}
"""

    end = f"end-{upload[-8:]}"  # what no script can hold, since nobody knew it
    alone = start(f"cat > \"$U\" <<'{end}' || exit 1\n{script}\n{end}\n:")
    if shell.fits(alone):
        return shell.run(alone, **how)
    # A cut upload ends like a whole one; half a script must never run.
    whole = f'[ "$(tail -n 1 "$U")" = {quote(END)} ]'
    part = '{ rm -f "$U"; echo "the script came in part" >&2; exit 1; }'
    return shell.run(start(f'cat > "$U" && {{ {whole} || {part}; }}'), stdin=lambda: _blocks(script), **how)


# Who is to be signalled: the group $1 where setsid has made it one, else $2 and all below it. To be noted
# before the first signal, since what has lost its parent can't be found any more.
_FAMILY = r"""
family() {
  # Not `kill -0 -- -PID`: dash and BusyBox don't know it.
  if kill -0 "-$1" 2>/dev/null; then echo "-$1"; return; fi
  ps -A -o ppid= -o pid= 2>/dev/null | awk -v top="$2" '
    { parent[$2] = $1 }
    END { for (p in parent) { q = p; while (q != top && q in parent) q = parent[q]; if (q == top) print p } }'
}
"""

# Runs a job: $1 is its directory, $2 its deadline in seconds. The trap keeps it alive when all its processes
# are ended together, to write down how the job ended.
_RUNNER = rf"""
{_FAMILY}
J=$1
unset LC_ALL
[ -r "/proc/$$/stat" ] && start=$(sed 's/.*) //' "/proc/$$/stat" | cut -d ' ' -f 20)
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo 0)
ln -s "$$ ${{start:-0}} $boot" "$J/process" 2>/dev/null || exit 0
trap : TERM HUP INT
head -c 8192 /dev/zero > "$J/room" 2>/dev/null
sh "$J/script" > "$J/log" 2>&1 < /dev/null &
child=$!
(
  trap : TERM HUP INT
  n=0; while [ $n -lt "$2" ]; do
    [ ! -f "$J/status" ] && [ -d "$J" ] || exit 0
    sleep 1; n=$((n + 1))
  done
  : > "$J/late"; all=$(family $$ $child); kill -TERM $all; sleep 5
  [ -f "$J/status" ] || {{ echo 137 > "$J/status.new" && mv "$J/status.new" "$J/status"; }}
  kill -KILL $all
) &
watch=$!
wait $child; status=$?
while kill -0 $child 2>/dev/null; do wait $child; status=$?; done
# On a full disk a job can't say why it failed, nor could we write down that it did, but for the room we kept.
rm -f "$J/room"
why=; [ $status = 0 ] || why=$(LC_ALL=C head -c 65536 /dev/zero 2>&1 > "$J/room")
rm -f "$J/room"; [ -z "$why" ] || echo "$why" >> "$J/log"
echo $status > "$J/status.new" && mv "$J/status.new" "$J/status"
[ -f "$J/late" ] || kill -KILL $watch 2>/dev/null
:
"""

# Whether the process of the job in $J lives: 0 yes, 1 no, 2 none was written down.
ALIVE = r"""
alive() {
  pid=$(readlink "$J/process") || return 2
  start=${pid#* }; boot=${start#* }; start=${start%% *}; pid=${pid%% *}
  if [ -r "/proc/$pid/stat" ]; then
    # State and start time; a zombie is dead, and in a container without init it stays.
    set -- $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null)
    case $1 in Z|X) return 1 ;; esac
    [ "${20}" = "$start" ] || return 1
    [ "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo 0)" = "$boot" ]
  elif [ -d /proc/self ]; then return 1
  else kill -0 "$pid" 2>/dev/null; fi
}
"""

# Prints the log from $offset on until there is a status, and exits with it. Liveness is judged before the
# status is looked for, so a job that ends in between is not taken for a lost one. A newline on stderr now
# and then is traffic on this channel, which sshd's ChannelTimeout wants to see.
_FOLLOW = rf"""
{ALIVE}
tell() {{
  size=$( (wc -c < "$J/log") 2>/dev/null || echo 0)
  if [ "$size" -gt "$offset" ]; then
    tail -c "+$((offset + 1))" "$J/log" | head -c "$((size - offset))"
    offset=$size
  fi
}}
turns=0
# Most jobs are short, and their end is what is waited for.
while [ ! -f "$J/status" ] && [ $turns -lt 30 ] && sleep 0.01 2>/dev/null; do turns=$((turns + 1)); done
turns=0
while :; do
  alive; living=$?
  if [ -f "$J/status" ]; then
    tell
    [ ! -f "$J/late" ] || echo {quote(LATE)} >&2
    exit "$(cat "$J/status")"
  fi
  tell
  if [ $living = 1 ]; then echo "process $pid is gone and left no status" >&2; exit {LOST}; fi
  if [ $living = 2 ] && [ $turns -gt {UNSTARTED * 5} ]; then echo "it was never started" >&2; exit {LOST}; fi
  turns=$((turns + 1))
  [ $((turns % 4)) != 0 ] || echo >&2
  if [ $turns -lt 10 ]; then sleep 0.05 2>/dev/null || sleep 1; else sleep 0.2 2>/dev/null || sleep 1; fi
done
"""


# Ends the job in $J and its children; they get 5 s before they are killed.
_CANCEL = rf"""
  {_FAMILY}
  [ -L "$J/process" ] && [ ! -f "$J/status" ] || exit 0
  pid=$(readlink "$J/process"); pid=${{pid%% *}}; all=$(family "$pid" "$pid")
  kill -TERM $all 2>/dev/null
  n=0; while kill -0 $all 2>/dev/null && [ $n -lt 25 ]; do
    sleep 0.2 2>/dev/null || sleep 1; n=$((n + 1))
  done
  kill -KILL $all 2>/dev/null
  :
"""
