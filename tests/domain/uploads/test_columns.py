"""Which columns of a file are found by their names."""

import pytest

from audience_service.domain.uploads.columns import read_layout
from audience_service.domain.uploads.model import COUNTRY, UploadHeader, UploadMode

FIELDS = ("id", "email", "phone", "email_sha256", "phone_sha256", COUNTRY)


@pytest.mark.parametrize(
    ("field", "names"),
    [
        (
            "email",
            [
                "E-mail 2 - Value", "Customer Email", "Billing Email", "user_email", "Other Email", "E-Mail-Adresse",
                "E-mail address (required)", "data[email]",
                "What is your email?", "customer_email_address",
                "Correo electrónico", "Adresse e-mail", "メールアドレス", "邮箱", "電子郵件", "Электронная почта",
                "E-mailadres", "Adres e-mail", "Sähköposti", "E-mail cím", "Эл. почта", "电子邮箱", "이메일 주소",
                "البريد الإلكتروني",
            ],
        ),
        (
            "phone",
            [
                "Business Phone", "Work Phone", "Other Phone", "Default Address Phone", "Phone (mobile)", "iPhone",
                "Mobile No.", "phone_e164", "WhatsApp Number", "CustomerPhone", "MSISDN",
                "Téléphone portable", "Teléfono", "Telefonnummer", "電話番号", "手机号码", "Телефон",
                "Telefoonnummer", "Nr telefonu", "Puhelin", "Telefonszám", "Handynr.", "휴대폰", "رقم الهاتف",
            ],
        ),
        (
            COUNTRY,
            [
                "Mailing Country", "Billing Country", "user_country_code",
                "Default Address Country Code", "Home Country/Region",
                "Address 1 - Country", "País", "Land", "Pays", "国家/地区", "Страна",
            ],
        ),
    ],
)  # fmt: skip
def test_columns_of_common_exports_are_found(field: str, names: list[str]) -> None:
    """In any case, with or without accents, of Salesforce, Shopify, Outlook, Google and Apple, and translated."""
    for name in names:
        layout = read_layout(UploadHeader("a", "u", UploadMode.APPEND), FIELDS, ["id", name], 1)
        assert (layout.country_index == 1) if field == COUNTRY else ((field, 1) in layout.field_indexes), name


@pytest.mark.parametrize(
    "name",
    [
        "SMS",
        "email consent",
        "phone type",
        "PhoneCountryCode",
        "Contact name",
        "country club",
        "landing page",
        "note",
    ],
)
def test_other_columns_are_left_alone(name: str) -> None:
    """A consent or a type is no address."""
    layout = read_layout(UploadHeader("a", "u", UploadMode.APPEND), FIELDS, ["id", name], 1)
    assert (layout.field_indexes, layout.country_index) == ((("id", 0),), None)
