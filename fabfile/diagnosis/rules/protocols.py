"""What speaks on a port, by the first bytes that come from there."""

from __future__ import annotations

ASKED = b"GET / HTTP/1.0\r\n\r\n"  # what a server that waits to be asked is asked

# How the first bytes of other protocols begin, and what speaks them.
_PROTOCOLS = (
    (b"HTTP/", "a web server (HTTP)"),
    (b"\x15\x03", "a TLS server (HTTPS, perhaps)"),
    (b"\x16\x03", "a TLS server (HTTPS, perhaps)"),
    (b"220 ", "a mail or FTP server"),
    (b"220-", "a mail or FTP server"),
    (b"+OK", "a mail server (POP3)"),
    (b"* OK", "a mail server (IMAP)"),
    (b"-ERR", "Redis"),
    (b"RFB ", "VNC"),
    (b"\xff\xfb", "a telnet server"),
    (b"\xff\xfd", "a telnet server"),
    (b"AMQP", "a message broker (AMQP)"),
    (b"SSH-1.", "an SSH server of protocol 1, which is broken and not used any more"),
)


def other_protocol(data: bytes) -> str:
    """What is spoken there, as far as the first bytes show; "" where they don't."""
    if data.startswith(b"SSH-1.99"):
        return ""
    if data.startswith(ASKED[:8]):
        return "a service that repeats what it is told (echo)"
    for beginning, name in _PROTOCOLS:
        if data.startswith(beginning):
            return name
    if b"400 Bad Request" in data:
        return "a web server (HTTP)"
    return "a MySQL server" if b"mysql" in data.lower() or b"MariaDB" in data else ""
