"""Other encodings than UTF-8, and files that are no text at all: refused, by name."""

_SIGNATURES = (
    (b"\xff\xfe\x00\x00", "UTF-32, by its byte order mark"),
    (b"\x00\x00\xfe\xff", "UTF-32, by its byte order mark"),
    (b"\xff\xfe", "UTF-16, by its byte order mark"),
    (b"\xfe\xff", "UTF-16, by its byte order mark"),
    (b"+/v", "UTF-7, by its byte order mark"),
    (b"\x84\x31\x95\x33", "GB 18030, by its byte order mark"),
    (b"PK\x03\x04", "a ZIP archive, as .xlsx workbooks are"),
    (b"\xd0\xcf\x11\xe0", "a Microsoft Office document, as .xls workbooks are"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"%PDF", "a PDF document"),
)

_ZERO_PATTERNS = {
    "000x": "UTF-32, by its zero bytes",
    "x000": "UTF-32, by its zero bytes",
    "0x0x": "UTF-16, by its zero bytes",
    "x0x0": "UTF-16, by its zero bytes",
}
"""Where the zeros are among the first four bytes, when the characters that they begin are of ASCII."""


def describe_signature(first: bytes) -> str:
    """What is wrong with a file that begins with these bytes, four of them or all there are; empty for nothing."""
    kind = next((name for mark, name in _SIGNATURES if first.startswith(mark)), "")
    kind = kind or _ZERO_PATTERNS.get("".join("x" if byte else "0" for byte in first[:4]), "")
    return f"the file is {kind}; send CSV in UTF-8" if kind else ""


def describe_invalid_bytes(line: bytes, error: UnicodeDecodeError) -> str:
    """Why a line is no UTF-8, and what it may be instead. Tells one byte of it.

    A line is too little to tell the many encodings of a byte a character from one another; that Windows-1252 leaves a
    few bytes out, and ISO 8859-1 has controls where it has letters, is all that is sure.
    """
    byte = line[error.start]
    try:
        line.decode("cp1252")
    except UnicodeDecodeError:
        return f"the byte 0x{byte:02X} is no UTF-8, nor Windows-1252; send the file in UTF-8"
    letters = any(0x80 <= other < 0xA0 for other in line)
    kind = "Windows-1252" if letters else "Windows-1252 or ISO 8859-1 (Latin-1)"
    return f"the byte 0x{byte:02X} is no UTF-8; the file may be {kind}; send it in UTF-8"
