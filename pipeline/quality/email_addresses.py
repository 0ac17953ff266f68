r"""Where a text holds e-mail addresses, precision first.

An address is a local part, `@`, and a host name whose last label is a public top-level domain (`host_names`). Each `@` is looked at by
itself: letters are read off it to both sides, then what stands around them decides.

Deviations from datatrove's PIIFormatter (FineWeb, arXiv 2406.17557, section 3.6), whose pattern takes any `word@word.word`:

- the top-level domain must exist, so `this@Label.finish()`, `image@2x.png`, `pkg@1.2.3` are none;
- top-level domains that are also names in programs or endings of files (`.data`, `.run`, `.zip`, `.sh`) count where the text speaks of
  mail around it, or the local part is one that people have (`info`, `jane.doe`);
- what is a login, a part of a URL, of a path or of a git remote, a handle (`@user@host`), a call, or a Message-ID is none; the user
  `git` never is a person. `mailto:` is an address;
- letters outside ASCII belong to an address (RFC 6531), and those of another script beside it do not: `联系我们abc@example.com谢谢`
  holds `abc@example.com`, and `josé@exämple.de` is taken whole. What cannot be told apart is left;
- local parts hold letters, digits and `._+-`, with the apostrophe of a name (`o'brien`) and the `=` of a returned bounce; the other
  marks that RFC 5322 allows are far oftener the text around an address (`*bob@…*`, `|bob@…|`). A quoted local part is none;
- the escape before an address in a string (`\nbob@…`, `%3Cbob@…`) stays.
"""

# ruff: noqa: RUF001 - the right quotation mark is meant

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from pipeline.quality.host_names import top_level_domains

MAX_LOCAL_CHARS = 64  # RFC 5321, section 4.5.3.1
MAX_DOMAIN_CHARS = 253
# A longer run of a script without spaces before the `@` is a sentence rather than a name.
MAX_UNSPACED_LOCAL_CHARS = 6
_AROUND_CHARS = 64
_URL_CHARS = 2_000

_ASCII_RUN = re.compile(r"[A-Za-z0-9.-]{1,254}")
_DOMAIN_MARKS, _LOCAL_MARKS = ".-", "._+-"
_GLUED = re.compile(r"(com|org|edu)(?:[A-Z]\w*|[0-9]+)")  # text that lost the space behind an address
_DIGITS_BEFORE_LETTER = re.compile(r"[0-9]+(?=[^\W\d_])")
_TELEPHONE_BEFORE = re.compile(r"(?:[0-9]{2,}[ .-]){2}\Z")
# Scripts whose words stand without spaces between them, or whose particles join a foreign word.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
_URL_RUN = re.compile(r"[!#-&*+\--:=?-Z_a-z~]*")
_STRONG = frozenset({"com", "org", "net", "edu", "gov", "mil", "int"})
# Top-level domains that are endings of files or names of attributes and methods, and seldom those of mailboxes.
_FILE_ENDINGS = frozenset(["zip", "mov", "java", "py", "sh"])
_MEMBERS = re.compile(
    r"data|map|call|next|open|run|stream|post|build|select|style|search|date|day|total|read|play|show|link|new|now|one|name|page"
    r"|box|cat|click|fail|fit|foo|host|how|like|lock|off|order|pid|rest|save|secure|spot|star|tab|target|camera|video|watch"
)
# Endings of files whose countries do receive mail there.
_MIXED_ENDINGS = frozenset(["rs", "md", "so", "cc", "ps", "pl", "ml", "mm", "ai", "app", "st", "as", "mp", "la"])
_ASSET_LABEL = re.compile(
    r"(?:v?[0-9]+|[0-9]+x|latest|next|beta|alpha|canary|rc|stable|main|master|dev|head|dark|light|lib|mod|readme|index|build|setup|install"
    r"|tests?|config|init|utils?|prod|staging|release|min|bundle)\Z"
)
_DENSITY_LABEL = re.compile(r"[0-9]{1,2}x")  # image@2x
_KEYWORDS = frozenset({"this", "super", "self", "return", "break", "continue"})  # Kotlin's labels, and `self` of many languages
_CAMEL_CASE = re.compile(r"[a-z][A-Z]")
_SSH_USERS = frozenset({"git", "hg"})
_ROLES = re.compile(
    r"info|contact|hello|hi|hey|support|office|sales|mail|email|admin|press|team|jobs|help|service|kontakt|contacto|contato"
    r"|redaktion|news|privacy|security|abuse|webmaster|postmaster|enquiries|inquiries|billing|legal|noreply|no-reply|me"
)
_MAIL_WORD = re.compile(
    r"(?i:\be-?mail|\bmail|\bcontact|\bwrite|\bauthor|\bmaintainer|\breply|\bsend|\bkontakt|\bcorreo|\bcourriel|\bposta|\bmejl|почт|邮箱|邮件"
    r"|郵件|メール|이메일|بريد|\bfrom:|\bto:|\bcc:)"
)
_KEY_BEFORE = re.compile(r"([^\W_][\w.-]*):\Z")
_MAIL_KEYS = re.compile(
    r"mailto|email|e-mail|mail|emails|mails|contact|from|to|cc|bcc|sip|sips|xmpp|jabber|msn|skype|author|by|address|sender|reply-to"
    r"|sent|support|info|sales|write|kontakt"
)
_LOGIN_COMMANDS = ("ssh", "scp", "sftp", "rsync", "mosh")
_LOGIN_BEFORE = re.compile(
    r"\b(?:ssh|scp|sftp|rsync|mosh|sshfs|autossh|ssh-copy-id)[ \t]+(?:-{1,2}[\w-]+[ =](?:[\w./:~-]+ )?){0,4}[\"'`{]{0,3}\Z"
)
_HEADER_BEFORE = re.compile(
    r"(?i:\b(?:message-id|in-reply-to|references|content-id)[ \t]{0,2}[:=][^\n]{0,50}<|\b(?:message-id|content-id|uid|cid)[:=][ \t]?)\Z"
)
_AFTER_LOGIN = re.compile(r":[A-Za-z0-9_~/.$\\-]|[ :][~/][^\s@]{0,40}\]?[$#%>](?:\s|\Z)|[#$](?:[ \n]|\Z)|\s?[~/]?\][#$]")
_AFTER_PATH = re.compile(r"/[A-Za-z0-9_~.-](?![\w.+-]{0,63}@)")
_ESCAPE = re.compile(r"\\[nrt]|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|%[0-9A-Fa-f]{2}")
_BOUNCE_BEFORE = re.compile(r"(?<![A-Za-z0-9_.+=-])[A-Za-z0-9_.+-][A-Za-z0-9_.+=-]*=\Z")
_MARK_BEFORE = re.compile(r"\w[#&*'’]\Z|[$@/\\^~%!]\Z")
# The short word of an elision (all'info@…) or of a string's kind (b'…'); a name at a newspaper; a word for mail, or one outside ASCII.
_SEPARATED_BEFORE = re.compile(r"\b[A-Za-z]{1,4}['’]\Z|\b[A-Z]\w+ [A-Z]\w+/\Z|(?:(?i:mail)|[^\x00-\x7f])/\Z")


def email_spans(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each e-mail address, in characters, ascending and disjoint."""
    at, last = text.find("@"), 0
    while at >= 0:
        end = _domain_end(text, at + 1)
        if end:
            start = _local_start(text, at)
            while text[end : end + 1] == "_" == text[start]:  # emphasis: _bob@example.com_
                start += 1
            if last <= start < at and _is_address(text, start, at, end, last):
                yield start, end
                last = end
        at = text.find("@", at + 1)


def _is_latin(character: str) -> bool:
    return character < "\u0250" or "\u1e00" <= character <= "\u1eff" or "\u0300" <= character <= "\u036f"


def _is_letter(character: str) -> bool:
    """A letter, a mark that joins one, or a digit."""
    return character.isalnum() if character.isascii() else unicodedata.category(character)[0] in "LMN" and character not in "ªº¹²³"


def _domain_end(text: str, start: int) -> int:
    """The end of the host name that begins at `start`, or 0 when none does."""
    ascii_run = _ASCII_RUN.match(text, start)
    end = ascii_run.end() if ascii_run else start
    if end < len(text) and not text[end].isascii() and end - start <= MAX_DOMAIN_CHARS:
        end = _mixed_end(text, start)
    if not start < end <= start + MAX_DOMAIN_CHARS:
        return 0
    name = text[start:end].rstrip(_DOMAIN_MARKS)
    labels = name.split(".")
    if len(labels) > 2 and labels[-1].istitle() and labels[-2] == labels[-2].lower() and labels[-2] in top_level_domains():
        name = name[: -len(labels.pop()) - 1]  # the first word of the next sentence
    elif glued := _GLUED.fullmatch(labels[-1]):
        name, labels[-1] = name[: glued.end(1) - glued.end()], glued[1]
    if len(labels) < 2 or labels[-1].lower() not in top_level_domains():
        return 0
    if any(not 0 < len(label) <= 63 or label[0] == "-" or label[-1] == "-" for label in labels):
        return 0
    return start + len(name)


def _mixed_end(text: str, start: int) -> int:
    """The end of a run of letters, dots and hyphens; a letter of another script directly behind one of Latin script ends it."""
    end, latin = start, False
    while end < len(text) and end - start <= MAX_DOMAIN_CHARS:
        character = text[end]
        if not _is_letter(character):
            if character not in _DOMAIN_MARKS:
                break
        elif _is_latin(character):
            latin = True
        elif latin and (text[end - 1] not in _DOMAIN_MARKS or _UNSPACED.match(character)):
            break
        if character == ".":
            latin = False
        end += 1
    return end


def _local_start(text: str, at: int) -> int:
    """Where the local part that ends at `at` begins; `at` when there is none."""
    if text[at - 1 : at] == ".":
        return at
    start = _run_start(text, at)
    escape = _ESCAPE.match(text, start - 1) if start else None
    if escape and escape.end() < at:
        start = escape.end()
    elif start and text[start - 1] == "=" and text[start:at].rpartition(".")[2].lower() in _STRONG:
        bounce = _BOUNCE_BEFORE.search(text, max(0, start - MAX_LOCAL_CHARS), start)
        start = bounce.start() if bounce else start
    marks = _LOCAL_MARKS if start and _UNSPACED.match(text[start - 1]) else ".-+"
    while start < at and text[start] in marks:
        start += 1
    if text[start].isdecimal() and _TELEPHONE_BEFORE.search(text, max(0, start - 16), start):
        letters = _DIGITS_BEFORE_LETTER.match(text, start)
        start = letters.end() if letters else start
    return start


def _run_start(text: str, at: int) -> int:
    """The start of the run of letters and marks before `at`; a letter of another script right before a Latin one ends it."""
    start, latin = at, False
    while start > max(0, at - MAX_LOCAL_CHARS - 1):
        character, right = text[start - 1], text[start]
        if character in _LOCAL_MARKS:
            if character == right == ".":
                break
        elif not _is_letter(character):
            if not _joins(text, start, at):
                break
        elif _is_latin(character):
            latin = latin or character.isalpha()
        elif (latin and right not in _LOCAL_MARKS) or (start < at and _UNSPACED.match(character) and not _UNSPACED.match(right)):
            break
        start -= 1
    return start


def _joins(text: str, start: int, at: int) -> bool:
    """Whether the apostrophe before `start` is one of a name: o'brien, d'angelo, not `'bob'` or d'info."""
    if text[start - 1] not in "'’" or not text[start].isalpha():
        return False
    before = re.search(r"(?:\A|[^\w'’])(?:[\w-]{1,20}\.)?([A-Za-z]{1,3})\Z", text[max(0, start - 26) : start - 1])
    if before is None:
        return False
    return before[1].lower().endswith("o") or (before[1].lower() == "d" and not _ROLES.fullmatch(text[start:at].lower()))


def _is_address(text: str, start: int, at: int, end: int, last: int) -> bool:
    """Whether the letters around an `@` are an address, by themselves and by what stands around them. `last` ends the address before."""
    local, before, after = text[start:at], text[max(0, start - _AROUND_CHARS) : start], text[end : end + _AROUND_CHARS]
    if len(local) > MAX_LOCAL_CHARS or not any(map(_is_letter, local)) or local.lower() in _KEYWORDS | _SSH_USERS:
        return False
    if _UNSPACED.match(local[-1]) and len(local) > MAX_UNSPACED_LOCAL_CHARS:
        return False
    if after[:1] == "@" or (after[:1] == "_" and after[1:2].isalnum()):
        return False
    if _AFTER_PATH.match(after) or _AFTER_LOGIN.match(after):
        return False
    # The substrings first: they cost a fraction of the patterns, which nearly never match.
    if any(word in before for word in _LOGIN_COMMANDS) and _LOGIN_BEFORE.search(before):
        return False
    if (":" in before or "=" in before) and _HEADER_BEFORE.search(before):
        return False
    follows = 0 < last == start - 1 and before[-1] == "/"
    if not follows and not _is_free(text, start, before):
        return False
    key = _KEY_BEFORE.search(before) if before.endswith(":") else None
    if key and key[1].isascii() and key[1].islower() and not _MAIL_KEYS.fullmatch(key[1]):
        return False
    return _is_plausible(local, text[at + 1 : end], before, after)


def _is_free(text: str, start: int, before: str) -> bool:
    """Whether what stands before an address is not a part of the same path, URL, handle or expression."""
    if _MARK_BEFORE.search(before[-2:]) and not _SEPARATED_BEFORE.search(before):
        return False
    run = _URL_RUN.match(text[max(0, start - _URL_CHARS) : start][::-1])
    return run is None or "//" not in run[0]


def _is_plausible(local: str, domain: str, before: str, after: str) -> bool:
    """Whether a name with an existing top-level domain reads as a mailbox rather than as a member of a program or a file."""
    *labels, top = domain.split(".")
    last = top.lower()
    if after[:1] in ("(", "[") and (last not in _STRONG or after[1:2] == ")"):
        return False
    if last in _STRONG:
        return True
    is_weak = bool(_MEMBERS.fullmatch(last)) or (last in _FILE_ENDINGS and labels[-1].lower() not in _STRONG)
    if top.istitle() and len(top) > 2 and not (local.istitle() and domain.istitle()):
        return False
    if labels[0] in _KEYWORDS or (len(local) == 1 and len(labels) == len(labels[0]) == 1):
        return False
    if any(map(_DENSITY_LABEL.fullmatch, labels)):
        return False
    if (is_weak or last in _MIXED_ENDINGS) and any(_ASSET_LABEL.match(label.lower()) for label in labels):
        return False
    if (is_weak or len(top) > 2) and any(map(_CAMEL_CASE.search, labels)):
        return False
    if not is_weak or _ROLES.fullmatch(local.lower()) or "." in local or (before[-1:], after[:1]) == ("<", ">"):
        return True
    return _MAIL_WORD.search(before) is not None
