#!/usr/bin/env python3
"""Writes tests/fixtures/templates/*.json: small templates with what transformers' jinja2 environment makes of them.

Run from the repository's root with transformers and jinja2 installed. Each case is {"template", "rendered"} or
{"template", "error", "line"} (error true: any words); all share the variables at the head of the file.
"""
import copy
import datetime
import json
import pathlib
import re

import transformers.utils.chat_template_utils as utils

FOLDER = pathlib.Path("tests/fixtures/templates")
NOW = datetime.datetime(2025, 3, 4, 9, 6, 53, 120)

VARIABLES = {
    "messages": [
        {"role": "system", "content": "Be kind.\n"},
        {"role": "user", "content": "Hello, wörld! <b>&amp;</b>", "name": "Ann"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"type": "function", "function": {"name": "f", "arguments": {"x": 1, "y": [1, 2.5, None, True]}}}]},
        {"role": "tool", "content": [{"type": "text", "text": "a"}, {"type": "image"}]},
    ],
    "text": "The quick brown fox\njumps over  the lazy dog.\n\nÄöü ß 😀\t'q' \"d\" \\ end",
    "words": ["pear", "Apple", "fig", "apple", "Banana", "fig"],
    "numbers": [3, -1, 2.5, 0, 10, 7],
    "nested": {"b": {"c": [1, {"d": "deep"}]}, "a": 1, "items": "key named items", "_private": "p", "é": "ü"},
    "empty": [], "nothing": None, "yes": True, "no": False, "zero": 0, "pi": 3.14159, "big": 12345678901234567890,
    "rows": [{"n": 2, "s": "b", "t": {"k": 1}}, {"n": 1, "s": "A", "t": {"k": 2}}, {"n": 2, "s": "a"}],
    "html": "<a href='x'>1 & \"2\"</a>",
    "bos_token": "<s>", "eos_token": "</s>",
}
# Templates on which bombus differs by intent; they are tested by hand in tests/test_template.c.
UNSUPPORTED = ("{% block", "{% include", "{% autoescape")


# Errors in words of Python's internals; bombus has its own for them, so only that it is an error is kept.
OWN_WORDS = re.compile(r"positional argument|safe_range|do_\w+\(\)|test_\w+\(\)|SandboxedEnvironment| at \d+$|<template>|TemplateNamespace"
                       r"|tuple index out of range|at least 1 argument|takes no arguments|update sequence element")


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(*NOW.timetuple()[:6], NOW.microsecond)


def render(template):
    utils.datetime = Clock
    try:
        compiled = utils._compile_jinja_template(template)
        text = compiled.render(tools=None, documents=None, add_generation_prompt=False, **copy.deepcopy(VARIABLES))
        return {"template": template, "rendered": text}
    except Exception as error:  # whatever Python makes of it is what bombus must call an error
        if OWN_WORDS.search(str(error)):
            return {"template": template, "error": True}
        return {"template": template, "error": str(error), "line": getattr(error, "lineno", None)}


def write(name, templates):
    cases = [render(template) for template in templates if not template.startswith(UNSUPPORTED)]
    head = {"variables": VARIABLES | {"now": NOW.isoformat()}}
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    text = json.dumps(head, ensure_ascii=False)[:-1] + ', "cases": [\n' + lines + "\n]}\n"
    (FOLDER / name).write_text(text, encoding="utf-8")


def read(name):
    return (FOLDER / name).read_text(encoding="utf-8")


def main():
    expressions = read("expressions.txt").replace("\\\n", "\\\0").splitlines()
    write("expressions.json", ["{{ " + line.replace("\0", "\n") + " }}" for line in expressions])
    write("statements.json", [part.strip("\n") for part in read("statements.txt").split("\n---\n")])


if __name__ == "__main__":
    main()
