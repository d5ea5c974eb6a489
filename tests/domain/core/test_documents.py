"""Undecoded documents: where they are cut, and what remains of them."""

import bson
import pytest

from audience_service.domain.core.documents import Documents, cut_documents, exclude


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("pad", [0, 1_000_000, 4_000_000])
def test_documents_are_cut_at_their_bounds(size: int, pad: int) -> None:
    """Each batch has at most `size` of them, and at most 3 MiB unless a single one is larger."""
    records = [{"pk": n, "sk": f"acme/contact/{n}", "pad": "x" * pad} for n in range(7)]
    batches = list(cut_documents(b"".join(map(bson.encode, records)), size))
    decoded = [bson.decode_all(batch.content) for batch in batches]
    assert [record for batch in decoded for record in batch] == records
    for batch, found in zip(batches, decoded, strict=True):
        assert (batch.count, batch.last_sk) == (len(found), found[-1]["sk"])
        assert batch.count <= size
        assert batch.count == 1 or len(batch.content) <= 3 * 1024 * 1024
    assert list(cut_documents(b"", size)) == []


def test_excluded_records_leave_the_documents() -> None:
    """What remains has its own count and last sk; nothing remains of a batch of excluded records."""
    [documents] = cut_documents(b"".join(bson.encode({"pk": key, "sk": key}) for key in "abcd"), 10)
    present = exclude(documents, {"a", "d"})
    assert present is not None
    assert (bson.decode_all(present.content), present.count, present.last_sk) == (
        [{"pk": "b", "sk": "b"}, {"pk": "c", "sk": "c"}],
        2,
        "c",
    )
    assert exclude(documents, set("abcd")) is None


@pytest.mark.parametrize("count", [2, 3, 7])
def test_halves_contain_every_document_once(count: int) -> None:
    """Each half has the sk of its own last record."""
    contents = [bson.encode({"sk": f"acme/contact/{n}", "n": "x" * n}) for n in range(count)]
    half = count // 2
    assert Documents(b"".join(contents), count, f"acme/contact/{count - 1}").halves() == (
        Documents(b"".join(contents[:half]), half, f"acme/contact/{half - 1}"),
        Documents(b"".join(contents[half:]), count - half, f"acme/contact/{count - 1}"),
    )
