"""`audience-service taxonomy`, as an operator runs it."""

import zipfile
from pathlib import Path

import pytest

from tests.conftest import URI, Service
from tests.support.command import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]  # a process takes seconds to start on a busy machine

EXPORTS = Path(__file__).parent / "data" / "exports"


def _settings(service: Service) -> dict[str, str]:
    return {"AUDIENCE_MONGODB_URI": URI, "AUDIENCE_DATABASE": service.store.database.name}


def test_an_import_is_listed_replaced_and_removed(real_service: Service, tmp_path: Path) -> None:
    settings = _settings(real_service)
    files = [str(EXPORTS / f"tiktok_{name}.json") for name in ("regions", "interests", "languages")]
    names = tmp_path / "unlinked.csv"
    done = run("taxonomy", "import", "--platform", "tiktok", *files, "--unlinked", str(names), **settings)
    assert "linked 6: 2 interest, 1 country, 1 subdivision, 1 city, 1 language" in done.stdout, done.stderr
    assert "not linked 3" in done.stdout
    assert "1: no kind of node has its type: New York, NY (501, DMA)" in done.stdout
    assert '501,"New York, NY",DMA,US,,no kind of node has its type,DMA' in names.read_text()
    listed = run("taxonomy", "list", **settings).stdout
    assert listed.startswith("tiktok: 9 nodes, 6 linked, 3 not linked, imported on ")
    assert "removed" in run("taxonomy", "remove", "--platform", "tiktok", **settings).stdout
    assert run("taxonomy", "remove", "--platform", "tiktok", **settings).returncode == 1


def test_a_dry_run_reads_a_file_with_a_byte_order_mark_and_writes_nothing(
    real_service: Service, tmp_path: Path
) -> None:
    marked = tmp_path / "languages.json"
    marked.write_text((EXPORTS / "tiktok_languages.json").read_text(), encoding="utf-8-sig")
    tried = run("taxonomy", "import", "--platform", "tiktok", str(marked), "--dry-run", **_settings(real_service))
    assert (tried.returncode, "linked 1: 1 language" in tried.stdout) == (0, True), tried.stderr
    assert "nothing was written" in tried.stdout
    assert run("taxonomy", "list", **_settings(real_service)).stdout == "no platform is imported\n"


def test_a_file_of_another_platform_is_refused_with_what_is_wrong(real_service: Service) -> None:
    file = str(EXPORTS / "tiktok_regions.json")
    refused = run("taxonomy", "import", "--platform", "google", file, **_settings(real_service))
    assert (refused.returncode, "does not start with Google's columns" in refused.stderr) == (1, True)


def test_an_archive_is_refused_with_the_advice_to_unpack_it(tmp_path: Path) -> None:
    packed = tmp_path / "geotargets.csv.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(EXPORTS / "google.csv", "geotargets.csv")
    refused = run("taxonomy", "import", "--platform", "google", str(packed))
    assert (refused.returncode, "is a ZIP archive; unpack it" in refused.stderr) == (1, True)


def test_meta_goes_by_the_name_of_facebook_too(real_service: Service) -> None:
    file = str(EXPORTS / "meta_locales.json")
    done = run("taxonomy", "import", "--platform", "facebook", file, **_settings(real_service))
    assert "published 2 nodes of meta" in done.stdout, done.stderr
    assert run("taxonomy", "list", **_settings(real_service)).stdout.startswith("meta: 2 nodes, 1 linked, 1 not linked")
