"""Passwords and tokens in URIs, and in keys of components."""

import pytest

from pipeline.storage.redaction import redacted_settings, without_password, without_secret


@pytest.mark.parametrize(
    "text, expected",
    [
        ("postgresql://u:p@h:1/d", "postgresql://h:1/d"),
        ("at http://u:p@s@h/x a@b", "at http://h/x a@b"),
        ("https://h/a.csv?token=abc&part=3", "https://h/a.csv?token=***&part=3"),
        (
            "https://h/a?X-Amz-Signature=1f&X-Amz-Date=2",
            "https://h/a?X-Amz-Signature=***&X-Amz-Date=2",
        ),
        ("https://h/a?sv=1&sig=a%2Bb#part", "https://h/a?sv=1&sig=***#part"),
        (
            "https://h/a?api_key=abc https://h/b?access-token=d",
            "https://h/a?api_key=*** https://h/b?access-token=***",
        ),
        ("['https://h/a?key=abc', 'b']", "['https://h/a?key=***', 'b']"),
        ("https://h/a?monkey=1&tokens=3&q=token=a", "https://h/a?monkey=1&tokens=3&q=token=a"),
        ("sqlite:////a/b@c.db", "sqlite:////a/b@c.db"),
        ("stream.token_budget=512", "stream.token_budget=512"),
    ],
)
def test_only_secrets_are_removed(text: str, expected: str) -> None:
    assert without_password(text) == expected


@pytest.mark.parametrize(
    "key", ["track.api_key", "track.token", "track.bot-token", "corpus.PASSWORD", "track.my_secret"]
)
def test_a_secret_key_hides_its_value(key: str) -> None:
    assert without_secret(f"{key}=a=b c") == f"{key}=***"
    assert without_secret(f"--{key}=a=b c") == f"--{key}=***"
    assert redacted_settings({key: "a=b c"}) == {key: "***"}


@pytest.mark.parametrize(
    "key", ["stream.token_budget", "corpus.max_tokens", "corpus.tokenizer", "corpus.text"]
)
def test_other_keys_keep_their_values(key: str) -> None:
    assert without_secret(f"{key}=token") == f"{key}=token"
    names = {"pass": "passed", "token": "s3://u:p@host/a"}
    assert redacted_settings({key: names}) == {key: {"pass": "passed", "token": "s3://host/a"}}
