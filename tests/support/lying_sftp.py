#!/usr/bin/python3
"""An sftp-server that lies: a real one, with what it answers changed. A subsystem: sshd starts it.

The lie's name is the content of the file that is the only argument.
"""

import itertools
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

LIE = Path(sys.argv[1]).read_text().strip()
VERSION, STATUS, HANDLE, NAME, ATTRS = 2, 101, 102, 104, 105
server = subprocess.Popen(["/usr/lib/openssh/sftp-server"], stdin=0, stdout=subprocess.PIPE)


def say(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def packet(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def rest() -> None:
    """Nothing more is said, and nobody ends."""
    time.sleep(3600)


def lied(number: int, body: bytes) -> bytes:
    """The answer as it is given instead. number: how many were given before."""
    kind, request = body[0], body[1:5]
    if LIE == "silent at the start" or (LIE == "silent" and number) or (LIE == "silent later" and number > 3):
        rest()
    if LIE == "ends" and number:
        server.kill()
        os._exit(1)
    if LIE == "text":
        return b"Last login: today\n"
    if LIE == "another version":
        return packet(bytes([VERSION]) + struct.pack(">I", 6))
    if not number:
        return packet(body)
    if LIE.startswith("refuses: ") and kind == HANDLE:
        return packet(
            bytes([STATUS]) + request + struct.pack(">I", 4) + string(LIE[9:].encode()) + string(b"")
        )
    if LIE == "trickles":
        for byte in packet(body):
            say(bytes([byte]))
            time.sleep(1)
    if LIE == "slow":
        time.sleep(3)
    if LIE == "wrong number":
        return packet(body[:1] + b"\xff\xff\xff\xff" + body[5:])
    if LIE == "wrong numbers for ever":
        for wrong in itertools.count(1 << 20):
            say(packet(bytes([STATUS]) + struct.pack(">II", wrong, 0) + string(b"") + string(b"")))
    if LIE == "4 GB":
        while True:
            say(b"\xff" * (1 << 16))
    if LIE == "nothing in it":
        return packet(b"")
    if LIE == "odd type":
        return packet(b"\xee" + body[1:])
    if LIE == "shorter than it says":
        return packet(body[:5] + b"\x00\x00\xff\xff")
    if LIE == "granted, with nothing in it" and kind in (ATTRS, NAME, HANDLE):
        return packet(bytes([STATUS]) + request + struct.pack(">I", 0) + string(b"") + string(b""))
    if LIE == "no kind" and kind == ATTRS:
        return packet(body[:5] + struct.pack(">I", 0))
    if LIE == "two targets" and kind == NAME:
        return packet(body[:5] + struct.pack(">I", 2) + (string(b"x") + string(b"") + bytes(4)) * 2)
    if LIE == "names that lead outside" and kind == NAME:
        names = b"".join(string(name) + string(b"") + bytes(4) for name in (b"../x", b"a/b", b"\0", b""))
        return packet(body[:5] + struct.pack(">I", 4) + names)
    if LIE == "names without end" and kind in (NAME, STATUS):
        names = b"".join(string(b"%d-%d" % (number, n)) + string(b"") + bytes(4) for n in range(5000))
        return packet(bytes([NAME]) + request + struct.pack(">I", 5000) + names)
    if LIE == "more than was asked for" and kind == 103:
        return packet(body[:5] + string(bytes(200_000)))
    return packet(body)


assert server.stdout is not None
for number in itertools.count():
    head = server.stdout.read(4)
    if len(head) < 4:
        break
    say(lied(number, server.stdout.read(struct.unpack(">I", head)[0])))
