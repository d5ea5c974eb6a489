"""Detects encodings other than UTF-8, and files that are not text, to name them in errors."""

import re
import unicodedata
from collections.abc import Iterable
from itertools import islice

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


_ISO_2022 = {b"\x1b$B": "ISO-2022-JP", b"\x1b$@": "ISO-2022-JP", b"\x1b$)C": "ISO-2022-KR", b"\x1b$)A": "ISO-2022-CN"}
"""The escape sequences that begin East Asian characters, in encodings whose bytes are all ASCII."""

_EAST_ASIAN = (
    ("Shift_JIS", "cp932", re.compile(r"[぀-ヿ々]"), range(0x88, 0x99)),
    ("EUC-JP", "euc_jp", re.compile(r"[぀-ヿ々]"), range(0xB0, 0xD0)),
    ("GBK", "gbk", None, range(0xB0, 0xD8)),
    ("Big5", "big5", None, range(0xA4, 0xC7)),
    ("EUC-KR", "euc_kr", None, range(0xB0, 0xC9)),
)
"""East Asian encodings: the name, Python's codec, letters that only text in it has many of, and the lead bytes of
its most common characters."""

_SINGLE_BYTE = (
    ("Windows-1251 (Cyrillic)", "cp1251", "CYRILLIC"),
    ("Windows-1253 (Greek)", "cp1253", "GREEK"),
    ("Windows-1255 (Hebrew)", "cp1255", "HEBREW"),
    ("Windows-1256 (Arabic)", "cp1256", "ARABIC"),
    ("Windows-874 (Thai)", "cp874", "THAI"),
)
_LONG_RUN = re.compile(rb"[\x80-\xff]{3,}|(?:[\x81-\x9f\xe0-\xfc][\x40-\x7e]){2}")
_MIXED_WORD = re.compile(rb"[A-Za-z][\x80-\xff]|[\x80-\xff][A-Za-z]")
_MIN_COMMON_SHARE = 0.8
_MAX_GUESS_BYTES = 64 * 1024
_MAX_GUESS_LINES = 1_000
_MAX_KINDS = 5


def describe_escapes(line: bytes) -> str:
    """The problem with a line in an encoding that switches character sets by escape sequences; empty if it is none."""
    kind = next((name for escape, name in _ISO_2022.items() if escape in line), "") if b"\x1b$" in line else ""
    return f"the file is {kind}, by its escape sequences; send it in UTF-8" if kind else ""


def describe_invalid_bytes(line: bytes, error: UnicodeDecodeError, following: Iterable[bytes] = ()) -> str:
    """Why a line is not UTF-8, and which encodings it may have. It quotes one byte of the line.

    The lines after it help to decide between East Asian encodings. A line is too short to distinguish the many
    single-byte encodings. Two facts are certain: Windows-1252 leaves a few bytes undefined, and ISO 8859-1 has controls
    where Windows-1252 has letters.
    """
    byte = line[error.start]
    if kinds := _guess_kinds(b"\n".join([line, *islice(following, _MAX_GUESS_LINES)])[:_MAX_GUESS_BYTES], line):
        return f"the byte 0x{byte:02X} is not UTF-8; the file may be {', '.join(kinds)}; send it in UTF-8"
    try:
        line.decode("cp1252")
    except UnicodeDecodeError:
        return f"the byte 0x{byte:02X} is neither UTF-8 nor Windows-1252; send the file in UTF-8"
    letters = any(0x80 <= other < 0xA0 for other in line)
    kind = "Windows-1252" if letters else "Windows-1252 or ISO 8859-1 (Latin-1)"
    return f"the byte 0x{byte:02X} is not UTF-8; the file may be {kind}; send it in UTF-8"


def _guess_kinds(sample: bytes, line: bytes) -> list[str]:
    """The likely encodings of text outside Latin script; empty if its bytes above 127 stand alone, as in Latin text."""
    if not _LONG_RUN.search(sample):
        return []
    certain, likely = [], []
    for name, codec, letters, leads in _EAST_ASIAN:
        for text in (sample, line):
            try:
                decoded = text.decode(codec)
            except UnicodeDecodeError:
                continue
            foreign = [char for char in decoded if not char.isascii()]
            if letters and 3 * len(letters.findall(decoded)) >= len(foreign):
                certain.append(name)
            elif foreign and sum(char.encode(codec)[0] in leads for char in foreign) >= _MIN_COMMON_SHARE * len(
                foreign
            ):
                likely.append(name)
            break
    return certain or [*likely, *_guess_scripts(line)][:_MAX_KINDS]


def _guess_scripts(line: bytes) -> list[str]:
    """The single-byte encodings by which all bytes above 127 are letters of one script; none for Latin words."""
    if _MIXED_WORD.search(line):
        return []
    kinds = []
    for name, codec, script in _SINGLE_BYTE:
        decoded = line.decode(codec, "replace")
        foreign = [char for char in decoded if not char.isascii()]
        if all(unicodedata.name(char, "").startswith(script) for char in foreign):
            kinds.append(name)
    return kinds
