/* Curves as SVG, settings as a table, samples as they came. */
#include "cli/train_report.h"

#include "base/buffer.h"
#include "base/compiler.h"
#include "base/error.h"
#include "base/file.h"
#include "cli/clock.h"
#include "cli/report.h"
#include "cli/train_options.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char style[] =
    ":root{--ink:#1d2330;--soft:#667085;--line:#e4e7ec;--paper:#fff;--back:#f6f7f9;--train:#2f6fde;--valid:#e08a1e;--rate:#2b9a66}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e8eaf0;--soft:#98a2b3;--line:#303746;--paper:#1b2029;--back:#12161d;--train:#6ea1ff;"
    "--valid:#f3ac4e;--rate:#56c596}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.55 system-ui,sans-serif}"
    "main{max-width:1000px;margin:0 auto;padding:32px 20px 64px}h1{font-size:26px;margin:0 0 4px}h2{font-size:17px;margin:0 0 14px}"
    "p.sub{color:var(--soft);margin:0 0 24px}section{background:var(--paper);border:1px solid var(--line);border-radius:12px;padding:20px 22px;"
    "margin:0 0 20px}.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(118px,1fr));gap:12px;margin:0 0 20px}"
    ".fact{background:var(--paper);border:1px solid var(--line);border-radius:12px;padding:14px 16px}.fact b{display:block;font-size:21px;"
    "font-weight:600}.fact span{color:var(--soft);font-size:13px}svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);"
    "font:12px system-ui,sans-serif}table{border-collapse:collapse;width:100%}td{padding:5px 0;border-top:1px solid var(--line);"
    "vertical-align:top}tr:first-child td{border-top:0}td:first-child{color:var(--soft);width:240px}.key{display:inline-block;width:12px;"
    "height:3px;border-radius:2px;vertical-align:middle;margin:0 6px 0 14px}blockquote{margin:0 0 14px;padding:10px 14px;background:var(--back);"
    "border-radius:8px;white-space:pre-wrap;overflow-wrap:anywhere}.prompt{color:var(--soft);white-space:pre-wrap;overflow-wrap:anywhere;"
    "margin:0 0 14px}.when{font-size:13px;color:var(--soft);margin:0 0 4px}";

static void add_escaped(struct bb_buffer *html, const char *text)
{
    for (const char *letter = text; *letter != '\0'; letter++) {
        switch (*letter) {
        case '&': bb_buffer_add_text(html, "&amp;"); break;
        case '<': bb_buffer_add_text(html, "&lt;"); break;
        case '>': bb_buffer_add_text(html, "&gt;"); break;
        case '"': bb_buffer_add_text(html, "&quot;"); break;
        default: bb_buffer_add_byte(html, *letter);
        }
    }
}

/* ---- a chart ---- */

enum { WIDTH = 940, HEIGHT = 300, LEFT = 62, RIGHT = 14, TOP = 12, BOTTOM = 34 };

struct curve {
    const struct train_points *points;
    const char *color;
    bool is_rate; /* the learning rate, not the loss */
    bool has_dots;
};

struct chart {
    double first, last, least, most; /* iterations; values */
};

static double value_of(const struct curve *curve, size_t i)
{
    return curve->is_rate ? curve->points->items[i].learning_rate : curve->points->items[i].loss;
}

static bool find_bounds(struct chart *chart, const struct curve *curves, size_t count)
{
    *chart = (struct chart){.first = HUGE_VAL, .last = -HUGE_VAL, .least = HUGE_VAL, .most = -HUGE_VAL};
    for (size_t c = 0; c < count; c++) {
        for (size_t i = 0; i < curves[c].points->count; i++) {
            double value = value_of(&curves[c], i), iteration = (double)curves[c].points->items[i].iteration;
            if (!isfinite(value))
                continue;
            chart->first = fmin(chart->first, iteration);
            chart->last = fmax(chart->last, iteration);
            chart->least = fmin(chart->least, value);
            chart->most = fmax(chart->most, value);
        }
    }
    if (!(chart->first <= chart->last))
        return false;
    if (chart->first == chart->last)
        chart->last = chart->first + 1.0;
    /* Differences that are rounding alone have no steps between them. */
    if (chart->most - chart->least <= 1e-9 * fmax(fabs(chart->most), fabs(chart->least))) {
        double margin = chart->most != 0.0 ? fabs(chart->most) * 0.5 : 1.0;
        chart->least -= margin;
        chart->most += margin;
    }
    return true;
}

static double x_of(const struct chart *chart, double iteration)
{
    return LEFT + (iteration - chart->first) / (chart->last - chart->first) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const struct chart *chart, double value)
{
    return TOP + (chart->most - value) / (chart->most - chart->least) * (HEIGHT - TOP - BOTTOM);
}

/* 1, 2 or 5 times a power of ten, so that about `wanted` steps fit the range. */
static double round_step(double range, double wanted)
{
    double step = pow(10.0, floor(log10(range / wanted)));
    double left = range / wanted / step;
    return step * (left > 5.0 ? 10.0 : left > 2.0 ? 5.0 : left > 1.0 ? 2.0 : 1.0);
}

static void add_axes(struct bb_buffer *html, struct chart *chart)
{
    double step = round_step(chart->most - chart->least, 5.0);
    chart->least = floor(chart->least / step) * step;
    chart->most = ceil(chart->most / step) * step;
    for (double value = chart->least; value <= chart->most + step * 0.01; value += step) {
        double y = y_of(chart, value);
        bb_buffer_format(html,
                         "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"var(--line)\"/>"
                         "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>",
                         LEFT, WIDTH - RIGHT, y, y, LEFT - 8, y + 4.0, fabs(value) < step * 1e-6 ? 0.0 : value);
    }
    step = fmax(round_step(chart->last - chart->first, 8.0), 1.0);
    for (double iteration = ceil(chart->first / step) * step; iteration <= chart->last; iteration += step)
        bb_buffer_format(html, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>", x_of(chart, iteration),
                         HEIGHT - BOTTOM + 20, iteration);
}

static void add_curve(struct bb_buffer *html, const struct chart *chart, const struct curve *curve)
{
    bb_buffer_format(html, "<polyline fill=\"none\" stroke=\"var(%s)\" stroke-width=\"2\" stroke-linejoin=\"round\" points=\"", curve->color);
    for (size_t i = 0; i < curve->points->count; i++) {
        if (isfinite(value_of(curve, i)))
            bb_buffer_format(html, "%.1f,%.1f ", x_of(chart, (double)curve->points->items[i].iteration),
                             y_of(chart, value_of(curve, i)));
    }
    bb_buffer_add_text(html, "\"/>");
    for (size_t i = 0; curve->has_dots && i < curve->points->count; i++) {
        if (isfinite(value_of(curve, i)))
            bb_buffer_format(html, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"var(%s)\"><title>%lld: %.4f</title></circle>",
                             x_of(chart, (double)curve->points->items[i].iteration), y_of(chart, value_of(curve, i)),
                             curve->color, (long long)curve->points->items[i].iteration, value_of(curve, i));
    }
}

static void add_chart(struct bb_buffer *html, const char *title, const char *keys, const struct curve *curves, size_t count)
{
    struct chart chart;
    bb_buffer_format(html, "<section><h2>%s%s</h2>", title, keys);
    if (find_bounds(&chart, curves, count)) {
        bb_buffer_format(html, "<svg viewBox=\"0 0 %d %d\" role=\"img\">", WIDTH, HEIGHT);
        add_axes(html, &chart);
        for (size_t i = 0; i < count; i++)
            add_curve(html, &chart, &curves[i]);
        bb_buffer_add_text(html, "</svg>");
    } else {
        bb_buffer_add_text(html, "<p class=\"sub\">nothing yet</p>");
    }
    bb_buffer_add_text(html, "</section>\n");
}

/* ---- facts ---- */

BB_PRINTF(3, 4) static void add_fact(struct bb_buffer *html, const char *name, const char *format, ...)
{
    char text[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    bb_buffer_format(html, "<div class=\"fact\"><b>%s</b><span>%s</span></div>", text, name);
}

static void add_duration(char text[32], double seconds)
{
    long whole = lround(seconds);
    if (whole >= 3600)
        snprintf(text, 32, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
    else if (whole >= 60)
        snprintf(text, 32, "%ld:%02ld", whole / 60, whole % 60);
    else
        snprintf(text, 32, "%.1f s", seconds);
}

static void add_facts(struct bb_buffer *html, const struct train_report *report, const struct train_history *history)
{
    char duration[32], best[64];
    bb_buffer_add_text(html, "<div class=\"facts\">");
    snprintf(best, sizeof best, "best, at %lld", (long long)report->best_iteration);
    if (history->train.count > 0)
        add_fact(html, "training loss", "%.3f", history->train.items[history->train.count - 1].loss);
    if (history->validation.count > 0)
        add_fact(html, "validation loss", "%.3f", history->validation.items[history->validation.count - 1].loss);
    if (report->best_iteration >= 0)
        add_fact(html, best, "%.3f", report->best_loss);
    add_fact(html, "iterations", "%lld", (long long)report->iteration);
    if (history->train.count > 0)
        add_fact(html, "tokens a second", "%.0f", history->train.items[history->train.count - 1].tokens_per_second);
    add_duration(duration, report->seconds);
    add_fact(html, "time", "%s", duration);
    add_fact(html, "peak memory", "%s", report_bytes((double)clock_peak_memory_bytes()).text);
    bb_buffer_add_text(html, "</div>\n");
}

static void add_row(struct bb_buffer *html, const char *name, const char *text)
{
    bb_buffer_format(html, "<tr><td>%s</td><td>", name);
    add_escaped(html, text);
    bb_buffer_add_text(html, "</td></tr>");
}

static void add_number_row(struct bb_buffer *html, const char *name, double number)
{
    char text[32];
    snprintf(text, sizeof text, "%.10g", number);
    add_row(html, name, text);
}

static void add_count_row(struct bb_buffer *html, const char *name, int64_t count)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)count);
    add_row(html, name, text);
}

static void add_settings(struct bb_buffer *html, const struct train_report *report)
{
    const bombus_train_options *options = report->options;
    bb_buffer_add_text(html, "<section><h2>Settings</h2><table>");
    add_row(html, "model", report->model);
    add_row(html, "device", report->device);
    add_row(html, "data", options->data);
    add_count_row(html, "examples", report->example_count);
    add_row(html, "adapter", options->adapter_path);
    add_row(html, "mode", options_word(TRAIN_MODES, (int)options->mode).text);
    add_row(html, "fine-tune type", options_word(TRAIN_FINE_TUNES, (int)options->fine_tune).text);
    add_count_row(html, "trained parameters", report->parameter_count);
    if (options->fine_tune != BOMBUS_FINE_TUNE_FULL) {
        add_count_row(html, "rank", options->rank);
        add_number_row(html, "scale", options->scale);
        add_number_row(html, "dropout", options->dropout);
    }
    add_count_row(html, "layers", options->num_layers);
    add_row(html, "optimizer", options_word(TRAIN_OPTIMIZERS, (int)options->optimizer).text);
    if (options->schedule.part_count == 0)
        add_number_row(html, "learning rate", options->learning_rate);
    add_count_row(html, "batch size", options->batch_size);
    add_count_row(html, "batches an update", options->grad_accumulation_steps);
    add_count_row(html, "longest example", options->max_seq_length);
    add_row(html, "prompts masked", options->mask_prompt || options->mask_history ? "yes" : "no");
    add_count_row(html, "seed", (int64_t)options->seed);
    bb_buffer_add_text(html, "</table></section>\n");
}

static void add_samples(struct bb_buffer *html, const struct train_history *history)
{
    if (history->sample_count == 0)
        return;
    bb_buffer_add_text(html, "<section><h2>Samples</h2><p class=\"prompt\">");
    add_escaped(html, history->samples[0].prompt);
    bb_buffer_add_text(html, "</p>");
    for (size_t i = history->sample_count; i-- > 0;) { /* the newest first */
        bb_buffer_format(html, "<p class=\"when\">after %lld iterations</p><blockquote>", (long long)history->samples[i].iteration);
        add_escaped(html, history->samples[i].text);
        bb_buffer_add_text(html, "</blockquote>");
    }
    bb_buffer_add_text(html, "</section>\n");
}

bombus_status train_report_write(const struct train_report *report, const struct train_history *history, bombus_error *error)
{
    const struct curve losses[] = {{&history->train, "--train", false, false}, {&history->validation, "--valid", false, true}};
    const struct curve rates[] = {{&history->train, "--rate", true, false}};
    struct bb_buffer html = {0};
    bb_buffer_format(&html,
                     "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                     "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>bombus training</title>"
                     "<style>%s</style></head><body><main>\n<h1>Training</h1><p class=\"sub\">",
                     style);
    add_escaped(&html, report->model);
    bb_buffer_format(&html, " &middot; %s</p>\n", report->state);
    add_facts(&html, report, history);
    add_chart(&html, "Loss",
              "<span class=\"key\" style=\"background:var(--train)\"></span>training<span class=\"key\" "
              "style=\"background:var(--valid)\"></span>validation",
              losses, BB_COUNT(losses));
    add_chart(&html, "Learning rate", "", rates, BB_COUNT(rates));
    add_samples(&html, history);
    add_settings(&html, report);
    bb_buffer_add_text(&html, "</main></body></html>\n");
    bombus_status status = html.is_failed ? bb_fail_memory(error, html.length, "the report")
                                          : bb_file_write(report->path, html.data, html.length, error);
    bb_buffer_clear(&html);
    return status;
}
