"""A scoring profile: YAML in, points by flag and TLD out; a bad one is refused by path and line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from dnsqmon.errors import ConfigError
from dnsqmon.score.domain import SLD_RULES

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The reasons a record can have points for, with their flags, in the order of the flags.
REASON_FLAGS = {
    "uncommon": "u",
    "watch": "b",
    "first_seen": "f",
    "long": "l",
    "short": "s",
    "server": "d",
    "tld": "t",
}
_PROFILES = Path(__file__).parent / "profiles"
_MAX_POINTS = 1000


@dataclass(frozen=True)
class Profile:
    """How queries are scored."""

    #: Gives a name's second-level domain.
    sld_of: Callable[[str], str]
    #: Points of every reason but `tld`.
    points: Mapping[str, int]
    #: A name of so many octets or more is long, of so many or fewer short.
    long_from: int
    short_to: int
    #: Points by TLD, and those of a TLD that is not named; 0 sets no flag.
    tlds: Mapping[str, int]
    other_tld: int

    def tld_points(self, tld: str) -> int:
        """Give the points of a top-level domain."""
        return self.tlds.get(tld, self.other_tld)


def load_profile(name: str) -> Profile:
    """Load a profile that ships (`classic`, `weighted`) or a YAML file; else raise ConfigError."""
    shipped = sorted(path.stem for path in _PROFILES.glob("*.yaml"))
    path = _PROFILES / f"{name}.yaml" if name in shipped else Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"--profile {name}: {reason}; give {', '.join(shipped)} or a YAML file"
        raise ConfigError(message) from error
    return _read(_Document(str(path), text))


class _Document:
    """A YAML file whose every value knows its line."""

    def __init__(self, path: str, text: str) -> None:
        try:
            import yaml  # noqa: PLC0415 - the package is needed here alone
        except ImportError as error:
            message = "scoring profiles are YAML: pip install PyYAML"
            raise ConfigError(message) from error
        self._path = path
        try:
            self.root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            reason = getattr(error, "problem", None) or error
            where = f"{path}:{mark.line + 1}" if mark else path
            message = f"not YAML: {reason}"
            raise ConfigError(message, where=where) from error
        if self.root is None:
            message = "the profile is empty"
            raise ConfigError(message, where=path)

    def refuse(self, node: Any, reason: str) -> ConfigError:  # noqa: ANN401 - yaml has no types
        """Make the error that points at a value."""
        return ConfigError(reason, where=f"{self._path}:{node.start_mark.line + 1}")

    def mapping(self, node: Any, what: str, keys: Mapping[str, Any] | None) -> dict[str, Any]:  # noqa: ANN401
        """Read `key: value` lines; `keys`, where given, are those that must be there, no others."""
        if node.id != "mapping":
            raise self.refuse(node, f"{what} must be `name: value` lines")
        values: dict[str, Any] = {}
        for key, value in node.value:
            if key.value in values:
                raise self.refuse(key, f"{what}: {key.value} stands here twice")
            if keys is not None and key.value not in keys:
                raise self.refuse(key, f"{what}: unknown {key.value}; known are {', '.join(keys)}")
            values[key.value] = value
        for key in keys or ():
            if key not in values:
                raise self.refuse(node, f"{what}: {key} is missing")
        return values

    def number(self, node: Any, what: str, high: int = _MAX_POINTS) -> int:  # noqa: ANN401
        """Read a whole number from 0 to `high`."""
        text = node.value if node.id == "scalar" else ""
        if not (text.isascii() and text.isdigit() and len(text) <= 4 and int(text) <= high):
            raise self.refuse(node, f"{what} must be a whole number from 0 to {high}")
        return int(text)

    def tlds(self, node: Any, what: str) -> list[str]:  # noqa: ANN401
        """Read a list of top-level domains."""
        if node.id != "sequence" or any(item.id != "scalar" for item in node.value):
            raise self.refuse(node, f"{what} must be a list of top-level domains")
        for item in node.value:
            if "." in item.value.strip(".") or not item.value.strip("."):
                raise self.refuse(item, f"{what}: {item.value!r} is no top-level domain")
        return [item.value.strip(".").lower() for item in node.value]


_KEYS = dict.fromkeys(("sld", "points", "long_from", "short_to", "tld"))
_POINTS = dict.fromkeys(reason for reason in REASON_FLAGS if reason != "tld")
_TLD = dict.fromkeys(("unscored", "other", "points"))


def _read(document: _Document) -> Profile:
    """Read the whole document."""
    top = document.mapping(document.root, "the profile", _KEYS)
    if top["sld"].value not in SLD_RULES:
        raise document.refuse(top["sld"], f"sld must be one of {', '.join(SLD_RULES)}")
    points = document.mapping(top["points"], "points", _POINTS)
    tld = document.mapping(top["tld"], "tld", _TLD)
    tlds = dict.fromkeys(document.tlds(tld["unscored"], "tld unscored"), 0)
    for text, names in document.mapping(tld["points"], "tld points", None).items():
        if not (text.isascii() and text.isdigit() and int(text) <= _MAX_POINTS):
            reason = f"tld points: {text} must be a whole number from 0 to {_MAX_POINTS}"
            raise document.refuse(names, reason)
        for name in document.tlds(names, f"tld points {text}"):
            if name in tlds:
                raise document.refuse(names, f"tld points: {name} stands here twice")
            tlds[name] = int(text)
    return Profile(
        sld_of=SLD_RULES[top["sld"].value](),
        points={name: document.number(node, f"points {name}") for name, node in points.items()},
        long_from=document.number(top["long_from"], "long_from"),
        short_to=document.number(top["short_to"], "short_to"),
        tlds=tlds,
        other_tld=document.number(tld["other"], "tld other"),
    )
