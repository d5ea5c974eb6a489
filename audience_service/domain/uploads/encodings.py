"""Detects encodings other than UTF-8, and files that are not text, to name them in errors."""

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
"""The zero bytes among the first four, if the file begins with ASCII characters."""


def describe_signature(first: bytes) -> str:
    """The problem with a file that begins with these bytes (four, or all it has); empty if there is none."""
    kind = next((name for mark, name in _SIGNATURES if first.startswith(mark)), "")
    kind = kind or _ZERO_PATTERNS.get("".join("x" if byte else "0" for byte in first[:4]), "")
    return f"the file is {kind}; send CSV in UTF-8" if kind else ""


def describe_invalid_bytes(line: bytes, error: UnicodeDecodeError) -> str:
    """Why a line is not UTF-8, and which encoding it may have. It quotes one byte of the line.

    A line is too short to distinguish the many single-byte encodings. Two facts are certain: Windows-1252 leaves a few
    bytes undefined, and ISO 8859-1 has controls where Windows-1252 has letters.
    """
    byte = line[error.start]
    try:
        line.decode("cp1252")
    except UnicodeDecodeError:
        return f"the byte 0x{byte:02X} is neither UTF-8 nor Windows-1252; send the file in UTF-8"
    letters = any(0x80 <= other < 0xA0 for other in line)
    kind = "Windows-1252" if letters else "Windows-1252 or ISO 8859-1 (Latin-1)"
    return f"the byte 0x{byte:02X} is not UTF-8; the file may be {kind}; send it in UTF-8"
