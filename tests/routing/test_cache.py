"""What is remembered of texts and fingerprints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.routing.cache import AnalysisCache, Entry, bind
from router.routing.generations import Generations
from router.routing.sharding import BIGINTS
from router.routing.types import Analysis, KeyTerm, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

READ = Analysis((), Verdict.READ, "read")
TOO_LONG = Analysis.unknown("too long")


class Classifier:
    """Notes the fingerprints that it is asked about."""

    def __init__(self, analysis: Analysis = READ) -> None:
        self.fingerprints: list[bytes] = []
        self.analysis = analysis

    def __call__(self, fingerprint: bytes) -> Analysis:
        self.fingerprints.append(fingerprint)
        return self.analysis


def cache_of(
    classifier: Classifier, *, entries: int = 100, size: int = 1 << 20, max_length: int = 1000
) -> AnalysisCache[Analysis]:
    return AnalysisCache(
        classifier,
        lambda text, analysis, literals: bind(analysis, literals),
        max_length=max_length,
        beyond=lambda limit: TOO_LONG,
        entries=entries,
        size=size,
    )


def test_a_fingerprint_is_classified_once() -> None:
    classifier = Classifier()
    cache = cache_of(classifier)
    for n in (1, 1, 1, 2, 3):
        assert cache.look_up(b"SELECT %d" % n) is READ
    assert classifier.fingerprints == [b"SELECT 0"]
    assert (cache.misses, cache.fingerprint_hits, cache.hits) == (1, 3, 1)


def test_what_is_finished_is_remembered_by_a_text_that_comes_back() -> None:
    finished: list[bytes] = []

    def finish(text: bytes, analysis: Analysis, literals: Sequence[bytes]) -> int:
        finished.append(text)
        return len(finished)

    cache = AnalysisCache(
        Classifier(),
        finish,
        max_length=1000,
        beyond=lambda limit: TOO_LONG,
        entries=10,
        size=1 << 20,
    )
    texts = (b"1", b"2", b"1", b"2", b"1", b"2")
    assert [cache.look_up(text) for text in texts] == [1, 2, 3, 4, 3, 4]
    assert finished == [b"1", b"2", b"1", b"2"]


def test_a_text_without_literals_is_remembered_at_once() -> None:
    cache = cache_of(Classifier())
    for _ in range(3):
        cache.look_up(b"BEGIN")
    assert (cache.misses, cache.fingerprint_hits, cache.hits) == (1, 0, 2)


def test_a_long_text_is_not_looked_at() -> None:
    classifier = Classifier()
    cache = cache_of(classifier, max_length=8)
    assert cache.look_up(b"SELECT 12") is TOO_LONG
    assert cache.look_up(b"SELECT 1") is READ
    assert classifier.fingerprints == [b"SELECT 0"]


def test_a_text_that_cannot_be_cut_is_a_write_and_not_classified() -> None:
    classifier = Classifier()
    assert cache_of(classifier).look_up(b"SELECT 'x").verdict is Verdict.WRITE
    assert classifier.fingerprints == []


def test_texts_of_one_fingerprint_have_their_own_keys() -> None:
    key = KeyTerm(literal=1, negative=True)
    cache = cache_of(Classifier(Analysis((), Verdict.READ, "", keys=(((key,),),))))
    assert cache.look_up(b"LIMIT 9 id = -5").keys[0][0][0].key == -5
    assert cache.look_up(b"LIMIT 8 id = -6").keys[0][0][0].key == -6
    assert cache.fingerprint_hits == 1


@pytest.mark.parametrize(
    ("literal", "key"),
    [
        (b"5", 5),
        (b"'5'", 5),
        (b"$$5$$", 5),
        (b"'x'", None),
        (b"5.0", 5),
        (b"5.5", None),
        (b"9" * 20, None),
    ],
)
def test_a_literal_gives_a_key_if_it_is_a_bigint(literal: bytes, key: int | None) -> None:
    analysis = Analysis((), Verdict.READ, "", keys=(((KeyTerm(literal=0),),),))
    assert bind(analysis, [literal]).keys[0][0][0].key == key


def test_parameters_are_left_for_later() -> None:
    analysis = Analysis((), Verdict.READ, "", keys=(((KeyTerm(parameters=(2,)),),),))
    assert bind(analysis, []) == analysis
    assert analysis.key_parameters == (2,)


def test_the_number_of_texts_is_bounded() -> None:
    cache = cache_of(Classifier(), entries=10)
    for n in range(1000):
        cache.look_up(b"SELECT a%d" % n)
        assert len(cache) <= 10


def test_the_bytes_are_bounded() -> None:
    kept: Generations[int] = Generations(1_000_000, 100_000)
    for n in range(1000):
        kept.put(b"%0600d" % n, n)
    assert 10 < len(kept) <= 100


def test_what_is_in_use_is_kept() -> None:
    kept: Generations[int] = Generations(10, 1 << 20)
    kept.put(b"in use", 1)
    for n in range(1000):
        kept.put(b"%d" % n, n)
        assert kept.get(b"in use") == 1
    assert kept.get(b"0") is None
    assert kept.get(b"999") == 999


def test_a_huge_text_does_not_drive_the_others_out() -> None:
    kept: Generations[int] = Generations(100, 100_000)
    kept.put(b"small", 1)
    kept.put(b"x" * 50_000, 2)
    assert kept.get(b"x" * 50_000) is None
    assert kept.get(b"small") == 1


def test_the_size_is_that_of_what_is_remembered() -> None:
    cache = cache_of(Classifier(), entries=4)
    assert (len(cache), cache.fingerprints, cache.size) == (0, 0, 0)
    for _ in range(2):
        cache.look_up(b"SELECT 1")
    one = cache.size
    for _ in range(2):
        cache.look_up(b"SELECT 2")
    assert (len(cache), cache.fingerprints) == (2, 1)
    assert one < cache.size < 2 * one
    for n in range(200):
        cache.look_up(b"SELECT %d" % (n // 2))
    assert len(cache) <= 4
    assert cache.size < 5 * one
    cache.clear()
    assert (len(cache), cache.fingerprints, cache.size) == (0, 0, 0)


def test_a_long_analysis_is_handed_out_once_and_not_kept() -> None:
    analysis = Analysis((), Verdict.READ, "", keys=(((KeyTerm(literal=0),),),))
    entry = Entry(analysis, [b"5"], BIGINTS.literal)
    bound = entry.analysis
    entry.keep(bound)
    assert entry.analysis is bound
    assert entry.analysis is not bound
    assert entry.analysis == bound
