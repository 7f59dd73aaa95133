/* Examples for training: lines of a jsonl file, turned into tokens by the model's own tokenizer and chat template.
 *
 * Opening reads the file once and keeps where its good lines begin; a line is read again and encoded when its example is wanted, so a
 * file of any size takes 24 bytes of memory a line. Lines that cannot be used are counted and reported with their number, and left out. */
#ifndef BB_DATASET_H
#define BB_DATASET_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdio.h>

struct bb_tokenizer;
struct bb_template;
struct bb_line;

/* Which tokens are learnt as targets. */
enum bb_mask {
    BB_MASK_NONE,   /* all of them */
    BB_MASK_PROMPT, /* those of every assistant turn (train/turns.h) */
    BB_MASK_HISTORY /* those of the last message: all behind the prompt that ends in its header (mlx-lm's --mask-prompt) */
};

/* What the rows of a file are; the first good line decides, as in mlx-lm. */
enum bb_row_kind { BB_ROW_TEXT, BB_ROW_COMPLETION, BB_ROW_CHAT, BB_ROW_PREFERENCE };

enum bb_line_problem {
    BB_LINE_MALFORMED, /* no UTF-8, no JSON, a field missing, too long, refused by the template: the line is left out */
    BB_LINE_EMPTY,     /* nothing to learn in it (after truncation): left out */
    BB_LINE_TRUNCATED  /* cut to max_seq_length, and used */
};

/* Called for the first bb_dataset_options.report_limit lines of each problem, once a line. */
typedef void (*bb_line_report)(void *context, const char *path, uint32_t line, enum bb_line_problem problem,
                               const char *message);

enum { BB_LINE_LIMIT = 64 << 20 }; /* bytes of a line */

struct bb_dataset_options { /* texts are borrowed as long as the dataset is open */
    const struct bb_tokenizer *tokenizer; /* borrowed as long as the dataset is open */
    const struct bb_template *template_;  /* the same; NULL: the model has none, and only rows of text can be read */
    int32_t max_seq_length;               /* tokens of an example; what is longer is cut at its end */
    enum bb_mask mask;
    bool is_preference; /* rows of a prompt, a chosen and a rejected answer are expected; else of the other kinds */
    bool is_mlx_compatible; /* mlx-lm's rule of what counts: BB_MASK_PROMPT is BB_MASK_HISTORY, and a row shorter than max_seq_length also
                               learns to say the padding (token 0) behind its end */
    const char *text_feature, *prompt_feature, *completion_feature, *chat_feature; /* field names; NULL: mlx-lm's */
    const char *chosen_feature, *rejected_feature;
    const char *template_arguments; /* JSON object of more template variables ({"enable_thinking": false}); NULL: none */
    int64_t report_limit;           /* of each problem; 0: 10 */
    bb_line_report report;          /* may be NULL */
    void *report_context;
};

struct bb_dataset_counts {
    int64_t lines;     /* that are not blank */
    int64_t malformed; /* left out; of these, known at open or met since */
    int64_t empty;
    int64_t truncated; /* met so far */
};

struct bb_dataset {
    struct bb_dataset_options options;
    char *path;
    FILE *file;
    enum bb_row_kind kind;
    struct bb_line *lines; /* [count] */
    size_t count, capacity;   /* of lines that were good when the file was opened */
    uint64_t digest;       /* of the file's bytes: the same data or not, for a resumed training */
    struct bb_dataset_counts counts;
    struct bb_buffer line; /* the one that is read */
    struct bb_encoder *encoder;
};

/* One sequence of an example. */
struct bb_example_part {
    int32_t *tokens;  /* [count] */
    bool *is_learnt;  /* [count], as a target; [0] never is */
    int32_t count, capacity;
    int32_t prompt_count; /* mlx-lm's offset: tokens of the prompt; 0 where nothing is masked or BB_MASK_PROMPT found turns */
    bool learns_padding; /* the target behind the last token is token 0 and counts */
};

/* Parts: one; of a preference the chosen sequence, then the rejected one. Zeroed struct = no example; memory is used again. */
struct bb_example {
    struct bb_example_part parts[2];
    int32_t part_count;
    uint32_t line; /* 1-based, in the file */
};

/* The file of one set: of "train", "valid" or "test" in the folder `data`, or `data` itself, if it is a file, for "train". *path: released by
 * bb_release; NULL where the folder has no such set and it is not "train". */
BB_RESULT bombus_status bb_dataset_find(char **path, const char *data, const char *name, bombus_error *error);

/* No usable line at all is BOMBUS_ERROR_FORMAT and names the fields that were expected. */
BB_RESULT bombus_status bb_dataset_open(struct bb_dataset *dataset, const char *path,
                                        const struct bb_dataset_options *options, bombus_error *error);
void bb_dataset_close(struct bb_dataset *dataset);

/* Example `index` < count. *is_usable: false for a line that turns out to have nothing to learn, or which the template refuses; that
 * is counted and reported, and no failure. */
BB_RESULT bombus_status bb_dataset_read(struct bb_dataset *dataset, size_t index, struct bb_example *example,
                                        bool *is_usable, bombus_error *error);
void bb_example_clear(struct bb_example *example);

/* Reads examples until one teaches something; BOMBUS_ERROR_FORMAT where none does. */
BB_RESULT bombus_status bb_dataset_check_learnable(struct bb_dataset *dataset, bombus_error *error);

/* Bytes of the line of example `index`, a measure of its length; and its JSON fields, by which mlx-lm orders. */
uint32_t bb_dataset_line_bytes(const struct bb_dataset *dataset, size_t index);
uint32_t bb_dataset_field_count(const struct bb_dataset *dataset, size_t index);

#endif
