"""SCRAM-SHA-256: the RFC's example, PostgreSQL's departures, and everything that must fail."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ClientProtocolError, ServerProtocolError
from router.protocol.saslprep import prepare_password
from router.protocol.scram import (
    MAX_ITERATIONS,
    ScramClient,
    ScramKeys,
    ScramSecrets,
    ScramServer,
)

# RFC 7677, section 3.
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)
PROOF = b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SIGNATURE = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

# One iteration: the exchange does not depend on the count, and the tests stay fast.
SECRETS = ScramSecrets.from_password("pencil", SALT, 1)
KEYS = ScramKeys.from_password("pencil", SALT, 1)


def challenged() -> tuple[ScramServer, ScramClient]:
    """Both sides after the first two messages."""
    server, client = ScramServer(SECRETS), ScramClient()
    client.challenge(server.first(client.first()))
    return server, client


class TestExchange:
    def test_the_server_computes_what_the_example_of_rfc_7677_says(self) -> None:
        server = ScramServer(ScramSecrets.from_password("pencil", SALT), nonce=SERVER_NONCE)
        assert server.first(b"n,,n=user,r=" + CLIENT_NONCE.encode()) == SERVER_FIRST
        final = b"c=biws,r=" + (CLIENT_NONCE + SERVER_NONCE).encode() + b"," + PROOF
        assert server.final(final) == SIGNATURE

    def test_the_client_agrees_with_a_server_about_the_right_password(self) -> None:
        server, client = challenged()
        answer = server.final(client.final(KEYS))
        assert answer is not None
        client.verify(answer)
        assert server.client_key == KEYS.client_key

    def test_a_client_learns_from_the_challenge_which_keys_are_needed(self) -> None:
        client = ScramClient(nonce=CLIENT_NONCE)
        client.first()
        assert client.challenge(SERVER_FIRST) == (SALT, 4096)

    def test_a_wrong_password_gets_no_signature_and_no_key(self) -> None:
        server, client = challenged()
        assert server.final(client.final(ScramKeys.from_password("pen", SALT, 1))) is None
        assert server.client_key == b""

    def test_made_up_secrets_fit_no_password_but_take_the_same_steps(self) -> None:
        server, client = ScramServer(ScramSecrets.mock("nobody", b"key")), ScramClient()
        salt, iterations = client.challenge(server.first(client.first()))
        assert (len(salt), iterations) == (16, 4096)
        assert server.final(client.final(KEYS)) is None

    def test_made_up_secrets_stay_the_same_for_a_user(self) -> None:
        assert ScramSecrets.mock("a", b"key") == ScramSecrets.mock("a", b"key")
        assert ScramSecrets.mock("a", b"key").salt != ScramSecrets.mock("b", b"key").salt
        assert ScramSecrets.mock("a", b"key").salt != ScramSecrets.mock("a", b"yek").salt

    def test_made_up_secrets_are_made_for_any_name(self) -> None:
        name = b"caf\xe9".decode("utf-8", "surrogateescape")
        assert ScramSecrets.mock(name, b"key").salt != ScramSecrets.mock("caf", b"key").salt

    def test_a_server_may_say_more_than_its_signature(self) -> None:
        server, client = challenged()
        signature = server.final(client.final(KEYS))
        assert signature is not None
        client.verify(signature + b",x=more")

    def test_a_client_that_knows_channel_binding_but_was_offered_none_may_say_so(self) -> None:
        server = ScramServer(SECRETS, nonce="server")
        server.first(b"y,,n=,r=client")
        with pytest.raises(ClientProtocolError, match="channel-binding attribute"):
            server.final(b"c=biws,r=clientserver,p=" + base64.b64encode(bytes(32)))
        server = ScramServer(SECRETS, nonce="server")
        server.first(b"y,,n=,r=client")
        final = b"c=eSws,r=clientserver,p=" + base64.b64encode(bytes(32))
        assert server.final(final) is None

    def test_each_exchange_has_nonces_of_its_own(self) -> None:
        assert ScramClient().first() != ScramClient().first()
        first = b"n,,n=,r=x"
        assert ScramServer(SECRETS).first(first) != ScramServer(SECRETS).first(first)


class TestClientsMistakes:
    @pytest.mark.parametrize(
        ("message", "text", "sqlstate"),
        [
            (b"", "channel-binding flag", "08P01"),
            (b"x,,n=,r=abc", "channel-binding flag", "08P01"),
            (b"p=tls-server-end-point,,n=,r=abc", "channel binding data", "08P01"),
            (b"n,a=admin,n=,r=abc", "authorization identity", "0A000"),
            (b"n,b,n=,r=abc", "unexpected attribute", "08P01"),
            (b"n,", "unexpected attribute", "08P01"),
            (b"n,,m=1,n=,r=abc", "unsupported SCRAM extension", "0A000"),
            (b"n,,r=abc", 'attribute "n" expected', "08P01"),
            (b"n,,n=", 'attribute "r" expected', "08P01"),
            (b"n,,n=,r=", "non-printable", "08P01"),
            (b"n,,n=,r=a\x00b", "non-printable", "08P01"),
        ],
    )
    def test_a_bad_first_message_is_refused(
        self, message: bytes, text: str, sqlstate: str
    ) -> None:
        with pytest.raises(ClientProtocolError, match=text) as raised:
            ScramServer(SECRETS).first(message)
        assert raised.value.sqlstate == sqlstate

    @pytest.mark.parametrize(
        ("message", "text"),
        [
            (b"", 'attribute "c" expected'),
            (b"c=eSws,r=cs,p=AAAA", "channel-binding attribute"),
            (b"c=biws,p=AAAA", 'attribute "r" expected'),
            (b"c=biws,r=cx,p=AAAA", "nonce does not match"),
            (b"c=biws,r=cs", 'attribute "p" expected'),
            (b"c=biws,r=cs,p=AAAA", "malformed proof"),
            (b"c=biws,r=cs,p=!", "malformed proof"),
            (b"c=biws,r=cs,p=" + base64.b64encode(bytes(32)) + b",x=1", '"p" expected'),
        ],
    )
    def test_a_bad_final_message_is_refused(self, message: bytes, text: str) -> None:
        server = ScramServer(SECRETS, nonce="s")
        server.first(b"n,,n=,r=c")
        with pytest.raises(ClientProtocolError, match=text):
            server.final(message)

    def test_an_extension_before_the_proof_is_signed_but_otherwise_ignored(self) -> None:
        server = ScramServer(SECRETS, nonce="s")
        server.first(b"n,,n=,r=c")
        assert server.final(b"c=biws,r=cs,x=1,p=" + base64.b64encode(bytes(32))) is None

    def test_messages_out_of_order_are_refused(self) -> None:
        server, client = challenged()
        final = client.final(KEYS)
        with pytest.raises(ClientProtocolError, match="unexpected SCRAM message"):
            server.first(client.first())
        server.final(final)
        with pytest.raises(ClientProtocolError, match="unexpected SCRAM message"):
            server.final(final)


class TestServersMistakes:
    @pytest.mark.parametrize(
        ("message", "text"),
        [
            (b"", 'attribute "r" expected'),
            (b"r=other,s=AAAA,i=1", "nonce mismatch"),
            (b"r=c,s=AAAA,i=1", "nonce mismatch"),
            (b"r=cs,i=1", 'attribute "s" expected'),
            (b"r=cs,s=,i=1", "invalid salt"),
            (b"r=cs,s=!,i=1", "invalid salt"),
            (b"r=cs,s=AAAA", 'attribute "i" expected'),
            (b"r=cs,s=AAAA,i=0", "invalid iteration count"),
            (b"r=cs,s=AAAA,i=-1", "invalid iteration count"),
            (b"r=cs,s=AAAA,i=" + b"9" * 5000, "invalid iteration count"),
            (b"r=cs,s=AAAA,i=%d" % (MAX_ITERATIONS + 1), "at most 1000000 are accepted"),
        ],
    )
    def test_a_bad_challenge_is_refused(self, message: bytes, text: str) -> None:
        client = ScramClient(nonce="c")
        client.first()
        with pytest.raises(ServerProtocolError, match=text):
            client.challenge(message)

    @pytest.mark.parametrize(
        ("message", "text"),
        [
            (b"", 'attribute "v" expected'),
            (b"v=!", "invalid server signature"),
            (b"v=AAAA", "incorrect SCRAM server signature"),
            (b"e=other-error", "other-error"),
        ],
    )
    def test_a_server_that_cannot_prove_itself_is_refused(
        self, message: bytes, text: str
    ) -> None:
        _, client = challenged()
        client.final(KEYS)
        with pytest.raises(ServerProtocolError, match=text):
            client.verify(message)

    def test_a_signature_before_the_proof_is_refused(self) -> None:
        _, client = challenged()
        with pytest.raises(ServerProtocolError, match="unexpected SCRAM message"):
            client.verify(SIGNATURE)


class TestVerifiers:
    def test_a_verifier_survives_reading_and_printing(self) -> None:
        assert ScramSecrets.from_verifier(SECRETS.verifier()) == SECRETS

    def test_a_verifier_of_postgresql_is_the_password_s(self) -> None:
        # What CREATE ROLE x PASSWORD 'foobar' left in pg_authid of a PostgreSQL 15.
        verifier = (
            "SCRAM-SHA-256$4096:FjcsPPT1rloJWEKsrLeTlg==$"
            "SsHjCOWq0rTTu5flvu/oObHvuQZU86YiymaXWVq7xac=:"
            "ZsEylI+y3chR53FjHiOujV2dGIQTn68qT4PHb4Bjug8="
        )
        known = ScramSecrets.from_verifier(verifier)
        assert known is not None
        assert ScramSecrets.from_password("foobar", known.salt, known.iterations) == known

    def test_a_new_verifier_has_a_salt_of_its_own(self) -> None:
        one, two = (ScramSecrets.from_password("secret") for _ in range(2))
        assert one.salt != two.salt
        assert len(one.salt) == 16
        assert ScramSecrets.from_password("secret", one.salt) == one

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "secret",
            "SCRAM-SHA-256$",
            "SCRAM-SHA-256$0:AAAA$" + "A" * 43 + "=:" + "A" * 43 + "=",
            "SCRAM-SHA-256$1:AAAA$AAAA:" + "A" * 43 + "=",
            "SCRAM-SHA-256$1:A$" + "A" * 43 + "=:" + "A" * 43 + "=",
            SECRETS.verifier() + "x",
        ],
    )
    def test_anything_else_is_not_a_verifier(self, text: str) -> None:
        assert ScramSecrets.from_verifier(text) is None

    def test_no_secret_is_printed(self) -> None:
        assert repr(SECRETS) == "ScramSecrets(iterations=1)"
        assert repr(KEYS) == "ScramKeys()"


class TestSaslprep:
    @pytest.mark.parametrize(
        ("password", "prepared"),
        [
            ("I\u00adX", "IX"),
            ("\u00aa", "a"),
            ("\u2168", "IX"),
            ("a\u00a0b", "a b"),
            ("a\u200bb", "a b"),
            ("\u05d01\u05d1", "\u05d01\u05d1"),
            ("plain\x07", "plain\x07"),
        ],
    )
    def test_equivalent_spellings_become_one(self, password: str, prepared: str) -> None:
        assert prepare_password(password) == prepared.encode()

    @pytest.mark.parametrize(
        "password",
        [
            "\u00ad",  # nothing is left
            "é\x07",  # a control character
            "\u0221",  # unassigned in Unicode 3.2
            "\u06271",  # right-to-left text that ends otherwise
            "\u05d0x\u05d0",  # both directions
            "\u0340a",  # prohibited before normalisation, though not after
        ],
    )
    def test_a_password_that_saslprep_forbids_is_used_as_it_is(self, password: str) -> None:
        assert prepare_password(password) == password.encode()


class TestGarbage:
    @given(st.binary(max_size=80))
    def test_a_server_raises_nothing_but_protocol_errors(self, data: bytes) -> None:
        for prefix in (b"", b"n,,", b"n,,n=,r="):
            with contextlib.suppress(ClientProtocolError):
                assert ScramServer(SECRETS).first(prefix + data).startswith(b"r=")
        for prefix in (b"", b"c=biws,r=cs,", b"c=biws,r=cs,p="):
            server = ScramServer(SECRETS, nonce="s")
            server.first(b"n,,n=,r=c")
            with contextlib.suppress(ClientProtocolError):
                assert server.final(prefix + data) is None

    @given(st.binary(max_size=80))
    def test_a_client_raises_nothing_but_protocol_errors(self, data: bytes) -> None:
        for prefix in (b"", b"r=cs,s=", b"r=cs,s=AAAA,i="):
            client = ScramClient(nonce="c")
            client.first()
            try:
                salt, iterations = client.challenge(prefix + data)
            except ServerProtocolError:
                continue
            assert salt
            assert 1 <= iterations <= MAX_ITERATIONS
        for prefix in (b"", b"v=", b"e="):
            _, client = challenged()
            client.final(KEYS)
            with pytest.raises(ServerProtocolError):
                client.verify(prefix + data)
