"""The only way to a terminal: takes plain text, and shows it as text.

Every piece passes `redaction.clean` here, so that nobody above can forget it. Rich gets no markup to
interpret.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..redaction import clean, repeated
from .outlet import outlet

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Piece = str | tuple[str, str]  # a text, or one with a style of Rich's ("bold red")
WIDE = 200  # columns where there is no terminal
NARROW = 24  # columns that a flexible column, or wrapped text, wants at least
HANG = 4  # columns by which text is set in that has no room beside its label


class Screen:
    """Standard output or error, for a person."""

    def __init__(self, to_stderr: bool = False) -> None:
        from rich.console import Console

        self.out = outlet(to_stderr)
        terminal = self.out.isatty()
        # Without a terminal long lines stay whole.
        self.console: Console = Console(
            file=self.out,  # type: ignore[arg-type]  # it has what rich uses of a file
            markup=False, emoji=False, highlight=False, width=None if terminal else WIDE,
        )  # fmt: skip
        self.is_terminal = self.console.is_terminal

    def say(self, *pieces: Piece, indent: int = 0, whole: bool = False) -> None:
        """A line: wrapped between words on a terminal, what follows by `indent`; whole: not at all."""
        text = _assembled(pieces)
        if whole or not self.is_terminal:
            text.pad_left(indent)
            self._print(text, text.plain, soft_wrap=True)
        else:
            self._hang(_assembled([" " * indent]), text)

    def beside(self, *before: Piece, text: Piece) -> None:
        """A line whose text stays in its column where it has to be wrapped: `before` is a host and a step."""
        if self.is_terminal:
            self._hang(_assembled(before), _assembled([text]))
        else:
            self.say(*before, text)

    def output(self, before: str, line: str) -> None:
        """A line that a hook printed, in its own colours."""
        if not self.is_terminal and "\x1b" not in line:  # some print a great many, and Rich takes its time
            self.out.write(f"{clean(before)}{clean(line)}\n")
            return
        from rich.text import Text

        said, begin = Text.from_ansi(clean(line, colours=True)), Text(clean(before), "dim")
        if self.is_terminal:
            self._hang(begin, said, again=True)
        else:
            self._print(Text.assemble(begin, said), said.plain, soft_wrap=True)

    def labelled(
        self,
        label: str,
        text: str,
        indent: int = 2,
        width: int = 5,
        style: str = "",
        commands: bool = False,
    ) -> None:
        """A text of several lines behind a label, staying in its column. commands: all but the first line are
        to be copied, so they are not wrapped.
        """
        from rich.text import Text

        for number, line in enumerate(repeated(clean(text, lines=True).split("\n"))):
            begin = f"{' ' * indent}{label if number == 0 else '':<{width}}"
            if not self.is_terminal or (commands and number):
                self.say((begin, "dim"), (line, style), whole=True)
            else:
                self._hang(Text(begin, "dim"), Text(line, style))

    def _hang(self, before: Text, text: Text, *, again: bool = False) -> None:
        """Wrap `text` between words into the column behind `before`; a word that has no room stays whole.
        again: each line begins with `before`.
        """
        from rich.text import Text

        column = before.cell_len
        if self.console.width - column < NARROW:  # a long name: the text goes on below it
            column = HANG
        margin = before if again else Text(" " * column)
        room = (self.console.width - before.cell_len, max(NARROW, self.console.width - column))
        for number, line in enumerate(text.divide(_breaks(text.plain, *room))):
            line.rstrip()
            self._print(Text.assemble(margin if number else before, line), line.plain, soft_wrap=True)

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[Piece]],
        *,
        right: Sequence[str] = (),
        flexible: str = "",
    ) -> None:
        """A table; where it does not fit, a block for each row. flexible: the column that may be wrapped."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in columns:
            table.add_column(
                name, justify="right" if name in right else "left", no_wrap=name != flexible, overflow="fold"
            )
        cells = [[_assembled([piece]) for piece in row] for row in rows]
        for row in cells:
            table.add_row(*row)
        needed = 2 * (len(columns) - 1)
        for at, name in enumerate(columns):
            width = max([len(name), *(row[at].cell_len for row in cells)])
            needed += min(width, NARROW) if name == flexible else width
        if self.is_terminal and needed > self.console.width:
            self._blocks(columns, cells)
        else:
            self._print(table, "\n".join("  ".join(cell.plain for cell in row) for row in cells), strip=True)

    def _blocks(self, columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
        width = max(map(len, columns)) + 2
        for row in rows:
            for name, cell in zip(columns, row, strict=True):
                if cell.plain:
                    self.labelled(name, cell.plain, width=width)
            self.blank()

    def blank(self) -> None:
        """An empty line."""
        self._print("", "")

    def _print(self, what: Any, plain: str, *, soft_wrap: bool = False, strip: bool = False) -> None:
        """Rich's mistakes are no failure of the work: the text is shown without it then."""
        try:
            if strip and not self.is_terminal:  # without the blanks that fill a table's last column
                with self.console.capture() as kept:
                    self.console.print(what)
                self.out.write("\n".join(line.rstrip() for line in kept.get().split("\n")))
            else:
                self.console.print(what, soft_wrap=soft_wrap)
        except Exception:  # noqa: BLE001
            self.out.write(f"{plain}\n")


def _breaks(text: str, first: int, others: int) -> list[int]:
    """Where to break a text between words: columns that the first line has, and the others. A word that is
    longer has a line of its own.
    """
    from rich.cells import cell_len

    breaks: list[int] = []
    used, room = 0, first
    for word in re.finditer(r"\s*\S+", text):
        if used + cell_len(word.group()) > room and (used or room < others):
            at = word.end() - len(word.group().lstrip())
            breaks.append(at)
            used, room = cell_len(text[at : word.end()]), others
        else:
            used += cell_len(word.group())
    return breaks


def _assembled(pieces: Sequence[Piece]) -> Text:
    from rich.text import Text

    made = Text()
    for piece in pieces:
        text, style = piece if isinstance(piece, tuple) else (piece, "")
        made.append(clean(text), style or None)
    return made
