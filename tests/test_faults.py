"""Errors by their codes: bounded, and without anybody's values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import RouterError, ServerRefused
from router.faults import MOST, OTHER, Faults


def faults() -> Faults:
    return Faults(lambda: 5.0)


def test_codes_are_bounded_and_their_sum_stays_true() -> None:
    made = faults()
    ledger = made.ledger("app", "ann")
    for number in range(2 * MOST):
        ledger.note_of_server(b"P%04d" % number)
    assert len(made) == MOST + 1
    assert sum(fault.count for _, fault in made) == 2 * MOST


@given(st.binary(max_size=8))
def test_what_is_no_code_is_none(code: bytes) -> None:
    made = faults()
    made.ledger("app", "ann").note_of_server(code)
    [((_, source, sqlstate), fault)] = made
    assert (source, fault.count) == ("server", 1)
    assert sqlstate == OTHER or (len(sqlstate) == 5 and sqlstate.isalnum())


@given(st.text(max_size=30), st.integers(0))
def test_values_are_taken_out_of_messages(value: str, number: int) -> None:
    made = faults()
    for quote in "'\"":
        error = RouterError(f"the key {quote}{value}{quote} is not one of {number}")
        made.ledger("app", "ann").note_own(error)
        [(_, fault)] = made
        assert fault.message == "the key ? is not one of ?"


def test_a_message_that_is_cut_within_a_value_ends_there() -> None:
    made = faults()
    made.ledger("app", "ann").note_own(RouterError(f'the key "{"secret" * 500}" is wrong'))
    [(_, fault)] = made
    assert fault.message == "the key ?"


def test_the_words_of_a_server_that_has_refused_a_login_are_not_kept() -> None:
    made = faults()
    made.ledger("app", "ann").note_own(ServerRefused("role secret", sqlstate="28000"))
    [((_, source, sqlstate), fault)] = made
    assert (source, sqlstate, fault.message) == ("server", "28000", "")


@pytest.mark.parametrize("again", [False, True])
def test_pools_that_are_gone_are_forgotten(again: bool) -> None:
    made = faults()
    ledger = made.ledger("app", "ann")
    ledger.note_of_server(b"23505")
    made.strangers.note_own(RouterError("x"))
    made.keep([])
    assert [key[1] for key, _ in made] == ["router"]
    ledger.note_of_server(b"23505")
    ledger.note_own(RouterError("x"))
    assert len(made) == 1
    if again:
        assert made.ledger("app", "ann") is not ledger
