"""Reads ARC files, version 1 and 2, gzipped by record, gzipped as a whole or plain (Burner and Kahle, "Arc file format", 1996).

A record is one line of fields (URL, IP address, date, content type, …, length) and as many bytes as the last of them says. A URL may
hold spaces: fields are counted from the right, by the field names that the version block at the head of the file gives. The key is URL,
date and payload hash. Reasons are those of WARC files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.ingest.http import Body, is_length, response_body, typed_body
from pipeline.ingest.records import Bad, BadRecord, Event, Record, Skip
from pipeline.ingest.stream import Damaged, Stream
from pipeline.ingest.warc import record_key, skip_blank

MAX_LINE_BYTES = 64 << 10
FIELDS_V1 = 5
FIELDS_V2 = 10

_LINE_END = re.compile(rb"\n")
_START = re.compile(rb"(?m)^[a-z][a-z0-9+.-]{0,20}:[^\n]{0,8192} \d{14} [^ \n]+ (?:[^ \n]+ ){0,5}\d+\r?$", re.I)
_FILEDESC = b"filedesc://"
_VERSION_BLOCK_FIELDS = re.compile(rb"(?m)^(URL IP-address .*?)\r?$")


def read_arc(stream: Stream, max_record_bytes: int) -> Iterator[Event]:
    """Every record of an ARC file as an event, in order; damage is an event too and never an exception."""
    row, fields = 0, FIELDS_V1
    while True:
        try:
            skip_blank(stream)
            if stream.at_end():
                return
            offset = stream.member
            try:
                line, block = _read_block(stream, fields, max_record_bytes, offset)
                if line[0].startswith(_FILEDESC.decode()):
                    fields = _fields_of(block)
                    yield Skip("not_response")
                else:
                    yield _event(line, block, offset, row, max_record_bytes)
            except BadRecord as error:
                yield Bad(error.reason, offset, error.detail)
                if error.reason not in ("bad_http", "bad_encoding", "too_large"):
                    stream.seek_match(_START, overlap=MAX_LINE_BYTES)
        except Damaged as error:
            yield Bad(error.reason, error.offset, error.detail)
            if not stream.next_member(error.offset, _START_OF_MEMBER.match):
                return
        row += 1


_START_OF_MEMBER = re.compile(rb"[a-z][a-z0-9+.-]{0,20}:", re.I)


def _read_block(stream: Stream, fields: int, max_record_bytes: int, offset: int) -> tuple[list[str], bytes]:
    """The fields of the line that begins here, and the record's block. Raises BadRecord, Damaged."""
    head = stream.read_through(_LINE_END, MAX_LINE_BYTES)
    if head is None:
        begin = stream.peek(60)
        stream.skip(1)
        raise BadRecord("bad_header", repr(begin))
    wanted = FIELDS_V1 if head.startswith(_FILEDESC) else fields
    line = head.decode("utf-8", "replace").strip().rsplit(" ", wanted - 1)
    if len(line) < wanted or not is_length(line[-1]) or ":" not in line[0]:
        raise BadRecord("bad_header", repr(head[:60]))
    length = int(line[-1])
    if length > max_record_bytes:
        if stream.skip(length) < length:
            stream.next_member(offset, _START_OF_MEMBER.match)
        raise BadRecord("too_large", f"{length} bytes")
    block = stream.read(length)
    if len(block) < length:
        stream.unread(block)
        raise BadRecord("truncated", f"{len(block)} of {length} bytes")
    return line, block


def _fields_of(version_block: bytes) -> int:
    """How many fields a record's line has, by the version block."""
    named = _VERSION_BLOCK_FIELDS.search(version_block)
    if named is not None:
        return max(FIELDS_V1, len(named.group(1).split()))
    return FIELDS_V2 if version_block.startswith(b"2 ") else FIELDS_V1


def _event(line: list[str], block: bytes, offset: int, row: int, limit: int) -> Event:
    """What a whole record is to us. Raises BadRecord."""
    url, date, content_type = line[0], line[2], line[3]
    body: Body | Skip
    if block.startswith(b"HTTP/"):
        body = response_body(block, limit)
    elif not url.lower().startswith(("http:", "https:", "file:")):
        body = Skip("not_response")
    else:
        body = typed_body(block, content_type, limit)
    if isinstance(body, Skip):
        return body
    key = record_key(url, date, body.data)
    return Record(key, offset, row, None, body.data, body.is_html, body.declared, url, date, body.truncated, body.noai)
