"""A YAML file whose every value knows its line, so that a mistake can be pointed at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnsqmon.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: A node of the document: PyYAML ships no types, and its nodes carry id, value and start_mark.
Node = Any


class YamlFile:
    """The document in `path`; ConfigError where it cannot be read or is not YAML.

    `setting` names the setting that led here, for the error when the file is missing.
    """

    def __init__(self, path: str, setting: str) -> None:
        try:
            import yaml  # noqa: PLC0415 - whoever uses no YAML needs no PyYAML
        except ImportError as error:
            raise ConfigError(f"{setting} {path} is YAML: pip install PyYAML") from error
        self._path = path
        try:
            self.root: Node = yaml.compose(Path(path).read_text("utf-8"), Loader=yaml.SafeLoader)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"{setting} {path}: {reason}; name a YAML file that can be read"
            ) from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            # A character that YAML does not allow comes without a place, in several lines.
            reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
            where = f"{path}:{mark.line + 1}" if mark else path
            raise ConfigError(f"not YAML: {reason}", where=where) from error
        except RecursionError as error:
            raise ConfigError(
                "not YAML that this program reads: it is nested too deeply", where=path
            ) from error
        if self.root is None:
            raise ConfigError("the file is empty", where=path)

    def error(self, node: Node, reason: str) -> ConfigError:
        """Make the error that points at a value."""
        return ConfigError(reason, where=f"{self._path}:{node.start_mark.line + 1}")

    def mapping(self, node: Node, what: str, known: Iterable[str] = ()) -> dict[str, Node]:
        """Read `key: value` lines; where `known` names keys, others are refused."""
        if node.id != "mapping":
            raise self.error(node, f"{what} must be `name: value` lines")
        known = list(known)
        values: dict[str, Node] = {}
        for key, value in node.value:
            if key.id != "scalar":
                raise self.error(key, f"{what}: a name must be one word")
            if key.value in values:
                raise self.error(key, f"{what}: {key.value} stands here twice")
            if known and key.value not in known:
                raise self.error(key, f"{what}: unknown {key.value}; known are {', '.join(known)}")
            values[key.value] = value
        return values

    def texts(self, node: Node, what: str) -> list[str]:
        """Read one value, or a list of values, as text."""
        items = node.value if node.id == "sequence" else [node]
        for item in items:
            if item.id != "scalar":
                raise self.error(item, f"{what} must be one value or a list of values")
        return [item.value for item in items]

    def number(self, node: Node, what: str, high: int) -> int:
        """Read a whole number from 0 to `high`."""
        text = node.value if node.id == "scalar" else ""
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) <= high):
            raise self.error(node, f"{what} must be a whole number from 0 to {high}")
        return int(text)
