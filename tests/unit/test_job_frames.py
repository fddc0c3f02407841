"""What a job prints, read from what the follower prints: whatever the pieces it comes in, and with noise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.remote.job_frames import JobFrames

MARK = "0123456789abcdef"
LOOKALIKES = st.sampled_from([MARK.encode(), f"{MARK} 3\n".encode(), f"{MARK} late\n".encode(), b"ended 0\n"])


def read(said: bytes, size: int) -> tuple[JobFrames, bytes]:
    log = bytearray()
    frames = JobFrames(MARK, log.extend)
    for at in range(0, len(said), size):
        frames.feed(said[at : at + size])
    return frames, bytes(log)


@given(
    pieces=st.lists(
        st.tuples(st.binary(max_size=9) | LOOKALIKES, st.sampled_from([b"", b"\n", b"sh: oh\n"]))
    ),
    size=st.integers(1, 200),
)
def test_the_log_comes_back_whatever_it_holds(pieces: list[tuple[bytes, bytes]], size: int) -> None:
    """Also where it looks like a frame itself, and where stderr stands between the pieces."""
    said = b"".join(b"%s%s %d\n%s" % (noise, MARK.encode(), len(piece), piece) for piece, noise in pieces)
    frames, log = read(said + f"{MARK} ended 7\n".encode(), size)
    assert log == b"".join(piece for piece, _ in pieces)
    assert frames.ending == "ended 7"
    assert frames.outside == b"".join(noise for _, noise in pieces)


@pytest.mark.parametrize(
    "word", ["ended", "ended ", "ended 1000", "ended -1", "ended 0 ", "ended 0", "-1", "9" * 19]
)
def test_what_is_not_understood_ends_nothing(word: str) -> None:
    complete = f"{MARK} {word}" if word == "ended 0" else f"{MARK} {word}\n"
    frames, log = read(complete.encode(), 1000)
    assert (frames.ending, log) == ("", b"")
    assert frames.outside == complete.encode()


def test_noise_without_end_is_not_kept() -> None:
    frames, _ = read(b"x" * (1 << 22), 1 << 16)
    assert len(frames.outside) < 1 << 18
