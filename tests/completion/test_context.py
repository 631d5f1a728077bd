"""Which other text goes along: what is alike, without what must never leave."""

from __future__ import annotations

import pytest

from ollm_daemon.completion.context import (
    CHUNK_LINES,
    MAX_CHUNKS,
    MAX_DOCUMENT,
    RecentPlaces,
    choose_context,
    is_excluded,
    make_chunk,
    path_of,
    similarity,
)
from ollm_daemon.domain import ContextFile

OWN = "file:///home/me/project/main.py"
BOX = "def make_box(width, height):\n    return Box(width, height)\n"
BIRD = "def feed_bird(seeds, garden):\n    return garden.feed(seeds)\n"
NEAR = "box = make_box(width, 2)\nheight = box.height\n"


def choose(
    documents: dict[str, str],
    *,
    near: str = NEAR,
    characters: int = 10_000,
    exclude: tuple[str, ...] = (),
    uri: str = OWN,
) -> tuple[ContextFile, ...]:
    places = RecentPlaces()
    for one in documents:
        places.touch(one)
    return choose_context(uri, near, documents, places, characters=characters, exclude=exclude)


def test_the_most_alike_comes_last() -> None:
    documents = {OWN: NEAR, "file:///b/box.py": BOX, "file:///b/bird.py": BIRD}
    assert choose(documents) == (ContextFile("/b/bird.py", BIRD), ContextFile("/b/box.py", BOX))


def test_never_the_own_document() -> None:
    places = RecentPlaces()
    places.touch(OWN, 1)
    places.leave(OWN, BOX)
    assert choose_context(OWN, NEAR, {OWN: BOX}, places, characters=1000) == ()


def test_an_imported_module_counts_more() -> None:
    near = "from parts import bird\n"
    documents = {"file:///x/tree.py": BOX, "file:///y/bird.py": "def sing(): ...\n"}
    assert [file.path for file in choose(documents, near=near)][-1] == "/y/bird.py"


def test_the_same_folder_counts_more() -> None:
    documents = {"file:///home/me/project/a.py": BIRD, "file:///elsewhere/b.py": "def other(thing): ...\n"}
    assert choose(documents)[-1].path == "/home/me/project/a.py"


def test_the_document_used_last_counts_more() -> None:
    documents = {"file:///x/a.py": "def one(): ...\n", "file:///x/b.py": "def two(): ...\n"}
    assert [file.path for file in choose(documents, near="")] == ["/x/a.py", "/x/b.py"]


def test_another_kind_of_file_without_a_word_in_common() -> None:
    documents = {"file:///b/bird.md": "Birds sing.\n", "file:///b/box.md": "Call make_box(width).\n"}
    assert [file.path for file in choose(documents)] == ["/b/box.md"]


def test_near_duplicates_go_once() -> None:
    documents = {"file:///b/box.py": BOX, "file:///c/box.py": BOX + "\n", "file:///d/box.py": BOX}
    assert len(choose(documents)) == 1


@pytest.mark.parametrize(
    "characters", [-5, 0, 10, len(BOX) - 1, len(BOX), len(BOX + BIRD) - 1, len(BOX + BIRD)]
)
def test_the_budget_is_kept(characters: int) -> None:
    documents = {"file:///b/box.py": BOX, "file:///b/bird.py": BIRD}
    chosen = choose(documents, characters=characters)
    assert sum(len(file.text) for file in chosen) <= max(0, characters)
    assert len(chosen) == (characters >= len(BOX)) + (characters >= len(BOX + BIRD))


def test_a_smaller_chunk_takes_the_room_that_a_larger_one_does_not_fit_in() -> None:
    documents = {"file:///b/box.py": BOX * 20, "file:///b/bird.py": BIRD}
    assert [file.path for file in choose(documents, characters=len(BIRD))] == ["/b/bird.py"]


def test_long_documents_go_in_chunks_or_not_at_all() -> None:
    other = "".join(f"value_{number} = {number}\n" for number in range(CHUNK_LINES))
    assert choose({"file:///b/long.py": other + BOX})[-1].text == BOX
    assert choose({"file:///b/long.py": BOX + " " * MAX_DOCUMENT}) == ()


def test_places_left_behind_are_remembered_after_closing() -> None:
    places = RecentPlaces()
    text = "".join(f"value_{number} = {number}\n" for number in range(200))
    places.touch("file:///b/box.py", 100)
    places.touch("file:///b/box.py")
    places.leave("file:///b/box.py", text)
    places.close("file:///b/box.py")
    (chunk,) = places.chunks
    assert chunk.text.count("\n") == CHUNK_LINES
    assert "value_100 = 100\n" in chunk.text
    chosen = choose_context(OWN, "value_100", {}, places, characters=10_000)
    assert chosen == (ContextFile("/b/box.py", chunk.text),)


def test_places_are_bounded_and_alike_ones_replace_each_other() -> None:
    places = RecentPlaces()
    for number in range(MAX_CHUNKS + 5):
        places.touch(f"file:///{number}.py", 0)
        places.leave(f"file:///{number}.py", f"word_{number}\n")
    assert len(places.chunks) == MAX_CHUNKS
    places.leave("file:///9.py", "word_36\n")
    assert [chunk.uri for chunk in places.chunks if chunk.text == "word_36\n"] == ["file:///9.py"]
    places.leave("file:///9.py", "\n")
    places.leave("file:///unknown.py", "text")
    assert len(places.chunks) == MAX_CHUNKS


def test_similarity() -> None:
    one, two = make_chunk("a", "foo bar baz").words, make_chunk("b", "bar baz qux").words
    assert similarity(one, two) == 0.5
    assert similarity(one, one) == 1.0
    assert similarity(one, frozenset()) == 0.0


@pytest.mark.parametrize(
    "uri",
    [
        "file:///home/me/project/.env",
        "file:///home/me/project/.ENV",
        "file:///home/me/project/.env.local",
        "file:///home/me/project/prod.env",
        "file:///home/me/.envrc",
        "file:///home/me/%2Eenv",
        "file:///c%3A/Users/me/.env",
        "file:///C:/Users/me/.ssh/config",
        "file:///C:%5CUsers%5Cme%5C.aws%5Cconfig",
        "C:\\Users\\me\\.env",
        "untitled:.env",
        "vscode-remote://ssh-remote/home/me/.netrc",
        "file://[broken/.env",
        "file:///home/me/keys/server.pem",
        "file:///home/me/.ssh/id_ed25519",
        "file:///home/me/id_rsa.pub",
        "file:///home/me/Credentials.json",
        "file:///srv/secrets/prod.yaml",
        "file:///srv/my-secret.txt",
        "/.env",
    ],
)
def test_secrets_never_leave(uri: str) -> None:
    assert is_excluded(uri, ())
    assert choose({uri: BOX}) == ()


@pytest.mark.parametrize(
    "uri",
    [
        OWN,
        "untitled:Untitled-1",
        "file:///home/me/environment.py",
        "file:///home/me/env/a.py",
        "file:///a/key.py",
    ],
)
def test_what_is_no_secret(uri: str) -> None:
    assert not is_excluded(uri, ())


@pytest.mark.parametrize(
    ("pattern", "path", "excluded"),
    [
        ("*.py", "/a/b/c.py", True),
        ("*.PY", "/a/b/C.py", True),
        ("*.py", "/a/b/c.pyi", False),
        ("c.py", "/a/b/c.py", True),
        ("b/*.py", "/a/b/c.py", True),
        ("a/*.py", "/a/b/c.py", False),
        ("a/**", "/a/b/c.py", True),
        ("a/", "/a/b/c.py", True),
        ("a/**/*.py", "/a/c.py", True),
        ("**/b/**", "/a/b/c.py", True),
        ("/a/**", "/a/b/c.py", True),
        ("/b/**", "/a/b/c.py", False),
        ("?.py", "/a/c.py", True),
        ("?.py", "/a/cc.py", False),
        ("[a].py", "/x/[a].py", True),
        ("a.py", "/x/aXpy", False),
        ("b/c.py", "/C:/a/b/c.py", True),
        ("C:/a/**", "/C:/a/b/c.py", True),
        ("Untitled-*", "Untitled-1", True),
    ],
)
def test_globs_of_the_user(pattern: str, path: str, excluded: bool) -> None:
    uri = f"file://{path}" if path.startswith("/") else f"untitled:{path}"
    assert is_excluded(uri, (pattern,)) is excluded


def test_excluded_by_the_user() -> None:
    documents = {"file:///b/box.py": BOX, "file:///b/bird.py": BIRD}
    assert [file.path for file in choose(documents, exclude=("box.*",))] == ["/b/bird.py"]


def test_unsaved_documents() -> None:
    assert choose({"untitled:Untitled-1": BOX}) == (ContextFile("Untitled-1", BOX),)
    assert choose({"file:///b/box.py": BOX}, uri="untitled:Untitled-2") == (ContextFile("/b/box.py", BOX),)


def test_paths() -> None:
    assert path_of("file:///a/my%20file.py") == "/a/my file.py"
    assert path_of("untitled:Untitled-1") == "Untitled-1"
    assert path_of("file:///c%3A/x.py") == "/c:/x.py"
    assert path_of("file://[broken/x.py") == "file://[broken/x.py"
    assert path_of("") == ""
