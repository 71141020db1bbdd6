"""A header is read as it stands, a broken one is named, and what passes never kills llama.cpp.

The last promise is kept against the installed library: `survivors` loads files in a child process, tokenizes, makes a
context and decodes, and starts a new child after every death.
"""

from __future__ import annotations

import itertools
import os
import pickle
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf as oracle
import ggufs
import numpy as np
import pytest
from ggufs import Block, Gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgellm import gguf, gguf_bytes, preflight
from edgellm.errors import ModelFileError, Offline

LLAMA = r"""
import ctypes, os, resource, sys
os.environ["GGML_NO_BACKTRACE"] = "1"
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
from llama_cpp import llama_cpp as lib

silent = lib.llama_log_callback(lambda level, text, data: None)
lib.llama_log_set(silent, None)
lib.llama_backend_init()

def tokenize(vocab):
    buffer, piece = (ctypes.c_int32 * 256)(), ctypes.create_string_buffer(4096)
    for text in ("Hello <s> the \u4e2d\u6587 \U0001f600 and\n\x00".encode(), b"\xff\xfe\x80"):
        for special in (False, True):
            lib.llama_tokenize(vocab, text, len(text), buffer, 256, False, special)
    for token in range(min(lib.llama_vocab_n_tokens(vocab), 500)):
        lib.llama_token_to_piece(vocab, token, piece, 4096, 0, True)
        lib.llama_vocab_get_attr(vocab, token)

def decode(model, tokens):
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max, params.n_outputs_max = 256, 32, 16, 2, 2
    params.kv_unified, params.swa_full, params.n_threads, params.n_threads_batch = True, False, 1, 1
    context = lib.llama_init_from_model(model, params)
    if not context:
        return "no context"
    batch, place = lib.llama_batch_init(32, 0, 1), 0
    for count in (20, 1):
        batch.n_tokens = count
        for index in range(count):
            batch.token[index], batch.pos[index] = (7 * place + index) % tokens, place + index
            batch.n_seq_id[index], batch.seq_id[index][0], batch.logits[index] = 1, 0, index == count - 1
        if lib.llama_decode(context, batch):
            return "not decoded"
        place += count
        lib.llama_get_logits_ith(context, -1)[tokens - 1]
    lib.llama_batch_free(batch)
    lib.llama_free(context)
    return "decoded"

for line in sys.stdin:
    params = lib.llama_model_default_params()
    params.n_gpu_layers, params.use_extra_bufts = 0, False
    model = lib.llama_model_load_from_file(line.rstrip("\n").encode(), params)
    answer = "refused"
    if model:
        vocab = lib.llama_model_get_vocab(model)
        tokenize(vocab)
        answer = decode(model, lib.llama_vocab_n_tokens(vocab))
        lib.llama_model_free(model)
    print(answer, flush=True)
"""


def survivors(paths: Iterable[Path]) -> dict[Path, str]:
    """What llama.cpp does with each file: "decoded", "refused", or how its process died; a minute is a death, too."""
    waiting, answers = list(paths), {}
    while waiting:
        lines = "".join(f"{path}\n" for path in waiting).encode()
        try:
            done = subprocess.run([sys.executable, "-c", LLAMA], input=lines, capture_output=True, timeout=60)
            output, end = done.stdout, f"died of {-done.returncode}: {done.stderr[-200:]!r}"
        except subprocess.TimeoutExpired as error:
            output, end = error.stdout or b"", "died of waiting"
        said = output.decode().splitlines()
        answers |= dict(zip(waiting, said, strict=False))
        if len(said) < len(waiting):
            answers[waiting[len(said)]] = end
        waiting = waiting[len(said) + 1 :]
    return answers


def judged(files: Iterable[tuple[str, bytes]], folder: Path) -> tuple[dict[Path, str], int]:
    """Read each file: those that pass, written down, by path; and how many were refused."""
    passed, nameless, refused = {}, [], 0
    for number, (name, raw) in enumerate(files):
        try:
            gguf.read_from(*over(raw), name)
        except ModelFileError as error:
            refused += 1
            nameless += [str(error)] if error.field is None and error.offset is None else []
        else:
            path = folder / f"{number}.gguf"
            path.write_bytes(raw)
            passed[path] = name
    assert nameless == []
    return passed, refused


def assert_none_dies(files: Iterable[tuple[str, bytes]], folder: Path) -> tuple[int, int]:
    """Check the promise; returns how many files were refused by the reader, and how many went to llama.cpp."""
    passed, refused = judged(files, folder)
    deaths = {passed[path]: answer for path, answer in survivors(passed).items() if answer.startswith("died")}
    assert deaths == {}
    for path in passed:
        path.unlink()
    return refused, len(passed)


def over(raw: bytes) -> tuple[gguf.Fetch, int]:
    """A file that is not on this disk, as `read_from` wants it."""
    return lambda offset, length: raw[offset : offset + length], len(raw)


def refusal(file: Gguf | bytes, **options: Any) -> ModelFileError:
    raw = file.pack() if isinstance(file, Gguf) else file
    with pytest.raises(ModelFileError) as caught:
        gguf.read_from(*over(raw), "x.gguf", **options)
    return caught.value


# --- reading as it stands ---------------------------------------------------------------------------------------------


def as_oracle(path: Path) -> tuple[dict[str, Any], list[tuple[Any, ...]], int]:
    """The same header by the gguf package."""
    reader = oracle.GGUFReader(path)
    metadata = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    tensors = [
        (one.name, tuple(map(int, one.shape)), int(one.tensor_type), int(one.data_offset), int(one.n_bytes))
        for one in reader.tensors
    ]
    return metadata, tensors, reader.alignment


VALID: dict[str, Callable[[], Gguf]] = {
    "f32": lambda: ggufs.model(chat_template="{{ 'é' }}"),
    "q8_0 with experts": lambda: ggufs.model(quant="q8_0", experts=4),
    "q4_0": lambda: ggufs.model(quant="q4_0", layers=1),
    "version 2": lambda: replace(ggufs.model(), version=2),
    "aligned to 64": lambda: replace(ggufs.model(**{"general.alignment": 64}), alignment=64),
    "every kind": lambda: ggufs.model(**{f"test.{kind}": (kind, 1) for kind in ggufs.CODES}, **{"test.text": "né"}),
    "every array": lambda: ggufs.model(**{f"test.{kind}": (f"[{kind}]", [1, 0, 1]) for kind in ggufs.CODES}),
    "gemma3": lambda: ggufs.shaped("tiny-gemma3"),
    "qwen2": lambda: ggufs.shaped("tiny-qwen2"),
}


@pytest.mark.parametrize("name", VALID)
def test_a_header_says_what_the_gguf_package_says(name: str, tmp_path: Path) -> None:
    assert_as_oracle(VALID[name]().write(tmp_path / "a.gguf"))


# The package needs seconds for a large vocabulary.
@pytest.mark.parametrize(
    "name", ["mixtral-8x7b", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gemma3-4b", "qwen2.5-7b"))]
)
def test_a_header_of_a_real_shape_says_what_the_gguf_package_says(name: str, tmp_path: Path) -> None:
    assert_as_oracle(ggufs.write_shape(tmp_path / "a.gguf", name), long=3)


def assert_as_oracle(path: Path, long: int = 10**6) -> None:
    head = gguf.read(path)
    metadata, tensors, alignment = as_oracle(path)
    assert list(head.metadata) == list(metadata)
    for key, value in metadata.items():
        ours = head.metadata[key]
        assert (
            (list(ours[:long]), len(ours)) == (value[:long], len(value)) if isinstance(value, list) else ours == value
        )
    ours = [(one.name, one.shape, one.type, head.data_offset + one.offset, one.bytes) for one in head.tensors]
    assert ours == tensors
    assert head.alignment == alignment
    assert head.file_bytes == path.stat().st_size


def test_llama_cpp_decodes_every_valid_file(tmp_path: Path) -> None:
    paths = [make().write(tmp_path / f"{number}.gguf") for number, make in enumerate(VALID.values())]
    assert set(survivors(paths).values()) == {"decoded"}


def test_a_header_answers_what_a_plan_asks(tmp_path: Path) -> None:
    head = gguf.read(ggufs.write_shape(tmp_path / "a.gguf", "mixtral-8x7b"))
    assert (head.architecture, head.name, head.layers, head.embedding) == ("llama", "mixtral-8x7b", 32, 4096)
    assert (head.heads, head.kv_heads) == ((32,) * 32, (8,) * 32)
    assert (head.key_length, head.value_length, head.context_length) == (128, 128, 32768)
    assert (head.vocab_size, head.experts, head.experts_used) == (32000, 8, 2)
    assert (head.sliding_window, head.chat_template, head.quantization) == (None, None, "Q4_K_M")
    assert head.parameters == 46_702_792_704  # what Mistral AI says: 46.7B
    assert head.tensor_bytes == 28_447_727_616
    assert head.tensors[0].type_name == "Q4_K"
    assert head.tensors[0].elements == 4096 * 32000


def test_a_header_answers_for_windows_templates_and_layers_that_differ() -> None:
    gemma = gguf.read_from(*over(ggufs.shaped("tiny-gemma3").pack()), "a.gguf")
    assert (gemma.sliding_window, gemma.key_length, gemma.experts_used) == (64, 128, 0)
    plain = gguf.read_from(*over(ggufs.model(chat_template="{{ x }}", **{"general.name": None}).pack()), "/m/my.gguf")
    assert (plain.name, plain.chat_template) == ("my", "{{ x }}")
    used = {"llama.expert_used_count": ("[u32]", [1, 2]), "llama.attention.head_count": ("[u32]", [4, 4])}
    uneven = gguf.read_from(*over(ggufs.model(experts=4, **used).pack()), "a.gguf")
    assert (uneven.experts_used, uneven.heads) == (2, (4, 4))


def quantization(file_type: Any) -> str:
    file = ggufs.model(quant="q8_0", **{"general.file_type": file_type})
    return gguf.read_from(*over(file.pack()), "a.gguf").quantization


@pytest.mark.parametrize("known", oracle.LlamaFileType, ids=lambda known: known.name)
def test_the_quantization_is_what_the_file_says(known: oracle.LlamaFileType) -> None:
    name = known.name.removeprefix("MOSTLY_").removeprefix("ALL_").removesuffix("_MOE")
    assert quantization(int(known)) == ("Q8_0" if name == "GUESSED" else name)


@pytest.mark.parametrize("said", [None, 33, 5000, ("i32", -1), ["Q2_K"], "Q2_K"])
def test_the_quantization_is_that_of_most_bytes_where_the_file_says_nothing_known(said: Any) -> None:
    assert quantization(said) == "Q8_0"


def test_a_header_without_a_fact_says_which_one() -> None:
    vocabulary = Gguf({"general.architecture": ("str", "llama"), **ggufs.spm(300)}, {})
    head = gguf.read_from(*over(vocabulary.pack()), "a.gguf", expect="vocabulary")
    assert (head.vocab_size, head.parameters, head.quantization) == (300, 0, "")
    with pytest.raises(ModelFileError, match=r"llama\.block_count"):
        _ = head.layers
    assert refusal(vocabulary).field == "tensor count"


def test_strings_are_a_sequence(tmp_path: Path) -> None:
    texts = ["<unk>", "né", "", "a"]
    file = ggufs.model(**{"general.tags": ("[str]", texts), "general.languages": ("[str]", [b"\xff", "b"])})
    head = gguf.read_from(*over(file.pack()), "a.gguf")
    tags = head.metadata["general.tags"]
    assert list(tags) == texts == [tags[index] for index in range(4)]
    assert (tags[-1], tags[1:3], len(tags), "né" in tags, tags == texts, tags == texts[:3]) == (
        *("a", ("né", ""), 4, True, True, False),
    )
    assert tags.encoded() == [text.encode() for text in texts]
    assert list(head.metadata["general.languages"]) == ["\\xff", "b"]
    assert pickle.loads(pickle.dumps(head)) == head
    with pytest.raises(IndexError):
        _ = tags[4]


@given(
    st.dictionaries(
        st.from_regex(r"test\.[a-z_]{1,20}", fullmatch=True),
        st.one_of(
            st.tuples(st.just("str"), st.text(max_size=50)),
            st.tuples(st.just("[str]"), st.lists(st.text(max_size=20), max_size=50)),
            st.tuples(st.just("i64"), st.integers(-(2**63), 2**63 - 1)),
            st.tuples(st.just("f64"), st.floats(allow_nan=False)),
            st.tuples(st.just("[u8]"), st.lists(st.integers(0, 255), max_size=300)),
            st.tuples(st.just("bool"), st.booleans()),
        ),
        max_size=10,
    ),
    st.sampled_from([32, 64, 4096]),
)
@settings(max_examples=50, deadline=None)
def test_whatever_is_written_is_read(values: dict[str, tuple[str, Any]], alignment: int) -> None:
    file = ggufs.model(layers=1, vocab=259, **{"general.alignment": alignment}, **values)
    head = gguf.read_from(*over(replace(file, alignment=alignment).pack()), "a.gguf")
    for key, (kind, value) in values.items():
        assert head.fields[key].kind == kind
        assert head.metadata[key] == (tuple(value) if kind == "[u8]" else value)


def test_tensor_types_are_those_of_the_installed_ggml() -> None:
    import ctypes

    from llama_cpp import llama_cpp

    ggml = llama_cpp._lib
    ggml.ggml_type_name.restype = ctypes.c_char_p
    ggml.ggml_type_size.restype = ctypes.c_size_t
    ggml.ggml_blck_size.restype = ctypes.c_int64
    known = {}
    for code in range(43):  # ggml.h, GGML_TYPE_COUNT
        if ggml.ggml_blck_size(code):
            name = ggml.ggml_type_name(code).decode().upper()
            known[code] = (name, ggml.ggml_blck_size(code), ggml.ggml_type_size(code))
    assert dict(gguf_bytes.TYPES) == known
    assert {name: (code, *sizes) for code, (name, *sizes) in known.items()} == ggufs.TYPES


def test_architectures_are_those_of_the_installed_llama_cpp() -> None:
    from llama_cpp import llama_cpp

    library = Path(llama_cpp._lib._name).read_bytes()
    assert [name for name in preflight.ARCHITECTURES if f"{name}\0".encode() not in library] == []
    named = {name for key, name in oracle.MODEL_ARCH_NAMES.items() if key != oracle.MODEL_ARCH.MMPROJ}
    assert {name for name in named - preflight.ARCHITECTURES if f"{name}\0".encode() in library} == set()


# --- through ranges ---------------------------------------------------------------------------------------------------


def test_a_remote_header_costs_few_requests_and_little_more_than_itself(tmp_path: Path) -> None:
    path = ggufs.write_shape(tmp_path / "a.gguf", "gemma3-4b")
    asked: list[tuple[int, int]] = []

    def fetch(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    head = gguf.read_from(fetch, path.stat().st_size, str(path))
    assert head == gguf.read(path)
    assert asked == [(0, 1 << 20), (1 << 20, 1 << 20), (2 << 20, 2 << 20), (4 << 20, 4 << 20)]


def test_no_byte_is_asked_for_beyond_the_file() -> None:
    raw = ggufs.model().pack()

    def fetch(offset: int, length: int) -> bytes:
        assert offset + length <= len(raw)
        return raw[offset : offset + length]

    gguf.read_from(fetch, len(raw), "a.gguf")


def test_bytes_that_do_not_come_are_missed() -> None:
    raw = ggufs.model().pack()
    with pytest.raises(ModelFileError, match="came of"):
        gguf.read_from(lambda offset, length: raw[offset : offset + length - 1], len(raw), "a.gguf")


def test_errors_of_the_network_pass_through() -> None:
    def fetch(offset: int, length: int) -> bytes:
        raise Offline("no network")

    with pytest.raises(Offline):
        gguf.read_from(fetch, 10**9, "a.gguf")


def test_every_window_size_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    file = ggufs.model(vocab=300)
    whole = gguf.read_from(*over(file.pack()), "a.gguf")
    for size in (1, 7, 64, 1000):
        monkeypatch.setattr(gguf_bytes, "_FIRST_WINDOW", size)
        monkeypatch.setattr(gguf_bytes, "_GROWTH_MAX", size)
        assert gguf.read_from(*over(file.pack()), "a.gguf") == whole


MEASURE = """
import sys, time, tracemalloc
from edgellm import gguf

took = []
for _ in range(5):
    start = time.process_time()  # another process on this core must not count
    gguf.read(sys.argv[1])
    took.append(time.process_time() - start)
tracemalloc.start()
gguf.read(sys.argv[1])
print(min(took), tracemalloc.get_traced_memory()[1])
"""


def test_a_header_of_262144_tokens_costs_a_third_of_a_second_and_64_mb(tmp_path: Path) -> None:
    """The size of gemma-4's, the largest known: 262,144 tokens and 514,906 merges. Measured: 0.27 s and 53 MB.

    In a process of its own, where no coverage is measured.
    """
    without = {"tokenizer.ggml.bos_token_id": None, "tokenizer.ggml.unknown_token_id": None}
    file = ggufs.model(
        layers=1, embedding=32, heads=2, vocab=262_144, **ggufs.bpe(262_144, "gemma4", 514_906), **without
    )
    path = file.write(tmp_path / "a.gguf")
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    seconds, peak = map(float, done.stdout.split())
    assert seconds <= 0.35
    assert peak <= 64_000_000


# --- refusing in words ------------------------------------------------------------------------------------------------

REFUSALS: list[tuple[str, Gguf | bytes, str | None, str]] = [
    ("too short", b"GGUF", None, "4 bytes"),
    ("lfs pointer", b"version https://git-lfs.github.com/spec/v1\n" + b"x" * 90, "magic", "Git LFS pointer"),
    ("web page", b"<!DOCTYPE html><html>404</html>", "magic", "web page"),
    ("old ggml", b"tjgg" + bytes(40), "magic", "before GGUF"),
    ("unknown magic", b"\x89PNG" + bytes(40), "magic", "GGUF"),
    ("big-endian", struct.pack(">4sIQQ", b"GGUF", 3, 1, 1), "version", "big-endian"),
    ("version 1", struct.pack("<4sIQQ", b"GGUF", 1, 1, 1), "version", "version 1"),
    ("version 4", struct.pack("<4sIQQ", b"GGUF", 4, 1, 1), "version", "version 4"),
    ("near name", ggufs.model(**{"general.architecture": "lama"}), "general.architecture", "llama"),
    ("adapter", ggufs.model(**{"general.type": "adapter"}), "general.type", "--adapter"),
    ("embedding", ggufs.model(**{"general.architecture": "bert"}), "general.architecture", "embedding model"),
    ("no layers", ggufs.model(**{"llama.block_count": 0}), "llama.block_count", "1 to 512"),
    ("layers as i64", ggufs.model(**{"llama.block_count": ("i64", 2)}), "llama.block_count", "i64"),
    ("token id", ggufs.model(**{"tokenizer.ggml.eos_token_id": 400}), "tokenizer.ggml.eos_token_id", "400 in a"),
    ("template", ggufs.model(chat_template="x" * 262_145), "tokenizer.chat_template", "262,145"),
    ("scores", ggufs.model(**{"tokenizer.ggml.scores": [0.5] * 399}), "tokenizer.ggml.scores", "399"),
    ("cut", ggufs.model().pack()[:-1], "output.weight", "ends 1 bytes beyond"),
    ("vocabulary and weights", ggufs.model(**ggufs.spm(300)), "token_embd.weight", "64 x 300"),
    ("alignment", ggufs.model(**{"general.alignment": 48}), "general.alignment", "power of two"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "field", "words"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
)
def test_a_refusal_names_place_and_cause(file: Gguf | bytes, field: str | None, words: str) -> None:
    error = refusal(file)
    assert error.field == field
    assert words in str(error)
    assert str(error).startswith("x.gguf")


def test_a_refusal_points_at_the_value(tmp_path: Path) -> None:
    file = ggufs.model(**{"llama.block_count": 513})
    offset = refusal(file).offset
    assert offset is not None
    assert struct.unpack_from("<I", file.pack(), offset) == (513,)


def test_the_layout_of_one_tensor_per_expert_is_refused_with_its_cure(tmp_path: Path) -> None:
    path = ggufs.write_shape(tmp_path / "a.gguf", "mixtral-8x7b-old")
    with pytest.raises(ModelFileError, match="mixtral-8x7b-instruct") as caught:
        gguf.read(path)
    assert caught.value.field == "blk.0.ffn_gate.0.weight"


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    for name in ("missing.gguf", "pipe", "", "zero\0byte"):
        with pytest.raises(ModelFileError):
            gguf.read(f"{tmp_path}/{name}")


def test_a_disk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("builtins.open", broken)
    with pytest.raises(ModelFileError, match="Input/output error"):
        gguf.read(__file__)


@pytest.mark.parametrize("where", [(gguf_bytes._Reader, "value"), (preflight, "check")])
def test_what_no_check_foresaw_is_refused_too(where: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def surprise(*_: Any) -> Any:
        raise RecursionError("too deep")

    monkeypatch.setattr(*where, surprise)
    assert "RecursionError" in str(refusal(ggufs.model()))


def test_implausible_sizes_are_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Counter[str]()

    def zeros(offset: int, length: int) -> bytes:
        asked["bytes"] += length
        return (raw + bytes(length))[offset : offset + length] if offset < len(raw) else bytes(length)

    long = struct.pack("<IQ", 8, 1 << 40)
    raw = struct.pack("<4sIQQ", b"GGUF", 3, 1, 1) + ggufs.entry("general.name", "raw", long)
    with pytest.raises(ModelFileError, match="not plausible"):
        gguf.read_from(zeros, 1 << 41, "a.gguf")
    many = struct.pack("<IIQ", 9, 0, 1 << 23)
    raw = struct.pack("<4sIQQ", b"GGUF", 3, 1, 1) + ggufs.entry("test.many", "raw", many)
    with pytest.raises(ModelFileError, match="8,388,608 values"):
        gguf.read_from(zeros, 1 << 41, "a.gguf")
    assert asked["bytes"] <= 4 << 20


# --- false refusals ---------------------------------------------------------------------------------------------------


def test_odd_but_harmless_files_are_read(tmp_path: Path) -> None:
    harmless: list[dict[str, Any]] = [
        {"general.author": b"Andr\xe9"},
        {"tokenizer.ggml.padding_token_id": 400},  # one beyond the vocabulary, as some fine-tunes have it
        {"tokenizer.ggml.eot_token_id": 2**32 - 1},
        {"tokenizer.ggml.scores": [0.0] * 500},
        {"split.count": ("u16", 0), "split.no": ("u16", 0)},  # what llama-gguf-split leaves after merging
        {"llama.attention.sliding_window": 4096},
        {"llama.rope.scaling.factor": 0.0},
        {"general.name": "", "tokenizer.chat_template": ""},
        {"general.type": "model", "quantize.imatrix.file": "x", "general.languages": ["en"], "some.fork.key": 3},
        {"llama.rope.dimension_count": None, "llama.attention.head_count_kv": None, "general.file_type": None},
    ]
    paths = []
    for number, change in enumerate(harmless):
        kv_heads = 4 if "llama.attention.head_count_kv" in change else 2
        paths.append(ggufs.write_model(tmp_path / f"{number}.gguf", kv_heads=kv_heads, **change))
        gguf.read(paths[-1])
    assert set(survivors(paths).values()) == {"decoded"}


def test_a_vocabulary_alone_is_read_where_one_is_expected(tmp_path: Path) -> None:
    for name, tokenizer in {"llama": ggufs.spm(300), "bert": {"tokenizer.ggml.model": ("str", "bert")}}.items():
        metadata = {"general.architecture": ("str", name), **ggufs.spm(300), **tokenizer}
        path = Gguf(metadata, {}).write(tmp_path / f"{name}.gguf")
        assert gguf.read(path, expect="vocabulary").vocab_size == 300
        with pytest.raises(ModelFileError):
            gguf.read(path)
    kimi = ggufs.model(**{**ggufs.spm_to_bpe(None), "tokenizer.ggml.pre": "kimi-k2"})
    gguf.read_from(*over(kimi.pack()), "a.gguf")
    bare = Gguf({"general.architecture": ("str", "llama")}, {})
    gguf.read_from(*over(bare.pack()), "a.gguf", expect="vocabulary")


def test_a_rwkv_vocabulary_needs_its_newline() -> None:
    rwkv = {"tokenizer.ggml.model": "rwkv", "tokenizer.ggml.tokens": ["<s>", *map(str, range(398)), "\\n"]}
    gguf.read_from(*over(ggufs.model(**rwkv).pack()), "a.gguf")
    rwkv["tokenizer.ggml.tokens"][-1] = "x"
    assert "newline" in str(refusal(ggufs.model(**rwkv)))


def test_tables_of_ids_may_be_integers() -> None:
    table = ggufs.model().with_tensor("blk.0.ffn_gate_tid2eid.weight", Block((2, 400), "I32"))
    gguf.read_from(*over(table.pack()), "a.gguf")


def test_layers_may_have_no_heads_where_the_family_is_made_so() -> None:
    file = ggufs.model(**{"general.architecture": "lfm2"})
    renamed = {key.replace("llama.", "lfm2.", 1): value for key, value in file.metadata.items()}
    tensors = {name: block for name, block in file.tensors.items() if not name.startswith("blk.0.attn_")}
    renamed["lfm2.attention.head_count_kv"] = ("[i32]", [0, 2])
    head = gguf.read_from(*over(Gguf(renamed, tensors).pack()), "a.gguf")
    assert head.kv_heads == (0, 2)
    renamed["lfm2.attention.head_count"] = ("u32", 0)
    renamed["lfm2.attention.head_count_kv"] = ("u32", 0)
    head = gguf.read_from(*over(Gguf(renamed, tensors).pack()), "a.gguf")
    assert (head.heads, head.key_length, head.value_length) == ((0, 0), 0, 0)


def test_windowed_layers_may_be_named_one_by_one_and_have_heads_of_their_own() -> None:
    file = ggufs.shaped("tiny-gemma3")
    named = {"gemma3.attention.sliding_window_pattern": ("[bool]", [True, False] * 3 + [True])}
    own = {"gemma3.attention.key_length_swa": 64, "gemma3.attention.value_length_swa": 64}
    head = gguf.read_from(*over(file.but(**named, **own).pack()), "a.gguf")
    assert head.sliding_window == 64


def test_hunyuan_counts_one_expert_as_none() -> None:
    file = ggufs.model()
    renamed = {key.replace("llama.", "hunyuan-dense.", 1): value for key, value in file.metadata.items()}
    renamed |= {"general.architecture": ("str", "hunyuan-dense"), "hunyuan-dense.expert_count": ("u32", 1)}
    assert gguf.read_from(*over(Gguf(renamed, file.tensors).pack()), "a.gguf").experts == 1


# --- adapters ---------------------------------------------------------------------------------------------------------


def adapter(tensors: dict[str, Block] | None = None, **metadata: Any) -> Gguf:
    pair = {"blk.0.attn_q.weight.lora_a": Block((64, 4)), "blk.0.attn_q.weight.lora_b": Block((4, 64))}
    said = {
        "general.type": "adapter",
        "general.architecture": "llama",
        "adapter.type": "lora",
        "adapter.lora.alpha": 8.0,
    }
    return Gguf(ggufs.amend({}, {**said, **metadata}), pair if tensors is None else tensors)


def test_a_lora_is_read_where_an_adapter_is_expected() -> None:
    head = gguf.read_from(*over(adapter().pack()), "a.gguf", expect="adapter")
    assert [tensor.shape for tensor in head.tensors] == [(64, 4), (4, 64)]
    assert refusal(adapter()).field == "general.type"


@pytest.mark.parametrize(
    ("file", "field"),
    [
        (ggufs.model(), "general.type"),
        (adapter(**{"adapter.type": "control"}), "adapter.type"),
        (adapter(**{"general.architecture": "lama"}), "general.architecture"),
        (adapter(**{"adapter.lora.alpha": float("nan")}), "adapter.lora.alpha"),
        (adapter(**{"adapter.lora.alpha": ("f64", 8.0)}), "adapter.lora.alpha"),
        (adapter({}), "tensor count"),
        (adapter({"x.lora_a": Block((64, 4))}), "x.lora_a"),
        (adapter({"x.weight": Block((64, 4))}), "x.weight"),
        (adapter({"x.lora_a": Block((64, 4), "I32"), "x.lora_b": Block((4, 64))}), "x.lora_a"),
        (adapter({"x.lora_a": Block((64, 4)), "x.lora_b": Block((64,))}), "x.lora_b"),
    ],
)
def test_what_is_no_lora_is_refused_as_one(file: Gguf, field: str) -> None:
    error = refusal(file, expect="adapter")
    assert error.field == field


# --- split files ------------------------------------------------------------------------------------------------------


def split(file: Gguf, folder: Path, *, parts: int = 3, name: str = "m", **changes: Any) -> list[Path]:
    """Write a model in parts, as llama-gguf-split does."""
    names = np.array_split(list(file.tensors), parts)
    paths = []
    for number, part in enumerate(names):
        said = {
            "split.no": ("u16", number),
            "split.count": ("u16", parts),
            "split.tensors.count": ("i32", len(file.tensors)),
        }
        metadata = ggufs.amend({**(file.metadata if number == 0 else {}), **said}, changes)
        piece = Gguf(metadata, {str(one): file.tensors[str(one)] for one in part})
        paths.append(piece.write(folder / f"{name}-{number + 1:05}-of-{parts:05}.gguf"))
    return paths


def test_a_split_model_is_one_header(tmp_path: Path) -> None:
    file = ggufs.model()
    paths = split(file, tmp_path)
    head = gguf.read(paths[0])
    assert [tensor.name for tensor in head.tensors] == list(file.tensors)
    assert head.parts == tuple(map(str, paths))
    assert head.file_bytes == sum(path.stat().st_size for path in paths)
    assert survivors([paths[0]]) == {paths[0]: "decoded"}
    remote = [gguf.read_from(*over(path.read_bytes()), str(path), expect="part") for path in paths]
    assert gguf.join(remote) == head
    assert gguf.read(split(file, tmp_path, parts=1)[0]).parts == (str(tmp_path / "m-00001-of-00001.gguf"),)


def test_a_part_alone_says_what_is_needed(tmp_path: Path) -> None:
    paths = split(ggufs.model(), tmp_path)
    with pytest.raises(ModelFileError, match=r"part 2 of 3: name .*m-00001-of-00003\.gguf instead"):
        gguf.read(paths[1])
    with pytest.raises(ModelFileError, match="part 3 of 3: name its first part instead"):
        gguf.read(paths[2].rename(tmp_path / "other.gguf"))
    with pytest.raises(ModelFileError, match=r"1 of 3 parts are missing beside it: m-00003-of-00003\.gguf"):
        gguf.read(paths[0])
    with pytest.raises(ModelFileError, match="1 were given"):
        gguf.read_from(*over(paths[0].read_bytes()), "a.gguf")
    with pytest.raises(ModelFileError, match="part 2 of 3"):
        gguf.read_from(*over(paths[1].read_bytes()), "a.gguf")
    with pytest.raises(ModelFileError, match="from a name like model-00001-of-00003"):
        gguf.read(paths[0].rename(tmp_path / "first.gguf"))
    assert gguf.read(paths[1], expect="part").tensors


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"split.no": ("u16", 0)}, "split.no"),
        ({"split.no": ("u32", 0)}, "split.no"),
        ({"split.count": ("i32", 3)}, "split.count"),
        ({"split.tensors.count": ("i32", 7)}, "split.tensors.count"),
    ],
)
def test_parts_that_disagree_are_refused(changes: dict[str, Any], field: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        gguf.read(split(ggufs.model(), tmp_path, **changes)[0])
    assert caught.value.field == field


def test_a_tensor_in_two_parts_is_refused(tmp_path: Path) -> None:
    paths = split(ggufs.model(), tmp_path, parts=2)
    paths[1].write_bytes(b"")
    first = gguf.read(paths[0], expect="part")
    second = Gguf({"split.no": ("u16", 1), "split.count": ("u16", 2)}, {"token_embd.weight": Block((64, 400))})
    with pytest.raises(ModelFileError, match="stands in two parts"):
        gguf.join([first, gguf.read_from(*over(second.pack()), "b.gguf", expect="part")])
    with pytest.raises(ModelFileError, match="0 bytes"):
        gguf.read(paths[0])


# --- nothing that passes kills llama.cpp ------------------------------------------------------------------------------


def test_hostile_files_are_at_least_200_and_all_different() -> None:
    files = list(ggufs.hostile())
    assert len(files) >= 400
    assert len({raw for _, raw in files}) == len(files)


def test_no_hostile_file_that_passes_kills_llama_cpp(tmp_path: Path) -> None:
    refused, passed = assert_none_dies(ggufs.hostile(), tmp_path)
    assert refused >= 300
    assert passed >= 50


def test_no_mutated_file_that_passes_kills_llama_cpp(tmp_path: Path) -> None:
    files = ((f"seed {seed}", ggufs.mutated(seed)) for seed in range(200))
    refused, passed = assert_none_dies(files, tmp_path)
    assert refused >= 80
    assert passed >= 30


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_none_of_100000_mutated_files_that_passes_kills_llama_cpp(tmp_path: Path) -> None:
    seeds = iter(range(1_000, 101_000))
    while batch := list(itertools.islice(seeds, 200)):
        assert_none_dies(((f"seed {seed}", ggufs.mutated(seed)) for seed in batch), tmp_path)


@given(
    st.binary(max_size=2000),
    st.sampled_from([b"", b"GGUF\x03\0\0\0", b"GGUF\x02\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0"]),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_are_read_or_refused_in_words(tail: bytes, head: bytes) -> None:
    raw = head + tail
    try:
        gguf.read_from(*over(raw), "a.gguf", expect="vocabulary")
    except ModelFileError as error:
        reason = error.reason
    else:
        reason = ""
    assert "cannot be read (" not in reason
