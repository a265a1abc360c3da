"""How far an answer is read, byte by byte; what it means is tested against receivers on sockets."""

from __future__ import annotations

import pytest

from dispatcher.sender.answer import MAX_HEAD_BYTES, AnswerReader, Trouble

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def reading(*pieces: bytes, max_bytes: int = 100, keep_bytes: int = 10) -> AnswerReader:
    """Read these pieces."""
    reader = AnswerReader(max_bytes=max_bytes, keep_bytes=keep_bytes)
    for piece in pieces:
        reader.feed(piece)
    return reader


def head_of(length: int) -> bytes:
    """Write the header of an empty answer in so many bytes."""
    start, end = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: ", b"\r\n\r\n"
    return start + b"a" * (length - len(start) - len(end)) + end


@pytest.mark.parametrize("size", [1, 7, 1000, MAX_HEAD_BYTES])
@pytest.mark.parametrize(("over_by", "trouble"), [(0, None), (1, Trouble.FLOOD)])
def test_header_is_bounded_to_the_byte(size: int, over_by: int, trouble: Trouble | None) -> None:
    """However it arrives, and whatever arrives with it."""
    data = head_of(MAX_HEAD_BYTES + over_by)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    for last in (b"", b"excess"):
        reader = reading(*pieces[:-1], pieces[-1] + last)
        assert (trouble, trouble is None) == (reader.trouble, reader.ended)


def test_informational_answers_count_for_the_header() -> None:
    """They share its bound, so that there cannot be any number of them."""
    hint = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    fitting = (MAX_HEAD_BYTES - 100) // len(hint)
    assert 200 == reading(hint * fitting, head_of(100)).status
    reader = reading(hint * (fitting + 5), head_of(100))
    assert (Trouble.FLOOD, MAX_HEAD_BYTES // len(hint)) == (reader.trouble, reader.informational)


def test_field_count_is_bounded() -> None:
    """128 fields are an answer, one more is none."""
    for count, status in ((127, 200), (128, 0)):
        reader = reading(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"X:\r\n" * count + b"\r\n")
        assert status == reader.status
    assert Trouble.MALFORMED is reader.trouble


@pytest.mark.parametrize(("length", "ended"), [(99, True), (100, True), (101, False)])
def test_body_is_bounded_to_the_byte(length: int, ended: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Beyond the bound nothing is read; the status stands, and the connection serves no other request."""
    reader = reading(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length, b"y" * length)
    assert (True, ended, ended) == (reader.over, reader.ended, reader.persistent)
    assert (200, b"y" * 10, True) == (reader.status, reader.kept, reader.truncated)
    assert reader.trouble is None


def test_framing_of_a_body_is_bounded() -> None:
    """Chunk extensions without end are cut off, and count as a body that was too long."""
    reader = reading(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", *[b"a" * 1000] * 70)
    assert (True, False, True, 200) == (reader.over, reader.ended, reader.truncated, reader.status)


@pytest.mark.parametrize("excess", [b"HTTP/1.1 500 No\r\n\r\n", b"x", b"\0"])
def test_excess_costs_the_connection_alone(excess: bytes) -> None:
    """What comes with a complete answer, behind its end, is nobody's."""
    reader = reading(OK + excess)
    assert (200, b"ok", True, False) == (reader.status, reader.kept, reader.ended, reader.persistent)
    assert reading(OK).persistent


def test_nul_is_no_text() -> None:
    """A header with NUL could not be recorded."""
    reader = reading(b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n")
    assert (Trouble.MALFORMED, "NUL in a header field") == (reader.trouble, reader.detail)


@pytest.mark.parametrize("status", [b"000", b"099"])
def test_status_below_100_is_none(status: bytes) -> None:
    """RFC 9110 begins at 100."""
    assert Trouble.MALFORMED is reading(b"HTTP/1.1 " + status + b" X\r\n\r\n").trouble


@pytest.mark.parametrize("protocol", [b"RTSP/1.0", b"ICE/1.0", b"\r\nRTSP/1.0"])
def test_other_protocols_are_no_answer(protocol: bytes) -> None:
    """What answers 200 in another language has not taken a delivery."""
    assert Trouble.MALFORMED is reading(protocol + b" 200 OK\r\nContent-Length: 0\r\n\r\n").trouble
    assert 200 == reading(b"\r\n" + OK).status


@pytest.mark.parametrize(
    ("head", "clean", "ended"),
    [
        (b"", True, True),
        (b"", False, False),
        (b"Content-Length: 9\r\n", True, False),
        (b"Transfer-Encoding: gzip, Chunked \r\n", True, False),
        (b"Transfer-Encoding: gzip\r\n", True, True),
    ],
)
def test_end_of_the_connection(head: bytes, clean: bool, ended: bool) -> None:  # noqa: FBT001 - the same
    """It ends a body that nothing else ends, if it is a clean one (RFC 9112, 6.3)."""
    reader = reading(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
    reader.end(clean=clean)
    assert (ended, False) == (reader.ended, reader.persistent)


def test_trailers_are_no_header() -> None:
    """What is said after the body was not said before it."""
    reader = reading(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n")
    assert ([(b"Transfer-Encoding", b"chunked")], True) == (reader.headers, reader.persistent)


def test_one_reader_reads_one_answer_after_another() -> None:
    """Nothing of the one is left in the next."""
    reader = reading(b"HTTP/1.1 103 Hm\r\nX: y\r\n\r\n" + OK)
    reader.begin()
    assert (0, [], b"", 0, False) == (
        reader.status,
        reader.headers,
        reader.kept,
        reader.informational,
        reader.over,
    )
    reader.feed(OK)
    assert (b"ok", 1) == (reader.kept, len(reader.headers))
