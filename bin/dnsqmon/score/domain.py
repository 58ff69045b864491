"""A query name to its second-level domain (SLD), which lists and first-seen are keyed by."""

from __future__ import annotations

from typing import Callable

from dnsqmon.core.errors import ConfigError

#: How many names are remembered with their registrable domain: about 15 MB when full.
MAX_CACHED = 65536


def last_two_labels(domain: str) -> str:
    """Return the last two labels, as the original did; a single label, and the root, as it is."""
    return domain[domain.rfind(".", 0, domain.rfind(".")) + 1 :] or domain


def registrable_domain() -> Callable[[str], str]:
    """Make the function that gives a name's registrable domain by the Public Suffix List.

    Only the list's ICANN section counts: what a company lets its customers register below
    cloudfront.net is still cloudfront.net to a list of common domains. Reverse names give
    in-addr.arpa or ip6.arpa, and a public suffix is its own SLD.
    """
    try:
        from publicsuffixlist import PublicSuffixList  # noqa: PLC0415 - only this profile needs it
    except ImportError as error:
        raise ConfigError(
            "this profile takes the SLD from the Public Suffix List: pip install publicsuffixlist"
        ) from error
    private_suffix = PublicSuffixList(only_icann=True).privatesuffix
    cache: dict[str, str] = {}

    def registrable(domain: str) -> str:
        sld = cache.get(domain)
        if sld is None:
            if domain.endswith((".in-addr.arpa", ".ip6.arpa")):
                sld = last_two_labels(domain)
            else:
                sld = private_suffix(domain) or domain
            if len(cache) >= MAX_CACHED:
                cache.clear()
            cache[domain] = sld
        return sld

    return registrable


#: The values of a profile's `sld`.
SLD_RULES: dict[str, Callable[[], Callable[[str], str]]] = {
    "last-two-labels": lambda: last_two_labels,
    "public-suffix-list": registrable_domain,
}
