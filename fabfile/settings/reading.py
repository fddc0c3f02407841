"""The file -> plain data, the place of each value, and the mistakes of form.

This reads ruamel's node tree: a loaded document no longer knows its duplicate keys.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode
from ruamel.yaml.reader import ReaderError

from ..errors import ConfigError
from .mistakes import UNREADABLE, Layer, Loc, Mistake, Position, config_error, dotted, found, short
from .values import CONTROL, NAME

SIZE = 64 << 10  # bytes of a configuration
DEPTH = 50  # of lists and mappings in one another
VALUES = 10_000  # with each one as often as aliases repeat it


def read(file: Path) -> tuple[Layer, dict[str, Layer], list[Mistake]]:
    """(what stands at the top, the environments, the mistakes of form). ConfigError if it is no YAML."""
    reader = _Reader(file)
    top = reader.document(_text(file))
    return top, reader.take_environments(top), reader.mistakes


def _text(file: Path) -> str:
    """The file's text. Raises ConfigError if it can't be read or isn't UTF-8."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(SIZE + 1)
    except OSError as error:
        raise ConfigError(
            f"The configuration file {file} can't be read.",
            why=error.strerror or str(error),
            hint="Name a readable YAML file.",
        ) from error
    if len(raw) > SIZE:
        raise _form_error(file, 1, f"the file has more than {SIZE >> 10} KiB: it is no configuration")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise _form_error(file, line, "this line is not UTF-8; save the file as UTF-8") from error


def _form_error(file: Path, line: int, text: str) -> ConfigError:
    """The file as a whole can't be understood: the one mistake that hides all others."""
    return config_error([Mistake(line, f"{file}:{line}: {text}")])


class _Reader:
    """One file's YAML -> a Layer, collecting mistakes."""

    def __init__(self, file: Path) -> None:
        self.mistakes: list[Mistake] = []
        self._file = file
        self._top = Layer({}, {(): Position(f"{file}:1", 1, "")})
        self._yaml = YAML(typ="safe", pure=True)
        self._yaml.max_depth = DEPTH
        self._values = 0
        self._open: list[Node] = []

    def document(self, text: str) -> Layer:
        """The mapping that the text is. Raises ConfigError if it isn't one."""
        try:
            with warnings.catch_warnings(action="ignore"):  # an anchor's name may be used again
                node = self._yaml.compose(text)
        except ReaderError as error:
            line = text[: error.position].count("\n") + 1
            raise _form_error(self._file, line, "a control character, which YAML can't hold") from error
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            lines = text.splitlines() or [""]
            number = min(mark.line if mark else 0, len(lines) - 1)
            said = _in_plain_words(str(error.problem or error.context), lines[number])
            said = f"not valid YAML: {said}; the line is: {short(lines[number].strip())}"
            raise _form_error(self._file, number + 1, said) from error
        except YAMLError as error:
            raise _form_error(self._file, 1, f"not valid YAML: {error}") from error
        if node is None:
            raise _form_error(self._file, 1, "the file is empty; start from config.example.yaml")
        if not isinstance(node, MappingNode):
            kind = "a list" if isinstance(node, SequenceNode) else "a single value"
            said = f"{kind}; allowed at the top: keys, such as deploy_to: /srv/shop"
            raise _form_error(self._file, node.start_mark.line + 1, said)
        self._top.data.update(self._mapping(node, ()))
        return self._top

    def take_environments(self, top: Layer) -> dict[str, Layer]:
        """Take `environments` out of the top, as a layer each whose places still name the whole path."""
        layers = {}
        sections = self._section(top.data.pop("environments", {}), ("environments",), "names to settings")
        for name, value in sections.items():
            loc: Loc = ("environments", name)
            if not re.fullmatch(NAME, name):
                self._mistake(loc, "the name of an environment; allowed: letters, digits and . _ -")
            section = self._section(value, loc, "settings ({} for none)")
            if "environments" in section:
                self._mistake((*loc, "environments"), "an environment can't hold environments")
                del section["environments"]
            places = {each[2:]: place for each, place in top.places.items() if each[:2] == loc}
            layers[name] = Layer(section, places)
        return layers

    def _section(self, value: object, loc: Loc, of_what: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        if value is not UNREADABLE:
            self._mistake(loc, f"{found(value)}; allowed: a mapping of {of_what}")
        return {}

    def _mistake(self, loc: Loc, text: str) -> None:
        self.mistakes.append(self._top.place(loc).mistake(text))

    def _place(self, line: int, loc: Loc, text: str | None = None) -> Position:
        return Position(f"{self._file}:{line}", line, dotted(loc), text)

    def _value(self, node: Node, loc: Loc, line: int) -> object:
        """The node's value; `line` is where the key or the list item starts."""
        self._values += 1
        if self._values > VALUES:
            said = f"more than {VALUES} values: aliases (*) repeat what holds aliases"
            raise _form_error(self._file, line, said)
        text = node.value if isinstance(node.value, str) else None
        self._top.places.setdefault(loc, self._place(line, loc, text))
        if any(node is each for each in self._open):
            self._mistake(loc, "an alias that holds itself")
        elif not str(node.tag).startswith("tag:yaml.org,2002:"):
            self._mistake(loc, f"the YAML tag {node.tag}; put a value that starts with ! in quotes")
        elif isinstance(node, MappingNode):
            return self._mapping(node, loc)
        elif isinstance(node, SequenceNode):
            return self._list(node, loc)
        else:
            return self._scalar(node, loc)
        return UNREADABLE

    def _scalar(self, node: Node, loc: Loc) -> object:
        try:
            value = self._yaml.constructor.construct_object(node, deep=True)
            if isinstance(value, str):
                value.encode()  # refuses half a character, such as "\\ud83d"
            return value
        except (YAMLError, ValueError, LookupError, AttributeError):
            said = f'found "{short(node.value)}", which is no value; allowed: plain text or a number'
            self._mistake(loc, said)
            return UNREADABLE

    def _list(self, node: SequenceNode, loc: Loc) -> list[object]:
        self._open.append(node)
        items = [self._value(item, (*loc, n), item.start_mark.line + 1) for n, item in enumerate(node.value)]
        self._open.pop()
        return items

    def _mapping(self, node: MappingNode, loc: Loc) -> dict[str, Any]:
        """Each key once; a second one is a mistake, and the first stays."""
        self._open.append(node)
        data: dict[str, Any] = {}
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if str(key_node.tag).endswith(":merge"):
                said = "merge keys (<<) are not supported; write the keys out, or use environments"
                self.mistakes.append(self._place(line, loc).mistake(said))
            elif not str(key_node.tag).endswith(":str") or CONTROL.search(key):
                shown = key if isinstance(key, str) else "a list or mapping"
                self.mistakes.append(self._place(line, loc).mistake(f"the key {shown} is not plain text"))
            else:
                value = self._value(value_node, (*loc, key), line)
                if key in first_lines:
                    said = f"duplicate key; it is given on line {first_lines[key]} already"
                    self.mistakes.append(self._place(line, (*loc, key)).mistake(said))
                first_lines.setdefault(key, line)
                data.setdefault(key, value)
        self._open.pop()
        return data


def _in_plain_words(problem: str, source: str) -> str:
    """What a YAML parser complains about, as something a user can mend."""
    if "'\\t'" in problem:
        return "a tab; indent with spaces"
    if "maximum depth" in problem:
        return f"lists or mappings inside one another, more than {DEPTH} deep"
    if "undefined alias" in problem:
        return f"{problem.removeprefix('found ')}; put a value that starts with * in quotes"
    if "cannot start any token" in problem:
        return f"{problem.removeprefix('found ')}; put the value in quotes"
    if "mapping values are not allowed" in problem:
        return "a colon where none can be: a wrong indentation, or a value with a colon that needs quotes"
    if "another document" in problem:
        return "a second document (---); one file holds one"
    if "end of stream" in problem and ("'" in source or '"' in source):
        return "a quote that is not closed"
    return problem.replace("'<stream end>'", "the end of the file")
