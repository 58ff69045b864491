r"""Domain names: wire format to the record's text, and the text people write to the record's text.

The record's text is RFC 1035 presentation form, lower-cased, in which every octet that could end
a field, a line, a string or an escape sequence is `\DDD` (RFC 1035, section 5.1): control, space,
non-ASCII, comma, both quotes, backslash, a dot inside a label, and `( ) ; @ $`. The root is `.`.
So a dot in the text always separates labels, and a backslash always starts three digits.
"""

from __future__ import annotations

import re

#: Longest name and longest label on the wire, in octets (RFC 1035, section 2.3.4).
MAX_NAME = 255
MAX_LABEL = 63

_SPECIAL = b"\"'(),;@\\$."
_PLAIN = bytes(octet for octet in range(0x21, 0x7F) if octet not in _SPECIAL)
_PLAIN_AND_DOT = _PLAIN + b"."
_TEXT_OF = [
    chr(octet).lower() if octet in _PLAIN else f"\\{octet:03d}" for octet in range(256)
]  # fmt: skip

# The quick way from wire to text: translate the octets after the first length with QUICK_TEXT,
# decode as ASCII, and count the dots. With one dot less than the sum of the lengths' weights it is
# the record's text: nothing but plain octets and lengths up to 32 is ASCII or a dot then, and any
# other length has a weight that no number of dots comes to.
QUICK_TEXT = bytes(
    0x2E if 0 < octet <= 32 else ord(_TEXT_OF[octet]) if octet in _PLAIN else 0xFF
    for octet in range(256)
)
LABEL_WEIGHT = tuple(1 if octet <= 32 else MAX_NAME for octet in range(256))

_QUICK = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\Z")
_ESCAPE = re.compile(r"\\([0-9]{3}|[\x21-\x2f\x3a-\x7e])")
#: The dot, and the full stops that RFC 3490, section 3.1, reads as one.
_SEPARATOR = re.compile(r"[.\u3002\uff0e\uff61]")


def text_from_labels(labels: list[bytes]) -> str:
    """Turn labels (without the empty one of the root) into the record's text."""
    joined = b".".join(labels)
    if not joined.translate(None, _PLAIN_AND_DOT) and joined.count(b".") == len(labels) - 1:
        return joined.lower().decode("ascii")
    return ".".join(["".join([_TEXT_OF[octet] for octet in label]) for label in labels]) or "."


def labels_from_wire(wire: bytes) -> list[bytes] | None:
    """Split a whole uncompressed name, root label included; None where it is not a valid one."""
    end = len(wire) - 1
    if end >= MAX_NAME:
        return None
    labels = []
    position = 0
    while position < end:
        start = position + 1
        position = start + wire[position]
        if position - start > MAX_LABEL or position == start:
            return None
        labels.append(wire[start:position])
    return labels if position == end and not wire[end] else None


def labels_from_text(text: str) -> list[bytes]:
    r"""Return the octets of each label of the record's text; the inverse of `text_from_labels`."""
    if text == ".":
        return []
    return [_octets_of(label) for label in text.split(".")]


def octets(text: str) -> int:
    """Length of the name in octets, dots between labels included: what `l` and `s` measure."""
    return 0 if text == "." else len(text) - 3 * text.count("\\")


def normalise(text: str) -> str:
    r"""Turn a domain name as people write it into the record's text.

    Takes any case, a final dot, international names (to A-labels, RFC 5891 by way of IDNA 2003 as
    in the standard library), and the escapes `\DDD` and `\X`. Raises ValueError with the reason.
    """
    if _QUICK.match(text) and len(text) < MAX_NAME - 1:
        return text
    if text == ".":
        return text
    labels = [_label(part) for part in _SEPARATOR.split(_ESCAPE.sub(_three_digits, text))]
    if labels and not labels[-1]:
        labels.pop()
    if not all(labels) or not labels:
        raise ValueError("empty label")
    if max(map(len, labels)) > MAX_LABEL:
        raise ValueError(f"label of more than {MAX_LABEL} octets")
    if sum(map(len, labels)) + len(labels) + 1 > MAX_NAME:
        raise ValueError(f"name of more than {MAX_NAME} octets")
    return text_from_labels(labels)


def _octets_of(label: str) -> bytes:
    r"""Return the octets of a label in which every escape is `\DDD`."""
    return _ESCAPE.sub(lambda escape: chr(int(escape[1])), label).encode("latin-1")


def _three_digits(escape: re.Match[str]) -> str:
    r"""Write `\X` as `\DDD`, so that every dot that is left separates labels."""
    body = escape[1]
    if not body.isdigit():
        return f"\\{ord(body):03d}"
    if int(body) > 255:
        raise ValueError(f"\\{body} is no octet")
    return escape[0]


def _label(text: str) -> bytes:
    """Encode one label: escapes to octets, letters beyond ASCII to an A-label."""
    if not text.isascii():
        try:
            return text.lower().encode("idna")
        except UnicodeError as error:
            raise ValueError(f"not an international domain name: {error}") from error
    if re.search(r"[\0- \x7f]|\\(?![0-9]{3})", text):
        raise ValueError("space, control character or lone backslash (write it as \\DDD)")
    return _octets_of(text)
