"""What to write instead of operators that other tools have, and of MongoDB's that this language lacks."""

import difflib

_NOT = '{"$not": {"$containsText": ...}}'
_GEOMETRY = "for stored coordinates write $geoWithin, for the name of a city $nearCity"
_RANDOM = 'for a stable random share write {"$bucket": {"salt": "test", "of": 100, "from": 0, "below": 10}}'

_HINTS = {
    **dict.fromkeys(("like", "ilike", "search", "text"), "$containsText"),
    **dict.fromkeys(("contains", "icontains", "includes", "has"), "$containsText, or for a list the value alone"),
    **dict.fromkeys(("startswith", "beginswith", "istartswith", "prefix"), "$startsWithText"),
    **dict.fromkeys(("endswith", "iendswith", "suffix"), "$endsWithText"),
    **dict.fromkeys(("iequals", "ieq", "equalsignorecase"), "$equalsText"),
    **dict.fromkeys(("notlike", "notcontains", "doesnotcontain", "notilike", "ncontains"), _NOT),
    **dict.fromkeys(("matches", "regexp", "rlike", "pattern"), "$regex"),
    **dict.fromkeys(("between", "range"), '{"$gte": ..., "$lt": ...}'),
    "notbetween": '{"$not": {"$gte": ..., "$lt": ...}}',
    **dict.fromkeys(("isnull", "null"), "null as the value"),
    **dict.fromkeys(("istrue", "isfalse", "isboolean"), "true or false as the value"),
    **dict.fromkeys(
        ("isnotnull", "notnull", "isset", "hasvalue", "hasanyvalue", "isknown", "known", "present"),
        '{"$nin": [null, "", []]}',
    ),
    **dict.fromkeys(
        ("isempty", "empty", "isblank", "blank", "notset", "isunknown", "unknown", "isnotset"),
        '{"$in": [null, "", []]}',
    ),
    **dict.fromkeys(("isnotempty", "notempty", "notblank"), '{"$nin": [null, "", []]}'),
    **dict.fromkeys(("notin", "notanyof"), "$nin"),
    **dict.fromkeys(("anyof", "isanyof", "containsany", "hasany", "overlaps", "some", "any"), "$in"),
    **dict.fromkeys(("containsall", "hasall", "allof", "every"), "$all"),
    **dict.fromkeys(("equals", "equal", "is"), "$eq"),
    **dict.fromkeys(("neq", "notequal", "notequals", "isnot", "notis", "noteq"), "$ne"),
    **dict.fromkeys(("before", "lessthan", "under"), "$lt"),
    **dict.fromkeys(("after", "greaterthan", "over"), "$gt"),
    **dict.fromkeys(("min", "atleast", "ge"), "$gte"),
    **dict.fromkeys(("max", "atmost", "le"), "$lte"),
    **dict.fromkeys(("length", "len", "count"), "$size"),
    "nand": '{"$nor": [{"$and": [...]}]}',
    "xor": '{"$or": [{"$and": [a, not b]}, {"$and": [not a, b]}]}',
    **dict.fromkeys(("near", "nearsphere", "geointersects", "within", "geonear", "distance", "radius"), _GEOMETRY),
    **dict.fromkeys(("incity", "nearby", "aroundcity", "cityradius"), "$nearCity"),
    **dict.fromkeys(("rand", "samplerate", "sample", "random"), _RANDOM),
    **dict.fromkeys(("where", "function", "accumulator", "jsonschema"), "conditions of this page, or $expr"),
    **dict.fromkeys(("lookup", "join", "exists_in"), "$related"),
    **dict.fromkeys(("insegment", "inlist", "memberof", "segment", "inaudiences"), "$inAudience"),
    **dict.fromkeys(
        ("withinlast", "inthelast", "inlast", "last", "lastdays", "ago", "relative", "lessthanago", "newerthan"),
        '{"$gte": {"$dateSubtract": ...}}',
    ),
    **dict.fromkeys(("olderthan", "morethanago", "notinthelast"), '{"$lt": {"$dateSubtract": ...}}'),
    **dict.fromkeys(
        ("dateadd", "datesubtract", "datetrunc"), 'a comparison around it, like {"$gte": {"$dateSubtract": ...}}'
    ),
    **dict.fromkeys(("onorafter", "since", "from"), "$gte"),
    **dict.fromkeys(("onorbefore", "until", "upto"), "$lte"),
    **dict.fromkeys(("none", "noneof", "neither"), "$nor"),
}


def advice(name: str, allowed: tuple[str, ...]) -> str:
    """What to write instead of an unknown operator: a known idiom, a similar name, or the allowed ones."""
    plain = name.lstrip("$").replace("_", "").replace("-", "").lower()
    if hint := _HINTS.get(plain):
        return hint if hint.startswith("for ") else f"write {hint}"
    similar = difflib.get_close_matches(name[:50], allowed, n=1, cutoff=0.7)
    key = "for a key with a dollar write a path, like data.$browser"
    return f"did you mean {similar[0]}?" if similar else f"{key}; the operators here are {', '.join(allowed)}"
