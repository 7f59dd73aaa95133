/* The hub's cache and downloads, against a server that does everything wrong. */
#include "files/hub.h"
#include "files/digest.h"
#include "hub_server.h"
#include "scratch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#define COMMIT       "0123456789abcdef0123456789abcdef01234567"
#define OTHER_COMMIT "fedcba9876543210fedcba9876543210fedcba98"
#define MODEL        "models--bee--tiny"

enum { BIG_SIZE = 300001 };

static char big[BIG_SIZE], big_tag[BB_DIGEST_TEXT_SIZE], config_tag[BB_DIGEST_TEXT_SIZE],
    nested_tag[BB_DIGEST_TEXT_SIZE], empty_tag[BB_DIGEST_TEXT_SIZE];
static const char config_text[] = "{\"model_type\": \"qwen3\"}", nested_text[] = "nested";
static struct hub_server server;
static struct hub_file files[6];
static bombus_error error;
static char cache[100], endpoint[100];

static void make_tag(char tag[BB_DIGEST_TEXT_SIZE], const void *bytes, size_t size, bool is_git)
{
    struct bb_digest digest;
    CHECK_OK(bb_digest_open(&digest, is_git, size, &error), error);
    assert_true(bb_digest_add(&digest, bytes, size));
    assert_true(bb_digest_finish(&digest, tag));
    bb_digest_close(&digest);
}

/* A server of a model of five files, and an empty cache. */
static int setup(void **state)
{
    (void)state;
    for (size_t i = 0; i < BIG_SIZE; i++)
        big[i] = (char)(i * 7 + i / 251);
    make_tag(big_tag, big, BIG_SIZE, false);
    make_tag(config_tag, config_text, strlen(config_text), true);
    make_tag(nested_tag, nested_text, strlen(nested_text), true);
    make_tag(empty_tag, "", 0, true);
    files[0] = (struct hub_file){.name = "listing"};
    files[1] = (struct hub_file){
        .name = "config.json", .content = config_text, .size = strlen(config_text), .sha1 = config_tag};
    files[2] = (struct hub_file){.name = "model.safetensors", .content = big, .size = BIG_SIZE, .sha256 = big_tag};
    files[3] = (struct hub_file){
        .name = "extra/nested.json", .content = nested_text, .size = strlen(nested_text), .sha1 = nested_tag};
    files[4] = (struct hub_file){.name = "tokenizer.json", .content = "", .size = 0, .sha1 = empty_tag};
    files[5] =
        (struct hub_file){.name = "README.md", .content = nested_text, .size = strlen(nested_text), .sha1 = nested_tag};
    server = (struct hub_server){
        .repository = "bee/tiny", .revision = "main", .commit = COMMIT, .files = files, .file_count = 6};
    if (!hub_server_start(&server))
        return -1;
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d/", server.port);
    snprintf(cache, sizeof cache, "%s/cache", scratch_folder);
    scratch_remove(cache);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hub_server_stop(&server);
    return 0;
}

static bombus_hub_options make_options(void)
{
    return (bombus_hub_options){
        .cache_folder = cache, .endpoint = endpoint, .retry_delay_ms = 5, .stall_timeout_ms = 3000, .retry_count = 3};
}

static bombus_status resolve(const bombus_hub_options *options, char folder[512])
{
    char *found;
    bombus_status status = bb_hub_resolve(&found, "hf:bee/tiny", options, &error);
    assert_true((status == BOMBUS_OK) == (found != NULL));
    snprintf(folder, 512, "%s", found != NULL ? found : "");
    bb_release(found);
    return status;
}

static char *cache_path(const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ & 3];
    snprintf(path, sizeof paths[0], "%s/" MODEL "/%s", cache, name);
    return path;
}

static void check_content(const char *folder, const char *name, const char *content, size_t size)
{
    char *path = bb_path_join(folder, name), *text;
    size_t length;
    CHECK_OK(bb_file_read(&text, &length, path, 1 << 20, &error), error);
    assert_int_equal(length, size);
    assert_memory_equal(text, content, size);
    bb_release(text);
    bb_release(path);
}

/* The model is in the cache, whole, and nothing else is. */
static void check_snapshot(const char *folder)
{
    char target[200], expected[200];
    assert_string_equal(folder, cache_path("snapshots/" COMMIT));
    check_content(folder, "config.json", config_text, strlen(config_text));
    check_content(folder, "model.safetensors", big, BIG_SIZE);
    check_content(folder, "tokenizer.json", "", 0);
    ssize_t length = readlink(cache_path("snapshots/" COMMIT "/model.safetensors"), target, sizeof target - 1);
    assert_true(length > 0);
    target[length] = '\0';
    snprintf(expected, sizeof expected, "../../blobs/%s", big_tag);
    assert_string_equal(target, expected);
    assert_false(bb_file_exists(cache_path("snapshots/" COMMIT "/README.md")));
    check_content(cache_path("refs"), "main", COMMIT, 40);
    snprintf(expected, sizeof expected, "blobs/%s.incomplete", big_tag);
    assert_false(bb_file_exists(cache_path(expected)));
}

static void test_digests(void **state)
{
    (void)state;
    char tag[BB_DIGEST_TEXT_SIZE];
    make_tag(tag, "hello\n", 6, true); /* git hash-object */
    assert_string_equal(tag, "ce013625030ba8dba906f756967f9e9ca394464a");
    make_tag(tag, "abc", 3, false);
    assert_string_equal(tag, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_string_equal(empty_tag, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
}

static void test_references(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",          "hf:",         "hf:tiny",   "hf:a/b/c",  "hf:../b",        "hf:a/..",
        "hf:a/b@",   "hf:a/b@../x", "hf:a/b@x/", "hf:a/b@/x", "hf:a/b@x//y",    "hf:a/b@x y",
        "hf:a/b@.x", "hf:a/b@x\\y", "hf:a/.b",   "hf:-a/b",   "hf:a--b/c",      "hf:a/b..c",
        "hf:a\\b/c", "hf:a/b c",    "/no/such",  "./a",       "no-such-folder", "hf:a/\xC3\xA9"};
    bombus_hub_options options = make_options();
    char *folder, folder_name[512];
    for (size_t i = 0; i < BB_COUNT(wrong); i++) {
        bombus_status status = bb_hub_resolve(&folder, wrong[i], &options, &error);
        if (status != BOMBUS_ERROR_NOT_FOUND || folder != NULL || strstr(error.message, "no such folder") == NULL)
            fail_msg("%s: %s: %s", wrong[i], bombus_status_name(status), error.message);
    }
    assert_int_equal(server.stranger_count, 0);
    CHECK_OK(bb_hub_resolve(&folder, scratch_folder, NULL, &error), error);
    assert_string_equal(folder, scratch_folder);
    bb_release(folder);
    assert_int_equal(bb_hub_resolve(&folder, "bee/tiny", NULL, &error), BOMBUS_ERROR_ARGUMENT);
    options.endpoint = "ftp://x";
    assert_int_equal(resolve(&options, folder_name), BOMBUS_ERROR_ARGUMENT);
    options = make_options();
    options.token = "a\r\nb: c";
    assert_int_equal(resolve(&options, folder_name), BOMBUS_ERROR_ARGUMENT);
}

struct record {
    int calls, files;
    uint64_t latest_done, latest_total;
    bool goes_back; /* a file's figure fell */
    int cancel_after;
};

static bool note(void *context, const char *file, uint64_t done, uint64_t total)
{
    struct record *record = context;
    record->calls++;
    if (strcmp(file, "model.safetensors") == 0) {
        record->goes_back = record->goes_back || done < record->latest_done || done > total;
        record->latest_done = done;
        record->latest_total = total;
    }
    record->files += file[0] != '\0' && done == total;
    return record->cancel_after == 0 || record->calls < record->cancel_after;
}

static void test_download_and_cache(void **state)
{
    (void)state;
    bombus_hub_options options = make_options();
    struct record record = {0};
    char folder[512];
    options.progress = note;
    options.progress_context = &record;
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
    assert_false(bb_folder_exists(cache_path("snapshots/" COMMIT "/extra")));
    assert_true(record.latest_done == BIG_SIZE && record.latest_total == BIG_SIZE && !record.goes_back);
    /* Now it is found without a request, by name and by commit. */
    int requests = server.stranger_count;
    CHECK_OK(resolve(&options, folder), error);
    options.is_offline = true;
    CHECK_OK(resolve(&options, folder), error);
    char *found;
    CHECK_OK(bb_hub_resolve(&found, "bee/tiny@" COMMIT, &options, &error), error);
    assert_string_equal(found, folder);
    bb_release(found);
    assert_int_equal(bb_hub_resolve(&found, "bee/tiny@other", &options, &error), BOMBUS_ERROR_NOT_FOUND);
    assert_int_equal(bb_hub_resolve(&found, "bee/none", &options, &error), BOMBUS_ERROR_NOT_FOUND);
    assert_non_null(strstr(error.message, "offline"));
    assert_int_equal(server.stranger_count, requests);
    /* Asked for news: the listing alone, as long as the commit is the same. */
    options.is_offline = false;
    options.check_revision = true;
    CHECK_OK(resolve(&options, folder), error);
    assert_int_equal(server.stranger_count, requests + 1);
    /* A new commit of the same files: links, no downloads. */
    server.commit = OTHER_COMMIT;
    CHECK_OK(resolve(&options, folder), error);
    assert_string_equal(folder, cache_path("snapshots/" OTHER_COMMIT));
    assert_int_equal(server.stranger_count, requests + 2);
    check_content(folder, "model.safetensors", big, BIG_SIZE);
    check_content(cache_path("refs"), "main", OTHER_COMMIT, 40);
    options.check_revision = false;
    options.force_download = true;
    CHECK_OK(resolve(&options, folder), error);
    assert_int_equal(files[2].request_count, 2);
}

static void test_patterns(void **state)
{
    (void)state;
    static const char *const patterns[] = {"extra/*", "README.*", NULL}, *const none[] = {"*.none", NULL};
    bombus_hub_options options = make_options();
    char folder[512], target[100];
    options.patterns = patterns;
    CHECK_OK(resolve(&options, folder), error);
    check_content(folder, "extra/nested.json", nested_text, strlen(nested_text));
    check_content(folder, "README.md", nested_text, strlen(nested_text)); /* the same blob: fetched once */
    assert_int_equal(files[3].request_count + files[5].request_count, 1);
    assert_false(bb_file_exists(cache_path("snapshots/" COMMIT "/config.json")));
    ssize_t length = readlink(cache_path("snapshots/" COMMIT "/extra/nested.json"), target, sizeof target);
    assert_memory_equal(target, "../../../blobs/", 15);
    assert_int_equal(length, 15 + 40);
    options.patterns = none;
    assert_int_equal(resolve(&options, folder), BOMBUS_ERROR_NOT_FOUND);
    assert_non_null(strstr(error.message, "matches the patterns"));
    /* What was fetched so far is no model: it is completed. */
    options.patterns = NULL;
    CHECK_OK(resolve(&options, folder), error);
    check_content(folder, "model.safetensors", big, BIG_SIZE);
}

/* Each fault, a few times, and then the file arrives whole. */
static void test_recovers(void **state)
{
    (void)state;
    static const struct {
        enum hub_fault fault;
        int count, status;
        const char *headers;
        bool wants_range;
    } cases[] = {
        {HUB_FAULT_BREAK, 1, 0, NULL, true},
        {HUB_FAULT_BREAK, 3, 0, NULL, true},
        {HUB_FAULT_WRONG_BYTES, 2, 0, NULL, false},
        {HUB_FAULT_IGNORE_RANGE, 2, 0, NULL, true},
        {HUB_FAULT_WRONG_RANGE, 2, 0, NULL, true},
        {HUB_FAULT_TOO_LONG, 2, 0, NULL, false},
        {HUB_FAULT_TOO_SHORT, 2, 0, NULL, true},
        {HUB_FAULT_STALL, 1, 0, NULL, true},
        {HUB_FAULT_SILENT, 1, 0, NULL, false},
        {HUB_FAULT_STATUS, 3, 503, NULL, false},
        {HUB_FAULT_STATUS, 1, 429, "Retry-After: 0\r\n", false},
        {HUB_FAULT_STATUS, 1, 500, NULL, false},
        {HUB_FAULT_STATUS, 1, 416, NULL, false},
    };
    bombus_hub_options options = make_options();
    char folder[512];
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        scratch_remove(cache);
        files[2].fault = cases[i].fault;
        files[2].fault_count = cases[i].count;
        files[2].status = cases[i].status;
        files[2].headers = cases[i].headers;
        files[2].request_count = files[2].range_count = 0;
        if (resolve(&options, folder) != BOMBUS_OK)
            fail_msg("case %zu: %s", i, error.message);
        check_snapshot(folder);
        assert_true(files[2].request_count >= 2);
        assert_true((files[2].range_count > 0) == cases[i].wants_range);
    }
}

/* A server that asks for patience gets it. */
static void test_retry_after(void **state)
{
    (void)state;
    bombus_hub_options options = make_options();
    char folder[512];
    struct timespec before, after;
    files[2].fault = HUB_FAULT_STATUS;
    files[2].fault_count = 1;
    files[2].status = 429;
    files[2].headers = "Retry-After: 1\r\n";
    clock_gettime(CLOCK_MONOTONIC, &before);
    CHECK_OK(resolve(&options, folder), error);
    clock_gettime(CLOCK_MONOTONIC, &after);
    check_snapshot(folder);
    assert_true((double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec) >= 0.99);
}

/* The same, for the list of files. */
static void test_listing_recovers(void **state)
{
    (void)state;
    static const enum hub_fault faults[] = {HUB_FAULT_SILENT, HUB_FAULT_STATUS};
    bombus_hub_options options = make_options();
    char folder[512];
    files[0].status = 502;
    for (size_t i = 0; i < BB_COUNT(faults); i++) {
        scratch_remove(cache);
        files[0].fault = faults[i];
        files[0].fault_count = 1;
        CHECK_OK(resolve(&options, folder), error);
        check_snapshot(folder);
    }
}

static void test_gives_up(void **state)
{
    (void)state;
    static const struct {
        int file;
        enum hub_fault fault;
        int status, requests;
        const char *headers;
        bombus_status result;
        const char *says;
    } cases[] = {
        {2, HUB_FAULT_WRONG_BYTES, 0, 4, NULL, BOMBUS_ERROR_NETWORK, "the hub says"},
        {2, HUB_FAULT_TOO_LONG, 0, 4, NULL, BOMBUS_ERROR_NETWORK, "more than the file's 300001 bytes"},
        {2, HUB_FAULT_SILENT, 0, 4, NULL, BOMBUS_ERROR_NETWORK, "no byte came for too long"},
        {2, HUB_FAULT_REDIRECT_LOOP, 0, 11, NULL, BOMBUS_ERROR_NETWORK, "redirects"},
        {2, HUB_FAULT_STATUS, 404, 1, "X-Error-Message: gone\x1B[2J\r\n", BOMBUS_ERROR_NOT_FOUND, "gone?[2J"},
        {2, HUB_FAULT_STATUS, 503, 4, NULL, BOMBUS_ERROR_NETWORK, "answers 503"},
        {2, HUB_FAULT_STATUS, 429, 1, "Retry-After: 3600\r\n", BOMBUS_ERROR_NETWORK, "429: too many requests"},
        {2, HUB_FAULT_GARBAGE, 0, 1, NULL, BOMBUS_ERROR_NETWORK, "HTTP/0.9"},
        {0, HUB_FAULT_GARBAGE, 0, 1, NULL, BOMBUS_ERROR_NETWORK, "HTTP/0.9"},
        {2, HUB_FAULT_STATUS, 418, 1, NULL, BOMBUS_ERROR_NETWORK, "answers 418"},
        {0, HUB_FAULT_STATUS, 401, 1, "X-Error-Message: Invalid username or password.\r\n", BOMBUS_ERROR_NETWORK,
         "is the token set"},
        {0, HUB_FAULT_STATUS, 403, 1, NULL, BOMBUS_ERROR_NETWORK, "answers 403"},
        {0, HUB_FAULT_STATUS, 404, 1, "X-Error-Code: RevisionNotFound\r\n", BOMBUS_ERROR_NOT_FOUND, "RevisionNotFound"},
        {0, HUB_FAULT_STATUS, 503, 4, NULL, BOMBUS_ERROR_NETWORK, "answers 503"},
        {0, HUB_FAULT_REDIRECT_LOOP, 0, 11, NULL, BOMBUS_ERROR_NETWORK, "redirects"},
    };
    bombus_hub_options options = make_options();
    char folder[512];
    const int32_t patience = options.stall_timeout_ms;
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        struct hub_file *file = &files[cases[i].file];
        options.stall_timeout_ms = cases[i].fault == HUB_FAULT_SILENT ? 500 : patience; /* a busy machine's server is slow, not silent */
        scratch_remove(cache);
        hub_server_lock(&server); /* those that were given up may still be answered */
        files[0].fault_count = files[2].fault_count = file->request_count = 0;
        file->fault = cases[i].fault;
        file->fault_count = 1000;
        file->status = cases[i].status;
        file->headers = cases[i].headers;
        hub_server_unlock(&server);
        bombus_status status = resolve(&options, folder);
        hub_server_lock(&server);
        const int requests = file->request_count;
        file->fault_count = 0;
        hub_server_unlock(&server);
        if (status != cases[i].result || strstr(error.message, cases[i].says) == NULL || requests != cases[i].requests)
            fail_msg("case %zu: %s: %s; %d requests", i, bombus_status_name(status),
                     status != BOMBUS_OK ? error.message : "", requests);
        assert_false(bb_file_exists(cache_path("refs/main")));
        /* Nothing wrong is left over: the next try gets it whole. */
        options.stall_timeout_ms = patience;
        CHECK_OK(resolve(&options, folder), error);
        check_snapshot(folder);
    }
}

static void test_bad_listings(void **state)
{
    (void)state;
#define NAMED(name)                                                                                                    \
    "{\"sha\": \"" COMMIT "\", \"siblings\": [{\"rfilename\": \"" name "\", \"size\": 1, \"blobId\": \"" COMMIT "\"}]}"
    static const struct {
        const char *listing, *says;
    } cases[] = {
        {"", "no JSON"},
        {"<html>", "no JSON"},
        {"[]", "names no commit"},
        {"{\"siblings\": []}", "names no commit"},
        {"{\"sha\": \"\", \"siblings\": []}", "names no commit"},
        {"{\"sha\": \"..\", \"siblings\": []}", "names no commit"},
        {"{\"sha\": \"../../../../../../../../../../../../tmp\", \"siblings\": []}", "names no commit"},
        {"{\"sha\": \"" COMMIT "\", \"siblings\": {}}", "no files"},
        {"{\"sha\": \"" COMMIT "\", \"siblings\": [3]}", "unusable name"},
        {NAMED(""), "unusable name"},
        {NAMED("../x.json"), "unusable name '../x.json'"},
        {NAMED("a/../../x.json"), "unusable name"},
        {NAMED("a/./x.json"), "unusable name"},
        {NAMED("/etc/x.json"), "unusable name"},
        {NAMED("a//x.json"), "unusable name"},
        {NAMED("a/"), "unusable name"},
        {NAMED(".."), "unusable name"},
        {NAMED("a\\\\x.json"), "unusable name"},
        {NAMED("a\\u0000x.json"), "no JSON"},
        {NAMED("a\\nx.json"), "unusable name"},
        {NAMED("1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/x.json"), "unusable name"},
    };
    bombus_hub_options options = make_options();
    char folder[512];
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        server.listing = cases[i].listing;
        bombus_status status = resolve(&options, folder);
        if (status != BOMBUS_ERROR_NETWORK || strstr(error.message, cases[i].says) == NULL)
            fail_msg("%s: %s: %s", cases[i].listing, bombus_status_name(status), error.message);
    }
    char *long_listing = malloc((65 << 20) + 1);
    memset(long_listing, ' ', 65 << 20);
    long_listing[65 << 20] = '\0';
    server.listing = long_listing;
    assert_int_equal(resolve(&options, folder), BOMBUS_ERROR_NETWORK);
    assert_non_null(strstr(error.message, "longer than"));
    free(long_listing);
    server.listing = "{\"sha\": \"" COMMIT "\", \"siblings\": []}";
    assert_int_equal(resolve(&options, folder), BOMBUS_ERROR_NOT_FOUND);
}

/* A mirror whose listing has names alone: tags and sizes come from headers. */
static void test_headers_instead_of_digests(void **state)
{
    (void)state;
    bombus_hub_options options = make_options();
    char folder[512];
    server.has_no_digests = true;
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
    /* The hub answers HEAD by a redirect to storage, which is not followed: X-Linked-* say enough. */
    scratch_remove(cache);
    files[2].fault = HUB_FAULT_REDIRECT;
    files[2].fault_count = 2;
    files[2].redirect = "";
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
    scratch_remove(cache);
    files[1].fault = HUB_FAULT_REDIRECT_LOOP;
    files[1].fault_count = 1000;
    assert_int_equal(resolve(&options, folder), BOMBUS_ERROR_NETWORK);
    assert_non_null(strstr(error.message, "redirects"));
    /* One that tells nothing is followed to the end. */
    scratch_remove(cache);
    files[1].fault = HUB_FAULT_PLAIN_REDIRECT;
    files[1].redirect = "";
    files[1].fault_count = 3;
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
}

/* The token goes to the endpoint and nowhere else. */
static void test_redirects_and_token(void **state)
{
    (void)state;
    bombus_hub_options options = make_options();
    struct hub_server other = {.repository = server.repository,
                               .revision = server.revision,
                               .commit = COMMIT,
                               .files = files,
                               .file_count = 6};
    char folder[512], elsewhere[100];
    options.token = "secret";
    files[2].fault = HUB_FAULT_REDIRECT;
    files[2].fault_count = 1;
    files[2].redirect = ""; /* relative */
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
    assert_int_equal(server.stranger_count, 0);
    assert_true(server.token_count > 3);
    assert_true(hub_server_start(&other));
    snprintf(elsewhere, sizeof elsewhere, "http://localhost:%d", other.port);
    scratch_remove(cache);
    files[2].fault_count = 1;
    files[2].redirect = elsewhere;
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
    assert_int_equal(other.token_count, 0);
    assert_int_equal(other.stranger_count, 1);
    /* The same host under another port is another server, too. */
    snprintf(elsewhere, sizeof elsewhere, "http://127.0.0.1:%d", other.port);
    scratch_remove(cache);
    files[2].fault_count = 1;
    CHECK_OK(resolve(&options, folder), error);
    assert_int_equal(other.token_count, 0);
    assert_int_equal(other.stranger_count, 2);
    /* Other protocols are refused. */
    scratch_remove(cache);
    files[2].fault_count = 1;
    files[2].redirect = "file:///etc";
    assert_int_equal(resolve(&options, folder), BOMBUS_ERROR_NETWORK);
    hub_server_stop(&other);
}

static void test_cancel_and_resume(void **state)
{
    (void)state;
    bombus_hub_options options = make_options();
    char folder[512], name[100];
    for (int calls = 1;; calls++) {
        struct record record = {.cancel_after = calls};
        options.progress = note;
        options.progress_context = &record;
        scratch_remove(cache);
        bombus_status status = resolve(&options, folder);
        if (status == BOMBUS_OK) {
            assert_true(calls > 5);
            break;
        }
        assert_int_equal(status, BOMBUS_ERROR_CANCELLED);
        assert_false(bb_file_exists(cache_path("refs/main")));
    }
    scratch_remove(cache);
    options.progress = NULL;
    files[2].fault = HUB_FAULT_BREAK;
    files[2].fault_count = 1000;
    assert_int_equal(resolve(&options, folder), BOMBUS_ERROR_NETWORK);
    /* What came is kept, and the rest asked for by range. */
    snprintf(name, sizeof name, "blobs/%s.incomplete", big_tag);
    assert_true(bb_file_exists(cache_path(name)));
    files[2].fault_count = files[2].request_count = files[2].range_count = 0;
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
    assert_int_equal(files[2].request_count, 1);
    assert_int_equal(files[2].range_count, 1);
}

/* Leftovers of the .incomplete file that are wrong, too long, or whole already. */
static void test_leftovers(void **state)
{
    (void)state;
    bombus_hub_options options = make_options();
    char folder[512], name[200];
    static char longer[BIG_SIZE + 10];
    snprintf(name, sizeof name, "cache/" MODEL "/blobs/%s.incomplete", big_tag);
    scratch_write(name, "wrong", 5);
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
    scratch_remove(cache);
    scratch_write(name, longer, sizeof longer);
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
    scratch_remove(cache);
    files[2].request_count = 0;
    scratch_write(name, big, BIG_SIZE);
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
    assert_int_equal(files[2].request_count, 0);
    scratch_remove(cache);
    scratch_write(name, longer, BIG_SIZE);
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
    /* A blob of the wrong size is fetched again. */
    scratch_remove(cache);
    snprintf(name, sizeof name, "cache/" MODEL "/blobs/%s", big_tag);
    scratch_write(name, "short", 5);
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
}

/* Snapshots that other tools left: whole ones are used, those without weights or tokenizer are completed. */
static void test_other_tools_snapshots(void **state)
{
    (void)state;
    bombus_hub_options options = make_options();
    char folder[512];
#define SNAPSHOT "cache/" MODEL "/snapshots/" OTHER_COMMIT
    scratch_text("cache/" MODEL "/refs/main", OTHER_COMMIT "\n");
    scratch_text(SNAPSHOT "/config.json", "{}");
    scratch_text(SNAPSHOT "/tokenizer.json", "{}");
    scratch_text("cache/" MODEL "/blobs/x", "weights");
    assert_int_equal(symlink("../../blobs/x", scratch_path(SNAPSHOT "/model.safetensors")), 0);
    CHECK_OK(resolve(&options, folder), error);
    assert_string_equal(folder, scratch_path(SNAPSHOT));
    assert_int_equal(server.stranger_count, 0);
    scratch_remove(scratch_path("cache/" MODEL "/blobs/x")); /* a link to nothing */
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
    scratch_text("cache/" MODEL "/refs/main", OTHER_COMMIT);
    scratch_remove(scratch_path(SNAPSHOT "/model.safetensors"));
    scratch_text(SNAPSHOT "/model.safetensors.index.json",
                 "{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"2.safetensors\"}}");
    scratch_text(SNAPSHOT "/1.safetensors", "x");
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
    scratch_text("cache/" MODEL "/refs/main", OTHER_COMMIT);
    scratch_text(SNAPSHOT "/2.safetensors", "x");
    CHECK_OK(resolve(&options, folder), error);
    assert_string_equal(folder, scratch_path(SNAPSHOT));
    scratch_remove(scratch_path(SNAPSHOT "/tokenizer.json"));
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
    scratch_text("cache/" MODEL "/refs/main", OTHER_COMMIT);
    /* Offline a part is better than nothing: the tokenizer may be all that is wanted. */
    scratch_remove(scratch_path(SNAPSHOT "/2.safetensors"));
    options.is_offline = true;
    CHECK_OK(resolve(&options, folder), error);
    assert_string_equal(folder, scratch_path(SNAPSHOT));
}

/* While another process holds a blob's lock it is waited for. */
static void test_lock(void **state)
{
    (void)state;
    bombus_hub_options options = make_options();
    char folder[512], name[200];
    snprintf(name, sizeof name, "cache/.locks/" MODEL "/%s.lock", big_tag);
    const char *path = scratch_text(name, "");
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct timespec pause = {0, 400000000};
        int descriptor = open(path, O_RDWR);
        flock(descriptor, LOCK_EX);
        if (write(ready[1], "x", 1) != 1)
            _exit(1);
        nanosleep(&pause, NULL);
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    CHECK_OK(resolve(&options, folder), error);
    clock_gettime(CLOCK_MONOTONIC, &after);
    check_snapshot(folder);
    assert_int_equal(waitpid(child, NULL, 0), child);
    double seconds = (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
    assert_true(seconds > 0.3);
    close(ready[0]);
    close(ready[1]);
}

/* Two processes at once: both succeed, and the weights are fetched once. */
static void test_two_processes(void **state)
{
    (void)state;
    bombus_hub_options options = make_options();
    char folder[512];
    int result;
    options.retry_delay_ms = 50;
    files[2].fault = HUB_FAULT_BREAK;
    files[2].fault_count = 2;
    pid_t child = fork();
    if (child == 0) {
        char *found;
        _exit(bb_hub_resolve(&found, "bee/tiny", &options, NULL) == BOMBUS_OK ? 0 : 1);
    }
    CHECK_OK(resolve(&options, folder), error);
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    check_snapshot(folder);
    hub_server_lock(&server); /* the other process's connection may still be open */
    const int requests = files[2].request_count;
    hub_server_unlock(&server);
    assert_int_equal(requests, 3);
}

static void test_full_disk(void **state)
{
    (void)state;
    bombus_hub_options options = make_options();
    char folder[512];
    struct rlimit before, tiny;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tiny = before;
    tiny.rlim_cur = 100000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
    bombus_status status = resolve(&options, folder);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(status, BOMBUS_ERROR_IO);
    assert_non_null(strstr(error.message, "cannot write"));
    assert_false(bb_file_exists(cache_path("refs/main")));
    CHECK_OK(resolve(&options, folder), error);
    check_snapshot(folder);
    /* A file that no disk holds is refused before a byte is asked for. */
    char listing[500];
    snprintf(listing, sizeof listing,
             "{\"sha\": \"" OTHER_COMMIT
             "\", \"siblings\": [{\"rfilename\": \"x.json\", \"size\": 1000000000000000000, \"blobId\": \"%s\"}]}",
             COMMIT);
    server.listing = listing;
    options.check_revision = true;
    assert_int_equal(resolve(&options, folder), BOMBUS_ERROR_IO);
    assert_non_null(strstr(error.message, "MB free"));
    /* A cache that cannot be written. */
    options.cache_folder = "/dev/null";
    server.listing = NULL;
    assert_int_equal(resolve(&options, folder), BOMBUS_ERROR_IO);
}

static void test_no_server(void **state)
{
    (void)state;
    bombus_hub_options options = make_options();
    char folder[512];
    options.endpoint = "http://127.0.0.1:1";
    options.retry_count = 1;
    assert_int_equal(resolve(&options, folder), BOMBUS_ERROR_NETWORK);
    options.endpoint = "http://no-such-host.invalid";
    assert_int_equal(resolve(&options, folder), BOMBUS_ERROR_NETWORK);
    options.endpoint = endpoint;
    options.proxy = "http://127.0.0.1:1";
    assert_int_equal(resolve(&options, folder), BOMBUS_ERROR_NETWORK);
    options.no_proxy = "127.0.0.1";
    CHECK_OK(resolve(&options, folder), error);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    bombus_hub_options options = make_options();
    char *folder = NULL;
    uint64_t i = 1;
    for (;; i++) {
        scratch_remove(cache);
        bb_memory_fail_at(i, false);
        bombus_status status = bb_hub_resolve(&folder, "bee/tiny", &options, &error);
        bb_memory_fail_at(0, false);
        if (status == BOMBUS_OK)
            break;
        assert_int_equal(status, BOMBUS_ERROR_MEMORY);
        assert_null(folder);
    }
    assert_true(i > 10);
    bb_release(folder);
}

#define HUB_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        HUB_TEST(test_digests),
        HUB_TEST(test_references),
        HUB_TEST(test_download_and_cache),
        HUB_TEST(test_patterns),
        HUB_TEST(test_recovers),
        HUB_TEST(test_retry_after),
        HUB_TEST(test_listing_recovers),
        HUB_TEST(test_gives_up),
        HUB_TEST(test_bad_listings),
        HUB_TEST(test_headers_instead_of_digests),
        HUB_TEST(test_redirects_and_token),
        HUB_TEST(test_cancel_and_resume),
        HUB_TEST(test_leftovers),
        HUB_TEST(test_other_tools_snapshots),
        HUB_TEST(test_lock),
        HUB_TEST(test_two_processes),
        HUB_TEST(test_full_disk),
        HUB_TEST(test_no_server),
        HUB_TEST(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
