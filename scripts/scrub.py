"""Replaces what tells one operator from another, and nothing else: every other byte stays as it was.

The same input always becomes the same output, in every file and in every run with the same salt, so what belongs
together still does. Without the salt nothing can be traced back.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
import string
from collections.abc import Iterable, Iterator
from typing import Any

TELLING = frozenset(
    {
        "address", "authorization", "cookie", "credential", "email", "key", "mail", "passphrase", "password", "phone",
        "secret", "session", "token", "username", "wallet",
    }
)  # fmt: skip
"""A text under a key that ends in one of these words is replaced as a whole."""

_JSON = re.compile(r'(?P<text>"(?:[^"\\]|\\.)*")(?P<colon>\s*:)?|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?')
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?")
_SECRET_LENGTH = 8
_SMALLEST_ID = 10_000
_ID_DIGITS = 2
_KEY_DIGITS = 5
"""Names of fields may hold a few digits too."""
_WORD = 64
_ADDRESS = 40
"""Hexadecimal digits of a word of the EVM, and of an address in it; an amount has no more than 32 of them."""
_ALPHABETS = {
    **dict.fromkeys(string.digits, "123456789"),
    **dict.fromkeys(string.ascii_lowercase, "abcdefghijkmnopqrstuvwxyz"),
    **dict.fromkeys(string.ascii_uppercase, "ABCDEFGHJKLMNPQRSTUVWXYZ"),
}
"""By the kind of the character it stands for; without those that base58 does not know."""
_PATTERNS = r"""
    (?P<mail> [\w.+-]+ @ [\w-]+ (?:\.[\w-]+)+ )
  | (?P<jwt> \b eyJ [\w-]+ (?:\.[\w-]+){1,2} )
  | (?P<uuid> \b [0-9a-fA-F]{8} (?:-[0-9a-fA-F]{4}){3} - [0-9a-fA-F]{12} \b )
  | (?P<hex> \b (?:0x)? [0-9a-fA-F]{16,} \b )
  | (?P<ip6> (?<![\w:.]) [0-9a-fA-F]{0,4} (?: : [0-9a-fA-F]{0,4} ){2,7} (?![\w:.]) )
  | (?P<ip4> (?<![\w.]) \d{1,3} (?:\.\d{1,3}){3} (?![\w.]) )
  | (?P<id> \b [A-Za-z0-9_-]{20,} \b )
"""
_TELLING_TEXT = re.compile(_PATTERNS, re.VERBOSE)


class Scrubber:
    """``words`` are replaced wherever they stand: secrets of the configuration, names that the owner lists."""

    def __init__(self, salt: bytes, words: Iterable[str] = ()) -> None:
        self._salt = salt
        self._words = {word for word in words if word}
        self._whole: set[str] = set()
        self._numbers: set[str] = set()

    def learn(self, body: str) -> None:
        """Remember what stands under telling keys of a JSON body, to find it in any other text too."""
        try:
            value = json.loads(body)
        except ValueError:
            return
        for key, member in _members(value):
            words = [word.lower() for word in _WORDS.findall(key)] or [""]
            if isinstance(member, str) and words[-1] in TELLING and not _is_plain(member):
                self._whole.add(member)
                if len(member) >= _SECRET_LENGTH and "://" not in member:
                    self._words.add(member)
            elif type(member) is int and words[-1] == "id" and member >= _SMALLEST_ID:
                self._numbers.add(str(member))

    def body(self, body: str) -> str:
        """A body without what tells; of JSON only the texts and numbers that have to are written anew."""
        try:
            json.loads(body)
        except ValueError:
            return self.text(body)
        return _JSON.sub(self._token, body)

    def text(self, text: str, id_digits: int = _ID_DIGITS) -> str:
        """A text, a path or a query without what tells; an id has at least so many digits."""
        words = [re.escape(word) for word in sorted(self._words, key=len, reverse=True)]
        pattern = re.compile("|".join([*words, _PATTERNS]), re.VERBOSE)
        return pattern.sub(lambda match: self._found(match, id_digits), text)

    def _token(self, match: re.Match[str]) -> str:
        token, colon = match["text"], match["colon"] or ""
        if token is None:
            return self._alike(match[0]) if match[0] in self._numbers else match[0]
        text = json.loads(token)
        id_digits = _KEY_DIGITS if colon else _ID_DIGITS
        scrubbed = self._alike(text) if text in self._whole else self.text(text, id_digits)
        return match[0] if scrubbed == text else json.dumps(scrubbed, ensure_ascii=token.isascii()) + colon

    def _found(self, match: re.Match[str], id_digits: int) -> str:
        text, kind = match[0], match.lastgroup
        if kind == "mail":
            return f"user-{self._digest(text.lower()).hex()[:8]}@example.org"
        if kind in ("ip4", "ip6"):
            return self._address(text)
        if kind == "hex":
            return text if text.isdecimal() or text.isalpha() else self._hex(text)
        return text if kind == "id" and not _looks_made(text, id_digits) else self._alike(text)

    def _hex(self, text: str) -> str:
        """Addresses and hashes replaced; the numbers among the words that an EVM answers stay."""
        digits = text.removeprefix("0x")
        start = len(digits) % _WORD if len(digits) > _WORD else 0
        words = [digits[at : at + _WORD] for at in range(start, len(digits), _WORD)]
        made = [digits[:start]]
        for word in words:
            significant = len(word.lstrip("0"))
            if 2 * significant <= len(word):
                made.append(word)
            elif len(word) == _WORD and significant <= _ADDRESS:
                made.append(word[:-_ADDRESS] + self._alike(word[-_ADDRESS:]))
            else:
                made.append(self._alike(word))
        return text[: len(text) - len(digits)] + "".join(made)

    def _address(self, text: str) -> str:
        """Another address, of a network that is set apart for tests; what every machine has stays."""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return text
        if address.is_loopback or address.is_unspecified:
            return text
        digest = self._digest(address.compressed)
        if address.version == 4:
            return f"198.{18 + digest[0] % 2}.{digest[1]}.{digest[2]}"
        return ipaddress.IPv6Address(b"\x20\x01\x0d\xb8" + digest[:12]).compressed

    def _alike(self, text: str) -> str:
        """Another text of the same make; of hexadecimal digits one that does not depend on their case."""
        digits = text.removeprefix("0x")
        is_number = digits == text and digits.isdecimal()
        if digits and all(char in string.hexdigits + "-" for char in digits) and not is_number:
            stream = self._digest(digits.lower(), len(digits)).hex()
            made = ["-" if char == "-" else _cased(new, char) for char, new in zip(digits, stream, strict=False)]
            return text[: len(text) - len(digits)] + "".join(made)
        stream = self._digest(text, len(text))
        return "".join(
            _ALPHABETS[char][byte % len(_ALPHABETS[char])] if char in _ALPHABETS else char
            for char, byte in zip(text, stream, strict=True)
        )

    def _digest(self, text: str, length: int = 32) -> bytes:
        blocks = [
            hmac.digest(self._salt, f"{index}:{text}".encode(), hashlib.sha256) for index in range(length // 32 + 1)
        ]
        return b"".join(blocks)[:length]


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield key, member
            yield from _members(member)
    elif isinstance(value, list):
        for member in value:
            yield from _members(member)


def _is_plain(text: str) -> bool:
    """Nothing that tells (a number, an instant), or nothing beside what tells by itself (an address with its port)."""
    if text.replace(".", "", 1).isdecimal() or _INSTANT.fullmatch(text):
        return True
    return not any(char.isalpha() for char in _TELLING_TEXT.sub("", text))


def _looks_made(text: str, id_digits: int) -> bool:
    """Is this an id or a key, and no name that a person wrote?"""
    digits = sum(char.isdigit() for char in text)
    if text.isalnum():
        return id_digits <= digits < len(text)
    return digits > id_digits and any(char.islower() for char in text) and any(char.isupper() for char in text)


def _cased(new: str, old: str) -> str:
    return new.upper() if old.isupper() else new
