"""What a host says never fills the memory: each in a process of its own, which says how much it took."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LIMIT = 256 << 10  # KiB

START = """
import itertools, zlib
from fabfile.on_host import manifest, state
from fabfile.on_host.manifest import TEXT_LIMIT
from fabfile.remote.shell import Result

class Shell:
    def run(self, script, **how): return Result(0, said, b"")
class Host:
    shell = Shell()
    notes = []
    def has(self, program): return True
    def note(self, level, text): self.notes.append(text)

def bomb(pieces):
    packer, parts, pieces = zlib.compressobj(1, wbits=31), [], iter(pieces)
    while block := b"".join(itertools.islice(pieces, 64)): parts.append(packer.compress(block))
    return b"".join(parts) + packer.flush()

def row(n): return b"dir\\t0\\t0\\t0\\t\\t%x\\n" % n
HEAD = b"\\x1eswitchover manifest 1\\t"
"""
END = """
known = state.read_manifest(Host(), "/srv/shop/.switchover/cache")
# Not getrusage's: that counts what the parent had when it made us.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")).split()[1]
print(peak, known.manifest is not None, len(Host.notes))
"""
BOMBS = {
    "half a gigabyte": "said = bomb(bytes(1 << 16) for _ in range(8192))",
    "a line of 100 MB": "said = bomb([HEAD + b'1\\n', *(b'x' * (1 << 16) for _ in range(1600))])",
    "short lines": "said = bomb(row(n) if n else HEAD + b'1100000\\n' for n in range(1100001))",
    "a count that is not true": "said = bomb(row(n) if n else HEAD + b'100000\\n' for n in range(800000))",
    "paths in doubt": "said = bomb(b'%x\\n' % n if n else HEAD + b'0\\n' for n in range(1500000, -1, -1))",
    "half": "said = bomb([HEAD + b'2\\n', row(1), row(2)])[:-9]",
    "no gzip": "said = b'x' * (8 << 20)",
    "four bytes a character": """
path = b"a" * 1000 + "😀".encode()
said = bomb([HEAD + b'15000\\n', *(row(n)[:-1] + path + b'\\n' for n in range(15000))])""",
    "what is right": "said = bomb([HEAD + b'100000\\n', *map(row, range(100000))])",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_manifest_without_bounds(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START + BOMBS[name] + END],
        cwd=REPOSITORY, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}, capture_output=True, text=True,
        timeout=100, check=True,
    )  # fmt: skip
    took, known, notes = done.stdout.split()
    assert int(took) < LIMIT
    right = name in ("what is right", "four bytes a character")
    assert (known, notes) == (str(right), "0" if right else "1")
