/* strftime of the work's clock, in English whatever the locale. */
#include "text/template/clock.h"

#include "text/template/builder.h"

#include <stdio.h>
#include <string.h>

static const char *const days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
static const char *const months[] = {"January", "February", "March",     "April",   "May",      "June",
                                     "July",    "August",   "September", "October", "November", "December"};

/* A number padded to `width` with `pad`, unless the directive's flag says otherwise. */
static void build_number(struct bb_builder *builder, int64_t number, int width, char pad, char flag)
{
    if (flag == '-')
        width = 0;
    else if (flag == '_')
        pad = ' ';
    else if (flag == '0')
        pad = '0';
    bb_build_format(builder, pad == '0' ? "%0*lld" : "%*lld", width, (long long)number);
}

/* ISO 8601: the year that most of the week's days are in, and the week's number. */
static int iso_week(const struct tm *now, int *year)
{
    int weekday = (now->tm_wday + 6) % 7, week = (now->tm_yday - weekday + 10) / 7;
    *year = now->tm_year + 1900;
    if (week < 1) {
        --*year;
        bool is_leap = (*year % 4 == 0 && *year % 100 != 0) || *year % 400 == 0;
        int yday = now->tm_yday + 365 + is_leap;
        return (yday - weekday + 10) / 7;
    }
    bool is_leap = (*year % 4 == 0 && *year % 100 != 0) || *year % 400 == 0;
    if (week == 53 && now->tm_yday - weekday + 3 >= 365 + is_leap) {
        ++*year;
        return 1;
    }
    return week;
}

static void build_name(struct bb_builder *builder, const char *name, size_t length, char flag)
{
    for (size_t i = 0; i < length && name[i] != '\0'; i++)
        bb_build_byte(builder, (char)(flag == '^' && name[i] >= 'a' && name[i] <= 'z' ? name[i] - 32 : name[i]));
}

static void build_pattern(struct bb_builder *builder, const char *pattern);

/* One directive; false if it is unknown. */
static bool build_directive(struct bb_builder *builder, char directive, char flag)
{
    const struct tm *now = &builder->work->now;
    int hour = now->tm_hour % 12 == 0 ? 12 : now->tm_hour % 12, year;
    switch (directive) {
    case 'a': build_name(builder, days[now->tm_wday], 3, flag); break;
    case 'A': build_name(builder, days[now->tm_wday], 20, flag); break;
    case 'b':
    case 'h': build_name(builder, months[now->tm_mon], 3, flag); break;
    case 'B': build_name(builder, months[now->tm_mon], 20, flag); break;
    case 'c': build_pattern(builder, "%a %b %e %H:%M:%S %Y"); break;
    case 'C': build_number(builder, (now->tm_year + 1900) / 100, 2, '0', flag); break;
    case 'd': build_number(builder, now->tm_mday, 2, '0', flag); break;
    case 'D':
    case 'x': build_pattern(builder, "%m/%d/%y"); break;
    case 'e': build_number(builder, now->tm_mday, 2, ' ', flag); break;
    case 'f': build_number(builder, builder->work->now_microsecond, 6, '0', '\0'); break;
    case 'F': build_pattern(builder, "%Y-%m-%d"); break;
    case 'g':
        (void)iso_week(now, &year);
        build_number(builder, year % 100, 2, '0', flag);
        break;
    case 'G':
        (void)iso_week(now, &year);
        build_number(builder, year, 0, '0', flag);
        break;
    case 'H': build_number(builder, now->tm_hour, 2, '0', flag); break;
    case 'I': build_number(builder, hour, 2, '0', flag); break;
    case 'j': build_number(builder, now->tm_yday + 1, 3, '0', flag); break;
    case 'k': build_number(builder, now->tm_hour, 2, ' ', flag); break;
    case 'l': build_number(builder, hour, 2, ' ', flag); break;
    case 'm': build_number(builder, now->tm_mon + 1, 2, '0', flag); break;
    case 'M': build_number(builder, now->tm_min, 2, '0', flag); break;
    case 'n': bb_build_byte(builder, '\n'); break;
    case 'p': bb_build_string(builder, now->tm_hour < 12 ? "AM" : "PM"); break;
    case 'P': bb_build_string(builder, now->tm_hour < 12 ? "am" : "pm"); break;
    case 'r': build_pattern(builder, "%I:%M:%S %p"); break;
    case 'R': build_pattern(builder, "%H:%M"); break;
    case 'S': build_number(builder, now->tm_sec, 2, '0', flag); break;
    case 't': bb_build_byte(builder, '\t'); break;
    case 'T':
    case 'X': build_pattern(builder, "%H:%M:%S"); break;
    case 'u': build_number(builder, now->tm_wday == 0 ? 7 : now->tm_wday, 1, '0', flag); break;
    case 'U': build_number(builder, (now->tm_yday + 7 - now->tm_wday) / 7, 2, '0', flag); break;
    case 'V': build_number(builder, iso_week(now, &year), 2, '0', flag); break;
    case 'w': build_number(builder, now->tm_wday, 1, '0', flag); break;
    case 'W': build_number(builder, (now->tm_yday + 7 - (now->tm_wday + 6) % 7) / 7, 2, '0', flag); break;
    case 'y': build_number(builder, now->tm_year % 100, 2, '0', flag); break;
    case 'Y': build_number(builder, now->tm_year + 1900, 0, '0', flag); break;
    case 'z':
    case 'Z': break; /* the clock has no zone */
    case '%': bb_build_byte(builder, '%'); break;
    default: return false;
    }
    return true;
}

static void build_time(struct bb_builder *builder, const char *pattern, size_t length)
{
    for (size_t i = 0; i < length && builder->work->status == BOMBUS_OK; i++) {
        if (pattern[i] != '%' || i + 1 == length) {
            bb_build_byte(builder, pattern[i]);
            continue;
        }
        size_t begin = i++;
        char flag = pattern[i] != '\0' && strchr("-_0^#", pattern[i]) != NULL && i + 1 < length ? pattern[i++] : '\0';
        if (!build_directive(builder, pattern[i], flag))
            bb_build(builder, pattern + begin, i - begin + 1);
    }
}

static void build_pattern(struct bb_builder *builder, const char *pattern)
{
    build_time(builder, pattern, strlen(pattern));
}

void bb_format_time(struct bb_builder *builder, const struct bb_text *format)
{
    build_time(builder, format->bytes, format->length);
}
