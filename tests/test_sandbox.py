"""No template reaches out of its sandbox, and none can hang the process or fill its memory."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest

from edgellm.sandbox import Broken, Exhausted, Meter, Program, Refused

MESSAGES = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "secret"}]


def run(source: str, **variables: Any) -> str:
    return Program(source).run({"messages": MESSAGES, **variables}, Meter())


def test_ordinary_templates_run_as_in_transformers() -> None:
    assert run("{% for m in messages %}\n  {{ m.role }}: {{ m['content'] | upper }};\n{% endfor %}") == (
        "  user: HELLO;\n  assistant: SECRET;\n"
    )
    assert run("{{ {'a': '<&>é', 'b': [1, none]} | tojson }}") == '{"a": "<&>é", "b": [1, null]}'
    assert run("{{ [1, 2] | tojson(indent=2) }}") == "[\n  1,\n  2\n]"
    assert run("{% generation %}x{% endgeneration %}") == "x"
    assert (
        run(
            "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% elif i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"
        )
        == "02"
    )
    assert (
        run("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}")
        == "2"
    )
    assert run("{% macro f(x, y=2) %}{{ x }}-{{ y }}{% endmacro %}{{ f(1) }}{{ f(1, y=3) }}") == "1-21-3"
    assert run("{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}x{% endcall %}") == "<x>"
    assert run("{% set x %}a{{ 1 }}{% endset %}{{ x ~ x }}{{ x * 2 }}") == "a1a1a1a1"
    assert run("{% filter upper %}abc{% endfilter %}") == "ABC"
    assert run("{% for a in [[1, [2]]] recursive %}{{ a if a is number else loop(a) }}{% endfor %}") == "12"
    assert run("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{{ {'a': 1}.get('b', 2) }}") == "a12"
    assert (
        run("{% for i in range(6) if i % 2 %}{{ loop.index }}{{ i }}{{ ',' if not loop.last }}{% endfor %}")
        == "11,23,35"
    )
    assert (
        run("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages[::-1][0].role }}")
        == "1assistant"
    )
    assert run("{{ messages | map(attribute='role') | join(', ') }}") == "user, assistant"
    assert (
        run("{{ '%s and %d' % ('a', 3) }} {{ '{} {x}'.format(1, x=2) }} {{ 2 ** 10 }} {{ 7 % 4 }}")
        == "a and 3 1 2 1024 3"
    )
    assert (
        run("{{ 'a-b'.split('-') }} {{ ' x '.strip() }} {{ 'aXb' | replace('X', '') }} {{ 'a,b'.replace(',', ';') }}")
        == "['a', 'b'] x ab a;b"
    )
    assert (
        run("{{ '-'.join(['a', 'b']) }} {{ '7'.zfill(3) }} {{ 'a\nb' | indent(2) }} {{ 'x' | string }}")
        == "a-b 007 a\n  b x"
    )
    assert run("{{ missing }}{{ missing is defined }}{{ none }}{{ true }}{{ 1.5 }}") == "FalseNoneTrue1.5"
    assert run("{{ strftime_now('%Y') | int > 2000 }}{{ dict(a=1).a }}{{ [3, 1] | sort | first }}") == "True11"


def test_a_template_may_refuse_its_messages() -> None:
    with pytest.raises(Refused, match=r"^Roles must alternate$"):
        run("{{ raise_exception('Roles  must\nalternate') }}")


ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ ''['__cla' ~ 'ss__'] }}",
    "{{ '' | attr('__class__') }}",
    "{{ [''] | map(attribute='__class__') | list }}",
    "{{ [''] | map('attr', '__class__') | list }}",
    "{{ messages | sort(attribute='__class__') }}",
    "{{ messages | selectattr('__class__') | list }}",
    "{{ messages | map(attribute='__class__.__name__') | join }}",
    "{{ messages | join(attribute='__class__') }}",
    "{{ '{0.__class__}'.format('') }}",
    "{{ '{0.__class__.__mro__}'.format(1) }}",
    "{{ '{x.__init__.__globals__}'.format(x=raise_exception) }}",
    "{{ '{0[__class__]}'.format('') }}",
    "{{ '{a.__class__}'.format_map({'a': ''}) }}",
    "{{ ('{0.__class__}'.format | string)('') }}",
    "{{ raise_exception.__globals__ }}",
    "{{ raise_exception.__code__ }}",
    "{{ strftime_now.__globals__['datetime'] }}",
    "{{ range.__class__ }}",
    "{{ dict.mro() }}",
    "{{ dict.__subclasses__() }}",
    "{{ dict.fromkeys('ab') }}",
    "{{ namespace.__init__.__globals__ }}",
    "{% set ns = namespace() %}{{ ns.__class__ }}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}{{ ns['_Namespace__attrs'].__class__ }}",
    "{% for a in [1] %}{{ loop.__class__ }}{% endfor %}",
    "{% for a in [1] %}{{ loop._iterable.__class__ }}{% endfor %}",
    "{% macro m() %}{% endmacro %}{{ m.__class__ }}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ (messages | map(attribute='role')).gi_frame }}",
    "{{ (messages | map(attribute='role')).gi_frame.f_globals }}",
    "{{ missing.__class__ }}",
    "{{ missing._undefined_exception }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ url_for.__globals__ }}",
    "{{ config }}{{ environment.__class__ }}",
    "{{ context.__class__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
    "{% from 'os' import system %}{{ system('id') }}",
    "{% extends '/etc/passwd' %}",
    "{% block x %}{{ self.x.__class__ }}{% endblock %}",
    "{{ messages.append(1) }}",
    "{{ messages.pop() }}",
    "{{ messages[0].update({'role': 'system'}) }}",
    "{{ messages[0].__setitem__('role', 'system') }}",
    "{{ messages[0].clear() }}",
    "{{ 'x'.encode('utf-16').__class__ }}",
    "{{ (1).__class__ }}{{ (1).to_bytes(4) }}",
    "{{ 1.5.__class__ }}",
    "{{ none.__class__ }}",
    "{{ true.__class__ }}",
]
TRACES = (
    "<class",
    "<module",
    "<function",
    "<bound",
    "<built-in",
    "<code",
    "<frame",
    "<generator",
    "root:",
    "uid=",
    "object at",
)


@pytest.mark.parametrize("source", ESCAPES)
def test_no_template_reaches_out_of_the_sandbox(source: str) -> None:
    before = [dict(message) for message in MESSAGES]
    try:
        shown = run(source)
    except Broken:
        shown = ""
    assert not any(trace in shown for trace in TRACES), shown
    assert before == MESSAGES


def unrolled(statement: str, times: int, start: str = "") -> str:
    return start + statement * times


GROWN = "{% set n = namespace(x=START, y=START) %}{% for i in range(60) %}STEP{% endfor %}{{ n.x }}"


def growing(start: str, step: str) -> str:
    return GROWN.replace("START", start).replace("STEP", step)


FOREVER = "{% for a in range(99999) %}{% for b in range(99999) %}BODY{% endfor %}{% endfor %}"
BIG = "{% set s = 'a' * 1000000 %}"

BOMBS = {
    "nested loops": FOREVER.replace("BODY", ""),
    "nested loops that print": FOREVER.replace("BODY", "x"),
    "nested loops that print nothing": FOREVER.replace("BODY", "{{ '' }}"),
    "loops that filter": unrolled("{% for a in range(99999) if a < 0 %}{% endfor %}", 200),
    "power": "{{ 10 ** (10 ** 8) }}",
    "power of powers": growing("10", "{% set n.x = n.x ** 9 %}"),
    "product": growing("9", "{% set n.x = n.x * n.x %}"),
    "text times number": "{{ 'x' * 10 ** 10 }}",
    "number times text": "{{ 10 ** 10 * 'x' }}",
    "list times number": "{{ ([1] * 10 ** 9) | length }}",
    "doubled by +": growing("'xxxxxxxxxx'", "{% set n.x = n.x + n.x %}"),
    "doubled by ~": growing("'xxxxxxxxxx'", "{% set n.x = n.x ~ n.x %}"),
    "doubled list": growing("[1]", "{% set n.x = n.x + n.x %}"),
    "doubled by a block": growing("'x'", "{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}"),
    "lists in lists": growing("[1]", "{% set n.x = [n.x, n.x] %}"),
    "tuples in tuples": growing("(1,)", "{% set n.x = (n.x, n.x) %}"),
    "dicts in dicts": growing("{}", "{% set n.x = {'a': n.x, 'b': n.x} %}"),
    "dict() in dict()": growing("{}", "{% set n.x = dict(a=n.x, b=n.x) %}"),
    "varargs in varargs": "{% macro m() %}{% set n.x = varargs %}{% endmacro %}" + growing("[1]", "{{ m(n.x, n.x) }}"),
    "comparison of deep lists": "{% macro f() %}{% set n.x = varargs %}{% endmacro %}"
    "{% macro g() %}{% set n.y = varargs %}{% endmacro %}"
    + growing("[1]", "{{ f(n.x, n.x) }}{{ g(n.y, n.y) }}{% if n.x == n.y %}{% endif %}"),
    "namespaces in lists": "{% set b = namespace(x=1) %}"
    + unrolled("{% set c = namespace() %}{% set c.x = [b, b] %}{% set b = c %}", 60)
    + "{{ [b] }}",
    "replace": "{{ ('x' * 100000) | replace('x', 'y' * 100000) }}",
    "replace a little": "{{ ('x' * 8000) | replace('x', 'y' * 8000) }}",
    "replace nothing": "{{ ('x' * 1000000) | replace('', 'y' * 60) }}",
    "replace as a method": "{{ ('x' * 8000).replace('x', 'y' * 8000) }}",
    "join": "{{ range(99999) | join('x' * 1000000) }}",
    "join a lot": "{{ (['x' * 1000] * 100000) | join }}",
    "join as a method": "{{ ('x' * 1000000).join(['a'] * 99999) }}",
    "pad by method": "{{ 'x'.zfill(1000000000) }}",
    "pad by format": "{{ '%1000000000d' % 1 }}",
    "pad by star": "{{ '%*d' % (1000000000, 1) }}",
    "repeat by format": "{{ ('%s' * 100000) % (('x' * 100000,) * 100000) }}",
    "repeat by name": "{{ ('%(a)s' * 100000) % {'a': 'x' * 1000000} }}",
    "repeat by str.format": "{{ ('{0}' * 100000).format('x' * 1000000) }}",
    "pad by str.format": "{{ '{:1000000000}'.format(1) }}",
    "pad by nested str.format": "{{ '{:{}}'.format(1, 1000000000) }}",
    "indent": "{{ ('x\n' * 100000) | indent(100000) }}",
    "indent many lines": "{{ ('\n' * 100000) | indent(999, blank=true) }}",
    "indent JSON": "{{ [1, 2] | tojson(indent=1000000000) }}",
    "print a shared list": "{{ ['x' * 1000000] * 100000 }}",
    "write a shared list": "{{ (['x' * 1000000] * 100000) | tojson }}",
    "text of a shared list": "{{ (['x' * 1000000] * 100000) | string }}",
    "join to a shared list": "{{ (['x' * 1000000] * 100000) ~ '' }}",
    "macro calls itself": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "tree of calls": "{% macro m(d) %}{% if d %}{{ m(d - 1) }}{{ m(d - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "recursive loop": "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "caller in a loop": "{% macro m() %}{% for i in range(99999) %}{{ caller() }}{% endfor %}{% endmacro %}"
    "{% call m() %}{% for j in range(99999) %}y{% endfor %}{% endcall %}",
    "static text in a loop": "{% for i in range(99999) %}" + "x" * 50_000 + "{% endfor %}",
    "static text in a block": "{% set y %}{% for i in range(99999) %}" + "x" * 50_000 + "{% endfor %}{% endset %}",
    "hoard": growing("[]", "{% for j in range(9999) %}{% set n.x = n.x + [('x' * 1000000) ~ j] %}{% endfor %}"),
    "search backwards": "{{ ('a' * 1000000).rfind('b' + 'a' * 500000) }}",
    "search in a loop": BIG + "{% for i in range(99999) %}{% if 'b' in s %}{% endif %}{% endfor %}",
    "split in a loop": "{% for i in range(99999) %}{% set a = ('x ' * 500000).split() %}{% endfor %}",
    "lines in a loop": "{% for i in range(99999) %}{% set a = ('x\n' * 500000).splitlines() %}{% endfor %}",
    "filters in a loop": "{% for i in range(99999) %}{{ range(99999) | map('string') | list | length }}{% endfor %}",
    "longer by upper case": "{{ ('ß' * 1000000) | upper | length }}",
    "comparisons": unrolled("{% set a = s == t %}", 700, "{% set s = [1] * 3000000 %}{% set t = [1] * 3000000 %}"),
    "slices": unrolled("{% set a = s[::-1] %}", 900, "{% set s = [1] * 1000000 %}"),
    "sorts": unrolled("{% set a = s | sort %}", 900, "{% set s = range(99999) | list %}"),
    "number from text": "{{ ('f' * 1000000) | int(base=16) }}",
    "long number": "{{ 9" + "9" * 60_000 + " }}",
    "many literals": "{{ [" + "1," * 30_000 + "] }}",
    "many outputs": "{{ 1 }}" * 9000,
    "many terms": "{{ 1" + "+1" * 30_000 + " }}",
    "many joins": "{{ 1" + "~1" * 30_000 + " }}",
    "deep parentheses": "{{ " + "(" * 30_000 + "1" + ")" * 30_000 + " }}",
    "deep not": "{{ " + "not " * 16_000 + "1 }}",
    "deep attributes": "{{ a" + ".b" * 30_000 + " }}",
    "deep ifs": "{% if a %}" * 2000 + "{% endif %}" * 2000,
    "deep loops": "{% for a in b %}" * 100 + "{% endfor %}" * 100,
    "huge source": "x" * 10**6,
    "time with a width": "{{ strftime_now('%1000000000d') }}",
    "time of great length": "{{ strftime_now('%c' * 100) }}",
    "unknown filters": "{{ 'x' | center(10 ** 9) }}",
    "unknown functions": "{{ lipsum(n=1000000) }}",
    "paying back": "{{ (0 - 10 ** 9) | charge }}",
}


@pytest.mark.parametrize("source", BOMBS.values(), ids=list(BOMBS))
def test_a_template_bomb_is_stopped_in_time(source: str) -> None:
    start = time.process_time()
    with pytest.raises(Broken) as caught:
        run(source)
    assert time.process_time() - start < 2
    assert 5 < len(str(caught.value)) < 400


SAMPLED = {"doubled list", "repeat by name", "hoard", "static text in a block", "lines in a loop"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SAMPLED else pytest.mark.slow) for name in BOMBS]
)
def test_a_template_bomb_is_stopped_in_little_memory(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Broken):
            run(BOMBS[name])
        assert tracemalloc.get_traced_memory()[1] < 128 << 20
    finally:
        tracemalloc.stop()


def test_the_budget_belongs_to_one_run() -> None:
    program = Program("{% for i in range(n) %}{{ i }}{% endfor %}")
    with pytest.raises(Exhausted):
        program.run({"n": 99_999}, Meter(fuel=1000))
    with pytest.raises(Exhausted, match="writes too much"):
        program.run({"n": 99_999}, Meter(output_chars=1000))
    with pytest.raises(Exhausted):
        program.run({"n": 99_999}, Meter(time_s=0))
    assert program.run({"n": 3}, Meter()) == "012"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ x", "line 1"),
        ("{% for %}", "line 1"),
        ("a\n{% endif %}", "line 2"),
        ("{{ messages[0].nothing.more }}", "has no attribute 'nothing'"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ namespace }}", "it writes a type"),
        ("{% set n = namespace() %}{{ n }}", "it writes a Namespace"),
        ("{{ messages | map('upper') }}", "it writes a generator"),
        ("{{ [namespace()] }}", "it puts a Namespace into a container"),
        ("{% include 'x' %}", "include"),
        ("{{ [1] | join('', attribute='x') }}", "join(attribute"),
    ],
)
def test_a_broken_template_is_described_in_one_sentence(source: str, words: str) -> None:
    with pytest.raises(Broken) as caught:
        run(source)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
