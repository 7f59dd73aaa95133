/* Source text to tokens, with jinja2's rules of whitespace control: trim_blocks, lstrip_blocks, `-` and `+` in tags. */
#include "text/template/lexer.h"

#include "text/template/builder.h"
#include "text/template/real.h"
#include "text/template/work.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPEN_BRACKETS = 1000 };

struct lexer {
    struct bb_work *work;
    const char *source;
    size_t length, offset;
    struct bb_token *tokens;
    size_t count, capacity;
    char open[MAX_OPEN_BRACKETS]; /* closing brackets expected */
    size_t open_count;
    bool is_line_start; /* the last tag swallowed a newline, or nothing came before */
};

static const char *const operators[] = {"**", "//", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};

const char *bb_token_kind_name(enum bb_token_kind kind)
{
    switch (kind) {
    case BB_TOKEN_END: return "end of template";
    case BB_TOKEN_DATA: return "template data / text";
    case BB_TOKEN_BLOCK_BEGIN: return "begin of statement block";
    case BB_TOKEN_BLOCK_END: return "end of statement block";
    case BB_TOKEN_VARIABLE_BEGIN: return "begin of print statement";
    case BB_TOKEN_VARIABLE_END: return "end of print statement";
    case BB_TOKEN_NAME: return "name";
    case BB_TOKEN_STRING: return "string";
    case BB_TOKEN_INTEGER: return "integer";
    case BB_TOKEN_FLOAT: return "float";
    default: return operators[kind - BB_TOKEN_POWER];
    }
}

static struct bb_token *add_token(struct lexer *lexer, enum bb_token_kind kind, size_t begin, size_t end)
{
    if (lexer->count == lexer->capacity) {
        size_t capacity = lexer->capacity > 0 ? lexer->capacity * 2 : 64;
        struct bb_token *tokens = bb_work_allocate(lexer->work, capacity, sizeof *tokens);
        if (tokens == NULL)
            return NULL;
        if (lexer->count > 0)
            memcpy(tokens, lexer->tokens, lexer->count * sizeof *tokens);
        lexer->tokens = tokens;
        lexer->capacity = capacity;
    }
    struct bb_token *token = &lexer->tokens[lexer->count++];
    *token = (struct bb_token){.kind = kind, .begin = (uint32_t)begin, .end = (uint32_t)end};
    return token;
}

static bool fail(struct lexer *lexer, size_t offset, const char *message)
{
    lexer->work->place = (uint32_t)offset;
    bb_raise(lexer->work, "%s", message);
    return false;
}

static bool looks_at(const struct lexer *lexer, size_t offset, const char *text)
{
    size_t length = strlen(text);
    return lexer->length - offset >= length && memcmp(lexer->source + offset, text, length) == 0;
}

static size_t skip_space(const struct lexer *lexer, size_t offset)
{
    size_t length;
    while (offset < lexer->length && bb_code_is_space(bb_code_read(lexer->source + offset, &length)))
        offset += length;
    return offset;
}

/* Bytes behind the end tag `close` ("%}") at `offset` with its whitespace control; 0 if there is none. */
static size_t match_end(const struct lexer *lexer, size_t offset, const char *close, bool may_trim, bool may_have_plus)
{
    char sign = offset < lexer->length ? lexer->source[offset] : '\0';
    bool has_sign = (sign == '-' || (sign == '+' && may_have_plus)) && looks_at(lexer, offset + 1, close);
    if (!has_sign && !looks_at(lexer, offset, close))
        return 0;
    size_t end = offset + has_sign + 2;
    if (has_sign)
        return sign == '-' ? skip_space(lexer, end) : end;
    return may_trim && end < lexer->length && lexer->source[end] == '\n' ? end + 1 : end;
}

/* Adds text before a tag: `-` strips all whitespace before the tag, lstrip_blocks that between line start and tag. */
static bool add_data(struct lexer *lexer, size_t begin, size_t end, char sign, bool is_variable)
{
    size_t stripped = end;
    if (sign == '-' || (sign != '+' && !is_variable)) {
        while (stripped > begin) {
            size_t previous = stripped - 1, length;
            while (previous > begin && ((unsigned char)lexer->source[previous] & 0xC0) == 0x80)
                previous--;
            if (!bb_code_is_space(bb_code_read(lexer->source + previous, &length)) ||
                (sign != '-' && lexer->source[previous] == '\n'))
                break;
            stripped = previous;
        }
        bool is_at_line_start = stripped == begin ? lexer->is_line_start : lexer->source[stripped - 1] == '\n';
        if (sign != '-' && !is_at_line_start)
            stripped = end;
    }
    return stripped == begin || add_token(lexer, BB_TOKEN_DATA, begin, stripped) != NULL;
}

static bool ends_line(const struct lexer *lexer, size_t end)
{
    return end > 0 && lexer->source[end - 1] == '\n';
}

static char sign_at(const struct lexer *lexer, size_t offset)
{
    char c = offset < lexer->length ? lexer->source[offset] : '\0';
    return c == '-' || c == '+' ? c : '\0';
}

/* From behind "{#" to behind "#}". */
static bool skip_comment(struct lexer *lexer, size_t begin)
{
    for (size_t i = begin; i < lexer->length; i++) {
        size_t end = match_end(lexer, i, "#}", true, true);
        if (end != 0) {
            lexer->offset = end;
            lexer->is_line_start = ends_line(lexer, end);
            return true;
        }
    }
    lexer->offset = lexer->length;
    return begin == lexer->length || fail(lexer, begin, "Missing end of comment tag");
}

/* If a raw block begins at `tag`, adds its content. *was_raw tells. */
static bool lex_raw(struct lexer *lexer, size_t data_begin, size_t tag, bool *was_raw)
{
    char sign = sign_at(lexer, tag + 2);
    size_t offset = skip_space(lexer, tag + 2 + (sign != '\0'));
    *was_raw = false;
    if (!looks_at(lexer, offset, "raw"))
        return true;
    size_t begin = match_end(lexer, skip_space(lexer, offset + 3), "%}", false, false);
    if (begin == 0)
        return true;
    *was_raw = true;
    if (!add_data(lexer, data_begin, tag, sign, false))
        return false;
    lexer->is_line_start = ends_line(lexer, begin);
    for (size_t i = begin; i + 1 < lexer->length; i++) {
        if (!looks_at(lexer, i, "{%"))
            continue;
        char end_sign = sign_at(lexer, i + 2);
        size_t name = skip_space(lexer, i + 2 + (end_sign != '\0'));
        size_t end =
            looks_at(lexer, name, "endraw") ? match_end(lexer, skip_space(lexer, name + 6), "%}", true, true) : 0;
        if (end == 0)
            continue;
        if (!add_data(lexer, begin, i, end_sign, false))
            return false;
        lexer->offset = end;
        lexer->is_line_start = ends_line(lexer, end);
        return true;
    }
    lexer->offset = lexer->length;
    return begin == lexer->length || fail(lexer, tag, "Missing end of raw directive");
}

/* ---- inside tags ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* (\d+_)*\d+ : end of a run of digits with single underscores between; `offset` if there is none. */
static size_t skip_digits(const struct lexer *lexer, size_t offset)
{
    size_t end = offset;
    while (end < lexer->length && (is_digit(lexer->source[end]) ||
                                   (lexer->source[end] == '_' && end > offset && is_digit(lexer->source[end - 1]) &&
                                    end + 1 < lexer->length && is_digit(lexer->source[end + 1]))))
        end++;
    return end;
}

/* End of a float at `offset`, or `offset`. */
static size_t match_float(const struct lexer *lexer, size_t offset)
{
    size_t whole = skip_digits(lexer, offset), end = whole;
    if (whole == offset || (offset > 0 && lexer->source[offset - 1] == '.'))
        return offset;
    if (end < lexer->length && lexer->source[end] == '.') {
        size_t fraction = skip_digits(lexer, end + 1);
        if (fraction > end + 1)
            end = fraction;
    }
    if (end < lexer->length && (lexer->source[end] == 'e' || lexer->source[end] == 'E')) {
        size_t exponent = end + 1 + (sign_at(lexer, end + 1) != '\0');
        size_t digits = skip_digits(lexer, exponent);
        if (digits > exponent)
            end = digits;
    }
    return end > whole ? end : offset;
}

static bool is_digit_of(char c, int base)
{
    int digit = is_digit(c) ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 99;
    return digit < base;
}

static size_t match_integer(const struct lexer *lexer, size_t offset, int *base)
{
    const char *s = lexer->source;
    char prefix = s[offset] == '0' && offset + 1 < lexer->length ? (char)(s[offset + 1] | 32) : '\0';
    *base = prefix == 'b' ? 2 : prefix == 'o' ? 8 : prefix == 'x' ? 16 : 10;
    size_t end = offset + (*base == 10 ? 1 : 2);
    /* A decimal that begins with 0 is all zeros. */
    int digit_base = *base == 10 && s[offset] == '0' ? 1 : *base;
    size_t first = end;
    while (end < lexer->length && (is_digit_of(s[end], digit_base) ||
                                   (s[end] == '_' && end + 1 < lexer->length && is_digit_of(s[end + 1], digit_base))))
        end++;
    if (*base != 10 && end == first) {
        *base = 10;
        return offset + 1;
    }
    return end;
}

static struct bb_value integer_value(struct lexer *lexer, size_t begin, size_t end, int base)
{
    struct bb_builder digits = {.work = lexer->work};
    for (size_t i = begin + (base == 10 ? 0 : 2); i < end; i++)
        if (lexer->source[i] != '_')
            bb_build_byte(&digits, lexer->source[i]);
    bb_build_byte(&digits, '\0');
    struct bb_value text = bb_build_finish(&digits);
    if (text.kind != BB_VALUE_TEXT)
        return text;
    errno = 0;
    long long integer = strtoll(text.text->bytes, NULL, base);
    if (errno == 0)
        return bb_value_int(integer);
    if (base != 10)
        return bb_raise(lexer->work, "integer does not fit 64 bits");
    struct bb_value value = bb_value_text(lexer->work, text.text->bytes, text.text->length - 1);
    value.kind = value.kind == BB_VALUE_TEXT ? BB_VALUE_LONG : value.kind;
    return value;
}

/* \xhh, \uhhhh, \Uhhhhhhhh at `offset` (behind the letter). */
static size_t unescape_hex(struct lexer *lexer, struct bb_builder *text, size_t offset, size_t end, size_t digits)
{
    uint32_t code = 0;
    for (size_t i = 0; i < digits; i++) {
        char c = offset + i < end ? lexer->source[offset + i] : '\0';
        if (!is_digit_of(c, 16)) {
            fail(lexer, offset,
                 digits == 2   ? "truncated \\xXX escape"
                 : digits == 4 ? "truncated \\uXXXX escape"
                               : "truncated \\UXXXXXXXX escape");
            return offset;
        }
        code = code << 4 | (uint32_t)(is_digit(c) ? c - '0' : (c | 32) - 'a' + 10);
    }
    if (code > 0x10FFFF)
        fail(lexer, offset, "illegal Unicode character");
    bb_build_code(text, code);
    return offset + digits;
}

/* Python's unicode-escape. `offset` is behind a backslash; returns the offset behind the escape. */
static size_t unescape(struct lexer *lexer, struct bb_builder *text, size_t offset, size_t end)
{
    static const char letters[] = "\\'\"abfnrtv", meanings[] = "\\'\"\a\b\f\n\r\t\v";
    char c = lexer->source[offset];
    const char *letter = c != '\0' ? strchr(letters, c) : NULL;
    size_t length;
    if (letter != NULL) {
        bb_build_byte(text, meanings[letter - letters]);
    } else if (c >= '0' && c <= '7') {
        uint32_t code = 0;
        for (length = 0; length < 3 && offset < end && is_digit_of(lexer->source[offset], 8); length++, offset++)
            code = code * 8 + (uint32_t)(lexer->source[offset] - '0');
        bb_build_code(text, code);
        return offset;
    } else if (c == 'x' || c == 'u' || c == 'U') {
        return unescape_hex(lexer, text, offset + 1, end, c == 'x' ? 2 : c == 'u' ? 4 : 8);
    } else if (c == 'N') {
        fail(lexer, offset, "\\N escapes are not supported");
    } else if ((unsigned char)c >= 0x80) {
        /* jinja2 encodes such characters as escapes first, and the backslash before then escapes theirs. */
        uint32_t code = bb_code_read(lexer->source + offset, &length);
        bb_build_format(text, code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x", code);
        return offset + length;
    } else if (c != '\n') {
        bb_build_byte(text, '\\');
        bb_build_byte(text, c);
    }
    return offset + 1;
}

static bool lex_string(struct lexer *lexer)
{
    size_t begin = lexer->offset, end = begin + 1;
    char quote = lexer->source[begin];
    while (end < lexer->length && lexer->source[end] != quote)
        end += lexer->source[end] == '\\' ? 2 : 1;
    if (end >= lexer->length)
        return fail(lexer, begin, quote == '"' ? "unexpected char '\"'" : "unexpected char \"'\"");
    struct bb_builder text = {.work = lexer->work};
    for (size_t i = begin + 1; i < end && lexer->work->status == BOMBUS_OK;) {
        size_t plain = i;
        while (plain < end && lexer->source[plain] != '\\')
            plain++;
        bb_build(&text, lexer->source + i, plain - i);
        i = plain < end ? unescape(lexer, &text, plain + 1, end) : end;
    }
    struct bb_value value = bb_build_finish(&text);
    struct bb_token *token = add_token(lexer, BB_TOKEN_STRING, begin, end + 1);
    if (token == NULL)
        return false;
    token->value = value;
    lexer->offset = end + 1;
    return true;
}

static bool lex_number(struct lexer *lexer)
{
    int base;
    size_t begin = lexer->offset, end = match_float(lexer, begin);
    bool is_float = end > begin;
    if (!is_float)
        end = match_integer(lexer, begin, &base);
    lexer->work->place = (uint32_t)begin;
    struct bb_value value = is_float ? bb_value_float(bb_real_parse(lexer->source + begin, end - begin))
                                     : integer_value(lexer, begin, end, base);
    struct bb_token *token = add_token(lexer, is_float ? BB_TOKEN_FLOAT : BB_TOKEN_INTEGER, begin, end);
    if (token == NULL)
        return false;
    token->value = value;
    lexer->offset = end;
    return true;
}

static bool lex_name(struct lexer *lexer)
{
    size_t begin = lexer->offset, end = begin, length;
    while (end < lexer->length && bb_code_is_word(bb_code_read(lexer->source + end, &length)))
        end += length;
    if (end == begin) {
        lexer->work->place = (uint32_t)begin;
        bb_code_read(lexer->source + begin, &length);
        bb_raise(lexer->work, "unexpected char '%.*s'", (int)length, lexer->source + begin);
        return false;
    }
    lexer->offset = end;
    return add_token(lexer, BB_TOKEN_NAME, begin, end) != NULL;
}

static bool balance(struct lexer *lexer, char c)
{
    if (c == '(' || c == '[' || c == '{') {
        if (lexer->open_count == MAX_OPEN_BRACKETS) {
            bb_raise_status(lexer->work, BOMBUS_ERROR_LIMIT, "brackets are nested too deeply");
            return false;
        }
        lexer->open[lexer->open_count++] = (char)(c == '(' ? ')' : c == '[' ? ']' : '}');
        return true;
    }
    if (c != ')' && c != ']' && c != '}')
        return true;
    if (lexer->open_count == 0)
        bb_raise(lexer->work, "unexpected '%c'", c);
    else if (lexer->open[--lexer->open_count] != c)
        bb_raise(lexer->work, "unexpected '%c', expected '%c'", c, lexer->open[lexer->open_count]);
    return lexer->work->status == BOMBUS_OK;
}

static bool lex_operator(struct lexer *lexer, bool *was_operator)
{
    *was_operator = false;
    for (size_t i = 0; i < BB_COUNT(operators); i++) {
        if (!looks_at(lexer, lexer->offset, operators[i]))
            continue;
        *was_operator = true;
        size_t begin = lexer->offset;
        lexer->work->place = (uint32_t)begin;
        lexer->offset += strlen(operators[i]);
        return balance(lexer, operators[i][0]) &&
               add_token(lexer, (enum bb_token_kind)(BB_TOKEN_POWER + i), begin, lexer->offset) != NULL;
    }
    return true;
}

/* The inside of a tag up to and with its end. */
static bool lex_tag(struct lexer *lexer, bool is_variable)
{
    while (lexer->work->status == BOMBUS_OK) {
        size_t end = lexer->open_count > 0
                         ? 0
                         : match_end(lexer, lexer->offset, is_variable ? "}}" : "%}", !is_variable, !is_variable);
        if (end != 0) {
            bool is_added =
                add_token(lexer, is_variable ? BB_TOKEN_VARIABLE_END : BB_TOKEN_BLOCK_END, lexer->offset, end) != NULL;
            lexer->is_line_start = ends_line(lexer, end);
            lexer->offset = end;
            return is_added;
        }
        lexer->offset = skip_space(lexer, lexer->offset);
        if (lexer->offset == lexer->length)
            return true; /* the parser says what is missing */
        char c = lexer->source[lexer->offset];
        bool was_operator = false;
        if (match_end(lexer, lexer->offset, is_variable ? "}}" : "%}", false, !is_variable) != 0 &&
            lexer->open_count == 0)
            continue;
        if (is_digit(c)             ? !lex_number(lexer)
            : c == '"' || c == '\'' ? !lex_string(lexer)
                                    : !lex_operator(lexer, &was_operator))
            return false;
        if (!is_digit(c) && c != '"' && c != '\'' && !was_operator && !lex_name(lexer))
            return false;
    }
    return false;
}

/* Offset of the next "{{", "{%" or "{#", or the length. */
static size_t find_tag(const struct lexer *lexer, size_t offset)
{
    for (; offset + 1 < lexer->length; offset++) {
        const char *brace = memchr(lexer->source + offset, '{', lexer->length - 1 - offset);
        if (brace == NULL)
            break;
        offset = (size_t)(brace - lexer->source);
        if (brace[1] == '{' || brace[1] == '%' || brace[1] == '#')
            return offset;
    }
    return lexer->length;
}

static bool lex_next(struct lexer *lexer)
{
    size_t begin = lexer->offset, tag = find_tag(lexer, begin);
    bool was_raw = false;
    if (tag == lexer->length) {
        lexer->offset = tag;
        return tag == begin || add_token(lexer, BB_TOKEN_DATA, begin, tag) != NULL;
    }
    char type = lexer->source[tag + 1], sign = sign_at(lexer, tag + 2);
    if (type == '%' && (!lex_raw(lexer, begin, tag, &was_raw) || was_raw))
        return was_raw && lexer->work->status == BOMBUS_OK;
    if (!add_data(lexer, begin, tag, sign, type == '{'))
        return false;
    lexer->offset = tag + 2 + (sign != '\0');
    lexer->is_line_start = false;
    if (type == '#')
        return skip_comment(lexer, lexer->offset);
    return add_token(lexer, type == '{' ? BB_TOKEN_VARIABLE_BEGIN : BB_TOKEN_BLOCK_BEGIN, tag, lexer->offset) != NULL &&
           lex_tag(lexer, type == '{');
}

struct bb_token *bb_template_tokenize(struct bb_work *work, bombus_error *late)
{
    struct lexer *lexer = bb_work_allocate(work, 1, sizeof *lexer);
    bombus_error *error = work->error;
    if (lexer == NULL)
        return NULL;
    *lexer = (struct lexer){.work = work, .source = work->source, .length = work->source_length, .is_line_start = true};
    *late = (bombus_error){0};
    work->error = late;
    while (lexer->offset < lexer->length && lex_next(lexer))
        continue;
    work->error = error;
    if (work->status != BOMBUS_OK && work->status != BOMBUS_ERROR_TEMPLATE) {
        if (error != NULL)
            *error = *late;
        return NULL;
    }
    work->status = BOMBUS_OK;
    add_token(lexer, BB_TOKEN_END, lexer->length, lexer->length);
    return work->status == BOMBUS_OK ? lexer->tokens : NULL;
}
