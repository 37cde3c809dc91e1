"""Who may ask: the names that the server answers to, the origins it takes orders from, and its token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from mmsearch.errors import UsageError

LOGIN_S = 30 * 86_400
"""How long a login lasts."""
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Policy:
    """What a request has to bring.

    `names` are the host names that it may be addressed to; with `any_address`, every IP address is one, too. `token` is
    None where the server asks for none, which only one on a loopback address may do.
    """

    names: frozenset[str]
    any_address: bool
    token: str | None

    @classmethod
    def of(cls, host: str, token: str | None) -> Policy:
        """Return the policy of a server that listens at `host`. Raises `UsageError` where that demands a token."""
        if token is not None and not token.strip():
            raise UsageError("the token is empty; give one such as --token $(openssl rand -hex 16)")
        if is_loopback(host):
            return cls(_LOOPBACK_NAMES | {host.lower()}, any_address=False, token=token)
        if token is None:
            raise UsageError(
                f"at {host} other machines reach the library, so a token has to be asked of them; "
                "give --token TEXT, or leave --host at 127.0.0.1"
            )
        own = socket.gethostname().lower()
        names = _LOOPBACK_NAMES | {own, own.partition(".")[0], f"{own.partition('.')[0]}.local", host.lower()}
        return cls(names, any_address=True, token=token)

    def answers_to(self, host: str | None) -> bool:
        """Return whether a Host header names this server; a name that a stranger pointed at it (DNS rebinding) doesn't.

        A port isn't compared: a tunnel or a proxy may have another one.
        """
        name = _name_of(host or "")
        if name is None:
            return False
        return name in self.names or (self.any_address and _is_address(name))

    def is_foreign(self, method: str, path: str, headers: dict[str, str]) -> bool:
        """Return whether another site's page sends this request; `headers` have lower-case names.

        A link to the page is no such request. Programs send none of the headers that are looked at, and may ask.
        """
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if origin is not None:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or parts.netloc.lower() != headers.get("host", "").lower():
                return True
        if site in ("none", "same-origin"):
            return False
        is_link = method in SAFE_METHODS and headers.get("sec-fetch-mode") == "navigate" and path in ("/", "/login")
        return not is_link

    def admits(self, authorization: str | None, cookie: str | None) -> bool:
        """Return whether a bearer token or a login cookie is right, in time that doesn't depend on how far it is."""
        if self.token is None:
            return True
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_token(given.strip())
        return self._is_login(cookie or "")

    def is_token(self, given: str) -> bool:
        """Return whether this is the token."""
        return self.token is not None and _same(given, self.token)

    def login(self) -> str:
        """Return the value of a login cookie: when it ends, signed with the token, so that a new token ends it too."""
        ends = str(int(time.time()) + LOGIN_S)
        return f"{ends}.{self._signed(ends)}"

    def _is_login(self, cookie: str) -> bool:
        ends, _, signature = cookie.partition(".")
        genuine = _same(signature, self._signed(ends))
        return genuine and ends.isdecimal() and int(ends) > time.time()

    def _signed(self, ends: str) -> str:
        assert self.token is not None
        key = self.token.encode("utf-8", "surrogateescape")
        return hmac.new(key, f"mmsearch login until {ends}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _same(given: str, wanted: str) -> bool:
    """Compare two texts in constant time; their digests, so that the length doesn't show either."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (given, wanted))
    return hmac.compare_digest(*digests)


def _name_of(host: str) -> str | None:
    match = _HOST.fullmatch(host.strip())
    return match[1].strip("[]").rstrip(".").lower() if match else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
