"""Sites to deploy: folders of text that compresses as code does, the same at each run."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

REST = 2.1  # seconds; a file written just now is hashed again

WORDS = [
    "return", "function", "class", "public", "$this->", "import", "from", "def", "self", "if", "else", "=>",
    "(", ")", "{", "}", ";", "\n", "\n    ", "\n        ", "array", "string", "null", "true", "config",
    "request", "response", "render", "template", "user", "order", "cache", "0x1f", "3.14", "/* note */", "//",
    "<div>",
]  # fmt: skip


def settle() -> None:
    """Rest as between two deployments; what a disk has still to write would slow whoever comes next."""
    os.sync()
    time.sleep(REST)


class Site:
    """A folder with `files` files of together about `size` bytes."""

    def __init__(self, folder: Path, files: int, size: int) -> None:
        self.folder = folder
        self.random = random.Random(files)
        self.corpus = " ".join(self.random.choices(WORDS, k=900_000)).encode()
        self.turn = 0
        weights = [self.random.lognormvariate(0, 1.2) if files > 1 else 1.0 for _ in range(files)]
        scale = size / sum(weights)
        self.paths = []
        for number, weight in enumerate(weights):
            path = folder / f"part{number % 97:02}" / f"module{number % 13:02}" / f"file{number}.php"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._text(max(1, int(weight * scale))))
            self.paths.append(path)

    def change(self, files: int) -> None:
        """Other content for so many of them, each time others."""
        for _ in range(files):
            self.turn += 1
            path = self.paths[self.turn * 7919 % len(self.paths)]
            path.write_bytes(b"// %d\n" % self.turn + self._text(path.stat().st_size))

    def _text(self, size: int) -> bytes:
        if size > 1 << 24:  # one large file is what doesn't compress: an archive, a film
            one = random.Random(size).randbytes(1 << 24)
            return b"".join(bytes((number,)) + one[1:] for number in range(size >> 24))
        start = self.random.randrange(len(self.corpus) // 2)
        text = self.corpus[start : start + size]
        while len(text) < size:
            text += self.corpus[: size - len(text)]
        return text
