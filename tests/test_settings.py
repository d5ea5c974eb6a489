"""Settings: errors name the invalid setting, and the server needs a key."""

from pathlib import Path

import pytest

from audience_service.settings import Settings
from audience_service.settings_error import SettingsError
from audience_service.wiring.server import build_key_ring


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("AUDIENCE_WORKERS", "0", "AUDIENCE_WORKERS"),
        ("AUDIENCE_WORKERS", "2", "needs AUDIENCE_MONGODB_URI"),
        ("AUDIENCE_ORG_SHARE", "1.5", "AUDIENCE_ORG_SHARE"),
        ("AUDIENCE_RATE_LIMIT_PER_ORG", "5/day", "AUDIENCE_RATE_LIMIT_PER_ORG"),
        ("AUDIENCE_DATATYPES", "contact,$cmd", "AUDIENCE_DATATYPES"),
        ("AUDIENCE_DATATYPES", ",", "AUDIENCE_DATATYPES"),
        ("AUDIENCE_JWT_ALGORITHMS", "HS256,none", "AUDIENCE_JWT_ALGORITHMS"),
        ("AUDIENCE_LISTEN", "nowhere", "AUDIENCE_LISTEN: nowhere is not an address"),
        ("AUDIENCE_LISTEN", "127.0.0.1:65536", "AUDIENCE_LISTEN: 127.0.0.1:65536 has a port above 65535"),
        ("AUDIENCE_METRICS_LISTEN", "0.0.0.0:99999", "AUDIENCE_METRICS_LISTEN: .* has a port above"),
        ("AUDIENCE_HTTP_CORS_ORIGINS", "https://a.io, b.io", "b.io is not an origin"),
        ("AUDIENCE_HTTP_LISTEN", "nowhere", "AUDIENCE_HTTP_LISTEN: nowhere is not an address"),
        ("AUDIENCE_REFLECTION", "perhaps", "AUDIENCE_REFLECTION"),
        ("AUDIENCE_MONGO_URI", "mongodb://db/", "did you mean AUDIENCE_MONGODB_URI"),
    ],
)
def test_an_invalid_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=expected.replace("(", r"\(")):
        Settings.load()


def test_each_problem_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator corrects all of them at once."""
    for name in ("AUDIENCE_THREAD", "AUDIENCE_MAX_STREAM"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("AUDIENCE_WORKERS", "many")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    names = [line.partition(":")[0] for line in str(caught.value).splitlines()]
    assert names == ["AUDIENCE_MAX_STREAM", "AUDIENCE_THREAD", "AUDIENCE_WORKERS"]


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("k" * 40 + "\n")
    for name, value in {
        "AUDIENCE_LISTEN": "0.0.0.0:6000",
        "AUDIENCE_DATATYPES": "contact, lead",
        "AUDIENCE_JWT_KEY_FILE": f"2026-11={key_file}, {key_file}",
        "AUDIENCE_REFLECTION": "off",
        "AUDIENCE_MONGODB_URI": "",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.listen == "0.0.0.0:6000"
    assert settings.datatypes == ("contact", "lead")
    assert settings.key_files() == (("2026-11", key_file), (None, key_file))
    assert settings.reflection is False
    assert settings.mongodb_uri is None


def test_a_missing_or_weak_key_prevents_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="AUDIENCE_JWT_KEY: is missing"):
        build_key_ring(Settings.load())
    monkeypatch.setenv("AUDIENCE_JWT_KEY", "short")
    with pytest.raises(SettingsError, match="shorter than 32 bytes"):
        build_key_ring(Settings.load())
    monkeypatch.delenv("AUDIENCE_JWT_KEY")
    monkeypatch.setenv("AUDIENCE_JWT_KEY_FILE", "/nowhere")
    with pytest.raises(SettingsError, match="AUDIENCE_JWT_KEY_FILE"):
        build_key_ring(Settings.load())


def test_sealing_keys_come_from_a_list_or_from_the_lines_of_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="AUDIENCE_SEALING_KEY: is missing"):
        Settings.load().sealing_keys()
    monkeypatch.setenv("AUDIENCE_SEALING_KEY", f"{'n' * 32}, {'o' * 40}")
    assert Settings.load().sealing_keys() == (b"n" * 32, b"o" * 40)
    monkeypatch.delenv("AUDIENCE_SEALING_KEY")
    key_file = tmp_path / "sealing"
    key_file.write_text(f"{'n' * 32}\n{'o' * 40}\n")
    monkeypatch.setenv("AUDIENCE_SEALING_KEY_FILE", str(key_file))
    assert Settings.load().sealing_keys() == (b"n" * 32, b"o" * 40)
    key_file.write_text(f"{'n' * 32}\nshort\n")
    with pytest.raises(SettingsError, match="AUDIENCE_SEALING_KEY_FILE: secret 2 is shorter than 32 bytes"):
        Settings.load().sealing_keys()


def test_development_generates_only_the_keys_that_are_missing() -> None:
    settings = Settings(jwt_key="k" * 40).with_dev_keys()
    assert settings.jwt_key == Settings(jwt_key="k" * 40).jwt_key
    assert settings.sealing_keys() != Settings().with_dev_keys().sealing_keys()


def test_secrets_do_not_show_in_logs() -> None:
    settings = Settings(jwt_key="k" * 40, sealing_key="k" * 40, mongodb_uri="mongodb://user:password@host/")
    assert "password" not in repr(settings)
    assert "kkkk" not in repr(settings)
