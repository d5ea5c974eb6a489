"""Finds the columns of a file that rows are matched by: the upload's mapping, applied to the file's first row.

first row: id, E-Mail, note    mapping: none, fields id, email, phone
Layout: field_indexes (("id", 0), ("email", 1)), names ("id", "E-Mail", "note"), width 3
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from audience_service.domain.core.normalisation import normalise
from audience_service.domain.identifiers.text import without_invisible
from audience_service.domain.uploads.csv_reader import invalid_file
from audience_service.domain.uploads.model import COUNTRY, DELIMITERS, MAX_COLUMNS, FilePosition, UploadHeader

_MIN_DATA_DIGITS = 5
_MAX_NAME_LENGTH = 60
_MAX_NAMES_SHOWN = 20

_ALIASES = {
    "email": "email emails emailaddress emailaddresses emailvalue mail mailaddress primaryemail primaryemailaddress"
    " secondaryemail secondaryemailaddress additionalemail additionalemails additionalemailaddresses alternateemail"
    " personalemail workemail homeemail emailhome emailwork businessemail companyemail contactemail customeremail"
    " billingemail shippingemail useremail otheremail emailadresse emailadress epost epostadresse epostadress eposta"
    " correo correoelectronico courriel adresseemail adressemail adresseelectronique indirizzoemail enderecodeemail"
    " mailadresse emailadres adresemail adresmail emailcim sahkoposti sahkopostiosoite adreselectronica"
    " электроннаяпочта элпочта почта адресэлектроннойпочты електроннапошта メール メールアドレス"
    " eメール 邮箱 邮箱地址 电子邮件 电子邮箱 電子郵件 電子信箱 이메일 이메일주소 البريدالإلكتروني דואראלקטרוני อีเมล",
    "phone": "phone phones phonenumber phonenumbers phonevalue telephone telephonenumber tel mobile mobilephone"
    " mobilenumber mobilephonenumber cell cellphone cellphonenumber primaryphone primaryphonenumber secondaryphone"
    " additionalphone alternatephone personalphone homephone workphone businessphone companyphone contactphone"
    " customerphone billingphone shippingphone otherphone defaultaddressphone phonemobile iphone telefon telefonnummer"
    " handy handynummer mobil mobilnummer mobiltelefon telefono numerodetelefono movil celular cellulare telefone"
    " telemovel telephoneportable numerodetelephone telefoonnummer telefoon mobielnummer numertelefonu nrtelefonu"
    " puhelin puhelinnumero telefonszam mobilszam handynr telefonnr mobilnr телефон мобильныйтелефон номертелефона"
    " 電話番号 携帯電話 电话 电话号码 電話 手机 手机号 手机号码 手機"
    " 전화번호 휴대폰 휴대폰번호 핸드폰 رقمالهاتف טלפון เบอร์โทรศัพท์",
    "email_sha256": "emailsha256 sha256email hashedemail emailhash emailhashed",
    "phone_sha256": "phonesha256 sha256phone hashedphone phonehash phonehashed hashedphonenumber",
    COUNTRY: "country countrycode countryname countryregion mailingcountry mailingcountrycode billingcountry"
    " billingcountrycode shippingcountry shippingcountrycode defaultaddresscountry defaultaddresscountrycode"
    " addresscountry homecountry homecountryregion businesscountry businesscountryregion land pais pays paese kraj"
    " страна 国 国家 国家地区 국가",
}
"""Names of columns in common templates, without case, accents, numbers and separators.

Sources: Meta's customer list template, Google Customer Match, the exports of Google Contacts, Outlook, HubSpot,
Mailchimp, Shopify and Salesforce, and their usual translations.
"""
_NUMBER = re.compile(r"(?<!sha)\d+")
_WORDS = {
    "email": "email emails mail",
    "phone": "phone phones telephone tel mobile mobilephone cell cellphone whatsapp gsm msisdn",
    COUNTRY: "country countrycode countryname countryregion",
}
_FILLERS = (
    "a address addr billing business client company contact contacts customer data default e164 enter field home is"
    " lead main member my no nr num number optional person personal please preferred primary profile properties"
    " recipient required secondary shipping subscriber the traits user value what whats work your"
)
"""Words that do not change what a column holds. With any other word, such as `consent`, it may hold something else."""
_ONE_WORD = re.compile(r"e-mail|whatsapp|e164|country[ _-]?(?:code|name|region)", re.IGNORECASE)
_WORD = re.compile(r"e164|[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![^\W\d_A-Z])")
_MOJIBAKE_BOM = "ï»¿"
"""A byte order mark that was read as Windows-1252 and saved as UTF-8."""


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """The columns of a file. `field_indexes` has pairs of a field and a column index, in the order of matching.

    A field can have several columns. `country_index` is the column with the country of each row, None if there is none.
    """

    field_indexes: tuple[tuple[str, int], ...]
    names: tuple[str, ...]
    width: int
    country_index: int | None = None

    def column_name(self, index: int) -> str:
        """The column's name in the report of a rejected row, or its position from 1 on if it has none.

        The position is also used if the name is too long, may be personal data, or is the name of several columns.
        """
        name = _clean(self.names[index]) if self.names else ""
        is_unique = [_casefolded(other) for other in self.names].count(name.casefold()) == 1
        return name if name and is_unique and not _looks_like_data(name) else str(index + 1)


def read_layout(header: UploadHeader, fields: Sequence[str], first: Sequence[str], line: int) -> ColumnLayout:
    """The layout of a file whose first row is `first`, at line `line`. Raises InvalidFile."""
    width = len(first)
    if width > MAX_COLUMNS:
        raise invalid_file(line, "columns", f"the first row has {width:,} columns, more than {MAX_COLUMNS:,}")
    return _layout(header, fields, tuple(first) if header.has_header else (), width, line)


def resume_layout(header: UploadHeader, fields: Sequence[str], position: FilePosition) -> ColumnLayout:
    """The layout of a file whose first row was read by an earlier stream."""
    return _layout(header, fields, position.names, position.width, 1)


def known_columns(header: UploadHeader, fields: Sequence[str], cells: Sequence[str]) -> int:
    """How many cells of a first row are names of columns that the upload reads."""
    requested = {_casefolded(column.name) for column in header.columns}
    if requested:
        return sum(_casefolded(cell) in requested for cell in cells)
    return sum(_field_of(cell, fields) is not None for cell in cells)


def _layout(header: UploadHeader, fields: Sequence[str], names: tuple[str, ...], width: int, line: int) -> ColumnLayout:
    found = _requested_columns(header, names, width, line) if header.columns else _named_columns(fields, names)
    matched = [(field, index) for field in fields if field != COUNTRY for index in found.get(field, ())]
    if not matched:
        known_fields = ", ".join(field for field in fields if field != COUNTRY)
        raise invalid_file(
            line,
            "missing_column",
            f"no column is named any of {known_fields}; {_describe_columns(names)}{_hint(names)}",
        )
    country = found.get(COUNTRY)
    return ColumnLayout(tuple(matched), names, width, country[0] if country else None)


def _named_columns(fields: Sequence[str], names: Sequence[str]) -> dict[str, list[int]]:
    """The columns of each field by their names. Columns with exactly the field's name come first."""
    found: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        if (field := _field_of(name, fields)) is not None:
            found.setdefault(field, []).append(index)
    return {
        field: sorted(indexes, key=lambda index: _casefolded(names[index]) != field) for field, indexes in found.items()
    }


def _requested_columns(header: UploadHeader, names: Sequence[str], width: int, line: int) -> dict[str, list[int]]:
    """The columns of each field by the upload's mapping. A name stands for every column that has it."""
    column_names = [_casefolded(name) for name in names]
    found: dict[str, list[int]] = {}
    for column in header.columns:
        if column.position > width:
            raise invalid_file(
                line, "missing_column", f"{column.field} is mapped to column {column.position}, but there are {width}"
            )
        if column.position and names and _is_data(names[column.position - 1]):
            raise invalid_file(
                line,
                "missing_header",
                f"column {column.position} has data instead of a name; set has_header to false if there is no header",
            )
        requested = _casefolded(column.name)
        named = [index for index, name in enumerate(column_names) if name == requested]
        if not column.position and not named:
            raise invalid_file(
                line,
                "missing_column",
                f"no column is named {column.name.strip()[:50]!r}, for {column.field}; {_describe_columns(names)}",
            )
        indexes = found.setdefault(column.field, [])
        indexes += [index for index in ([column.position - 1] if column.position else named) if index not in indexes]
    return found


def _field_of(name: str, fields: Sequence[str]) -> str | None:
    """The field that a column is named like: `E-mail 2 - Value` is for email. None if it is named like none."""
    folded = _casefolded(name)
    if folded in fields:
        return folded
    field = _field_by_alias().get(_letters(folded)) or _field_by_words(_clean(name))
    return field if field in fields else None


def _field_by_words(name: str) -> str | None:
    """The field whose words are the only ones of a name, but for fillers: `What is your e-mail address?` is for email.

    `Contact name` is for none, and neither is `Phone country code`, which has the words of two fields.
    """
    parts = _WORD.findall(_ONE_WORD.sub(lambda found: re.sub(r"[\W_]", "", found[0].lower()), name))
    words = {normalise(part) for part in parts}.difference(_FILLERS.split())
    return next((field for field, known in _WORDS.items() if words and words.issubset(known.split())), None)


def _letters(name: str) -> str:
    return normalise(_NUMBER.sub("", name)).replace(" ", "")


@cache
def _field_by_alias() -> dict[str, str]:
    return {_letters(alias): field for field, aliases in _ALIASES.items() for alias in aliases.split()}


def _clean(name: str) -> str:
    """The name without invisible characters and surrounding spaces."""
    return without_invisible(name).removeprefix(_MOJIBAKE_BOM).strip()


def _casefolded(name: str) -> str:
    return _clean(name).casefold()


def _hint(names: Sequence[str]) -> str:
    """What to do about a first row without a known name."""
    if any(map(_looks_like_data, names)):
        return ""
    if any(_field_by_alias().get(_letters(_casefolded(name)), "").endswith("_sha256") for name in names):
        return "; only uploads to a customer_match read hashes"
    if sum(bool(_clean(name)) for name in names) == 1:
        return "; remove the lines before the header, or map a column by its name"
    return "; map a column by its name"


def _describe_columns(names: Sequence[str]) -> str:
    """A description of the first row, which does not quote cells that may be personal data."""
    if any(map(_looks_like_data, names)):
        return "the first row looks like data; if there is no header, set has_header to false and map positions"
    named = ", ".join(repr(_clean(name)) for name in names[:_MAX_NAMES_SHOWN])
    others = [delimiter for delimiter in DELIMITERS if len(names) == 1 and delimiter in names[0]]
    hint = f"; the cells seem to be separated by {describe_delimiter(others[0])}" if others else ""
    return (
        f"the columns are {named}"
        + (f" and {len(names) - _MAX_NAMES_SHOWN} more" if len(names) > _MAX_NAMES_SHOWN else "")
        + hint
    )


def describe_delimiter(delimiter: str) -> str:
    """The delimiter in words."""
    return {",": "commas", ";": "semicolons", "|": "vertical bars", "\t": "tabs"}[delimiter]


def _looks_like_data(name: str) -> bool:
    return _is_data(name) or len(name) > _MAX_NAME_LENGTH or not _clean(name).replace("\t", " ").isprintable()


def _is_data(name: str) -> bool:
    return "@" in name or sum(letter.isdigit() for letter in name) >= _MIN_DATA_DIGITS
