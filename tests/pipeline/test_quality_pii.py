"""Addresses: what is one, what only looks like one, and spans in UTF-8 bytes."""

# ruff: noqa: RUF001 - text of many scripts is what is tested

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.quality.host_names import top_level_domains
from pipeline.quality.pii import pii_spans

# (text, the addresses in it)
EMAILS = [
    ("write to jane.doe+x@mail.example.org, please", ["jane.doe+x@mail.example.org"]),
    ("<bob@example.co.uk>.", ["bob@example.co.uk"]),
    ("Müller: müller ana@example.de", ["ana@example.de"]),
    ("josé@exämple.de", ["josé@exämple.de"]),
    ("jose\u0301@example.es", ["jose\u0301@example.es"]),
    ("пример@почта.рф", ["пример@почта.рф"]),
    ("Пишите: иван.петров85@пример.рф!", ["иван.петров85@пример.рф"]),
    ("用户@例子.中国", ["用户@例子.中国"]),
    ("उदाहरण@उदाहरण.भारत", ["उदाहरण@उदाहरण.भारत"]),
    ("jörg@xn--exmple-cua.de and a.b@xn--80akhbyknj4f.xn--p1ai", ["jörg@xn--exmple-cua.de", "a.b@xn--80akhbyknj4f.xn--p1ai"]),
    ("联系我们abc@example.com谢谢", ["abc@example.com"]),
    ("电话12345@qq.com或者", ["12345@qq.com"]),
    ("邮箱_abc@example.cn。", ["abc@example.cn"]),
    ("メールはinfo@example.co.jpまで", ["info@example.co.jp"]),
    ("security@example.com으로 보내주세요", ["security@example.com"]),
    ("ติดต่อsales@example.co.thได้", ["sales@example.co.th"]),
    ("علىsecurity@example.com", ["security@example.com"]),
    ("почтаivan@mail.ruпишите", ["ivan@mail.ru"]),
    ("mailto:bob@example.com?subject=hi", ["bob@example.com"]),
    ("[bob@example.com](mailto:bob@example.com)", ["bob@example.com", "bob@example.com"]),
    ('<a href="https://x.org/a">bob@x.org</a>', ["bob@x.org"]),
    ("git config user.email=bob@example.com", ["bob@example.com"]),
    ("bounce+bob=example.com@lists.example.org", ["bounce+bob=example.com@lists.example.org"]),
    ("# Copyright (c) 2013 Jo O'Brien <jo.o'brien@example.ie>", ["jo.o'brien@example.ie"]),
    ("scrivere all'info@example.it", ["info@example.it"]),
    ("b'bob@example.com', 'ann@example.com'", ["bob@example.com", "ann@example.com"]),
    ('"to\\nbob@example.com\\n"', ["bob@example.com"]),
    ("\\u003cbob@example.com\\u003e %3Cann@example.com%3E", ["bob@example.com", "ann@example.com"]),
    ("&lt;bob@example.com&gt;", ["bob@example.com"]),
    ("Name|bob@example.com|x", ["bob@example.com"]),
    ("**bob@example.com** _ann@example.com_ `eve@example.com`", ["bob@example.com", "ann@example.com", "eve@example.com"]),
    ("_See legal-notices@example.com_", ["legal-notices@example.com"]),
    ("...bob@example.com... -- ann@example.com--", ["bob@example.com", "ann@example.com"]),
    ("Mike Cason/mcason@example.com", ["mcason@example.com"]),
    ("bob@example.com/ann@example.com", ["bob@example.com", "ann@example.com"]),
    ("a@example.com,b@example.com;c@example.com", ["a@example.com", "b@example.com", "c@example.com"]),
    ("Write to bob@example.com.Please do.", ["bob@example.com"]),
    ("Email:bob@example.com Kontakt:ann@example.com", ["bob@example.com", "ann@example.com"]),
    ("BOB@EXAMPLE.COM, Info@MyCompany.com", ["BOB@EXAMPLE.COM", "Info@MyCompany.com"]),
    ("office@firma.rs, petar@etf.rs, jan.kowalski@domena.pl", ["office@firma.rs", "petar@etf.rs", "jan.kowalski@domena.pl"]),
    ("my email is bob@smith.name; hello@studio.build", ["bob@smith.name", "hello@studio.build"]),
    ("ana@example.com.py, hi@example.io, j@example.dev", ["ana@example.com.py", "hi@example.io", "j@example.dev"]),
    ("jfcox@jabber.ccc.de (XMPP), git list: vger@vger.kernel.org", ["jfcox@jabber.ccc.de", "vger@vger.kernel.org"]),
    ("me@163.com, x@126.com", ["me@163.com", "x@126.com"]),
    ("+48 734 455 053office@example.com, 2fast@example.com", ["office@example.com", "2fast@example.com"]),
    ("info@example.comCustomer Support: info@example.org4 Rue", ["info@example.com", "info@example.org"]),
    ("When ssh fails, write to bob@example.com: she knows.", ["bob@example.com"]),
]
NOT_EMAILS = [
    "this@MainActivity.finish()",
    "this@Screen.show()",
    "this@Dialog.name",
    "this@wrap.modality",
    "return@forEach.next",
    "super@Outer.run()",
    "W@x.reshape(3)",
    "W@x.to(device)",
    "A@B.T and q@k.at[0]",
    "x@self.in",
    "W@x.data",
    "query@key.data.sum()",
    "#{@queue.size}",
    "!@result.equal?",
    "@result.name and @post.id",
    "@app.route('/')",
    "@Html.Raw(x) item@Model.Name",
    "//cdn.example.net/npm/vue@latest.min.js",
    "https://cdn.example.net/npm/vue@next.run/dist",
    "image@2x.png and image@3x.mov",
    "bundle@1.2.3.zip",
    "script@main.py deploy@prod.sh readme@v2.md main@lib.rs",
    "lodash@4.17.21",
    "npm i foo@next pkg@1.2.3",
    "actions/checkout@v3.2.0",
    "golang.org/x/tools@latest.run",
    "example.com/mod@v1.2.3-fixed",
    "https://user:pw@host.com/",
    "http://localhost@other.com",
    "//user:password@google.com/",
    "foo:bar@foo.com",
    "foo@example.com:80",
    "ftp://anonymous@ftp.example.org",
    "https://example.com/?mail=bob@example.com&x=1",
    "https://medium.com/@user/post",
    "https://lore.kernel.org/r/2023.abc@mail.example.com",
    "git@github.com:org/repo.git",
    "git@gitlab.com",
    "ssh://git@github.com/org/repo",
    "scp file user@host.com:~/x",
    "user@host.com:~$ ls",
    "[root@server.example.com ~]# ls",
    "root@server.example.com# ls",
    "ssh user@example.org /usr/sbin/sendmail",
    "ssh -p 22 -i key.pem user@example.org",
    "@filippo@abyssdomain.expert",
    "follow @user@mastodon.social",
    "GAB!sex@host.example.it",
    "a@b, @handle, user@localhost, x@y.1",
    "root@db.internal, x@printer.local, y@foo.test, z@site.invalid",
    "foo@example.html, foo@bar.js, x@y.tsx",
    "memcpy@GLIBC_2.2.5",
    "module.service: modprobe@module.service",
    "\\ar@{-}[rdd] \\xymatrix@M=0.1pc \\p@foo.sp \\sys@path.in",
    "/home/bob@example.com/file",
    "C:\\bob@example.com",
    "DOMAIN\\bob@example.com",
    "$user@host.com and ${user}@host.com %user@host.com",
    "Message-ID: <CAF1.x2@mail.example.com>",
    "In-Reply-To: <5.1.2@mail.example.com>",
    "pre...@debian.org",
    "x@foo.com_bar",
    "a@b@example.com",
    "@",
    "@@@.com",
    "x@.com x@-.com x@com",
    "联系@",
    "这是一个很长的句子没有空格@例子.中国",
    "xs@Data.World st@Core.Tools m@Map.Map",
    "this@Foo.applicationContext.name",
    "icon@2x.ai hero@3x.in",
    "getty@tty1.service foo@bar.target",
    "HTTP/host.example.com@EXAMPLE.COM",
    "scott/tiger@orcl.world",
    "import x from 'https://esm.sh/react@18.2.0'",
    "java.lang.Object@1a2b3c",
    "App\\Http\\FooController@show.name",
    "HEAD@{1} image@sha256:abc always@(posedge clk) 'bob'@'%.example.com'",
    "label@Foo.BarBaz.run",
    f"{'a' * 80}@example.com",
]
IPS = [
    ("host 84.112.7.9 port 22", ["84.112.7.9"]),
    ("host 2.0.3.9 is down", ["2.0.3.9"]),
    ("from 8.8.8.8 to 1.1.1.1.", ["8.8.8.8", "1.1.1.1"]),
    ("http://93.184.216.34/x and 93.184.216.34:80", ["93.184.216.34", "93.184.216.34"]),
    ("http://2.10.5.12/admin", ["2.10.5.12"]),
    ("服务器8.8.8.8的地址 IP:8.8.4.4", ["8.8.8.8", "8.8.4.4"]),
    ("IP地址为84.112.7.9", ["84.112.7.9"]),
    ("84.112.7.9 - - [10/Oct/2000:13:55:36 -0700] GET /", ["84.112.7.9"]),
    ("Oct 1 sshd[3]: Failed password for root from 84.112.7.9 port 4022", ["84.112.7.9"]),
    ("unknown[84.112.7.9]: connect", ["84.112.7.9"]),
    ('{"client_ip": "84.112.7.9", "srcIp": "5.6.7.8"}', ["84.112.7.9", "5.6.7.8"]),
    ("remote_addr=84.112.7.9", ["84.112.7.9"]),
    ("mail2   IN      A       212.94.201.11", ["212.94.201.11"]),
    ("84.112.7.9  www.example.com", ["84.112.7.9"]),
    ("ssh root@84.112.7.9", ["84.112.7.9"]),
    ("dig @8.8.8.8 example.com", ["8.8.8.8"]),
    ("`whois {{8.8.8.8}}`", ["8.8.8.8"]),
    ("inet 84.112.7.9/24 brd", ["84.112.7.9"]),
    ("2023-10-10 12:00:01 84.112.7.9 GET /index.html 80", ["84.112.7.9"]),
    ("X-Forwarded-For: 84.112.7.9, 5.9.1.1", ["84.112.7.9", "5.9.1.1"]),
    ("edited by 84.112.7.9 (talk)", ["84.112.7.9"]),
    ("nameserver 212.27.32.176", ["212.27.32.176"]),
    ("The address is 84.112.7.9.", ["84.112.7.9"]),
    ("84.112.7.9-84.112.7.20 are addresses; ip 5.9.1.1, 5.9.1.2 and 5.9.1.3", ["5.9.1.1", "5.9.1.2", "5.9.1.3"]),
    ("see 2a00:1450:4001:82a::200e now", ["2a00:1450:4001:82a::200e"]),
    ("地址2606:4700::1111です", ["2606:4700::1111"]),
]
NOT_IPS = [
    "version 2.0.3.0",
    "2.10.5.12 Widgets",
    "Widgets 2.10.5.12 for Windows",
    "OID 1.3.6.1",
    "OID 2.5.4.3, oid=2.5.29.15",
    "snmpwalk host 1.3.6.1.2",
    "snmpget -v2c router 1.3.6.1",
    "127.0.0.1 10.1.2.3 192.168.0.1 172.16.0.1 169.254.1.1 192.0.2.1 0.0.0.0 255.255.255.255",
    "netmask 255.255.255.0, wildcard 0.0.0.255",
    "ip 224.0.0.251 multicast",
    "route 84.112.0.0/16, ip 8.8.8.0/24",
    "version 1.2.3.4, v8.8.8.8, Release 8.8.4.4, Firefox/8.8.8.8, Section 8.8.8.8, § 8.8.8.8",
    "8.8.8.8.8 and 8.8.8.888 and 08.8.8.8 and x8.8.8.8 and 8.8.8.8-rc1",
    "版本8.8.8.8, バージョン：8.8.4.4, ver8.8.8.8",
    "* `bytestring-0.11.2.0` support",
    "### 2.0.2.0",
    "## [1.7.2.0] - 2020-01-01",
    "-- @since 2.0.2.0",
    "Real Hide IP 4.4.2.8",
    "SQL Server 12.0.2.1",
    "upgrade from 2.0.3.0 to 2.0.4.0",
    "upgraded firmware from 84.0.4.2",
    "2.1.3.1 Symbol objects",
    "Definition 5.3.1.4",
    "ISO/IEC 9899:1999: 7.19.7.2 The fgets function (p: 296)",
    "the server (see Avsnitt 10.3.1.2)",
    "Adobe Flash Player 11.2.202.235 (Linux)",
    "Chrome 91.0.44.124",
    "Widgets 84.112.107.9",
    '[assembly: AssemblyVersion("1.0.0.0")] Version=4.0.0.0, Culture=neutral',
    '{"version": "120.45.210.144"}',
    "pip install foo==1.2.3.4 bar>=84.112.7.9",
    "foo-1.2.3.4.tar.gz libfoo.so.1.2.3.4",
    "BIOS 2.10.5.12, iOS 14.4.2.1, firmware: 23.48.112.9",
    "answers: 31.33.35.37 and 12.11.20.24",
    "see [2.10.5.12] and (2.0.3.0)",
    "https://example.com/download/2.0.3.0/setup.exe",
    "2001:db8::1 is for documentation, fe80::1 is local, 12:30:45 is a time, a::b is C++, 2024:01:02",
]


def found(text: str) -> list[str]:
    """The addresses of a text, cut out of its UTF-8 bytes."""
    data = text.encode()
    return [data[span.start : span.end].decode() for span in pii_spans(text)]


@pytest.mark.parametrize(("text", "expected"), [*EMAILS, *IPS])
def test_addresses_are_found_whole(text: str, expected: list[str]) -> None:
    """Nothing of an address is left, and nothing beside it is taken."""
    assert found(text) == expected


@pytest.mark.parametrize("text", [*NOT_EMAILS, *NOT_IPS])
def test_what_only_looks_like_an_address_is_left(text: str) -> None:
    """Members, files, packages, URLs, logins, handles; versions, sections, identifiers, ranges that name no one."""
    assert found(text) == []


def test_kinds() -> None:
    """Each span says what it is, in the order of the text."""
    spans = pii_spans("ip 2606:4700::1111, bob@example.com, host 84.112.7.9")
    assert [span.kind for span in spans] == ["ipv6", "email", "ipv4"]


def test_the_suffix_list_holds_hosts_and_no_reserved_names() -> None:
    """Both forms of names outside ASCII; nothing of RFC 2606 and 6761."""
    assert {"com", "uk", "рф", "xn--p1ai", "ck"} <= top_level_domains()
    assert not {"local", "test", "example", "invalid", "localhost", "js", "png", "html", ""} & top_level_domains()


ADDRESSES = [text for text, expected in EMAILS if expected == [text] and "/" not in text and "_" not in text]
PIECES = ["ä", "漢", "😀 ", " ", "a@b.cc", "x@example.com", "8.8.8.8", "x", "\n", "2a00:1450::1", "v", "@", ".", "пр", "'", "//", "ip "]


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_spans_are_disjoint_ascending_and_cut_at_characters(text: str) -> None:
    """Every span decodes, starts after the one before, lies inside the text; what is between them is the text without the spans."""
    position, data, kept = 0, text.encode(), b""
    for span in pii_spans(text):
        assert position <= span.start < span.end <= len(data)
        assert data[span.start : span.end].decode() in text
        kept += data[position : span.start] + data[span.start : span.end]
        position = span.end
    assert (kept + data[position:]).decode() == text


@given(
    st.sampled_from(["bob@example.com", "ann.lee@example.co.uk", "x1@firma.de", "info@exämple.de", "jané@example.org"]),
    st.text(' \t\n,;(<>"“”«»、。（）：联系我谢您邮箱メールで이메일ได้', max_size=12),
    st.text(' \t\n,;)<>"“”«»、。（）谢您邮箱メールで이메일ได้', max_size=12),
)
def test_an_address_is_found_in_any_surroundings(address: str, before: str, after: str) -> None:
    """Spaces, punctuation and scripts without spaces around an address change nothing about it."""
    assert found(before + address + after) == [address]


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_raises(before: str, after: str) -> None:
    """Any characters around an `@`, a dot and four numbers."""
    for middle in ("@", "a@b.", "@example.com", "84.112.7.9"):
        for span in pii_spans(before + middle + after):
            assert span.start < span.end


def test_a_long_run_of_address_characters_takes_linear_time() -> None:
    """No backtracking without bound: 200,000 characters that nearly are an address."""
    assert pii_spans("a." * 100_000 + "@") == []
    assert pii_spans("1." * 100_000) == []
    assert pii_spans("2a00:" * 40_000) == []
    assert pii_spans("@a." * 60_000) == []
    assert pii_spans("/" * 200_000 + "x@example.com") == []
