#!/usr/bin/env python3
"""Writes models.json and components.json in tests/fixtures/tokenizers: what the reference tokenizer library (PyPI: tokenizers) makes of a few texts
with each component of tokenizer.json.

Usage: python3 tools/make_tokenizer_fixtures.py tests/fixtures/tokenizers

Three small models are trained on sentences written here; each case puts other components around one of them."""
import json
import os
import sys

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

SENTENCES = """The quick brown fox doesn't jump over 13 lazy dogs, because they're asleep.
In the evening the old sailor told us stories about storms, whales and 1000 islands.
naïve café Über straße Ångström coöperate façade; ĐẶC BIỆT tiếng Việt đẹp.
def add(first, second):\n    return first + second  # adds\n\n\tif x == y: print("equal!")
Съешь же ещё этих мягких французских булок, да выпей чаю. Ελληνικά γράμματα.
天地玄黃宇宙洪荒日月盈昃。ひらがなとカタカナ、漢字。한국어 문장입니다.
HTTPServer fooBar snake_case x86_64 3.14159 1/2 ½ ² Ⅷ ٣٤٥ 100% e-mail@example.org
😀 👩‍👩‍👧 🇩🇪 ✨ mathematical 𝒳𝒴𝒵 ∑∫√ “quoted” — dashes… ‘single’""".split("\n")

TEXTS = [
    "The fox doesn't jump; THEY'LL sleep, I'm sure.  Twice  spaced   words ",
    " lead and trail\n\n\n  three newlines\r\n\ttabs \u00a0no-break\u3000ideographic",
    "cafe\u0301 naïve a\u0323\u0307b ﬁne ǅ İstanbul ſ K Ⅷ½²  ①②",
    "x86_64 = 1234567 + 3.14; ٣٤ 12.5% $9 #tag @you snake_case__ CamelCaseHTTP",
    "天地ひらカタ한국 mixed漢字text 𠀀𰀀",
    "ЕЩЁ Ελ 👩‍👩‍👧🇩🇪 𝒳",
    "<s>word swordfish word <mask>   <tool>  x</s>  [DAY] [day] words word",
    "\u0000\u0001\u007f\u0085\u200b\u200d\ufeff\u2028\u2581a ▁▁b \ufffd\ue000\U0010ffff<0x41>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab" + "ab" * 20,
    "天地、ひら。「カタ」ー〆々 １٠ العربية، ٪ हिन्दी। ελ·",
    "a²b½ Ⅷ ª$+<=>^`|~ €¢ «x» ǅ\u000b\u0085é",
    "",
    " ",
]

GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
HAN = (r"[\p{Han}]+|[\p{Lu}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lo}\p{M}&&[^\p{Han}]]+|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s")
PUNCTUATION = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
               r"\s*[\r\n]+|\s+(?!\S)|\s+")


def model(trained):
    return json.loads(trained.to_str())["model"]


def train_byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(SENTENCES * 3, trainers.BpeTrainer(
        vocab_size=380, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<s>", "</s>"]))
    return model(tokenizer)


def train_characters(**affixes):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", **affixes))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace() if not affixes else pre_tokenizers.WhitespaceSplit()
    names = ["<unk>", "<s>", "</s>"] + ([f"<0x{i:02X}>" for i in range(256)] if not affixes else [])
    tokenizer.train_from_iterator(SENTENCES[:3] * 3, trainers.BpeTrainer(
        vocab_size=400 if not affixes else 140, show_progress=False, special_tokens=names, **affixes))
    return model(tokenizer)


def train_unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(SENTENCES[:4] * 3, trainers.UnigramTrainer(
        vocab_size=220, show_progress=False, unk_token="<unk>", special_tokens=["<unk>", "<s>", "</s>"]))
    result = model(tokenizer)
    result["vocab"] += [[f"<0x{i:02X}>", -20.0] for i in range(256)]
    return result


def added(content, special=False, **flags):
    token = {"id": 0, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": not special,
             "special": special}
    return token | flags


ADDED = [added("<s>", True), added("</s>", True, rstrip=True), added("<mask>", True, lstrip=True), added("word", single_word=True),
         added("<tool>", lstrip=True, rstrip=True), added("[Day]"), added("  ", normalized=False)]
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT2 = BYTES | {"use_regex": True}


def sequence(key, *items):
    return {"type": "Sequence", key: list(items)}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def pre(*items):
    return sequence("pretokenizers", *items)


def metaspace(scheme, is_split=True):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": is_split}


def replace(pattern, content, kind="String"):
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


SENTENCE_DECODER = sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"})
STRIP_DECODER = sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                         {"type": "Strip", "content": " ", "start": 1, "stop": 0})
LEGACY = sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁"))
TEMPLATE = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                                     {"Sequence": {"id": "A", "type_id": 0}},
                                                     {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
                               "</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}}


def cases():
    for name, regex in (("gpt4", GPT4), ("o200k", O200K), ("han", HAN), ("words", r"\b"), ("line", r"^\S+|\S$"),
                        ("dialect", r"\h+|x{,2}|(?m:a.b)|\p{Letter}{2}?|(?i)K|[^\s[a-c]]"),
                        ("scripts", r"\p{Han}+|\p{Hiragana}+|[\p{Katakana}\p{Arabic}]+|\P{Latin}"),
                        ("classes", r"[[:punct:]]+|[[:upper:]_]+|[[:alnum:]]+[^\W\d]|\v|\x{e9}+|[[:^graph:]]"),
                        ("properties", r"\p{Upper}|\p{Lower}+|\p{Alnum}|\p{Currency_Symbol}|\p{Word}+|[\w]+")):
        yield name, "bytes", dict(pre_tokenizer=pre(split(regex), BYTES))
    yield "deepseek", "bytes", dict(
        pre_tokenizer=pre(split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(PUNCTUATION), BYTES))
    yield "gpt2", "bytes", dict(pre_tokenizer=GPT2, post_processor=sequence("processors", BYTES, TEMPLATE))
    yield "prefix", "bytes", dict(pre_tokenizer=GPT2 | {"add_prefix_space": True},
                                  post_processor={"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0],
                                                  "trim_offsets": True, "add_prefix_space": True})
    yield "digits", "bytes", dict(pre_tokenizer=pre({"type": "Digits", "individual_digits": True}, GPT2))
    yield "numbers", "bytes", dict(pre_tokenizer=pre({"type": "Digits", "individual_digits": False}, GPT2))
    yield "ignore_merges", "bytes", dict(pre_tokenizer=GPT2, options={"ignore_merges": True})
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        yield behavior, "bytes", dict(pre_tokenizer=pre({"type": "Punctuation", "behavior": behavior}, BYTES))
        yield behavior + " inverted", "bytes", dict(
            pre_tokenizer=pre(split(r"\w+|[eo]*", behavior, True), split(" ", behavior, False, "String"), BYTES))
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt"):
        yield form, "bytes", dict(normalizer={"type": form}, pre_tokenizer=GPT2)
    yield "strip", "bytes", dict(normalizer={"type": "Strip", "strip_left": True, "strip_right": True}, pre_tokenizer=GPT2)
    yield "replace", "bytes", dict(normalizer=sequence("normalizers", replace(r"\s+", " ", "Regex"), replace("e", "EE")),
                                   pre_tokenizer=GPT2)
    yield "byte normalizer", "bytes", dict(normalizer={"type": "ByteLevel"})
    yield "legacy", "characters", dict(normalizer=LEGACY, decoder=STRIP_DECODER)
    yield "gemma", "characters", dict(normalizer=replace(" ", "▁"), decoder=SENTENCE_DECODER,
                                      pre_tokenizer=split(" ", "MergedWithPrevious", False, "String"))
    for scheme in ("first", "always", "never"):
        yield "metaspace " + scheme, "characters", dict(pre_tokenizer=metaspace(scheme, scheme != "first"),
                                                        decoder=metaspace(scheme))
    for fuse in (False, True):
        yield f"unknown {fuse}", "characters", dict(pre_tokenizer={"type": "Whitespace"}, decoder=None,
                                                    options={"byte_fallback": False, "fuse_unk": fuse})
    yield "suffix", "suffix", dict(pre_tokenizer={"type": "WhitespaceSplit"}, decoder={"type": "BPEDecoder", "suffix": "</w>"})
    yield "subword prefix", "prefix", dict(pre_tokenizer={"type": "WhitespaceSplit"}, decoder=None)
    yield "unigram", "unigram", dict(normalizer={"type": "NFKC"}, pre_tokenizer=metaspace("always"), decoder=metaspace("always"))
    yield "unigram bytes", "unigram", dict(pre_tokenizer=metaspace("first", False), decoder=SENTENCE_DECODER,
                                           options={"byte_fallback": True})


def dump(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write(name, text):
    with open(os.path.join(sys.argv[1], name), "w", encoding="utf-8") as file:
        file.write(text)


def main():
    bases = {"bytes": train_byte_level(), "characters": train_characters(), "suffix": train_characters(end_of_word_suffix="</w>"),
             "prefix": train_characters(continuing_subword_prefix="##"), "unigram": train_unigram()}
    bases["characters"]["byte_fallback"] = bases["characters"]["fuse_unk"] = True
    result = []
    for name, base, parts in cases():
        options = parts.pop("options", {})
        decoder = parts.pop("decoder", BYTES if base == "bytes" else None)
        whole = {"version": "1.0", "added_tokens": ADDED, "normalizer": None, "pre_tokenizer": None, "post_processor": None,
                 "decoder": decoder, "model": bases[base] | options} | parts
        tokenizer = Tokenizer.from_str(json.dumps(whole))
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        result.append({"name": name, "base": base, "options": options, "decoder": decoder, **parts, "ids": ids,
                       "special": tokenizer.encode(TEXTS[0]).ids[:1] + tokenizer.encode(TEXTS[0]).ids[-1:],
                       "decoded": [tokenizer.decode(i, skip_special_tokens=True) for i in ids]})
    seen = []
    for case in result:  # one case a decoder shows what it does
        if (case["base"], case["decoder"]) in seen:
            case["decoded"] = []
        seen.append((case["base"], case["decoder"]))
    write("models.json", "{" + ",\n".join(dump(name) + ":" + dump(base) for name, base in bases.items()) + "}\n")
    write("components.json", '{"texts":' + dump(TEXTS) + ',\n"added_tokens":' + dump(ADDED) + ',\n"cases":[' +
          ",\n".join(map(dump, result)) + "]}\n")


if __name__ == "__main__":
    main()
