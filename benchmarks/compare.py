"""The same work on edgellm and on its peers, in one run: engines one at a time, in alternation, medians of the rounds.

    python benchmarks/compare.py [ROW ...] [--rounds 5] [--threads 2] [--gpu] [--model FILE] [--markdown FILE]
    python benchmarks/compare.py --list

Models are random weights of real shapes, so what they say is noise; how fast they say it is not. Extraction forces a canned
valid answer: on edgellm every mask of the real schema is computed and then the canned token taken; the peers get a grammar
that allows the canned answer only, which costs them less than the schema would. Where there are several settings to choose
from (weights repacked or not, a cache in one pool or in parts), each side tries them all in the first round and goes on with
its fastest; rows that say "as it comes" are a peer's defaults. Peers that are not installed are left out:
llama-cpp-python is there, `pip install xllamacpp` and `pip install ctransformers` add the others. With --gpu everything lies on
the GPU, ours and Llama's; the other peers' wheels compute on processors only and have no rows there. Read the ratios; absolute
times belong to one machine on one day.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from peer import llama

from edgellm import gguf, hardware, plan
from edgellm.bench import canned, measure, synthetic
from edgellm.decision import DRAFTS
from edgellm.engines import devices
from edgellm.engines.base import Feed
from edgellm.lookup import Pace
from edgellm.machine import Answer
from edgellm.plan import Plan, Wish
from edgellm.prompt import Prompt

JOBS = 64
GPU = os.environ.get("COMPARE_GPU") == "1"  # set by --gpu, for the processes that measure
FOLDER = Path(tempfile.gettempdir()) / "edgellm-compare"


@dataclass(frozen=True)
class Row:
    """One comparison: a model shape, ours and the peer's measurement, and what the ratio should reach."""

    what: str
    shape: str
    ours: str
    peer: str
    least: float  # 0: nothing was asked for, the row is there to be known
    needs: str = ""
    better: str = "less"  # seconds; "more": a rate; "share" and "size": the ratio should be at most `least`
    rounds: int = 100  # at most: a size is the same every time


_THOUSAND, _EXTRACT = "thousand|thousand_repacked", "extract|extract_repacked"
_WIDE = f"{_EXTRACT}|extract_wide"
_BARE_THOUSAND = "thousand_bare|thousand_bare_repacked"
_SERVERS = "|".join(f"extract_xllamacpp{weights}{cache}" for weights in ("", "_plain") for cache in ("", "_parts"))
ROWS = {
    "decode-0.1b": Row("one answer, 0.1B: loop / bare llama_decode", "0.1b", "loop1", "bare1", 0.97, better="more"),
    "decode-1.1b": Row("one answer, 1.1B: loop / bare llama_decode", "1.1b", "loop1", "bare1", 0.97, better="more"),
    "decode-16": Row("16 answers, 0.1B: loop / bare llama_decode", "0.1b", "loop16", "bare16", 0.95, better="more"),
    "decode-32": Row("32 answers, 0.1B: loop / bare llama_decode", "0.1b", "loop32", "bare32", 0.95, better="more"),
    "thousand": Row("1,000 tokens of text, 0.1B: tuned Llama() / ours", "0.1b", _THOUSAND, "thousand_llama", 1.3),
    "thousand-default": Row(
        "1,000 tokens of text, 0.1B: Llama() as it comes / ours", "0.1b", _THOUSAND, "thousand_llama_default", 0
    ),
    "thousand-bare": Row(
        "1,000 tokens, 0.1B: bare llama_decode, without text / ours", "0.1b", _THOUSAND, _BARE_THOUSAND, 0
    ),
    "extract-llama": Row(f"{JOBS} extractions, 0.1B: Llama + grammar / ours", "0.1b", _WIDE, "extract_llama", 3.0),
    "extract-xllamacpp": Row(
        f"{JOBS} extractions, 0.1B: xllamacpp, 16 slots / ours", "0.1b", _EXTRACT, _SERVERS, 1.3, "xllamacpp"
    ),
    "extract-xllamacpp-1": Row(
        f"{JOBS} extractions, 0.1B: xllamacpp as it comes, one slot / ours",
        "0.1b",
        _EXTRACT,
        "extract_xllamacpp_default",
        0,
        "xllamacpp",
    ),
    "extract-limit": Row(f"{JOBS} extractions, 0.1B: all tokens at prefill rate / ours", "0.1b", _WIDE, "limit", 0.8),
    "extract-limit-1.1b": Row(
        f"{JOBS} extractions, 1.1B: all tokens at prefill rate / ours", "1.1b", _EXTRACT, "limit", 0.8, rounds=3
    ),
    "constrained": Row(
        "answers with a schema / without, own rate", "0.1b", "constrained", "unconstrained", 1.05, better="more"
    ),
    "drafts": Row(
        "summary-like answers, 60 % copied, 1.1B: with drafts / without",
        "1.1b",
        "drafted",
        "undrafted",
        1.3,
        better="more",
    ),
    "prefill-llama": Row("prompt of 8k, 0.1B: Llama() as it comes / ours", "0.1b", "prefill", "prefill_llama", 1.3),
    "prefill-bare": Row("prompt of 8k, 0.1B: bare llama_decode / ours", "0.1b", "prefill", "prefill_bare", 0),
    "prefill-ctransformers": Row(
        "prompt of 8k, 0.1B: ctransformers / ours", "0.1b", "prefill", "prefill_ctransformers", 4.0, "ctransformers"
    ),
    "cold": Row("1.1B, script to first token: Llama() / ours", "1.1b", "cold", "cold_llama", 2.0),
    "cold-bare": Row("1.1B, script to first token: C calls alone / ours", "1.1b", "cold", "cold_bare", 0),
    "python": Row(
        "share of a step outside the library, 0.1B (at most)", "0.1b", "outside", "one", 0.10, better="share"
    ),
    "python-7b": Row(
        "share of a step outside the library, 7B (at most)", "7b", "outside", "one", 0.02, better="share", rounds=1
    ),
    "memory": Row(
        "peak memory, 7B, 4k context, 4 slots: ours / xllamacpp",
        *("7b", "memory", "memory_xllamacpp|memory_xllamacpp_plain", 1.05, "xllamacpp", "size", 1),
    ),
    "worker": Row("1,000 tokens, 0.1B: in-process / worker", "0.1b", "thousand_worker", "thousand", 0.98),
}

_ANY_CACHE = "extract|extract_parts|extract_wide|extract_wide_parts|extract_widest|extract_widest_parts"
GPU_ROWS = {
    **{
        f"decode-{shape}": Row(
            f"one answer, {shape}: loop / bare llama_decode", shape, "loop1", "bare1", 0.97, better="more"
        )
        for shape in ("0.1b", "1.1b", "7b")
    },
    **{
        f"decode-{width}-{shape}": Row(
            f"{width} answers, {shape}: loop / bare llama_decode",
            shape,
            f"loop{width}",
            f"bare{width}",
            0.95,
            better="more",
        )
        for width, shape in ((16, "0.1b"), (32, "0.1b"), (32, "7b"))
    },
    "thousand-0.1b": Row("1,000 tokens of text, 0.1B: tuned Llama() / ours", "0.1b", "thousand", "thousand_llama", 1.3),
    "thousand-7b": Row(
        "1,000 tokens of text, 7B: tuned Llama() / ours", "7b", "thousand", "thousand_llama", 0, rounds=1
    ),
    "constrained": replace(ROWS["constrained"], what="answers with a schema / without, 1.1B, own rate", shape="1.1b"),
    "drafts": ROWS["drafts"],
    "prefill-0.1b": ROWS["prefill-llama"],
    "prefill-7b": replace(ROWS["prefill-llama"], what="prompt of 8k, 7B: Llama() as it comes / ours", shape="7b"),
    "prefill-bare-7b": replace(ROWS["prefill-bare"], what="prompt of 8k, 7B: bare llama_decode / ours", shape="7b"),
    "cold": ROWS["cold"],
    "cold-bare": ROWS["cold-bare"],
    "python": ROWS["python"],
    "python-7b": ROWS["python-7b"],
    "worker": ROWS["worker"],
    "extract-llama-0.1b": replace(ROWS["extract-llama"], ours=_ANY_CACHE, rounds=2),
    "extract-limit-0.1b": replace(ROWS["extract-limit"], ours=_ANY_CACHE, rounds=2),
    "extract-llama-7b": Row(
        f"{JOBS} extractions, 7B: Llama + grammar / ours", "7b", _ANY_CACHE, "extract_llama", 3.0, rounds=1
    ),
    "extract-limit-7b": Row(
        f"{JOBS} extractions, 7B: all tokens at prefill rate / ours", "7b", _ANY_CACHE, "limit", 0.8, rounds=1
    ),
}

# -- measurements, each in a process of its own ------------------------------------------------------------------------


def planned(path: str, threads: int, *, slots: int, context: int, repack: bool = False) -> Plan:
    """A plan for the processor, or for the GPU."""
    header = gguf.read(path)
    seen = devices.look() if GPU else Answer((), None, "")
    if GPU and not seen.devices:
        sys.exit("There is no GPU here that the installed llama.cpp can use.")
    machine = hardware.pretend(hardware.detect(seen.devices, seen.offload), ram_bytes=64 << 30)
    layers: Any = "all" if GPU else 0
    wish = Wish(gpu_layers=layers, slots=slots, context=context, threads=threads, cells=max(context, slots * 512))
    return replace(plan.fit(header, machine, wish), repack=repack)


def engine(
    path: str, threads: int, *, slots: int = 1, context: int = 2048, repack: bool = False, parts: bool | None = None
) -> Any:
    """Our engine, with answers that do not end and no drafts; its cache as the plan has it, or in `parts`, or in none."""
    from edgellm.engines.llama_cpp import LlamaCpp

    made = planned(path, threads, slots=slots, context=context, repack=repack)
    found = LlamaCpp([path], made if parts is None else replace(made, kv_unified=not parts))
    found.drafts = 0
    found.vocab.__dict__["ends"] = frozenset()
    measure._warm(found)
    return found


def loop1(path: str, threads: int, width: int = 1) -> float:
    """Tokens a second through the loop."""
    found = engine(path, threads, slots=width)
    return measure._decode(found, width, measure._warm(found) / 2)


def bare1(path: str, threads: int, width: int = 1) -> float:
    """Tokens a second of `llama_decode` alone."""
    found = engine(path, threads, slots=width)
    return measure._bare(found, width, measure._warm(found) / 2)


def thousand(path: str, threads: int, *, repack: bool = False) -> float:
    """Seconds of 1,000 tokens through the loop, as text."""
    found = engine(path, threads, repack=repack)
    loop, request = measure._loop(found), measure._sequence(0, 16, 1000)
    loop.add(request)
    start = time.perf_counter()
    while not loop.idle:
        for event in loop.step():
            assert not event.reply or event.reply.tokens == 1000
    return time.perf_counter() - start


def thousand_bare(path: str, threads: int, *, repack: bool = False) -> float:
    """Seconds of 1,000 calls of `llama_decode` and nothing else: no faster loop over this library is possible."""
    found = engine(path, threads, repack=repack)
    found.decode([Feed(0, measure._sequence(0, 16, 1).prompt, 1)])
    start = time.perf_counter()
    for index in range(1000):
        found.decode([Feed(0, [20 + index % 200], 1)])
    return time.perf_counter() - start


def thousand_worker(path: str, threads: int) -> float:
    """Seconds of 1,000 tokens through the worker's process and its pipe, streamed."""
    import edgellm

    with edgellm.load(path, slots=1, context=2048, threads=threads, gpu_layers="all" if GPU else 0) as model:
        model.complete("a", sampling=edgellm.Sampling(max_tokens=4))
        start = time.perf_counter()
        reply = model.complete("Once", sampling=edgellm.Sampling(temperature=0.0, max_tokens=1000))
        return (time.perf_counter() - start) * 1000 / reply.tokens


def thousand_llama(path: str, threads: int, *, tuned: bool = True) -> float:
    """Seconds of 1,000 tokens through llama-cpp-python's Llama at its best settings, as text."""
    best = {"n_threads": threads, "n_threads_batch": threads, "flash_attn": True} if tuned else {}
    model = llama(path, n_ctx=2048, **best)
    prompt = measure._sequence(0, 16, 1).prompt
    model.create_completion(prompt, max_tokens=4, temperature=0.0)  # the pages of the file are in memory then
    model.reset()
    start = time.perf_counter()
    done = model.create_completion(prompt, max_tokens=1000, temperature=0.0)
    seconds = time.perf_counter() - start
    tokens = done["usage"]["completion_tokens"]
    assert tokens > 900, done["usage"]  # a model that ends its answers ends this one, too
    return seconds * 1000 / tokens


def letters() -> list[tuple[str, str]]:
    """The work of extraction: texts and their answers."""
    return [canned.letter(number) for number in range(JOBS)]


def extract(path: str, threads: int, *, slots: int = 16, repack: bool = False, parts: bool | None = None) -> float:
    """Seconds of the extraction jobs through the loop."""
    from edgellm.constraint import Grammar

    found = canned.Insistent(engine(path, threads, slots=slots, context=512, repack=repack, parts=parts))
    start = time.perf_counter()
    grammar, loop = Grammar.compile(canned.SCHEMA, found.vocab), measure._loop(found)  # type: ignore[arg-type]
    found.requests = canned.requests(found, grammar, JOBS)  # type: ignore[arg-type]
    for request in found.requests:
        loop.add(request)
    said = [reply.text for reply in canned.answered(loop)]
    seconds = time.perf_counter() - start
    assert sorted(map(json.loads, said), key=str) == sorted((json.loads(one) for _, one in letters()), key=str)
    return seconds


def limit(path: str, threads: int) -> float:
    """Seconds that all tokens of the extraction jobs take at the rate of reading prompts: the limit of arithmetic."""
    found = engine(path, threads, context=2048)
    encode = found.vocab.encode
    tokens = len(encode(canned.INSTRUCTION))
    tokens += sum(len(encode(text)) + len(encode(answer)) for text, answer in letters())
    return tokens / measure._prefill(found)


def literal(answer: str) -> str:
    """A grammar of llama.cpp's kind that allows one text only."""
    return f"root ::= {json.dumps(answer)}"


def extract_llama(path: str, threads: int) -> float:
    """Seconds of the jobs through Llama with its grammar, one after the other; its own prefix cache helps it."""
    from llama_cpp import LlamaGrammar

    model = llama(path, n_ctx=2048, n_threads=threads, n_threads_batch=threads, flash_attn=True)
    start = time.perf_counter()
    for text, answer in letters():
        grammar = LlamaGrammar.from_string(literal(answer), verbose=False)
        done = model.create_completion(canned.INSTRUCTION + text, max_tokens=256, temperature=0.0, grammar=grammar)
        assert done["choices"][0]["text"].strip() == answer, done
    return time.perf_counter() - start


def server_of(path: str, threads: int, *, slots: int, context: int, unified: bool = True, repack: bool = True) -> Any:
    """llama.cpp's server in this process."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx, params.n_parallel, params.kv_unified = context, slots, unified
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.warmup, params.verbosity, params.n_cache_reuse = True, -1, 0
    params.no_extra_bufts = not repack
    return xllamacpp.Server(params)


def extract_xllamacpp(path: str, threads: int, slots: int = 16, *, unified: bool = True, repack: bool = True) -> float:
    """Seconds of the jobs through llama.cpp's server, asked by as many threads as it has slots."""
    server = server_of(path, threads, slots=slots, context=slots * 512, unified=unified, repack=repack)
    server.handle_completions({"prompt": canned.INSTRUCTION, "max_tokens": 1, "temperature": 0.0})
    jobs, wrong = iter(letters()), []

    def ask() -> None:
        for text, answer in iter(lambda: next(jobs, (None, None)), (None, None)):
            done = server.handle_completions(
                {
                    "prompt": canned.INSTRUCTION + str(text),
                    "max_tokens": 256,
                    "temperature": 0.0,
                    "grammar": literal(str(answer)),
                    "cache_prompt": True,
                }
            )
            if done["choices"][0]["text"].strip() != answer:
                wrong.append(done)

    askers = [threading.Thread(target=ask) for _ in range(slots)]
    start = time.perf_counter()
    for one in askers:
        one.start()
    for one in askers:
        one.join()
    seconds = time.perf_counter() - start
    assert not wrong, wrong[0]
    return seconds


def constrained(path: str, threads: int, *, schema: bool = True) -> float:
    """Tokens a second of four canned answers at once, with the schema's forced tokens, or without any schema."""
    from edgellm.constraint import Grammar

    found = canned.Insistent(engine(path, threads, slots=4, context=512))
    grammar, loop = Grammar.compile(canned.SCHEMA, found.vocab), measure._loop(found)  # type: ignore[arg-type]
    work = canned.requests(found, grammar, 8)  # type: ignore[arg-type]
    if schema:
        found.requests = work
    for request in work:
        if not schema:
            _, answer = canned.letter(request.id)
            request.constraint = None
            request.sampling = replace(request.sampling, max_tokens=len(found.vocab.encode(answer)))
        request.prompt = request.prompt[-8:]
        loop.add(request)
    start = time.perf_counter()
    tokens = sum(reply.tokens for reply in canned.answered(loop))
    return tokens / (time.perf_counter() - start)


def unconstrained(path: str, threads: int) -> float:
    """The same number of tokens without a schema."""
    return constrained(path, threads, schema=False)


def prefill(path: str, threads: int, length: int = 8000) -> float:
    """Seconds of reading a prompt through the loop."""
    found = engine(path, threads, context=8448)
    loop, request = measure._loop(found), measure._sequence(0, length, 1)
    loop.add(request)
    start = time.perf_counter()
    while not loop.idle:
        loop.step()
    return time.perf_counter() - start


def read(found: Any, length: int) -> Iterator[tuple[int, int]]:
    """Read a prompt by calls of `llama_decode` alone; yields, after each, the tokens that stood before it and those it read."""
    tokens = measure._sequence(0, length, 1).prompt
    for first in range(0, length, found.batch):
        part = tokens[first : first + found.batch]
        found.decode([Feed(0, part, int(first + len(part) == length))])
        yield first, len(part)


def prefill_bare(path: str, threads: int, length: int = 8000) -> float:
    """The same by calls of `llama_decode` alone: no loop over this library reads faster."""
    found = engine(path, threads, context=8448)
    start = time.perf_counter()
    list(read(found, length))
    return time.perf_counter() - start


def prefill_llama(path: str, threads: int, length: int = 8000) -> float:
    """The same through Llama() as it comes, but for a context that holds the prompt."""
    model = llama(path, n_ctx=8448, n_threads=threads)
    tokens = measure._sequence(0, length, 1).prompt
    start = time.perf_counter()
    model.eval(tokens)
    return time.perf_counter() - start


def prefill_ctransformers(path: str, threads: int, length: int = 8000) -> float:
    """The same through ctransformers, with batches as large as it takes."""
    from ctransformers import LLM, Config

    model = LLM(path, model_type="llama", config=Config(context_length=8448, threads=threads, batch_size=512))
    tokens = measure._sequence(0, length, 1).prompt
    start = time.perf_counter()
    model.eval(tokens, batch_size=512)
    return time.perf_counter() - start


def drafted(path: str, threads: int, *, drafts: bool = True) -> float:
    """Tokens a second of answers that copy three fifths of what they say from the prompt, with drafts or without."""
    import drafts as room

    asked = argparse.Namespace(copied=0.6, tokens=160, prompt=512, slots=1)
    found, pace = engine(path, threads), Pace()
    found.drafts = DRAFTS
    rates = [room.measured(found, asked, drafts, pace, turn)[0] for turn in range(6)]
    return statistics.median(rates[1:])


def memory(path: str, threads: int) -> float:
    """Bytes that ours takes at the most, both processes together."""
    import edgellm

    with edgellm.load(path, slots=4, context=4096, threads=threads, gpu_layers=0) as model:
        prompts = [Prompt(completion=letter, sampling=edgellm.Sampling(max_tokens=8)) for letter, _ in letters()[:4]]
        model.ask(prompts)
    return 1024.0 * sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def memory_xllamacpp(path: str, threads: int, *, repack: bool = True) -> float:
    """Bytes that llama.cpp's server takes at the most for the same work."""
    server = server_of(path, threads, slots=4, context=4096, repack=repack)
    asked = [{"prompt": letter, "max_tokens": 8} for letter, _ in letters()[:4]]
    askers = [threading.Thread(target=server.handle_completions, args=(one,)) for one in asked]
    for one in askers:
        one.start()
    for one in askers:
        one.join()
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def cold(path: str, threads: int) -> float:
    """Seconds of a whole script: import, load, and the first token of a chat answer."""
    code = f"""
import edgellm
with edgellm.load({path!r}, slots=1, context=512, threads={threads}, gpu_layers={"all" if GPU else 0!r}) as model:
    next(model.stream([{{"role": "user", "content": "Hi"}}], sampling=edgellm.Sampling(temperature=0.0)))
    print("first", flush=True)
"""
    return _until_first(code)


def cold_llama(path: str, threads: int) -> float:
    """The same with Llama."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from peer import llama
model = llama({path!r}, n_ctx=512, n_threads={threads})
stream = model.create_chat_completion([{{"role": "user", "content": "Hi"}}], stream=True, temperature=0.0, max_tokens=2)
next(stream); next(stream)  # the first says only whose turn it is
print("first", flush=True)
"""
    return _until_first(code)


def cold_bare(path: str, threads: int) -> float:
    """Seconds of a script of llama.cpp's calls and nothing else, for a prompt as long as the others': no script is faster."""
    code = f"""
from edgellm.engines.devices import low_level
lib = low_level()
silent = lib.llama_log_callback(lambda *_: None)
lib.llama_log_set(silent, None)
lib.llama_backend_init()
wanted = lib.llama_model_default_params()
wanted.use_extra_bufts, wanted.n_gpu_layers = False, {-1 if GPU else 0}
model = lib.llama_model_load_from_file({path!r}.encode(), wanted)
wanted = lib.llama_context_default_params()
wanted.n_ctx, wanted.n_threads, wanted.n_threads_batch = 512, {threads}, {threads}
context = lib.llama_init_from_model(model, wanted)
prompt = (lib.llama_token * 20)(*range(100, 120))
assert lib.llama_decode(context, lib.llama_batch_get_one(prompt, 20)) == 0
logits = lib.llama_get_logits_ith(context, -1)
size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
best = max(range(size), key=logits.__getitem__)
print("first", flush=True)
"""
    return _until_first(code)


def _until_first(code: str) -> float:
    # As on a user's machine, code that was read once is there as bytecode; installed packages have theirs from pip.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-m", "compileall", "-q", Path(gguf.__file__).parent], env=environment, check=True)
    time.sleep(0.5)  # numpy's threads, started by this process's own imports, spin for a while
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as child:
        assert child.stdout
        line = child.stdout.readline()
        seconds = time.perf_counter() - start
        child.wait()
    assert line.strip() == b"first"
    return seconds


def outside(path: str, threads: int) -> float:
    """Share of the loop's time that is not spent inside the library's decode."""
    found = engine(path, threads)
    inside = [0.0]

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def timing(*arguments: Any) -> Any:
            start = time.perf_counter()
            answer = call(*arguments)
            inside[0] += time.perf_counter() - start
            return answer

        return timing

    loop, request = measure._loop(found), measure._sequence(0, 16, 300)
    loop.add(request)
    loop.step()
    found._lib.llama_decode = timed(found._lib.llama_decode)
    found._logits = timed(found._logits)  # where a GPU is waited for
    inside[0], start = 0.0, time.perf_counter()
    while not loop.idle and time.perf_counter() - start < 10:
        loop.step()
    return 1 - inside[0] / (time.perf_counter() - start)


CHILDREN: dict[str, Callable[[str, int], float]] = {
    **{f"loop{width}": lambda path, threads, width=width: loop1(path, threads, width) for width in (1, 16, 32)},
    **{f"bare{width}": lambda path, threads, width=width: bare1(path, threads, width) for width in (1, 16, 32)},
    **{
        one.__name__: one
        for one in (
            *(thousand, thousand_worker, thousand_llama, extract, extract_llama, extract_xllamacpp, limit, constrained),
            *(unconstrained, prefill, prefill_bare, prefill_llama, prefill_ctransformers, outside, drafted),
            *(cold, cold_llama, cold_bare),
            *(memory, memory_xllamacpp),
        )
    },
    "thousand_repacked": partial(thousand, repack=True),
    "thousand_bare": thousand_bare,
    "thousand_bare_repacked": partial(thousand_bare, repack=True),
    "thousand_llama_default": partial(thousand_llama, tuned=False),
    "extract_repacked": partial(extract, repack=True),
    "extract_parts": partial(extract, parts=True),
    "extract_wide": partial(extract, slots=32),
    "extract_wide_parts": partial(extract, slots=32, parts=True),
    "extract_widest": partial(extract, slots=64),
    "extract_widest_parts": partial(extract, slots=64, parts=True),
    "extract_xllamacpp_parts": partial(extract_xllamacpp, unified=False),
    "extract_xllamacpp_plain": partial(extract_xllamacpp, repack=False),
    "extract_xllamacpp_plain_parts": partial(extract_xllamacpp, unified=False, repack=False),
    "extract_xllamacpp_default": partial(extract_xllamacpp, slots=1),
    "undrafted": partial(drafted, drafts=False),
    "memory_xllamacpp_plain": partial(memory_xllamacpp, repack=False),
    "one": lambda path, threads: 1.0,  # noqa: ARG005
}

# -- alternation -------------------------------------------------------------------------------------------------------


def measured(name: str, path: Path, threads: int) -> float:
    """One measurement in a fresh process."""
    command = [sys.executable, __file__, "--child", name, str(path), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode == -signal.SIGILL and "_llama" in name and os.environ.get("COMPARE_REPACK") != "0":
        print(f"(the peer dies of SIGILL with repacked weights on this processor: {name} goes without)", flush=True)
        os.environ["COMPARE_REPACK"] = "0"
        return measured(name, path, threads)
    if done.returncode == -signal.SIGILL and ("repacked" in name or "xllamacpp" in name):
        print(f"({name} dies of SIGILL with repacked weights on this processor: that setting is out)", flush=True)
        return math.inf
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.strip().splitlines()[-1])


class Rounds:
    """Measurements by name and round: rows that need the same one share it, and of several settings the best goes on."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._known: dict[tuple[str, Path, int], float] = {}

    def measured(self, names: str, path: Path, number: int, *, most: bool) -> float:
        """Measure the best of these settings."""
        settings = names.split("|")
        if len(settings) > 1:
            first = {name: self._one(name, path, 0) for name in settings}
            settings = [max(first, key=lambda name: first[name] if most else -first[name])]
        return self._one(settings[0], path, number)

    def _one(self, name: str, path: Path, number: int) -> float:
        key = name, path, number
        if key not in self._known:
            self._known[key] = measured(name, path, self._threads)
        return self._known[key]


def compared(row: Row, rounds: int, known: Rounds, model: Path | None) -> tuple[float, float, float]:
    """Medians of ours and the peer's, and the ratio that should be large (a share or a size: that should be small)."""
    path = model or FOLDER / f"{row.shape}.gguf"
    if not path.exists():
        FOLDER.mkdir(exist_ok=True)
        synthetic.write(path, synthetic.shape(row.shape))
    most = row.better == "more"
    pairs = [
        tuple(known.measured(side, path, number, most=most) for side in (row.ours, row.peer))
        for number in range(min(rounds, row.rounds))
    ]
    ours, peer = (statistics.median(values) for values in zip(*pairs, strict=True))
    return ours, peer, peer / ours if row.better == "less" else ours / peer


def versions() -> str:
    """What was measured on what."""
    names = {
        "llama-cpp-python": "llama_cpp",
        **{name: name for name in ("xllamacpp", "ctransformers", "llguidance", "numpy")},
    }
    found = [f"{name} {metadata.version(name)}" for name, module in names.items() if importlib.util.find_spec(module)]
    seen = devices.ask() if os.environ.get("COMPARE_GPU") == "1" else Answer((), None, "")
    machine = hardware.detect()
    cpu = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    things = [*(one.description for one in seen.devices), cpu, f"{machine.physical_cores} cores"]
    return ", ".join([str(date.today()), *things, f"Python {platform.python_version()}", *found])


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def main() -> None:
    """Read the options, compare, print."""
    if sys.argv[1:2] == ["--child"]:
        name, path, threads = sys.argv[2:5]
        print(CHILDREN[name](path, int(threads)), flush=True)
        os._exit(0)
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("rows", nargs="*", metavar="ROW")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, default=hardware.detect().performance_cores)
    options.add_argument("--model", type=Path, help="a GGUF file instead of the rows' own shapes")
    options.add_argument("--markdown", type=Path, help="write the table there, too")
    options.add_argument("--gpu", action="store_true", help="everything on the GPU")
    options.add_argument("--list", action="store_true")
    chosen = options.parse_args()
    table = GPU_ROWS if chosen.gpu else ROWS
    os.environ["COMPARE_GPU"] = str(int(chosen.gpu))
    if chosen.list or set(chosen.rows) - set(table):
        sys.exit("\n".join(f"{name:<22} {row.what}" for name, row in table.items()))
    head = f"{versions()}, {chosen.threads} threads, medians of {chosen.rounds} rounds"
    known = Rounds(chosen.threads)
    lines = ["| | ours | peer | ratio | asked |", "|---|---|---|---|---|"]
    print(head)
    for name in chosen.rows or table:
        row = table[name]
        if row.needs and not importlib.util.find_spec(row.needs):
            print(f"{row.what}: {row.needs} is not installed")
            continue
        ours, peer, ratio = compared(row, chosen.rounds, known, chosen.model)
        asked = f"at most {row.least}" if row.better in ("share", "size") else str(row.least or "")
        unit = {"less": " s", "more": " tok/s", "share": "", "size": " GB"}[row.better]
        if row.better == "size":
            ours, peer = ours / 1e9, peer / 1e9
        lines.append(f"| {row.what} | {ours:.3g}{unit} | {peer:.3g}{unit} | {ratio:.2f} | {asked} |")
        print(lines[-1], flush=True)
    if chosen.markdown:
        chosen.markdown.write_text(f"{head}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
