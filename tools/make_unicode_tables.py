#!/usr/bin/env python3
"""Writes src/text/unicode_tables.c: how the reference tokenizer library (PyPI: tokenizers) classes each character.

Usage: python3 tools/make_unicode_tables.py > src/text/unicode_tables.c

The library is built on several Unicode tables of different versions (its regular expressions: 16, its normal forms: 9,
lower case: 17, ...). So every character is tried, one by one. Python's own unicodedata stands for the oldest
Unicode version that the system's pcre2 and utf8proc may have; what is newer is listed apart. Takes a minute."""
import sys
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

CHARACTERS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, CHARACTERS))


def matched(pre_tokenizer):
    kept = bytearray(len(CHARACTERS))
    for _, (begin, end) in pre_tokenizer.pre_tokenize_str(TEXT):
        kept[begin:end] = b"\1" * (end - begin)
    return {c for c, is_kept in zip(CHARACTERS, kept) if not is_kept}


def matched_by_regex(regex):
    return matched(pre_tokenizers.Split(Regex(regex), "removed"))


def ranges(characters):
    result = []
    for c in sorted(characters):
        if result and result[-1][1] == c - 1:
            result[-1][1] = c
        else:
            result.append([c, c])
    return result


def print_rows(name, kind, rows, comment):
    print(f"\n/* {comment} */\nconst struct {kind} {name}s[] = {{")
    line = "   "
    for row in rows:
        item = " {" + ", ".join(row) + "},"
        if len(line) + len(item) > 118:
            print(line)
            line = "   "
        line += item
    print(line)
    print(f"}};\nconst size_t {name}_count = {len(rows)};")


def print_ranges(name, characters, comment):
    rows = [[f"0x{first:X}", f"0x{last:X}"] for first, last in ranges(characters) if last >= 0x80]
    print_rows(name, "bb_character_range", rows, comment)


def utf8_size(c):
    return len(chr(c).encode())


def newer_characters():
    """Characters that unicodedata does not know, each with an older one of the same category, script (as far as Han
    goes) and UTF-8 size, so that a regular expression treats the two alike."""
    categories = {}
    for category in sorted({unicodedata.category(chr(c)) for c in CHARACTERS} - {"Cs", "Cn"}):
        for c in matched_by_regex(r"\p{%s}" % category):
            categories[c] = category
    han = matched_by_regex(r"\p{Han}")
    old = {}
    for c in CHARACTERS:
        category = unicodedata.category(chr(c))
        if category == categories.get(c, "Cn") and chr(c).lower() == chr(c).upper() == chr(c):
            old.setdefault((category, utf8_size(c), c in han), c)
    for c in CHARACTERS:  # letters with case: the oldest is better than none
        old.setdefault((unicodedata.category(chr(c)), utf8_size(c), c in han), c)
    result = {c: old[categories[c], utf8_size(c), c in han] for c in CHARACTERS
              if c in categories and categories[c] != unicodedata.category(chr(c))}
    # pcre2 counts U+180E as a space; it is a format character today.
    result[0x180E] = 0x200B
    return result


def mapping_ranges(mapping):
    """Ranges with one value."""
    rows = []
    for c, value in sorted(mapping.items()):
        if rows and rows[-1][1] == c - 1 and rows[-1][2] == value:
            rows[-1][1] = c
        else:
            rows.append([c, c, value])
    return rows


def lower_ranges():
    """(first, last, difference, stride): stride 2 where upper and lower case alternate."""
    lowercase = normalizers.Lowercase()
    rows = []
    for c in CHARACTERS:
        lower = lowercase.normalize_str(chr(c))
        if c < 0x80 or lower == chr(c):
            continue
        if c == 0x130:
            assert lower == "i\u0307"
            continue
        difference = ord(lower) - c
        last = rows[-1] if rows else None
        if last and last[2] == difference and c - last[1] in (1, 2) and last[3] in (0, c - last[1]):
            last[3] = c - last[1]
            last[1] = c
        else:
            rows.append([c, c, difference, 0])
    return [[f"0x{first:X}", f"0x{last:X}", str(difference), str(stride or 1)] for first, last, difference, stride in rows]


def inert_characters():
    """Characters that unicodedata decomposes, reorders or composes and the library does not."""
    forms = {name: getattr(normalizers, name)() for name in ("NFC", "NFD", "NFKC", "NFKD")}
    result = set()
    for c in CHARACTERS:
        character = chr(c)
        if any(form.normalize_str(character) == character != unicodedata.normalize(name, character)
               for name, form in forms.items()):
            result.add(c)
            canonical = unicodedata.normalize("NFD", character)
            if len(canonical) > 1:
                result.add(ord(canonical[-1]))
        if unicodedata.combining(character):
            high, low = "a\u0345" + character, "a" + character + "\u0334"
            if forms["NFD"].normalize_str(high) == high and forms["NFD"].normalize_str(low) == low:
                result.add(c)
    return result


def main():
    spaces = matched(pre_tokenizers.WhitespaceSplit())
    assert spaces == matched_by_regex(r"\s") == {*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028,
                                                 0x2029, 0x202F, 0x205F, 0x3000}
    digits, whitespace = pre_tokenizers.Digits(), pre_tokenizers.Whitespace()
    strip = normalizers.StripAccents()
    numbers = {c for c in CHARACTERS if len(digits.pre_tokenize_str("a" + chr(c))) == 2}
    words = {c for c in CHARACTERS if c not in spaces and len(whitespace.pre_tokenize_str("a" + chr(c))) == 1}
    marks = {c for c in CHARACTERS if strip.normalize_str("a" + chr(c)) == "a"}
    newer = newer_characters()
    print("/* Character classes of the reference tokenizer library. Made by tools/make_unicode_tables.py; do not edit. */")
    print('#include "text/unicode_tables.h"')
    print_ranges("bb_number_range", numbers, "Nd, Nl, No")
    print_ranges("bb_punctuation_range", matched(pre_tokenizers.Punctuation("removed")), "P*")
    print_ranges("bb_word_range", words, "\\w")
    print_ranges("bb_mark_range", marks, "M*")
    print_ranges("bb_inert_range", inert_characters(), "characters younger than the library's normal forms")
    rows = [[f"0x{a:X}", f"0x{b:X}", f"0x{value:X}"] for a, b, value in mapping_ranges(newer)]
    print_rows("bb_newer_range", "bb_character_stand_in", rows, "characters that an older pcre2 does not know")
    print_rows("bb_lower_range", "bb_character_mapping", lower_ranges(), "lower case")


if __name__ == "__main__":
    sys.exit(main())
