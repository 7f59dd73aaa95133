/* Values of a template: Python's, as far as templates can see them.
 *
 * Values are immutable and live in a work's memory (constants: in the template's). Integers have 64 bits; a result that needs more is
 * an error, and longer integers of the source or the variables (BB_VALUE_LONG) can be printed, compared and tested only. */
#ifndef BB_TEMPLATE_VALUE_H
#define BB_TEMPLATE_VALUE_H

#include "base/compiler.h"
#include "base/error.h"

struct bb_work;
struct bb_node;
struct bb_scope;
struct bb_arguments;

enum bb_value_kind {
    BB_VALUE_MISSING, /* no value at all: an argument not given, a name without meaning; templates never see it */
    BB_VALUE_UNDEFINED,
    BB_VALUE_NONE,
    BB_VALUE_BOOL,
    BB_VALUE_INT,
    BB_VALUE_LONG,
    BB_VALUE_FLOAT,
    BB_VALUE_TEXT,
    BB_VALUE_LIST,
    BB_VALUE_TUPLE,
    BB_VALUE_DICT,
    BB_VALUE_RANGE,
    BB_VALUE_VIEW,     /* of a dict: keys(), values(), items() */
    BB_VALUE_ITERATOR, /* generators and reverse iterators: can be walked once */
    BB_VALUE_NAMESPACE,
    BB_VALUE_MACRO,
    BB_VALUE_FUNCTION, /* built-in functions, and methods with the value they belong to */
    BB_VALUE_LOOP,
    BB_VALUE_CYCLER,
    BB_VALUE_JOINER
};

struct bb_value {
    enum bb_value_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double real;
        const struct bb_text *text; /* TEXT; LONG: its decimal digits */
        const struct bb_list *list; /* LIST, TUPLE */
        const struct bb_dict *dict;
        const struct bb_undefined *undefined;
        const struct bb_range *range;
        const struct bb_view *view;
        struct bb_iterator *iterator;
        struct bb_dict *names; /* NAMESPACE */
        const struct bb_macro *macro;
        const struct bb_function *function;
        struct bb_loop *loop;
        struct bb_cycler *cycler;
        struct bb_joiner *joiner;
    };
};

#define BB_MISSING ((struct bb_value){.kind = BB_VALUE_MISSING})
#define BB_NONE    ((struct bb_value){.kind = BB_VALUE_NONE})

struct bb_text {
    const char *bytes;        /* valid UTF-8, may hold NUL, no NUL behind */
    size_t length;            /* bytes */
    size_t count;             /* code points */
    bool is_markup;           /* markupsafe.Markup: what is added to it gets escaped */
    const bombus_span *spans; /* what generation blocks made of it */
    size_t span_count;
};

struct bb_list {
    struct bb_value *items;
    size_t count;
    bool is_group; /* of the groupby filter: a tuple whose items are also called grouper and list */
};

struct bb_pair {
    struct bb_value key, value;
    uint64_t hash;
};

struct bb_dict {
    struct bb_pair *pairs; /* in order of first insertion */
    size_t count, capacity;
    uint32_t *slots; /* open addressing: index of the pair + 1; NULL while the dict is small */
    size_t slot_count;
};

/* Why a value is undefined; the message is made when it is needed. */
struct bb_undefined {
    const char *hint;     /* the whole message, or NULL */
    const char *owner;    /* type of the object looked into, or NULL: a name */
    struct bb_value name; /* the name, attribute or index */
    bool is_condition;    /* an inline if that did not hold and has no else: at `place` */
    uint32_t place;
};

struct bb_range {
    int64_t start, stop, step, count;
};

enum bb_view_kind { BB_VIEW_KEYS, BB_VIEW_VALUES, BB_VIEW_ITEMS };

struct bb_view {
    const struct bb_dict *dict;
    enum bb_view_kind kind;
};

struct bb_iterator {
    struct bb_list items;
    size_t next;
    const char *type_name;
};

struct bb_macro {
    const struct bb_node *node; /* MACRO or CALL_BLOCK */
    struct bb_scope *scope;     /* where it was defined */
    /* Renders its body. */
    struct bb_value (*call)(struct bb_work *work, const struct bb_macro *macro, const struct bb_arguments *arguments);
};

/* Arguments of a call. */
struct bb_keyword {
    struct bb_value name; /* TEXT */
    struct bb_value value;
};

struct bb_arguments {
    const struct bb_value *values;
    size_t count;
    const struct bb_keyword *keywords;
    size_t keyword_count;
};

/* `bound`: one value a parameter (BB_VALUE_MISSING if not given), see bb_bind_arguments; `arguments`: as they came. */
typedef struct bb_value (*bb_function_body)(struct bb_work *work, struct bb_value self, const struct bb_value *bound,
                                            const struct bb_arguments *arguments);

struct bb_function {
    const char *name;
    const char
        *parameters; /* "old new count?": names, `?` may be left out; NULL: the body takes arguments as they came */
    bb_function_body body;
    struct bb_value self; /* of a method */
};

struct bb_cycler {
    const struct bb_list *items;
    size_t next;
};

struct bb_joiner {
    struct bb_value separator;
    bool was_used;
};

/* ---- making ---- */

static inline struct bb_value bb_value_bool(bool boolean)
{
    return (struct bb_value){.kind = BB_VALUE_BOOL, .boolean = boolean};
}
static inline struct bb_value bb_value_int(int64_t integer)
{
    return (struct bb_value){.kind = BB_VALUE_INT, .integer = integer};
}
static inline struct bb_value bb_value_float(double real)
{
    return (struct bb_value){.kind = BB_VALUE_FLOAT, .real = real};
}

/* ---- asking ---- */

const char *bb_value_type_name(struct bb_value value); /* Python's: "str", "NoneType" */
const char *
bb_value_owner_name(struct bb_value value); /* as jinja2 names the owner of a missing attribute: "str object", "None" */
bool bb_value_is_number(struct bb_value value);      /* bool, int, long, float */
bool bb_value_is_integer(struct bb_value value);     /* bool, int */
int64_t bb_value_to_integer(struct bb_value number); /* of bool and int */
double bb_value_to_real(struct bb_value number);
bool bb_value_has_length(struct bb_value value);
bool bb_value_is_iterable(struct bb_value value);
bool bb_text_equals(const struct bb_text *text, const char *string);
int bb_text_compare(const struct bb_text *a, const struct bb_text *b);
/* Same object, for `is`. */
bool bb_value_is_same(struct bb_value a, struct bb_value b);

/* ---- code points ---- */

size_t bb_code_write(char bytes[4], uint32_t code);       /* surrogates and what is beyond Unicode as U+FFFD */
uint32_t bb_code_read(const char *bytes, size_t *length); /* of valid UTF-8 */
size_t bb_code_count(const char *bytes, size_t length);
size_t bb_code_offset(const struct bb_text *text, size_t index); /* byte offset of a code point */
bool bb_code_is_space(uint32_t code);                            /* str.isspace */
bool bb_code_is_printable(uint32_t code);                        /* str.isprintable */
bool bb_code_is_word(uint32_t code);                             /* \w */

#endif
