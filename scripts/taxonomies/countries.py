"""The names of countries, in any language and as people write them."""

import collections
import json
import subprocess
import sys
from collections.abc import Iterator

from audience_service.domain.core.normalisation import normalise

from .packages import BABEL, PYCOUNTRY, read_json

ALIASES = {
    "AE": "UAE, Emirates, The Emirates, United Arab Emirates (UAE)",
    "AS": "American Samoa",
    "BA": "Bosnia, BiH, Bosnia and Herzegovina, Bosnia-Hercegovina",
    "BN": "Brunei, Brunei Darussalam",
    "BO": "Bolivia",
    "BY": "Belarus, Byelorussia",
    "CC": "Cocos Islands, Keeling Islands",
    "CD": "DRC, DR Congo, D.R. Congo, Congo DR, Congo-Kinshasa, Congo (Kinshasa), Congo (DRC),"
    " Democratic Republic of Congo, Zaire, RDC, RD Congo",
    "CF": "CAR, Central African Rep.",
    "CG": "Congo-Brazzaville, Congo (Brazzaville), Congo Republic, Republic of Congo",
    "CI": "Ivory Coast, Cote d'Ivoire, Republic of Cote d'Ivoire",
    "CN": "PRC, PR China, Mainland China, China (PRC)",
    "CV": "Cape Verde, Cabo Verde",
    "CZ": "Czech Republic, Czech Rep., Czechia",
    "DO": "Dominican Rep.",
    "FK": "Falkland Islands, Falklands, Malvinas",
    "FM": "Micronesia, FSM",
    "GB": "UK, U.K., Great Britain, Britain, G.B., England, Scotland, Wales, Northern Ireland",
    "GM": "Gambia, The Gambia",
    "HK": "Hong Kong, Hong Kong SAR, Hongkong",
    "IR": "Iran",
    "KG": "Kirghizia, Kyrgyz Republic",
    "KN": "St Kitts, Saint Kitts, St. Kitts and Nevis",
    "KP": "North Korea, DPRK, Korea (North), Korea North",
    "KR": "South Korea, Republic of Korea, ROK, Korea (South), Korea South, Korea (Republic of), S. Korea",
    "LA": "Laos, Lao",
    "LC": "St. Lucia",
    "MD": "Moldova",
    "MK": "Macedonia, North Macedonia, FYROM, FYR Macedonia, Former Yugoslav Republic of Macedonia",
    "MM": "Burma, Myanmar (Burma)",
    "MO": "Macau, Macao, Macau SAR",
    "NL": "Netherlands, The Netherlands, Holland",
    "PG": "PNG, Papua-New Guinea",
    "PS": "Palestine, State of Palestine, Palestinian Territory, Palestinian Territories, West Bank, Gaza, Gaza Strip,"
    " Occupied Palestinian Territory",
    "RU": "Russia, Russian Fed.",
    "SA": "KSA, Saudi",
    "ST": "Sao Tome",
    "SY": "Syria",
    "SZ": "Swaziland, Eswatini, eSwatini, Kingdom of Swaziland",
    "TL": "East Timor, Timor, Timor Leste",
    "TR": "Turkey, Turkiye, Republic of Turkey, Republic of Turkiye",
    "TT": "Trinidad",
    "TW": "Taiwan, R.O.C., Republic of China, Taiwan (ROC), Chinese Taipei",
    "TZ": "Tanzania",
    "US": "USA, U.S.A., U.S., US of A, America, United States (USA), States",
    "VA": "Vatican, Vatican City, Holy See",
    "VC": "St. Vincent",
    "VE": "Venezuela",
    "VG": "BVI, British Virgin Islands",
    "VI": "USVI, US Virgin Islands, U.S. Virgin Islands",
    "VN": "Vietnam, Viet-Nam",
    "XK": "Kosovo, Republic of Kosovo, Kosova, XKX, XK",
    "ZA": "RSA, South Africa",
}
"""Names that ISO 3166 and CLDR lack, and former names, comma-separated by country."""


def country_names() -> dict[str, set[str]]:
    """The normalised names and codes of each country.

    1. Aliases come before ISO's names, those before CLDR's English names, and those before CLDR's other languages.
    2. A name that means several countries at the same rank means none of them.
    """
    owners: dict[str, str] = {}
    for names in (_aliases(), _iso_names(), _cldr_names(english=True), _cldr_names(english=False)):
        candidates: dict[str, set[str]] = collections.defaultdict(set)
        for code, name in names:
            candidates[normalise(name)].add(code)
        owners |= {
            name: next(iter(codes))
            for name, codes in candidates.items()
            if name and name not in owners and len(codes) == 1
        }
    found: dict[str, set[str]] = collections.defaultdict(set)
    for name, code in owners.items():
        found[code].add(name)
    return found


def country_name_lines() -> str:
    """Lines of a normalised name, a tab and the country's code, for domain/identifiers/countries.py."""
    return "".join(sorted(f"{name}\t{code}\n" for code, names in country_names().items() for name in names))


def _aliases() -> Iterator[tuple[str, str]]:
    for entry in _iso():
        yield entry["alpha_2"], entry["alpha_2"]
    for code, names in ALIASES.items():
        for name in names.split(", "):
            yield code, name.strip()


def _iso_names() -> Iterator[tuple[str, str]]:
    """ISO's names and codes. An inverted name also in its natural order: "Korea, Republic of"."""
    for entry in _iso():
        for key in ("alpha_3", "name", "common_name", "official_name"):
            if name := entry.get(key):
                yield entry["alpha_2"], name
                head, comma, rest = name.partition(", ")
                if comma and rest.endswith(" of"):
                    yield entry["alpha_2"], f"{rest} {head}"


def _iso() -> list[dict[str, str]]:
    listed: list[dict[str, str]] = read_json(PYCOUNTRY, "pycountry/databases/iso3166-1.json")["3166-1"]
    return listed


def _cldr_names(*, english: bool) -> Iterator[tuple[str, str]]:
    """CLDR's names of countries, in English or in all other languages."""
    script = """import json, sys
from babel import Locale, localedata
locales = [one for one in localedata.locale_identifiers() if (one == "en") == (sys.argv[1] == "en")]
found = {item for one in locales for item in Locale.parse(one).territories.items() if len(item[0]) == 2}
print(json.dumps(sorted(found)))"""
    command = [sys.executable, "-c", script, "en" if english else "other"]
    process = subprocess.run(command, check=True, capture_output=True, env={"PYTHONPATH": str(BABEL.open())})  # noqa: S603
    known = {entry["alpha_2"] for entry in _iso()} | {"XK"}
    for code, name in json.loads(process.stdout):
        if code in known:
            yield code, name
