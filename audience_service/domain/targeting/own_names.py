"""Which of the nodes with a name it is the own name of: Venice, not Dayton (Ohio), whose former name it is.

1. Own names are the main name, also within a longer one ("City of Westminster"), the names in CLDR, and everyday names.
2. Of codes with up to three letters only everyday names count: DC is the district, LA the city.
3. A country has each of its names, unless a region has it as its own: Holland is a country, Scotland a subdivision.
"""

from itertools import islice

from audience_service.domain.core.normalisation import normalise
from audience_service.domain.targeting.bitmap import Bitmap, bitmap, members
from audience_service.domain.targeting.everyday_names import EVERYDAY_NAMES
from audience_service.domain.targeting.model import Node
from audience_service.domain.targeting.tree import Tree

_MAX_CODE_LENGTH, _MAX_NODES = 3, 100


def with_own_name(tree: Tree, numbers: Bitmap, normalised: str) -> Bitmap:
    """Those of `numbers`, which a normalised name finds, of which it is an own name: at most the first 100."""
    first = list(islice(members(numbers), _MAX_NODES))
    if len(first) <= 1:
        return numbers
    own: set[int] = set()
    countries: set[int] = set()
    has_region = False
    for number, node in zip(first, tree.nodes(first), strict=True):
        is_own = _is_own(node, normalised)
        own |= {number} if is_own else set()
        countries |= {number} if node.kind == "country" else set()
        has_region = has_region or (is_own and node.kind in ("country", "subdivision"))
    return bitmap(own if has_region or len(normalised) <= _MAX_CODE_LENGTH else own | countries)


def _is_own(node: Node, normalised: str) -> bool:
    if any(normalise(name) == normalised for name in EVERYDAY_NAMES.get(node.same_as or node.id, ())):
        return True
    if len(normalised) <= _MAX_CODE_LENGTH:
        return False
    words = _complete(normalised)
    within = f" {words} " in f" {_complete(normalise(node.name))} "
    return within or any(_complete(normalise(name)) == words for name in node.localized.values())


def _complete(name: str) -> str:
    """The normalised name with its first word completed: "st louis" is "saint louis"."""
    return f"saint {name.removeprefix('st ')}" if name.startswith("st ") else name
