"""Fields that must not select people by default, recognised by their names.

The law of many countries forbids selection by them. Titles and languages disclose sex and origin.
Sources: GDPR, article 9(1) and 10; the EU Charter, article 21; US Equal Credit Opportunity Act (15 USC 1691); US Fair
Housing Act (42 USC 3604).
"""

import re
from collections.abc import Iterator

_PROTECTED_WORDS = frozenset(
    (
        "sex", "gender", "pronoun", "transgender", "lgbt", "lgbtq", "sexuality", "sexual", "salutation", "honorific",
        "birthday", "birthdate", "dateofbirth", "birthyear", "yearofbirth", "birthmonth", "monthofbirth", "dob",
        "ageband", "agegroup", "agerange", "agebracket", "language", "lang", "mothertongue",
        "religion", "religious", "denomination", "creed", "ethnicity", "ethnic", "racial", "caste", "tribe", "ancestry",
        "skincolor", "skincolour", "skintone", "nationality", "nationalorigin", "citizenship", "citizen", "birthplace",
        "placeofbirth", "birthcountry", "countryofbirth", "immigration", "migrant", "refugee", "healthstatus",
        "healthcondition", "mentalhealth", "medicalcondition", "medicalhistory", "diagnosis", "disease", "illness",
        "medication", "allergy", "hiv", "bloodtype", "disability", "disabilities", "disabled", "handicap",
        "handicapped", "pregnant", "pregnancy", "genetic", "genome", "dna", "biometric", "political", "tradeunion",
        "laborunion", "labourunion", "unionmember", "unionmembership", "marital", "married", "civilstatus",
        "relationshipstatus", "spouse", "familystatus", "familial", "parental", "children", "dependent", "dependant",
        "veteran", "military", "publicassistance", "socialassistance", "welfare", "socialorigin", "criminal",
        "conviction",
    )
)  # fmt: skip
"""Protected as any part of a name: `customerGender`, `preferred_language`."""

_PROTECTED_NAMES = frozenset(
    ("title", "age", "race", "union", "orientation", "health", "medical", "belief", "faith", "locale", "politics")
)
"""Protected only as the complete name: a job title, an account's age or the day of a race is unprotected."""

PROTECTED = _PROTECTED_WORDS | _PROTECTED_NAMES
"""All protected names, in lower case and without `_`, `-` and blanks."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def is_protected(path: str) -> bool:
    """Whether any step of a path in the record has the name of a protected field."""
    return any(is_protected_name(step) for step in path.split("."))


def is_protected_name(step: str) -> bool:
    """Whether the complete step, or consecutive words in it, are a protected name; also with a plural s."""
    words = [word.lower() for word in _WORD.findall(step)]
    return _is_among("".join(words), PROTECTED) or any(_is_among(run, _PROTECTED_WORDS) for run in _runs(words))


def _is_among(name: str, names: frozenset[str]) -> bool:
    return name in names or name.removesuffix("s") in names


def _runs(words: list[str]) -> Iterator[str]:
    positions = range(len(words))
    return ("".join(words[start : end + 1]) for start in positions for end in positions[start:])
