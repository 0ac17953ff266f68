"""Where a text holds IP addresses of the public internet, precision first.

Four numbers with dots are oftener a version, a section or an object identifier than an address. So an IPv4 address needs a sign: a word
that speaks of hosts before it (`host`, `ip`, `inet`, `地址`), `@` or `://` before it, a port behind it, the shape of a line of a log or a
hosts file, or numbers such as versions do not have. A word of versions beats these. IPv6 is taken in 2000::/3 alone, where hosts live, so
that `a::b` of C++ is none.

Addresses that name no one are left: private, loopback, link-local, documentation, multicast, networks (`84.112.0.0/16`).

Deviations from datatrove's PIIFormatter (FineWeb, arXiv 2406.17557, section 3.6), which takes any four numbers up to 255: the signs
above; IPv6 (it has none); networks and multicast are left.
"""

# ruff: noqa: RUF001 - the full-width colon is meant

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

_IPV4 = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?![A-Za-z0-9_]|\.[0-9]|-(?!\d{1,3}\.\d{1,3}\.\d{1,3}\.\d)\w)")
_IPV6 = re.compile(r"[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,34}(?![A-Za-z0-9_:])")
# No look-behind in the patterns above: it would cost the fast search for their first digit.
_WORD_BEFORE = re.compile(r"[A-Za-z0-9_.-]\Z")
_VERSION_BEFORE = re.compile(
    r"(?:\b(?:v|ver|vers|version|versions|versión|versão|release|released|rev|revision|build|update|patch|firmware|kernel|driver|since"
    r"|section|sections|sec|chapter|part|article|clause|paragraph|figure|fig|table|theorem|lemma|definition|appendix|abschnitt|kapitel"
    r"|sección|capítulo|seção|avsnitt|раздел|глава|версия|версии|oid|oids|asn\.1|mib)\b[\"'`)]?[.:=]?\s{0,2}[\"'`(]?\s{0,2}|oid:|§\s{0,2}|[A-Za-z]/"
    r"|(?:版本?|第|バージョン|버전)[:：]?\s{0,2})\Z",
    re.IGNORECASE,
)
_VERSION_STEMS = (
    "upgrad",
    "updat",
    "version",
    "releas",
    "firmware",
    "changelog",
    "install",
    "downgrad",
    "patch",
    "build",
    "driver",
    "snmp",
)
_VERSION_AFTER = re.compile(
    r"[ \t]*\(?(?:windows|linux|release|released|version|beta|alpha|build"
    r"|rc\d*|stable|and (?:later|newer|above)|or (?:later|newer|above))\b",
    re.IGNORECASE,
)
# The last part of a word (`client_ip`, `srcIp`) that names a host right before its address.
_HOST_WORD = re.compile(
    r"(?:.*[._-])?(?:ips?|ipv4|ip4|hosts?|hostname|servers?|serveur|servidor|address|addresses|addr|adresse|direcci[oó]n|indirizzo|endere[cç]o"
    r"|inet|dns|nameservers?|gateway|peer|resolver|proxy|remote|client|node|ping|pinging|traceroute|whois|nslookup|ssh|telnet|dst|src|router"
    r"|attacker|forwarded-for|real-ip|localip|remoteip|адрес\w{0,2}|сервер\w{0,2}|хост\w{0,2})|.*[a-z](?-i:Ip|IP|Addr|Address|Host)"
    r"|.*(?:地址|服务器|主机|伺服器|位址|アドレス|サーバー?|ホスト|주소|서버)[为為は는은]?",
    re.IGNORECASE,
)
# Words for hosts that are also products, which have versions: `SQL Server 12.0.2.1`, `Hide IP 4.4.2.8`.
_PRODUCT_BEFORE = re.compile(r"\b(?:[A-Z]\w+ [A-Z]\w+|(?i:servers?|client|proxy|router|gateway|node|remote|peer)) \Z")
# Words that speak of hosts anywhere before on the line.
_NEAR_WORD = re.compile(
    r"whois|dig|drill|dog|nslookup|ping|traceroute|tracepath|mtr|nmap|masscan|ssh|telnet|curl|wget|nc|ncat|iptables|nft|tcpdump|route|hosts?|ips?"
    r"|asnmap|bann?(?:ed|s)?|block(?:ed)?|connect(?:ed|ion|ing)?|requests?|logins?|attacks?|listen(?:ing)?|allow|deny|accept|nameserver|server"
    r"|address(?:es)?|адрес\w*",
    re.IGNORECASE,
)
_JOINERS = frozenset({":", "=", "：", "is", "was", "of", "at", "->", "=>", "-", ">"})
_PREPOSITIONS = frozenset({"from", "to", "by", "via", "at", "on", "user", "von", "de", "desde"})
_TOKEN = re.compile(r"[\w.-]+|[^\s\w\"'`()\[{<“”「]")
_ADDRESS_BEFORE = re.compile(r"(?:://(?:[^\s/@]{1,64}@)?|[\w}]@\{{0,2}|@\{{0,2})\Z")
_PORT_AFTER = re.compile(r":[0-9]{2,5}(?![0-9.])|#[0-9]{2,5}\b|[ ,]{1,2}(?:on )?(?:tcp |udp )?\(?port[ :=#]{1,2}\d", re.IGNORECASE)
_LOG_AFTER = re.compile(r" \S{1,64} \S{1,64} \[|[ \t]+\[\d|,? (?:- )?\"?(?:GET|POST|HEAD|PUT)\b| \(talk")
_TIME_BEFORE = re.compile(r"[0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?:[.,][0-9]+)?Z?[\]|,]?[ \t]{1,4}\Z")
_CAPITALISED_BEFORE = re.compile(r"\b[A-Z]\w* \Z")
_HOSTS_AFTER = re.compile(r"[ \t]+[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+")
_CONNECTOR = re.compile(r"[\"'`}\]]{0,2}(?:\s?[,;|/]\s?|[ \t]?(?:-|–|->|=>|→|and|to|or|und|et|y|と|和|и)[ \t]?|[ \t])[\"'`{\[]{0,2}\Z")
_OPENED_BEFORE = re.compile(r"[\w.]\s?[\[(]\Z")
_PREFIX = re.compile(r"/([0-9]{1,3})(?![0-9.])")
# Numbers of well-known resolvers, which no one gives to versions.
_RESOLVERS = frozenset({"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "149.112.112.112", "208.67.222.222", "208.67.220.220"})
_LOOK_BACK_CHARS = 80
_VERSION_CHARS = 24  # of them, those that can hold the word of a version or a time


def ip_spans(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, kind) of each address, in characters: the `ipv4` ones, then the `ipv6` ones, each ascending."""
    last = -1
    for match in _IPV4.finditer(text):
        if _names_a_host(text, match) and _is_ipv4(text, *match.span(), last):
            yield *match.span(), "ipv4"
            last = match.end()
    if ":" in text:
        for match in _IPV6.finditer(text):
            before = text[max(0, match.start() - _LOOK_BACK_CHARS) : match.start()]
            if not (
                before.endswith(":") or _WORD_BEFORE.search(before[-1:]) or _VERSION_BEFORE.search(before[-_VERSION_CHARS:])
            ) and _names_a_host(text, match):
                yield *match.span(), "ipv6"


def _names_a_host(text: str, match: re.Match[str]) -> bool:
    """Whether an address is public, of one host, and not the name of a network."""
    try:
        address = ipaddress.ip_address(match[0])
    except ValueError:
        return False
    if not address.is_global or address.is_multicast:
        return False
    prefix = _PREFIX.match(text, match.end())
    if prefix is None or int(prefix[1]) >= address.max_prefixlen:
        return True
    return int(address) % (1 << (address.max_prefixlen - int(prefix[1]))) != 0


def _is_ipv4(text: str, start: int, end: int, last: int) -> bool:
    """Whether four numbers are an address by what stands around them. `last` ends the address before, or is -1."""
    before, after = text[max(0, start - _LOOK_BACK_CHARS) : start], text[end : end + _LOOK_BACK_CHARS]
    follows = last >= 0 and start - last <= 12 and _CONNECTOR.match(text, last, start) is not None
    if text.startswith("1.3.6.1", start) or (_WORD_BEFORE.search(before[-1:]) and not (follows and before.endswith("-"))):
        return False
    if _VERSION_BEFORE.search(before[-_VERSION_CHARS:]) or _VERSION_AFTER.match(after):
        return False
    if follows or (("@" in before or "://" in before) and _ADDRESS_BEFORE.search(before)) or _PORT_AFTER.match(after):
        return True
    numbers = [int(number) for number in text[start:end].split(".")]
    is_version_like = max(numbers) < 32 and text[start:end] not in _RESOLVERS
    line = before[before.rfind("\n") + 1 :]
    words = _TOKEN.findall(line)
    if _speaks_of_a_host(words) and not (is_version_like and _PRODUCT_BEFORE.search(before)):
        return True
    begins_line = not line
    if begins_line and _LOG_AFTER.match(after):
        return True
    if is_version_like or any(word.lower().startswith(_VERSION_STEMS) for word in words):
        return False
    if text[start:end] in _RESOLVERS or any(map(_NEAR_WORD.fullmatch, words)):
        return True
    while words and words[-1] in (":", "="):
        words.pop()
    if (words and words[-1].lower() in _PREPOSITIONS) or _TIME_BEFORE.search(before[-_VERSION_CHARS:]) or _LOG_AFTER.match(after):
        return True
    if (begins_line and _HOSTS_AFTER.match(after)) or (_OPENED_BEFORE.search(before[-3:]) and after[:1] in ("]", ")")):
        return True
    is_large = sum(n >= 100 for n in numbers) >= 2 or (sum(n >= 32 for n in numbers) >= 3 and max(numbers) >= 100)
    return is_large and numbers[0] >= 20 and 0 not in numbers and not _CAPITALISED_BEFORE.search(before[-_VERSION_CHARS:])


def _speaks_of_a_host(words: list[str]) -> bool:
    """Whether the last of the words before four numbers, but for what joins it to them, is one for a host."""
    last = len(words)
    while last and words[last - 1].lower() in _JOINERS:
        last -= 1
    if words[last - 2 : last] == ["IN", "A"] or words[last - 2 : last] == ["A", "record"]:
        return True
    return last > 0 and _HOST_WORD.fullmatch(words[last - 1]) is not None
