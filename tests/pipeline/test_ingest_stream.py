"""The bytes inside raw files: compression, places, damage."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest import stream as module
from pipeline.ingest.stream import Damaged, Stream
from tests.pipeline.ingest_cases import gz

PACK: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "gzip": lambda data: gz([data]),
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.mark.parametrize("kind", PACK)
@given(data=st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b"xyz" * 5, b""])).map(b"".join), limit=st.integers(1, 20))
def test_lines_are_those_of_the_text_whatever_the_compression(kind: str, data: bytes, limit: int) -> None:
    """Positions and lines rebuild the text; lines above the limit are None, the others are kept."""
    data = b"start" + data
    pieces = data.split(b"\n")
    lines = [line.removesuffix(b"\r") for line in (pieces if pieces[-1] else pieces[:-1])]
    positions = [sum(len(piece) + 1 for piece in pieces[:n]) for n in range(len(lines))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", 7)
        patch.setattr(module, "RAW_CHUNK_BYTES", 5)
        found = list(Stream(io.BytesIO(PACK[kind](data))).lines(limit))
    assert [position for position, _ in found] == positions
    assert [line for _, line in found] == [line if len(line) <= limit else None for line in lines]


@given(pieces=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5), sizes=st.lists(st.integers(1, 60), max_size=8))
def test_members_are_one_text_and_know_their_place(pieces: list[bytes], sizes: list[int]) -> None:
    """Whatever the sizes of reads, the bytes are those of the members together, and `member` is where the next byte's member begins."""
    members = [gz([piece]) for piece in pieces]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", 16)
        patch.setattr(module, "RAW_CHUNK_BYTES", 11)
        stream = Stream(io.BytesIO(b"".join(members)))
        text, at = b"".join(pieces), 0
        for size in [*sizes, len(text)]:
            if at < len(text):
                index = next(n for n in range(len(pieces)) if sum(map(len, pieces[: n + 1])) > at)
                assert stream.member == sum(map(len, members[:index]))
            assert stream.peek(size) == text[at : at + size]
            data = stream.read(size)
            assert data == text[at : at + size]
            at += len(data)
            assert stream.position == at
        assert stream.at_end()


@given(data=st.binary(min_size=1, max_size=60), read=st.integers(0, 60), back=st.integers(0, 60))
def test_unread_puts_back_what_was_read(data: bytes, read: int, back: int) -> None:
    stream = Stream(io.BytesIO(gz([data])))
    head = stream.read(read)
    stream.unread(head[len(head) - min(back, len(head)) :])
    assert stream.position == len(head) - min(back, len(head))
    assert stream.read(100) == data[len(head) - min(back, len(head)) :]


def test_seek_match_and_read_through_work_across_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 8)
    stream = Stream(io.BytesIO(b"x" * 300 + b"NEEDLE and more\n" + b"y" * 5))
    assert stream.read_through(re.compile(rb"\n"), 50) is None
    assert stream.position == 0
    assert stream.seek_match(re.compile(rb"NEEDLE"))
    assert stream.position == 300
    assert stream.read_through(re.compile(rb"\n"), 50) == b"NEEDLE and more\n"
    assert not stream.seek_match(re.compile(rb"NEEDLE"))
    assert stream.at_end()


def test_zeros_behind_and_between_members_are_padding() -> None:
    assert Stream(io.BytesIO(gz([b"one"]) + b"\0" * 600 + gz([b"two"]) + b"\0" * 9)).read(100) == b"onetwo"


def skippable(data: bytes, kind: int = 0) -> bytes:
    return bytes([0x50 + kind]) + b"\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


def test_skippable_frames_are_passed_over_wherever_they_are() -> None:
    """At the head, between frames, large, of every number, and at the end; places of frames are those in the file."""
    one, two = PACK["zstd"](b"one\n"), PACK["zstd"](b"two\n")
    head = skippable(b"x" * 200_000, 0xD)
    stream = Stream(io.BytesIO(head + one + skippable(b"") + skippable(b"seek table", 0xE) + two + skippable(b"end", 0xF)))
    assert stream.read(4) == b"one\n"
    assert stream.member == len(head) + len(one) + len(skippable(b"") + skippable(b"seek table"))
    assert stream.read(100) == b"two\n"
    assert Stream(io.BytesIO(skippable(b"alone"))).read(5) == b""
    with pytest.raises(Damaged, match="truncated"):
        Stream(io.BytesIO(skippable(b"cut off")[:-2])).read(1)


@pytest.mark.parametrize("packed", [False, True])
def test_a_dictionary_at_the_head_serves_every_frame(packed: bool) -> None:
    """As the WARC convention for zstd has it, the dictionary compressed or not; damage costs its frame alone."""
    texts: list[bytes | bytearray | memoryview[int]] = [
        b"WARC/1.0\r\nrecord %d of the caravan, which carries pages\r\n" % n * 3 for n in range(400)
    ]
    dictionary = zstandard.train_dictionary(2000, texts)
    frames = [zstandard.ZstdCompressor(dict_data=dictionary).compress(text) for text in texts[:5]]
    held = zstandard.ZstdCompressor().compress(dictionary.as_bytes()) if packed else dictionary.as_bytes()
    assert Stream(io.BytesIO(skippable(held, 0xD) + b"".join(frames))).read(10_000) == b"".join(texts[:5])
    frames[1] = frames[1][:-6] + b"\xff" * 6
    stream = Stream(io.BytesIO(skippable(held, 0xD) + b"".join(frames)))
    with pytest.raises(Damaged) as caught:
        stream.read(10_000)
    assert stream.next_member(caught.value.offset, bool)
    assert stream.read(10_000) == b"".join(texts[2:5])


TEXTS: list[bytes | bytearray | memoryview[int]] = [b"WARC/1.0\r\nrecord %d of the caravan, with pages\r\n" % n * 3 for n in range(400)]


def test_each_frame_is_read_with_the_dictionary_that_it_names() -> None:
    """Files put together, each with its own dictionary, also one behind another skippable frame or behind damage."""
    dictionaries = [zstandard.train_dictionary(2000, TEXTS, dict_id=number) for number in (7, 8)]
    frames = [zstandard.ZstdCompressor(dict_data=each).compress(TEXTS[n]) for n, each in enumerate(dictionaries)]
    files = [skippable(each.as_bytes(), 0xD) + frame for each, frame in zip(dictionaries, frames, strict=True)]
    assert Stream(io.BytesIO(skippable(b"index") + b"".join(files) + frames[0])).read(10_000) == b"".join([*TEXTS[:2], TEXTS[0]])
    damaged = files[0][:-6] + b"\xff" * 6
    stream = Stream(io.BytesIO(damaged + files[1]))
    with pytest.raises(Damaged) as caught:
        stream.read(10_000)
    assert stream.next_member(caught.value.offset, bool)
    assert stream.read(10_000) == TEXTS[1]
    with pytest.raises(Damaged, match="needs dictionary 8"):
        Stream(io.BytesIO(files[0] + frames[1])).read(10_000)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("blank", [b"\n", b"\r\n\r\n", b" \0\n"])
def test_blanks_behind_and_between_members_are_padding(kind: str, blank: bytes) -> None:
    assert Stream(io.BytesIO(PACK[kind](b"one") + blank + PACK[kind](b"two") + blank)).read(100) == b"onetwo"


def test_a_search_that_found_nothing_is_not_repeated_and_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end that begins before the place where the last search stopped is found."""
    monkeypatch.setattr(module, "CHUNK_BYTES", 8)
    end = re.compile(rb"\r?\n\r?\n")
    for size in range(1, 30):
        stream = Stream(io.BytesIO(b"x" * size + b"\r\n\r\nrest"))
        for at in range(size):
            if (found := stream.read_through(end, 20)) is not None:
                assert found == b"x" * (size - at) + b"\r\n\r\n"
                assert size - at <= 16
                break
            assert size - at > 16
            stream.skip(1)
        else:
            pytest.fail("the end was missed")


def test_a_missing_or_broken_dictionary_is_damage() -> None:
    texts: list[bytes | bytearray | memoryview[int]] = [b"record %d of the caravan, which carries pages\r\n" % n * 3 for n in range(400)]
    frame = zstandard.ZstdCompressor(dict_data=zstandard.train_dictionary(2000, texts)).compress(texts[0])
    for head in (b"", skippable(b"no dictionary", 0xD), skippable(module.ZSTD_MAGIC + b"\xff" * 20, 0xD)):
        with pytest.raises(Damaged, match="damaged"):
            Stream(io.BytesIO(head + frame)).read(1)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_file_that_breaks_off_is_truncated_never_short(kind: str) -> None:
    """The lines before the break are read; then it is an error, also when it is asked again."""
    packed = PACK[kind](b"".join(b"%d line\n" % n for n in range(30_000)))
    stream = Stream(io.BytesIO(packed[: len(packed) * 2 // 3]))
    lines = list[bytes | None]()
    with pytest.raises(Damaged) as caught:
        lines.extend(line for _, line in stream.lines(100))
    assert (caught.value.reason, caught.value.offset) == ("truncated", 0)
    with pytest.raises(Damaged):
        stream.skip(1 << 30)


def test_damage_names_its_member_and_the_next_good_one_is_found() -> None:
    members = [bytearray(gz([b"%d " % n * 500])) for n in range(4)]
    members[1][len(members[1]) // 2] ^= 0xFF
    stream = Stream(io.BytesIO(b"".join(members)))
    assert stream.read(1000) == b"0 " * 500
    with pytest.raises(Damaged) as caught:
        stream.read(1)
    assert (caught.value.reason, caught.value.offset) == ("damaged", len(members[0]))
    assert stream.next_member(caught.value.offset, re.compile(rb"[0-9]").match)
    assert stream.read(3) == b"2 2"
    assert stream.member == sum(map(len, members[:2]))
    assert not stream.next_member(sum(map(len, members)), bool)
    assert stream.at_end()


def test_a_bad_checksum_is_damage() -> None:
    packed = bytearray(gzip.compress(b"text " * 100))
    packed[-6] ^= 1
    with pytest.raises(Damaged, match="incorrect data check"):
        Stream(io.BytesIO(bytes(packed))).read(600)
