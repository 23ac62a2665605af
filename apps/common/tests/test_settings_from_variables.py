"""Settings come from variables; a wrong one stops an app with its name."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from pydantic import ValidationError

from apps.common.settings import Port, Settings, SettingsError


class LampSettings(Settings):
    """An app's settings."""

    lamp_port: Port
    group: IPv4Address = IPv4Address("239.1.2.3")


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IFE_REGISTRATION", "EC-LAB")
    monkeypatch.setenv("IFE_LAMP_PORT", "8080")


def test_settings_are_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IFE_GROUP", "239.4.5.6")
    monkeypatch.setenv("IFE_OF_ANOTHER_APP", "1")
    settings = LampSettings.load()
    assert settings.registration == "EC-LAB"
    assert settings.lamp_port == 8080
    assert settings.group == IPv4Address("239.4.5.6")
    assert settings.log_level == "info"
    assert settings.redis_url == "unix:///run/ife/redis/redis.sock"


def test_settings_cannot_be_changed() -> None:
    settings = LampSettings.load()
    with pytest.raises(ValidationError, match="frozen"):
        settings.lamp_port = 1  # type: ignore[misc] # that is what is tested


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IFE_LAMP_PORT")
    with pytest.raises(SettingsError, match=r"^wrong settings:\n  IFE_LAMP_PORT: Field required$"):
        LampSettings.load()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("IFE_REGISTRATION", "ec lab"),
        ("IFE_REGISTRATION", ""),
        ("IFE_LAMP_PORT", "0"),
        ("IFE_LAMP_PORT", "65536"),
        ("IFE_LAMP_PORT", "http"),
        ("IFE_GROUP", "239.1.2"),
        ("IFE_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"\n  {variable}: "):
        LampSettings.load()


def test_all_wrong_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IFE_REGISTRATION", "?")
    monkeypatch.setenv("IFE_LAMP_PORT", "?")
    with pytest.raises(SettingsError) as caught:
        LampSettings.load()
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0].strip() for line in lines[1:]] == [
        *("IFE_REGISTRATION", "IFE_LAMP_PORT")
    ]


def test_a_value_is_not_told_since_it_may_be_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IFE_REGISTRATION", "hunter2")
    monkeypatch.setenv("IFE_LAMP_PORT", "hunter2")
    with pytest.raises(SettingsError) as caught:
        LampSettings.load()
    assert "hunter2" not in str(caught.value)
