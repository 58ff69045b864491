"""A scoring profile: YAML in, points by flag and TLD out; a bad one is refused by path and line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from dnsqmon.core.names import MAX_NAME
from dnsqmon.core.yaml_file import Node, YamlFile
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
_KEYS = ("sld", "points", "long_from", "short_to", "tld")
_POINTS = tuple(reason for reason in REASON_FLAGS if reason != "tld")
_TLD = ("unscored", "other", "points")


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
        """Return the points of a top-level domain."""
        return self.tlds.get(tld, self.other_tld)


def load_profile(name: str) -> Profile:
    """Load a profile that ships (`classic`, `weighted`) or a YAML file; else raise ConfigError."""
    shipped = sorted(path.stem for path in _PROFILES.glob("*.yaml"))
    path = str(_PROFILES / f"{name}.yaml") if name in shipped else name
    return _read(YamlFile(path, "--profile"))


def _read(file: YamlFile) -> Profile:
    """Read the whole document; every key must be there."""
    top = _all_of(file, file.root, "the profile", _KEYS)
    rule = top["sld"].value
    if not isinstance(rule, str) or rule not in SLD_RULES:
        raise file.error(top["sld"], f"sld must be one of {', '.join(SLD_RULES)}")
    points = _all_of(file, top["points"], "points", _POINTS)
    return Profile(
        sld_of=SLD_RULES[rule](),
        points={
            name: file.number(node, f"points {name}", _MAX_POINTS) for name, node in points.items()
        },
        long_from=file.number(top["long_from"], "long_from", MAX_NAME),
        short_to=file.number(top["short_to"], "short_to", MAX_NAME),
        **_read_tlds(file, top["tld"]),
    )


def _read_tlds(file: YamlFile, node: Node) -> dict[str, Any]:
    """Read the part about top-level domains."""
    parts = _all_of(file, node, "tld", _TLD)
    tlds: dict[str, int] = {}
    groups = [("tld unscored", 0, parts["unscored"])]
    for text, names in file.mapping(parts["points"], "tld points").items():
        if not (re.fullmatch("[0-9]{1,4}", text) and int(text) <= _MAX_POINTS):
            reason = f"tld points: {text} must be a whole number from 0 to {_MAX_POINTS}"
            raise file.error(names, reason)
        groups.append((f"tld points {text}", int(text), names))
    for what, points, names in groups:
        for name in file.texts(names, what):
            if name in tlds or not re.fullmatch("[a-z0-9_-]{1,63}", name):
                reason = f"{what}: {name} must be a lower-case TLD that stands here once"
                raise file.error(names, reason)
            tlds[name] = points
    return {"tlds": tlds, "other_tld": file.number(parts["other"], "tld other", _MAX_POINTS)}


def _all_of(file: YamlFile, node: Node, what: str, keys: tuple[str, ...]) -> dict[str, Node]:
    """Read a mapping that has just these keys."""
    values = file.mapping(node, what, keys)
    for key in keys:
        if key not in values:
            raise file.error(node, f"{what}: {key} is missing")
    return values
