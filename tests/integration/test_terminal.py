"""What reaches the terminal of whoever runs `fab`: text, colours, and the movements of our own bars."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fabfile.on_host.lock import me
from fabfile.on_host.records import GOOD, Record
from tests.support.fab import FAB, REPOSITORY, TIMEOUT, TRACEBACK
from tests.support.programs import wrapper
from tests.support.project import Project, ProjectOn, write_owned
from tests.support.sshd import Serve

pytestmark = [pytest.mark.timeout(120), pytest.mark.promise("terminal")]

# All that may arrive beside printable characters and the ends of lines.
ALLOWED = re.compile(
    r"\x1b\[[0-9;]*m"  # colours (SGR)
    r"|\x1b\[\?25[lh]"  # Rich's bars: the cursor hidden and shown,
    r"|\x1b\[2K|\x1b\[1A|\r"  # a line erased, one line up, to its begin
    r"|\n"
)
MARKUP = "[/] [bold]x[/bold] [link=https:evil]y[/link]"
EVIL = (
    "\x1b]52;c;ZXZpbA==\x07"  # into the clipboard
    "\x1b]0;title\x1b\\\x1b[2J\x1b[H\x1b[8mhidden\x1b[0m\x1bc"  # title, clear, concealed, reset
    "\x1bP+q544e\x1b\\\x9b2J\x9d52;c;eA==\x9c"  # device control; the same in one character
    "\u202etxt\u2066\u200b\x08\x7f\x0e" + MARKUP
)
PRINTED = "'" + "".join(f"\\{byte:03o}" for byte in EVIL.encode() + b"\xff") + "'"  # for printf


def seen(project: Project, *args: str, hosts: str | None = None) -> tuple[int, str]:
    """Run fab in a terminal of 80 columns: its exit code, and all that the terminal was sent."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    named = project.address() if hosts is None else hosts
    words = [str(FAB), "-r", str(REPOSITORY), "-i", str(project.server.identity), "-H", named]
    process = subprocess.Popen(
        [*words, "-S", str(project.ssh_config), *args],
        cwd=project.folder, env={**project.environment, "TERM": "xterm-256color", "LANG": "C.UTF-8"},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    data, deadline = bytearray(), time.monotonic() + TIMEOUT
    try:
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while select.select([ours], [], [], max(0, deadline - time.monotonic()))[0]:
                if not (some := os.read(ours, 1 << 16)):
                    break
                data += some
        code = process.wait(max(1, deadline - time.monotonic()))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(ours)
    return code, data.decode()  # strictly: what was no UTF-8 is written out too


def harmless(text: str) -> str:
    """The text without what is allowed; nothing else than text is in it."""
    plain = ALLOWED.sub(lambda found: "\n" if found.group() == "\n" else "", text)
    odd = sorted({char for char in plain if char != "\n" and not char.isprintable()})
    assert not odd, f"{odd} reached the terminal:\n{text!r}"
    assert not any("8" in found.split(";") for found in re.findall(r"\x1b\[([0-9;]*)m", text)), "concealed"
    assert TRACEBACK not in plain and "made a mistake" not in plain, plain
    return plain


def test_what_hooks_print_and_files_are_called(project: Project) -> None:
    """A deployment that works: the hook's words, and the names of files, in the plan and on the way."""
    project.deployed()
    project.write({EVIL.replace("/", "%"): "x", MARKUP.replace("/", "%"): "y"})
    project.configure(hooks={"before_switch": [f"printf %b {PRINTED}; printf %b {PRINTED} >&2; echo"]})
    code, text = seen(project, "deploy", "--plan")
    assert code == 0 and r"\x1b]52;c;ZXZpbA==\x07" in harmless(text)
    code, text = seen(project, "deploy")
    assert code == 0 and "is live on" in harmless(text)
    said = " ".join(line.partition("│ ")[2] for line in harmless(text).splitlines())
    assert MARKUP in said and "\x1b[?25l" in text, "no bars were seen"


def test_a_hook_that_fails_with_such_words(project: Project) -> None:
    project.deployed()
    project.configure(hooks={"before_switch": [f"printf %b {PRINTED} >&2; exit 3"]})
    code, text = seen(project, "deploy")
    assert code == 1 and "exit status 3" in harmless(text)


def test_records_and_lock_owners(project: Project) -> None:
    project.deployed()
    own = project.deploy_to / ".switchover"
    old = "20200101000000"
    record = Record(old, GOOD, EVIL, "2020-01-01T00:00:00+00:00", EVIL, 5, note=EVIL)
    write_owned(project, own / f"releases/{old}/record.json", record.dumps())
    write_owned(project, own / f"releases/{MARKUP[4:20]}/record.json", "{")
    owner = replace(me(EVIL), user=EVIL, machine=MARKUP, place="elsewhere")
    write_owned(project, own / "lock/77/owner", json.dumps(owner.__dict__))
    for args, wanted in ((("releases",), 0), (("unlock",), 0), (("deploy",), 5), (("rollback",), 5)):
        code, text = seen(project, *args)
        assert code == wanted, text
        assert harmless(text).strip()


def test_what_a_host_calls_itself_and_greets_with(tmp_path: Path, serve: Serve) -> None:
    """Its banner, its name, the errors of its programs, and a shell that talks before each answer."""
    banner = tmp_path / "banner"
    banner.write_bytes(EVIL.encode())
    state = serve().new_dir()  # where the server finds what it is to do
    words = f"printf %b {PRINTED} >&2; [ -e {state}/quiet ] || printf %b {PRINTED}"
    greet = f"ForceCommand [ ! -e {state}/greet ] || printf %b {PRINTED}; eval $SSH_ORIGINAL_COMMAND"
    programs = dict.fromkeys(("hostname", "readlink"), words)
    server = serve(extra=f"Banner {banner}\nMatch all\n{greet}", programs=programs)
    project = Project(tmp_path / "project", server, server.new_dir())
    project.configure(ssh={"sftp": "off"})
    for name, commands in (("greet", ("deploy",)), ("quiet", ("deploy", "diagnose"))):
        (state / name).touch()
        for command in commands:
            harmless(seen(project, command)[1])


def test_at_80_columns_what_is_to_be_copied_stays_whole(project: Project) -> None:
    """Ids, dates and the line to type; and the last line says what is live."""
    first = project.deployed()
    text = harmless(seen(project, "releases")[1])
    record = json.loads((project.deploy_to / f".switchover/releases/{first}/record.json").read_text())
    created = record["created"][:16].replace("T", " ")
    (row,) = [line for line in text.splitlines() if first in line]
    assert created in row and record["deployed_by"] in row and "live" in row
    project.configure(hooks={"before_switch": ["exit 3"]})
    code, text = seen(project, "deploy")
    last = harmless(text).split("✗")[-1].split()
    assert code == 1 and " ".join(last[1:]) == f"is not live; {first} is live on 127.0.0.1"
    project.configure(deploy_to="/proc/none")
    lines = [line.strip() for line in harmless(seen(project, "deploy")[1]).splitlines()]
    typed = f"fab -r {REPOSITORY} -S {project.ssh_config} -i {project.server.identity}"
    assert any(line.startswith(typed) and line.endswith("diagnose") for line in lines), lines


def test_what_sftp_refuses_with(project_on: ProjectOn) -> None:
    """The server's SFTP opens nothing, and says so in such words."""
    with wrapper((REPOSITORY / "tests/support/lying_sftp.py").read_text()) as liar:
        lie = liar.with_name("lie")
        lie.write_text(f"refuses: {EVIL}")
        lying = project_on(sftp=f"{liar} {lie}")
        lying.configure(ssh={"sftp": "require"}, transfer="sftp")
        code, text = seen(lying, "deploy")
        assert code == 1 and "ZXZpbA" in harmless(text).replace("\n", "")
        code, text = seen(lying, "diagnose")
        assert code == 1 and harmless(text)


def test_an_address_is_no_way_to_the_terminal(project: Project) -> None:
    code, text = seen(project, "deploy", hosts=f"web{EVIL}")
    assert code == 2 and harmless(text).strip()
