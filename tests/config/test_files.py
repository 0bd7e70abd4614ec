"""TLS files that the configuration names."""

from __future__ import annotations

from pathlib import Path

from .builders import config, problems, warnings

TLS = Path(__file__).parent / "tls"
CERTIFICATE = str(TLS / "certificate.pem")
KEY = str(TLS / "key.pem")
OTHER_KEY = str(TLS / "other_key.pem")


def test_a_certificate_with_its_key_is_fine() -> None:
    general = config(
        {"general/tls_certificate": CERTIFICATE, "general/tls_private_key": KEY}
    ).general
    assert general.tls_certificate == Path(CERTIFICATE)


def test_a_certificate_without_a_key_is_a_mistake() -> None:
    assert problems({"general/tls_certificate": CERTIFICATE}) == [
        "general.tls_private_key: is required with tls_certificate"
    ]


def test_a_key_without_a_certificate_is_a_warning() -> None:
    assert warnings({"general/tls_private_key": KEY}) == (
        "general.tls_private_key: has no effect without tls_certificate",
    )


def test_a_certificate_and_a_key_belong_together() -> None:
    [problem] = problems(
        {"general/tls_certificate": CERTIFICATE, "general/tls_private_key": OTHER_KEY}
    )
    assert problem.startswith("general.tls_certificate: ")
    assert problem.endswith("key values mismatch")


def test_each_unreadable_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    assert problems(
        {
            "general/tls_certificate": str(missing),
            "general/tls_private_key": str(tmp_path),
            "general/server_tls": True,
            "general/verify_server_certificate": True,
            "general/server_tls_ca_file": str(missing),
        }
    ) == [
        f"general.tls_certificate: cannot read {missing}: No such file or directory",
        f"general.tls_private_key: cannot read {tmp_path}: Is a directory",
        f"general.server_tls_ca_file: cannot read {missing}: No such file or directory",
    ]


def test_a_file_without_a_certificate_is_a_mistake(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    [problem] = problems(
        {"general/tls_certificate": str(empty), "general/tls_private_key": KEY}
    )
    assert problem.startswith(f"general.tls_certificate: {empty} and the key {KEY} are not")


def test_ca_certificates_are_read() -> None:
    changes = {
        "general/server_tls": True,
        "general/verify_server_certificate": True,
        "general/server_tls_ca_file": CERTIFICATE,
    }
    assert config(changes).general.server_tls_ca_file == Path(CERTIFICATE)


def test_a_ca_file_without_certificates_is_a_mistake() -> None:
    changes = {
        "general/server_tls": True,
        "general/verify_server_certificate": True,
        "general/server_tls_ca_file": KEY,
    }
    [problem] = problems(changes)
    assert problem.startswith(f"general.server_tls_ca_file: {KEY} holds no usable certificate")


def test_a_check_of_certificates_without_tls_is_a_warning() -> None:
    assert warnings({"general/verify_server_certificate": True}) == (
        "general.verify_server_certificate: has no effect unless server_tls is true",
    )
    assert warnings({"general/server_tls_ca_file": CERTIFICATE}) == (
        "general.server_tls_ca_file: has no effect unless verify_server_certificate is true",
    )


def test_the_name_of_a_file_may_not_hold_a_zero_byte() -> None:
    assert problems({"general/tls_certificate": "a\0b", "general/tls_private_key": KEY}) == [
        "general.tls_certificate: is not the name of a file"
    ]
