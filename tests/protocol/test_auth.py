"""Logins in both directions: our two halves against each other."""

from __future__ import annotations

import contextlib
import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import (
    AuthenticationError,
    ClientProtocolError,
    ConfigError,
    ServerError,
    ServerProtocolError,
)
from router.protocol.auth import (
    MAX_PASSWORD_BODY,
    AuthStep,
    ClientAuthenticator,
    Method,
    ServerAuthenticator,
)
from router.protocol.passwords import UserSecret, md5_hash, md5_response_to
from router.protocol.scram import ScramSecrets

VERIFIER = ScramSecrets.from_password("secret", b"0123456789abcdef", 1).verifier()
MD5 = md5_hash("app", "secret")
MD5_REQUEST = b"\x00\x00\x00\x05"


def log_in(
    method: str,
    stored: UserSecret | str | None,
    typed: UserSecret | str | None,
    *,
    user: str = "app",
) -> ServerAuthenticator:
    """Let our client half log in to our server half, until one of them is done or raises."""
    ours = ClientAuthenticator(method, user, stored)
    theirs = ServerAuthenticator(user, typed)
    request = ours.first()
    while request is not None:
        answer = theirs.receive(*split(request))
        if answer is None:
            break
        step = ours.receive(answer)
        request = step.send
    assert ours.is_done
    theirs.receive(Method.OK, b"")
    return theirs


def split(body: bytes) -> tuple[int, bytes]:
    """The method of an Authentication body, and what follows."""
    return int.from_bytes(body[:4]), body[4:]


class TestClientLogin:
    def test_trust_asks_for_nothing(self) -> None:
        ours = ClientAuthenticator("trust", "app", None)
        assert ours.first() is None
        assert ours.is_done

    @pytest.mark.parametrize(
        ("method", "stored"),
        [
            ("md5", "secret"),
            ("md5", MD5),
            ("md5", VERIFIER),
            ("scram-sha-256", "secret"),
            ("scram-sha-256", VERIFIER),
        ],
    )
    def test_the_right_password_is_accepted_in_each_stored_form(
        self, method: str, stored: str
    ) -> None:
        assert log_in(method, stored, "secret").is_done
        with pytest.raises(AuthenticationError):
            log_in(method, stored, "Secret")

    @pytest.mark.parametrize("method", ["md5", "scram-sha-256"])
    @pytest.mark.parametrize("stored", ["other", None, ""])
    def test_every_failure_reads_the_same(self, method: str, stored: str | None) -> None:
        with pytest.raises(AuthenticationError) as raised:
            log_in(method, stored, "secret")
        assert raised.value.message == 'password authentication failed for user "app"'
        assert raised.value.sqlstate == "28P01"

    def test_an_md5_hash_cannot_serve_scram(self) -> None:
        with pytest.raises(AuthenticationError):
            log_in("scram-sha-256", MD5, "secret")

    @pytest.mark.parametrize("stored", ["secret", VERIFIER, None, MD5])
    def test_scram_offers_the_same_salt_at_every_attempt(self, stored: str | None) -> None:
        def salt() -> bytes:
            ours = ClientAuthenticator("scram-sha-256", "app", stored)
            ours.first()
            send = ours.receive(initial_response(b"n,,n=,r=abc")).send
            assert send is not None
            return send.split(b",")[1]

        assert salt() == salt()

    def test_md5_salts_differ_from_login_to_login(self) -> None:
        salts = {ClientAuthenticator("md5", "app", "secret").first() for _ in range(4)}
        assert len(salts) == 4

    def test_md5_wants_the_exact_body(self) -> None:
        right = md5_response_to(MD5, b"salt")
        for body in (b"", right[:-1], right + b"\0", right.upper(), right[3:]):
            ours = ClientAuthenticator("md5", "app", "secret", salt=b"salt")
            assert ours.first() == MD5_REQUEST + b"salt"
            with pytest.raises(AuthenticationError):
                ours.receive(body)
        ours = ClientAuthenticator("md5", "app", "secret", salt=b"salt")
        ours.first()
        assert ours.receive(right) == AuthStep(None, done=True)

    def test_the_end_of_scram_carries_the_signature(self) -> None:
        ours = ClientAuthenticator("scram-sha-256", "app", VERIFIER)
        theirs = ServerAuthenticator("app", "secret")
        step = AuthStep(ours.first(), done=False)
        while not step.done:
            assert step.send is not None
            answer = theirs.receive(*split(step.send))
            assert answer is not None
            step = ours.receive(answer)
        assert step.send is not None
        code, data = split(step.send)
        assert (code, data[:2]) == (Method.SASL_FINAL, b"v=")

    def test_a_client_without_an_initial_response_gets_an_empty_challenge(self) -> None:
        ours = ClientAuthenticator("scram-sha-256", "app", VERIFIER)
        assert ours.first() == b"\x00\x00\x00\x0aSCRAM-SHA-256\0\0"
        step = ours.receive(b"SCRAM-SHA-256\0\xff\xff\xff\xff")
        assert step == AuthStep(b"\x00\x00\x00\x0b", done=False)
        send = ours.receive(b"n,,n=,r=abc").send
        assert send is not None
        assert send.startswith(b"\x00\x00\x00\x0br=abc")

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            (b"", "invalid SASLInitialResponse"),
            (b"SCRAM-SHA-256", "invalid SASLInitialResponse"),
            (b"SCRAM-SHA-256\0\0\0", "invalid SASLInitialResponse"),
            (b"SCRAM-SHA-256\0\0\0\0\x05n,,", "invalid SASLInitialResponse"),
            (b"SCRAM-SHA-256\0\xff\xff\xff\xffn,,", "invalid SASLInitialResponse"),
            (b"SCRAM-SHA-256\0\xff\xff\xff\xfe", "invalid SASLInitialResponse"),
            (b"SCRAM-SHA-256-PLUS\0\xff\xff\xff\xff", "invalid SASL authentication mechanism"),
            (b"x" * (MAX_PASSWORD_BODY + 1), "invalid password packet size"),
        ],
    )
    def test_a_bad_initial_response_is_refused(self, body: bytes, text: str) -> None:
        ours = ClientAuthenticator("scram-sha-256", "app", VERIFIER)
        ours.first()
        with pytest.raises(ClientProtocolError, match=text):
            ours.receive(body)

    @pytest.mark.parametrize("method", ["trust", "md5", "scram-sha-256"])
    def test_a_password_that_was_not_asked_for_is_refused(self, method: str) -> None:
        ours = ClientAuthenticator(method, "app", VERIFIER)
        if method == "trust":
            ours.first()
        with pytest.raises(ClientProtocolError, match="unexpected password message"):
            ours.receive(b"secret\0")

    def test_there_is_no_second_try(self) -> None:
        ours = ClientAuthenticator("md5", "app", "secret", salt=b"salt")
        ours.first()
        with pytest.raises(AuthenticationError):
            ours.receive(b"wrong\0")
        with pytest.raises(ClientProtocolError):
            ours.receive(md5_response_to(MD5, b"salt"))
        assert not ours.is_done

    def test_an_unknown_method_is_the_operators_mistake(self) -> None:
        with pytest.raises(ConfigError, match="'ldap'"):
            ClientAuthenticator("ldap", "app", None)


class TestServerLogin:
    def test_trust_needs_no_password(self) -> None:
        theirs = ServerAuthenticator("app", None)
        assert theirs.receive(Method.OK, b"") is None
        assert theirs.is_done

    def test_cleartext_is_sent_only_where_allowed(self) -> None:
        theirs = ServerAuthenticator("app", "secret", allow_cleartext=True)
        assert theirs.receive(Method.CLEARTEXT_PASSWORD, b"") == b"secret\0"
        theirs = ServerAuthenticator("app", "secret")
        with pytest.raises(ServerError, match="without TLS"):
            theirs.receive(Method.CLEARTEXT_PASSWORD, b"")

    @pytest.mark.parametrize("password", ["secret", MD5])
    def test_md5_answers_from_a_password_or_its_hash(self, password: str) -> None:
        theirs = ServerAuthenticator("app", password)
        # SELECT 'md5' || md5(md5('secretapp') || 'salt')
        expected = b"md57f097e06031b34893c20e25a0e68242c\0"
        assert theirs.receive(Method.MD5_PASSWORD, b"salt") == expected
        assert theirs.receive(Method.OK, b"") is None

    @pytest.mark.parametrize(
        ("code", "data", "password"),
        [
            (Method.CLEARTEXT_PASSWORD, b"", None),
            (Method.CLEARTEXT_PASSWORD, b"", MD5),
            (Method.MD5_PASSWORD, b"salt", None),
            (Method.MD5_PASSWORD, b"salt", VERIFIER),
            (Method.SASL, b"SCRAM-SHA-256\0\0", None),
            (Method.SASL, b"SCRAM-SHA-256\0\0", MD5),
            (Method.SASL, b"SCRAM-SHA-256\0\0", VERIFIER),
        ],
    )
    def test_a_method_for_which_our_secret_does_not_serve_is_an_error(
        self, code: Method, data: bytes, password: str | None
    ) -> None:
        fresh = UserSecret("app", password)
        theirs = ServerAuthenticator("app", fresh, allow_cleartext=True)
        with pytest.raises(ServerError, match='no password of user "app"'):
            theirs.receive(code, data)

    @pytest.mark.parametrize(
        ("code", "name"), [(2, "Kerberos V5"), (6, "SCM"), (7, "GSSAPI"), (9, "SSPI")]
    )
    def test_methods_that_we_lack_are_named(self, code: int, name: str) -> None:
        with pytest.raises(ServerProtocolError, match=name):
            ServerAuthenticator("app", "secret").receive(code, b"")

    def test_sasl_without_our_mechanism_names_what_was_offered(self) -> None:
        with pytest.raises(ServerProtocolError, match=": OAUTHBEARER, SCRAM-SHA-256-PLUS"):
            ServerAuthenticator("app", "secret").receive(
                Method.SASL, b"OAUTHBEARER\0SCRAM-SHA-256-PLUS\0\0"
            )

    def test_a_server_may_not_skip_its_own_proof(self) -> None:
        theirs = ServerAuthenticator("app", "secret")
        theirs.receive(Method.SASL, b"SCRAM-SHA-256\0\0")
        with pytest.raises(ServerProtocolError, match="before the server has proved itself"):
            theirs.receive(Method.OK, b"")
        ours = ClientAuthenticator("scram-sha-256", "app", "secret")
        theirs = ServerAuthenticator("app", "secret")
        request = ours.first()
        for _ in range(2):
            assert request is not None
            answer = theirs.receive(*split(request))
            assert answer is not None
            request = ours.receive(answer).send
        with pytest.raises(ServerProtocolError, match="before the server has proved itself"):
            theirs.receive(Method.OK, b"")

    def test_a_server_that_does_not_know_the_password_is_refused(self) -> None:
        ours = ClientAuthenticator("scram-sha-256", "app", "secret")
        theirs = ServerAuthenticator("app", "secret")
        request = ours.first()
        for _ in range(2):
            assert request is not None
            answer = theirs.receive(*split(request))
            assert answer is not None
            request = ours.receive(answer).send
        with pytest.raises(ServerProtocolError, match="incorrect SCRAM server signature"):
            theirs.receive(Method.SASL_FINAL, b"v=" + b"A" * 43 + b"=")
        with pytest.raises(ServerProtocolError):
            theirs.receive(Method.OK, b"")

    @pytest.mark.parametrize(
        "codes",
        [
            (Method.MD5_PASSWORD, Method.MD5_PASSWORD),
            (Method.MD5_PASSWORD, Method.CLEARTEXT_PASSWORD),
            (Method.SASL, Method.MD5_PASSWORD),
            (Method.SASL, Method.SASL_FINAL),
            (Method.SASL_CONTINUE,),
            (Method.SASL_FINAL,),
            (Method.OK, Method.OK),
            (Method.OK, Method.MD5_PASSWORD),
            (4,),
        ],
    )
    def test_requests_out_of_order_are_refused(self, codes: tuple[int, ...]) -> None:
        theirs = ServerAuthenticator("app", "secret", allow_cleartext=True)
        data = {Method.SASL: b"SCRAM-SHA-256\0\0", Method.MD5_PASSWORD: b"salt"}
        for code in codes[:-1]:
            theirs.receive(code, data.get(Method(code), b""))
        with pytest.raises(ServerProtocolError):
            theirs.receive(codes[-1], b"")


class TestUserSecret:
    def test_a_client_that_logged_in_by_scram_opens_the_way_to_a_server(self) -> None:
        verifier_only = UserSecret("app", VERIFIER)
        assert not verifier_only.can_use_scram
        log_in("scram-sha-256", verifier_only, "secret")
        assert log_in("scram-sha-256", VERIFIER, verifier_only).is_done

    def test_a_learned_key_is_not_used_where_the_verifier_differs(self) -> None:
        verifier_only = UserSecret("app", VERIFIER)
        log_in("scram-sha-256", verifier_only, "secret")
        other = ScramSecrets.from_password("secret", b"another salt", 1).verifier()
        with pytest.raises(ServerError, match="no password"):
            log_in("scram-sha-256", other, verifier_only)

    def test_keys_are_derived_once_for_a_salt(self) -> None:
        secret = UserSecret("app", "secret")
        assert secret.scram is secret.scram
        assert secret.client_keys(b"salt", 1) is secret.client_keys(b"salt", 1)
        assert secret.client_keys(b"salt", 2) != secret.client_keys(b"salt", 1)

    def test_remembered_keys_stay_few_whatever_salts_a_server_sends(self) -> None:
        secret = UserSecret("app", "secret")
        first = secret.client_keys(b"0", 1)
        for number in range(1, 100):
            secret.client_keys(str(number).encode(), 1)
        again = secret.client_keys(b"0", 1)
        assert again == first
        assert again is not first

    def test_no_repr_shows_a_password(self) -> None:
        secret = UserSecret("app", "secret")
        ours = ClientAuthenticator("md5", "app", "secret")
        theirs = ServerAuthenticator("app", "secret")
        assert repr(secret) == "<UserSecret 'app'>"
        assert repr(ours) == "<ClientAuthenticator 'app' md5 METHOD>"
        assert repr(theirs) == "<ServerAuthenticator 'app' METHOD>"


class TestGarbage:
    @given(st.lists(st.binary(max_size=60), max_size=4), st.booleans())
    def test_a_client_can_cause_nothing_but_client_errors(
        self, bodies: list[bytes], is_framed: bool
    ) -> None:
        for method in ("trust", "md5", "scram-sha-256"):
            ours = ClientAuthenticator(method, "app", VERIFIER)
            ours.first()
            with contextlib.suppress(ClientProtocolError, AuthenticationError):
                for body in bodies:
                    assert not ours.receive(initial_response(body) if is_framed else body).done

    @given(st.lists(st.tuples(st.integers(-1, 13), st.binary(max_size=60)), max_size=5))
    def test_a_server_can_cause_nothing_but_server_errors(
        self, messages: list[tuple[int, bytes]]
    ) -> None:
        theirs = ServerAuthenticator("app", "secret")
        with contextlib.suppress(ServerError):
            for code, data in messages:
                theirs.receive(code, data)


def initial_response(data: bytes) -> bytes:
    """Frame the client's first SCRAM message."""
    return b"SCRAM-SHA-256\0" + struct.pack("!i", len(data)) + data


def test_an_md5_hash_is_made_of_bytes_that_are_no_characters_too() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert md5_hash(name, "x") == "md5" + hashlib.md5(b"xcaf\xe9").hexdigest()
