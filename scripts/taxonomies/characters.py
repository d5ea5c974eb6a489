"""The simplified forms of traditional Chinese characters, from OpenCC."""

import unicodedata

from .packages import OPENCC


def simplified_characters() -> str:
    """Lines of a traditional character and its simplified form, for domain/core/normalisation.py.

    If OpenCC lists several forms, the first one is its default. Chains are resolved, so that no form is a traditional
    character itself. Characters outside the Basic Multilingual Plane and compatibility characters are left out.
    """
    lines = (OPENCC.open() / "opencc/dictionary/TSCharacters.txt").read_text(encoding="utf-8").splitlines()
    pairs = {}
    for line in lines:
        traditional, _, forms = line.partition("\t")
        simplified = forms.split(" ")[0]
        if len(traditional) == len(simplified) == 1 and simplified == unicodedata.normalize("NFKD", simplified):
            pairs[traditional] = simplified
    resolved = {traditional: pairs.get(simplified, simplified) for traditional, simplified in pairs.items()}
    return "".join(f"{one}{other}\n" for one, other in sorted(resolved.items()) if one != other)
