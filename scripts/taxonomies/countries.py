"""The names of countries, in any language and as people write them."""

import collections
import json
import subprocess
import sys
from collections.abc import Iterator

from audience_service.domain.core.normalisation import normalise

from .packages import BABEL, PYCOUNTRY, read_json

ALIASES = {
    "AE": "VAE, الإمارات, United Arab Emirate, Dubai, Abu Dhabi, UAE, Emirates, The Emirates, United Arab "
    "Emirates (UAE)",
    "AG": "Antigua",
    "AL": "Shqipëria",
    "AR": "República Argentina",
    "AS": "American Samoa",
    "AT": "Oesterreich",
    "AU": "Commonwealth of Australia",
    "BA": "Bosnia and Hercegovina, Bosnia, BiH, Bosnia and Herzegovina, Bosnia-Hercegovina",
    "BF": "Burkina",
    "BN": "Negara Brunei Darussalam, Brunei, Brunei Darussalam",
    "BO": "Bolivia",
    "BY": "Belorussia, Weißrussland, Belarus, Byelorussia",
    "CC": "Cocos Islands, Keeling Islands",
    "CD": "Democratic Republic of the Congo, République Démocratique du Congo, DRC, DR Congo, D.R. Congo, "
    "Congo DR, Congo-Zaire, Congo-Kinshasa, Congo (Kinshasa), Congo (DRC), Democratic Republic of Congo, Zaire, "
    "RDC, RD Congo",
    "CF": "CAR, Central African Rep.",
    "CG": "République du Congo, Republic of the Congo, Congo-Brazzaville, Congo (Brazzaville), Congo "
    "Republic, Republic of Congo",
    "CH": "Confoederatio Helvetica, SUI",
    "CI": "Elfenbeinküste, RCI, Ivory Coast, Cote d'Ivoire, Republic of Cote d'Ivoire",
    "CN": "中国大陆, P.R. of China, PR of China, PRC, PR China, Mainland China, China (PRC)",
    "CV": "Cape Verde, Cabo Verde",
    "CZ": "Czech, République tchèque, Czech Republic, Czech Rep., Czechia",
    "DE": "BRD, FRG, GER, Bundesrepublik Deutschland, West Germany",
    "DK": "DEN",
    "DO": "Rep. Dominicana, Dom. Rep., Dominican Rep.",
    "EG": "Arab Republic of Egypt",
    "FK": "Falkland Islands, Falklands, Malvinas",
    "FM": "Micronesia, FSM, Fed. States of Micronesia",
    "FO": "Faeroe Islands, The Faroes",
    "GB": "Großbritannien, Angleterre, Inghilterra, Inglaterra, Engeland, Англия, Cymru, GB-UK, United "
    "Kingdom of Great Britain, England & Wales, UK, U.K., Great Britain, Britain, G.B., England, "
    "Scotland, Wales, Northern Ireland",
    "GE": "Republic of Georgia, Sakartvelo",
    "GF": "Guyane",
    "GM": "Gambia, The Gambia",
    "GR": "Ελλάς, Ellada",
    "HK": "香港, HKSAR, Hong Kong China, Hong Kong, Hong Kong SAR, Hongkong",
    "IE": "Republic of Ireland, Southern Ireland, ROI, Ireland (Republic), Irish Republic",
    "IM": "IOM, I.O.M.",
    "IR": "Persia, Iran",
    "JE": "Jersey (Channel Islands)",
    "JP": "Nippon, Nihon, 日本国",
    "KG": "Kirghizia, Kyrgyz Republic",
    "KH": "Kampuchea",
    "KN": "St Kitts, Saint Kitts, St. Kitts and Nevis",
    "KP": "Democratic People's Republic of Korea, Democratic Republic of Korea, D.P.R. Korea, North Korea, "
    "DPRK, Korea (North), Korea North",
    "KR": "Korea Republic, Republic of South Korea, 한국, South Korea, Republic of Korea, ROK, Korea (South), "
    "Korea South, Korea (Republic of), S. Korea",
    "KY": "Cayman, Grand Cayman",
    "LA": "Lao PDR, Laos PDR, Laos, Lao",
    "LC": "Sainte Lucie, St. Lucia",
    "LK": "Ceylon",
    "LY": "Libyan Arab Jamahiriya",
    "MD": "Moldova",
    "MK": "Republic of Macedonia, Northern Macedonia, Macedonia FYR, Macedonia, North Macedonia, FYROM, FYR "
    "Macedonia, Former Yugoslav Republic of Macedonia",
    "MM": "Burma, Myanmar (Burma)",
    "MO": "澳門, Macau China, Macao China, Macau, Macao, Macau SAR",
    "MP": "Northern Marianas, CNMI, Saipan",
    "MV": "Maldive Islands",
    "MX": "Méjico, Estados Unidos Mexicanos",
    "NL": "Hollande, NED, Netherland, Netherlands, The Netherlands, Holland",
    "NZ": "Aotearoa",
    "PF": "Tahiti",
    "PG": "PNG, Papua-New Guinea",
    "PH": "Phillipines, Philipines",
    "PS": "Palestinian Authority, فلسطين, West Bank and Gaza, Palestine, State of Palestine, Palestinian "
    "Territory, Palestinian Territories, West Bank, Gaza, Gaza Strip, Occupied Palestinian Territory",
    "RU": "РФ, Российская Федерация, Russia, Russian Fed.",
    "SA": "السعودية, Saoudi Arabia, KSA, Saudi",
    "SS": "South Sudan, S. Sudan, S Sudan",
    "ST": "Sao Tome",
    "SX": "St. Maarten, Saint Maarten",
    "SY": "Syria",
    "SZ": "Swaziland, Eswatini, eSwatini, Kingdom of Swaziland",
    "TC": "Turks and Caicos, Turks & Caicos, Turks and Caicos Is.",
    "TF": "French Southern and Antarctic Lands, French Southern Lands",
    "TH": "ประเทศไทย",
    "TL": "East Timor, Timor, Timor Leste",
    "TR": "Türkiye Cumhuriyeti, Turkey, Turkiye, Republic of Turkey, Republic of Turkiye",
    "TT": "Tobago, Trinidad",
    "TW": "中華民國, Taiwan China, Taiwan, R.O.C., Republic of China, Taiwan (ROC), Chinese Taipei",
    "TZ": "Tanzania",
    "US": "États-Unis d'Amérique, EEUU, EE. UU., EE.UU., EUA, E.U.A., Vereinigte Staaten von Amerika, Stati "
    "Uniti d'America, Estados Unidos da América, Estados Unidos de América, VS, США, アメリカ, 米国, ABD, "
    "Amérique, USA, U.S.A., U.S., US of A, America, United States (USA), States",
    "UY": "República Oriental del Uruguay",
    "VA": "Vatican City State, Vatican, Vatican City, Holy See",
    "VC": "Saint Vincent, Saint Vincent and the Grenadines, St. Vincent",
    "VE": "Venezuela RB, Venezuela",
    "VG": "BVI, British Virgin Islands",
    "VI": "United States Virgin Islands, US Virgin Is., USVI, US Virgin Islands, U.S. Virgin Islands",
    "VN": "Socialist Republic of Vietnam, S.R. Vietnam, Vietnam, Viet-Nam",
    "XK": "Kosovo (UN), Kosovo, Republic of Kosovo, Kosova, XKX, XK",
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
