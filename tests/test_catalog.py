"""Promises of the catalogue: every entry is pinned and licensed, mistakes are named, what people type is understood."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgellm import catalog
from edgellm.errors import ModelUnknown, UsageError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GOOD = f"""
[mine]
repo = "me/mine-GGUF"
revision = "{COMMIT}"
files = [{{ name = "mine.Q4_K_M.gguf", bytes = 5, sha256 = "{"0" * 64}" }}]
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own catalogue, as a file to write."""
    path = tmp_path / "own" / "models.toml"
    path.parent.mkdir()
    monkeypatch.setenv("EDGELLM_MODELS", str(path))
    return path


# --- ours -------------------------------------------------------------------------------------------------------------


def test_the_models_people_come_for_are_there() -> None:
    names = {entry.name for entry in catalog.entries()}
    assert names >= {
        "demo",
        "mistral-7b-instruct-v0.1",
        "mistral-7b-instruct-v0.2",
        "mistral-7b-instruct-v0.3",
        "mixtral-8x7b-instruct",
        "solar-10.7b-instruct",
    }
    assert len(names) >= 20


OURS = catalog._read(catalog._ours(), catalog._HERE).values()


@pytest.mark.parametrize("entry", OURS, ids=lambda entry: entry.name)
def test_every_entry_can_be_trusted(entry: catalog.Entry) -> None:
    assert entry.license
    assert entry.parameters
    assert entry.good_at
    assert entry.name == entry.name.casefold()
    if entry.path is not None:
        return
    assert re.fullmatch(r"[0-9a-f]{40}", entry.revision)
    assert entry.upstream
    assert entry.license_url.startswith("https://")
    for file in entry.files:
        assert "q4_k_m" in file.name.lower()
        assert (file.sha256 is None) == (file.bytes is None), (
            "a size nobody checked is as good as a hash nobody checked"
        )
    if "-of-" in entry.files[0].name:
        assert [file.name[-19:-5] for file in entry.files] == [
            f"{number:05}-of-{len(entry.files):05}" for number in range(1, len(entry.files) + 1)
        ]


def test_no_hash_and_no_file_stands_twice() -> None:
    files = [file for entry in catalog.entries() for file in entry.files]
    hashes = [file.sha256 for file in files if file.sha256]
    assert len(set(hashes)) == len(hashes)
    assert len({file.name for file in files}) == len(files)


def test_licences_that_forbid_business_say_so() -> None:
    assert [entry.name for entry in catalog.entries() if not entry.commercial] == ["solar-10.7b-instruct", "qwen2.5-3b"]
    assert catalog.find("solar-10.7b-instruct").license == "CC-BY-NC-4.0"


def test_files_without_a_template_name_theirs() -> None:
    hints = {entry.name: entry.template for entry in catalog.entries() if entry.template}
    assert hints == {
        "mistral-7b-instruct-v0.1": "mistral",
        "mistral-7b-instruct-v0.2": "mistral",
        "solar-10.7b-instruct": "solar",
    }


def test_the_demo_lies_in_the_package() -> None:
    demo = catalog.find("demo")
    assert demo.path == str(Path(catalog.__file__).parent / "demo" / "demo.gguf")
    assert demo.license == "Apache-2.0"
    assert "not for work" in demo.notes
    assert (demo.files, demo.bytes) == ((), None)


def test_the_size_of_a_split_model_is_that_of_its_parts() -> None:
    assert catalog.find("qwen2.5-7b").bytes == 3_993_201_344 + 689_872_288
    assert catalog.find("mixtral-8x7b-instruct").bytes is None


def test_an_installed_package_has_its_catalogue_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(catalog.__file__).parent.parent
    with (root / "pyproject.toml").open("rb") as file:
        build = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["force-include"] == {"models.toml": "edgellm/models.toml"}
    monkeypatch.setattr(catalog, "_HERE", tmp_path / "edgellm")
    (tmp_path / "edgellm").mkdir()
    (tmp_path / "edgellm" / "models.toml").write_text(GOOD)
    (tmp_path / "models.toml").write_text("nonsense")
    assert [entry.name for entry in catalog.entries()] == ["mine"]


# --- finding ----------------------------------------------------------------------------------------------------------


def test_a_name_is_found_in_any_case() -> None:
    assert catalog.find(" Mistral-7B-Instruct-V0.2 ").name == "mistral-7b-instruct-v0.2"


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelUnknown) as caught:
        catalog.find("mistral-7b-instruct-v2")
    count = len(catalog.entries())
    assert str(caught.value) == (
        "no model 'mistral-7b-instruct-v2'. Did you mean 'mistral-7b-instruct-v0.2', 'mistral-7b-instruct-v0.3' or "
        f"'mistral-7b-instruct-v0.1'? `edgellm models` lists all {count}."
    )
    with pytest.raises(ModelUnknown, match=r"no model 'zzz'\. `edgellm models` lists"):
        catalog.find("zzz")


# --- the user's own ---------------------------------------------------------------------------------------------------


def test_the_users_own_models_come_after_ours_and_may_replace_them(mine: Path) -> None:
    mine.write_text(GOOD + '[Demo]\npath = "files/x.gguf"\n[home]\npath = "~/x.gguf"\n[root]\npath = "/x.gguf"\n')
    entries = {entry.name: entry for entry in catalog.entries()}
    assert entries["mine"].files == (catalog.File("mine.Q4_K_M.gguf", 5, "0" * 64),)
    assert entries["Demo"].path == str(mine.parent / "files" / "x.gguf")
    assert "demo" not in entries
    assert catalog.find("demo") == entries["Demo"]
    assert entries["home"].path == os.path.expanduser("~/x.gguf")
    assert entries["root"].path == "/x.gguf"
    assert "qwen3-4b" in entries


def test_the_users_own_models_lie_in_the_configuration_folder() -> None:
    from platformdirs import user_config_dir

    folder = Path(user_config_dir("edgellm"))
    folder.mkdir(parents=True)
    (folder / "models.toml").write_text(GOOD)
    assert catalog.find("mine").repo == "me/mine-GGUF"


def test_a_named_catalogue_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGELLM_MODELS", "/nowhere/models.toml")
    with pytest.raises(UsageError, match=r"EDGELLM_MODELS names /nowhere/models.toml"):
        catalog.entries()


def broken(**changes: str | None) -> str:
    """The good entry, with keys replaced or (None) left out."""
    values = {
        "repo": '"me/mine-GGUF"',
        "revision": f'"{COMMIT}"',
        "files": '[{ name = "mine.gguf" }]',
    } | changes
    return "[mine]\n" + "\n".join(f"{key} = {value}" for key, value in values.items() if value is not None)


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        (broken(licence='"MIT"'), "licence", "did you mean 'license'?"),
        (broken(color='"red"'), "color", "unknown key; known are repo"),
        (broken(revision='"main"'), "revision", "40 hexadecimal digits"),
        (broken(revision=f'"{COMMIT[:12]}"'), "revision", "40 hexadecimal digits"),
        (broken(revision=f'"{COMMIT.upper()}"'), "revision", "40 hexadecimal digits"),
        (broken(revision="7"), "revision", "not 7"),
        (broken(repo='"mine"'), "repo", "user/repo"),
        (broken(files='"mine.gguf"'), "files", "list of"),
        (broken(files="[]"), "files", "list of"),
        (broken(files='["mine.gguf"]'), "files", "list of"),
        (broken(files="[{ bytes = 5 }]"), "files", "every file needs a name"),
        (broken(files='[{ name = "../mine.gguf" }]'), "files.name", "name of a .gguf file"),
        (broken(files='[{ name = "/mine.gguf" }]'), "files.name", "name of a .gguf file"),
        (broken(files='[{ name = "mine.bin" }]'), "files.name", "name of a .gguf file"),
        (broken(files="[{ name = 5 }]"), "files.name", "name of a .gguf file"),
        (broken(files='[{ name = "mine.gguf", bytes = "5" }]'), "files.bytes", "number of bytes"),
        (broken(files='[{ name = "mine.gguf", bytes = 0 }]'), "files.bytes", "number of bytes"),
        (broken(files='[{ name = "mine.gguf", bytes = true }]'), "files.bytes", "number of bytes"),
        (broken(files='[{ name = "mine.gguf", sha256 = "abc" }]'), "files.sha256", "64 hexadecimal digits"),
        (broken(files='[{ name = "mine.gguf", sha = "abc" }]'), "files.sha", "did you mean 'sha256'?"),
        (broken(commercial='"no"'), "commercial", "true or false"),
        (broken(good_at='"chat"'), "good_at", "list of texts"),
        (broken(good_at='["chat", 5]'), "good_at", "list of texts"),
        (broken(notes='""'), "notes", "must be text"),
        (broken(license_url='"MIT"'), "license_url", "web address"),
        (broken(path='"x.gguf"'), "path", "give one place"),
        (broken(revision=None), "revision", "needs repo, revision and files, or a path"),
        (broken(repo=None, revision=None, files=None, notes='"x"'), "repo", "or a path"),
        ("mine = 5", "", "every model is a table"),
        ('["a b"]\npath = "x.gguf"', "", "letters, digits"),
        ('["../x"]\npath = "x.gguf"', "", "letters, digits"),
        (broken() + '\n[MINE]\npath = "x.gguf"', "", "already an entry"),
    ],
)
def test_a_mistake_is_named_with_file_entry_and_key(mine: Path, text: str, key: str, says: str) -> None:
    mine.write_text(text)
    with pytest.raises(UsageError) as caught:
        catalog.entries()
    said = str(caught.value)
    assert said.startswith(f"{mine}: model ")
    assert says in said
    assert not key or f"key {key!r}" in said
    assert "\n" not in said


@pytest.mark.parametrize("content", [b"[mine", b"\xff\xfe", b"[a]\n[a]\n"])
def test_what_is_not_toml_is_named(mine: Path, content: bytes) -> None:
    mine.write_bytes(content)
    with pytest.raises(UsageError, match="not a TOML file"):
        catalog.entries()


def test_a_catalogue_that_cannot_be_read_is_named(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine.write_text(GOOD)

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UsageError, match=r"cannot be read \(Permission denied\)"):
        catalog.entries()


# --- references -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user/repo", ("user/repo", None, None, None)),
        ("user/repo:Q5_K_M", ("user/repo", "Q5_K_M", None, None)),
        ("user/repo:Q5_K_M@v1.0", ("user/repo", "Q5_K_M", "v1.0", None)),
        (f"user/repo@{COMMIT}", ("user/repo", None, COMMIT, None)),
        ("user/repo:latest", ("user/repo", None, None, None)),
        ("hf.co/user/repo:Q4_K_M", ("user/repo", "Q4_K_M", None, None)),
        ("hf://user/repo", ("user/repo", None, None, None)),
        ("hf://user/repo/file.gguf", ("user/repo", None, None, "file.gguf")),
        ("hf://user/repo@main/sub/file.gguf", ("user/repo", None, "main", "sub/file.gguf")),
        ("hf://user/repo@refs%2Fpr%2F1/file.gguf", ("user/repo", None, "refs/pr/1", "file.gguf")),
        ("https://huggingface.co/user/repo", ("user/repo", None, None, None)),
        ("https://huggingface.co/user/repo/tree/main", ("user/repo", None, "main", None)),
        ("https://huggingface.co/user/repo/blob/main/a%20b.gguf", ("user/repo", None, "main", "a b.gguf")),
        ("https://hf.co/user/repo/resolve/v1/f.gguf?download=true", ("user/repo", None, "v1", "f.gguf")),
        ("TheBloke/Mistral-7B-v0.1-GGUF:q4_k_m", ("TheBloke/Mistral-7B-v0.1-GGUF", "q4_k_m", None, None)),
    ],
)  # fmt: skip
def test_what_is_on_the_hub_is_understood(text: str, expected: tuple[str | None, ...]) -> None:
    meant = catalog.reference(text)
    assert meant.kind == "hub"
    assert (meant.repo, meant.quant, meant.revision, meant.file) == expected


@pytest.mark.parametrize(
    "text",
    ["a/b/c", "a//b", "user/repo:", "user/repo@", "user/repo@v:Q4", "hf://", "hf://user", "hf://user/repo/notes.txt",
     "user/repo:Q4/K", "https://huggingface.co/user/repo/blob/main/notes.txt", "a b/c", "hf.co/user/repo@v1:Q4"],
)  # fmt: skip
def test_what_names_nothing_is_answered_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(ModelUnknown, match=r"user/repo\[:QUANT\]\[@revision\]"):
        catalog.reference(text)


def test_a_catalogue_name_wins_over_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").write_bytes(b"GGUF")
    meant = catalog.reference("DEMO")
    assert (meant.kind, meant.entry and meant.entry.name) == ("catalogue", "demo")
    assert catalog.reference("./demo").path == "demo"


def test_a_path_is_whatever_exists_or_looks_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("sub/folder").mkdir(parents=True)
    for name in ("a.gguf", "B.GGUF", "plain", "sub/blob", "sub/folder/c.gguf"):
        Path(name).write_bytes(b"GGUF")
    for text in ("a.gguf", "B.GGUF", "plain", "sub/blob", "./a.gguf", "sub/folder/c.gguf", str(tmp_path / "plain")):
        meant = catalog.reference(text)
        assert meant.kind == "file"
        assert meant.path is not None
        assert Path(meant.path).samefile(text)
    assert catalog.reference("~/plain").path == str(tmp_path / "plain")
    assert catalog.reference("sub/folder").kind == "hub", "a folder is no model; user/repo may be one"


def test_a_missing_file_is_answered_with_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mistral-7b.Q4_K_M.gguf", "qwen.gguf", "gemma.gguf", "phi.gguf", "notes.txt"):
        Path(name).write_text("")
    Path("empty").mkdir()
    for text, says in {
        "./mistral-7b.Q4_K_S.gguf": r"Did you mean 'mistral-7b.Q4_K_M.gguf'\?",
        "./zzzzzzzzz": r"That folder has gemma.gguf, mistral-7b.Q4_K_M.gguf, phi.gguf, \.\.\.",
        "empty/x.gguf": "That folder has no .gguf files",
        ".": "is a folder; a model is a .gguf file",
        "no/such/x.gguf": "there is no folder no/such. For a file on the hub, write hf://no/such/x.gguf",
        "/no/such/x.gguf": "there is no folder /no/such.$",
        "~nobody-here/x.gguf": "no file ~nobody-here/x.gguf",
        "x" * 5000 + ".gguf": "no file x",
    }.items():
        with pytest.raises(ModelUnknown, match=says):
            catalog.reference(text)


def test_a_folder_that_cannot_be_listed_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ModelUnknown, match=r"no file .*x.gguf.$"):
        catalog.reference(str(tmp_path / "x.gguf"))


@given(st.text() | st.from_regex(r"(hf://|\./)?[a-z./:@%~\\\x00-]{0,20}(\.gguf)?"))
@example("")
@example("\0")
@example("~")
@example("\ud800")
@example("a/" * 3000)
@example(".gguf")
def test_no_text_is_too_odd(text: str) -> None:
    with suppress(ModelUnknown):
        meant = catalog.reference(text)
        assert (meant.kind == "hub") == bool(meant.repo)
        assert (meant.kind == "file") == bool(meant.path)
        assert (meant.kind == "catalogue") == bool(meant.entry)


def test_the_catalogue_is_light() -> None:
    probe = (
        "import sys; from edgellm import catalog; catalog.reference('demo')\n"
        "print([name for name in ('huggingface_hub', 'numpy', 'rich', 'click') if name in sys.modules])"
    )
    child = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"
