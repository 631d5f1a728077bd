"""What has been offered is found again: at the same place, and while it is typed."""

from __future__ import annotations

import pytest

from ollm_daemon.completion.cache import MAX_AHEAD, NEAR, OfferCache, Place, place_at

HOW = ("here", "coder", "line")


def place(prefix: str, suffix: str = "\nend", uri: str = "file:///a.py", how: tuple[str, ...] = HOW) -> Place:
    return place_at(uri, prefix, suffix, how)


@pytest.fixture
def cache() -> OfferCache:
    cache = OfferCache()
    cache.put(place("x = "), ("compute()", "count"))
    return cache


def test_the_same_place(cache: OfferCache) -> None:
    assert cache.find(place("x = ")) == ("compute()", "count")


def test_typing_what_is_offered_leaves_the_rest(cache: OfferCache) -> None:
    assert cache.find(place("x = co")) == ("mpute()", "unt")
    assert cache.find(place("x = com")) == ("pute()",)
    assert cache.find(place("x = compute(")) == (")",)


def test_typing_all_of_it_leaves_nothing(cache: OfferCache) -> None:
    assert cache.find(place("x = compute()")) is None


def test_typing_something_else(cache: OfferCache) -> None:
    assert cache.find(place("x = da")) is None
    assert cache.find(place("y = co")) is None


def test_backspace_comes_back_to_the_offer(cache: OfferCache) -> None:
    cache.put(place("x = d"), ("ata",))
    assert cache.find(place("x = ")) == ("compute()", "count")
    assert cache.find(place("x =")) is None


def test_cycling_offers_all_of_them_in_order(cache: OfferCache) -> None:
    cache.put(place("x = "), ("a1", "a2", "b3"))
    assert cache.find(place("x = a")) == ("1", "2")


@pytest.mark.parametrize(
    "other",
    [
        place("x = co", suffix="\nother"),
        place("x = co", suffix=")\nend"),
        place("x = co", uri="file:///b.py"),
        place("x = co", how=("here", "other", "line")),
        place("x = co", how=("there", "coder", "line")),
    ],
)
def test_another_suffix_file_model_or_provider(cache: OfferCache, other: Place) -> None:
    assert cache.find(other) is None


def test_typing_may_change_a_block_into_a_line(cache: OfferCache) -> None:
    assert cache.find(place("x = co", how=("here", "coder", "block"))) == ("mpute()", "unt")
    assert cache.find(place("x = ", how=("here", "coder", "block"))) is None


def test_the_latest_offer_wins(cache: OfferCache) -> None:
    cache.put(place("x = c"), ("lamp()",))
    assert cache.find(place("x = cl")) == ("amp()",)
    assert cache.find(place("x = co")) == ("mpute()", "unt")


def test_nothing_is_an_answer_too() -> None:
    cache = OfferCache()
    cache.put(place("x"), ())
    assert cache.find(place("x")) == ()
    assert cache.find(place("xy")) is None


def test_it_is_bounded_and_forgets_what_was_used_longest_ago() -> None:
    cache = OfferCache(size=2)
    cache.put(place("a"), ("1",))
    cache.put(place("b"), ("2",))
    assert cache.find(place("a")) == ("1",)
    cache.put(place("c"), ("3",))
    assert len(cache) == 2
    assert cache.find(place("b")) is None
    assert cache.find(place("a")) == ("1",)


def test_only_the_latest_offers_are_looked_through() -> None:
    cache = OfferCache()
    cache.put(place("x"), ("12",))
    for number in range(MAX_AHEAD):
        cache.put(place(f"other {number}"), ("y",))
    assert cache.find(place("x1")) is None
    assert cache.find(place("x")) == ("12",)


def test_long_documents() -> None:
    cache = OfferCache()
    long = "line\n" * NEAR
    offer = "z" * (NEAR + 10)
    cache.put(place(long, suffix=long), (offer,))
    assert cache.find(place(long, suffix=long)) == (offer,)
    assert cache.find(place(long + "zz", suffix=long)) == (offer[2:],)
    assert cache.find(place(long + offer[: NEAR - 1], suffix=long)) == (offer[NEAR - 1 :],)
    assert cache.find(place(long + offer[: NEAR + 1], suffix=long)) is None
    assert cache.find(place(long[:-1] + "!zz", suffix=long)) is None
    assert cache.find(place("line\n" + long + "zz", suffix=long)) is None
    kept = place(long, suffix=long)
    assert len(kept.before[1]) == len(kept.behind[1]) == NEAR


def test_text_of_several_lines_and_line_ends() -> None:
    cache = OfferCache()
    cache.put(place("def f():"), ("\r\n    return 1",))
    assert cache.find(place("def f():\r\n    ")) == ("return 1",)
    assert cache.find(place("def f():\n    ")) is None
