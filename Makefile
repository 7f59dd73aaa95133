# bombus: `make` builds the library and the command, `make demo` shows them, `make check` tests them, `make help` lists the rest.

BUILD ?= release
PREFIX ?= /usr/local
CC := $(if $(filter default,$(origin CC)),cc,$(CC))
PKG_CONFIG ?= pkg-config
# CROSS=aarch64-linux-gnu builds with that prefix's compiler, looks for that machine's libraries and runs tests under qemu.
ifdef CROSS
CC := $(CROSS)-gcc
AR := $(CROSS)-ar
PKG_CONFIG := PKG_CONFIG_LIBDIR=/usr/lib/$(CROSS)/pkgconfig $(PKG_CONFIG)
RUN := qemu-$(firstword $(subst -, ,$(CROSS)))$(if $(wildcard /lib/ld-linux-$(firstword $(subst -, ,$(CROSS))).so.1),, -L /usr/$(CROSS))
endif
OUT := build/$(BUILD)$(if $(CROSS),-$(CROSS))
MACHINE := $(shell $(CC) -dumpmachine 2>/dev/null)
VERSION := $(shell sed -n 's/^.define BOMBUS_VERSION "\(.*\)"/\1/p' include/bombus.h)
SONAME := libbombus.so.$(firstword $(subst ., ,$(VERSION)))

WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wdouble-promotion -Wmissing-prototypes -Wvla -Wundef -Wstrict-prototypes \
  $(if $(WERROR),-Werror)
OPTIMIZE_release := -O3 -g1 -DNDEBUG
OPTIMIZE_debug := -O0 -g3
OPTIMIZE_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPTIMIZE_tsan := -O1 -g -fsanitize=thread
# Kernels are most of the time that sanitized tests take; but matvec.c, a form for each scheme and number of rows, compiles twice as long so.
KERNEL_OPTIMIZE_asan := -O2
KERNEL_OPTIMIZE_tsan := -O2
# What is fuzzed reads files and text; kernels, which compile for many minutes with clang's sanitizers, are sanitized in the tests.
KERNEL_OPTIMIZE_fuzz := -fno-sanitize=all
OPTIMIZE_fuzz := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
LIBRARIES := jansson libpcre2-8 libutf8proc libcurl libcrypto yaml-0.1
# Set-up comes before the build (make demo, make check), so that a missing library is said once, with its install line.
LIBRARY_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(LIBRARIES) 2>/dev/null)
LIBRARY_LIBS := $(shell $(PKG_CONFIG) --libs $(LIBRARIES) 2>/dev/null)
MPI := $(shell for name in ompi-c mpich; do $(PKG_CONFIG) --exists $$name 2>/dev/null && echo $$name && break; done)
MPI_LIBS := $(if $(MPI),$(shell $(PKG_CONFIG) --libs $(MPI)))
EDIT_LIBS := $(shell $(PKG_CONFIG) --libs libedit 2>/dev/null)
BASE_FLAGS := -std=c17 -ffp-contract=off -D_DEFAULT_SOURCE -D_POSIX_C_SOURCE=200809L -fPIC -fvisibility=hidden -pthread -Iinclude -Isrc -MMD -MP $(WARNINGS) $(OPTIMIZE_$(BUILD))
ALL_CFLAGS = $(BASE_FLAGS) $(LIBRARY_CFLAGS) $(CFLAGS)
ALL_LIBS = $(LIBRARY_LIBS) -lm -pthread $(LDLIBS)

# Kernels: one folder an instruction set, built only for its architecture; chosen at run time (src/backend/cpu/kernels/kernels.c).
KERNEL_LEVELS := reference $(if $(filter x86_64%,$(MACHINE)),avx2 avx512 avx512_bf16) $(if $(filter aarch64% arm64%,$(MACHINE)),neon neon_dot neon_i8mm)
KERNEL_FLAGS_avx2 := -mavx2 -mfma -mf16c -mbmi2
KERNEL_FLAGS_avx512 := $(KERNEL_FLAGS_avx2) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vbmi -mprefer-vector-width=512
KERNEL_FLAGS_avx512_bf16 := $(KERNEL_FLAGS_avx512) -mavx512bf16
KERNEL_FLAGS_neon_dot := -march=armv8.2-a+dotprod
KERNEL_FLAGS_neon_i8mm := -march=armv8.2-a+dotprod+i8mm

SOURCES := $(filter-out src/backend/cpu/kernels/%,$(wildcard src/*/*.c src/*/*/*.c)) src/backend/cpu/kernels/kernels.c \
  $(foreach level,$(KERNEL_LEVELS),$(wildcard src/backend/cpu/kernels/$(level)/*.c))
SOURCES := $(filter-out src/backend/cuda/%,$(sort $(wildcard $(SOURCES))))
OBJECTS := $(SOURCES:%.c=$(OUT)/%.o)
CLI_OBJECTS := $(patsubst %.c,$(OUT)/%.o,$(wildcard cli/*.c cli/commands/*.c))
TESTS := $(patsubst tests/%.c,$(OUT)/tests/%,$(wildcard tests/test_*.c))
EXAMPLES := $(patsubst docs/examples/%.c,$(OUT)/examples/%,$(wildcard docs/examples/*.c))
FUZZERS := $(patsubst fuzz/fuzz_%.c,%,$(wildcard fuzz/fuzz_*.c))
COMMANDS := $(patsubst cli/commands/%.c,%,$(wildcard cli/commands/*.c))
SECONDS ?= 60
JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)

say = @$(if $(V),,echo '  $(1)';)$(if $(V),set -x;)

all: lib $(if $(CLI_OBJECTS),$(OUT)/bombus)               ## library and command (the default)
lib: $(OUT)/libbombus.so $(OUT)/libbombus.a               ## libbombus.so and libbombus.a

$(OUT)/src/backend/cpu/kernels/%.o: KERNEL_OPTIMIZE := $(KERNEL_OPTIMIZE_$(BUILD))
$(OUT)/src/backend/cpu/kernels/%/matvec.o: KERNEL_OPTIMIZE := $(KERNEL_OPTIMIZE_$(BUILD):-O2=)
$(OUT)/src/backend/cpu/kernels/avx2/%.o: KERNEL_FLAGS := $(KERNEL_FLAGS_avx2)
$(OUT)/src/backend/cpu/kernels/avx512/%.o: KERNEL_FLAGS := $(KERNEL_FLAGS_avx512)
$(OUT)/src/backend/cpu/kernels/avx512_bf16/%.o: KERNEL_FLAGS := $(KERNEL_FLAGS_avx512_bf16)
$(OUT)/src/backend/cpu/kernels/neon_dot/%.o: KERNEL_FLAGS := $(KERNEL_FLAGS_neon_dot)
$(OUT)/src/backend/cpu/kernels/neon_i8mm/%.o: KERNEL_FLAGS := $(KERNEL_FLAGS_neon_i8mm)
$(OUT)/cli/%.o $(OUT)/tests/%.o: FOLDER_FLAGS := -I.
$(OUT)/cli/commands/chat.o: FOLDER_FLAGS := -I. $(if $(EDIT_LIBS),-DHAVE_LIBEDIT=1,-DHAVE_LIBEDIT=0)
$(OUT)/cli/process_group.o: FOLDER_FLAGS := -I. $(if $(MPI),-DHAVE_MPI=1 $(shell $(PKG_CONFIG) --cflags-only-I $(MPI) | sed 's/-I/-isystem /g'),-DHAVE_MPI=0)

$(OUT)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,cc $<) $(CC) $(ALL_CFLAGS) $(FOLDER_FLAGS) $(KERNEL_FLAGS) $(KERNEL_OPTIMIZE) -c -o $@ $<
$(OUT)/libbombus.a: $(OBJECTS)
	@rm -f $@
	@$(AR) rcs $@ $^
$(OUT)/libbombus.so: $(OBJECTS)
	$(call say,link $@) $(CC) $(ALL_CFLAGS) -shared -Wl,-soname,$(SONAME) -o $@ $^ $(LDFLAGS) $(ALL_LIBS)
$(OUT)/libcli.a: $(filter-out %/main.o,$(CLI_OBJECTS))
	@rm -f $@
	@$(AR) rcs $@ $^
$(OUT)/bombus: $(OUT)/cli/main.o $(OUT)/libcli.a $(OUT)/libbombus.a
	$(call say,link $@) $(CC) $(ALL_CFLAGS) -o $@ $^ $(LDFLAGS) $(EDIT_LIBS) $(MPI_LIBS) $(ALL_LIBS)
# Tests of the command's own parts (options) find them in libcli.a; the linker takes nothing else from it.
$(OUT)/tests/%: $(OUT)/tests/%.o $(OUT)/libcli.a $(OUT)/libbombus.a
	$(call say,link $@) $(CC) $(ALL_CFLAGS) -o $@ $^ $(LDFLAGS) -lcmocka $(EDIT_LIBS) $(MPI_LIBS) $(ALL_LIBS)
$(OUT)/tests/test_hub: $(OUT)/tests/hub_server.o
$(OUT)/tests/test_cli $(OUT)/tests/test_adapter_cli $(OUT)/tests/test_train $(OUT)/tests/test_train_modes $(OUT)/tests/test_mpi: | $(OUT)/bombus
# Examples are built as a user would: the public header and the shared library.
$(OUT)/examples/%: docs/examples/%.c $(OUT)/libbombus.so include/bombus.h
	@mkdir -p $(@D)
	@ln -sf ../libbombus.so $(@D)/$(SONAME)
	$(call say,link $@) $(CC) -std=c17 $(WARNINGS) $(OPTIMIZE_$(BUILD)) $(CFLAGS) -Iinclude -o $@ $< -L$(OUT) -lbombus -Wl,-rpath,'$$ORIGIN'
$(OUT)/tools/%: tools/%.c $(OUT)/libbombus.a
	@mkdir -p $(@D)
	$(call say,link $@) $(CC) $(ALL_CFLAGS) -Itests -o $@ $^ $(LDFLAGS) $(ALL_LIBS)
$(OUT)/bench/%: bench/%.c $(OUT)/libbombus.a
	@mkdir -p $(@D)
	$(call say,link $@) $(CC) $(ALL_CFLAGS) -o $@ $^ $(LDFLAGS) $(ALL_LIBS)

# ---- tests ----
ARM64_TESTS := $(filter $(addprefix %/test_,base quant linear low_rank gradients backends ops threads sampler),$(TESTS))
tests: $(TESTS) $(EXAMPLES)                               ## build all tests and examples
test: tests                                               ## run them; make test-NAME runs tests/test_NAME.c
	@JOBS=$(JOBS) tools/run_tests $(TESTS) $(EXAMPLES)
test-%: $(OUT)/tests/test_%
	$(RUN) $<
# test_mpi stays out of what is sanitized: Open MPI itself leaks, and takes its locks in two orders.
check:                                                    ## set up, lint, tests, tests with sanitizers, arm64: within ten minutes
	@tools/setup check
	@$(MAKE) --no-print-directory -j$(JOBS) check-built
check-built: all tests
	@$(MAKE) --no-print-directory -s BUILD=asan all tests
	@JOBS=$(JOBS) tools/run_tests 'lint=$(MAKE) -s lint' $(TESTS) $(EXAMPLES) $(subst $(OUT),build/asan,$(filter-out %/test_mpi,$(TESTS))) 'arm64=tools/check_arm64' 'elixir=tools/check_elixir'
arm64-tests: $(ARM64_TESTS)
	@JOBS=$(JOBS) tools/run_tests $(foreach test,$(ARM64_TESTS),'$(notdir $(test))=$(RUN) $(test)')
HAS_CLANG := $(shell command -v clang 2>/dev/null)
check-long: check                                         ## check, then threads (tsan), each fuzz target for SECONDS, the .deb
	@$(MAKE) --no-print-directory -s -j$(JOBS) BUILD=tsan all tests
	@$(if $(HAS_CLANG),$(MAKE) --no-print-directory -s -j$(JOBS) BUILD=fuzz CC=clang $(FUZZERS:%=build/fuzz/fuzz/fuzz_%))
	@JOBS=$(JOBS) tools/run_tests $(subst $(OUT),build/tsan,$(filter-out %/test_mpi,$(TESTS))) 'package=tools/check_deb' \
	  $(if $(HAS_CLANG),$(foreach name,$(FUZZERS),'fuzz-$(name)=$(MAKE) -s fuzz-$(name)'),'fuzz=echo "skipped: clang is not installed"; exit 77')
lint: $(OUT)/libbombus.so                                 ## layers, headers alone, exported symbols, file lengths
	@tools/check_layers
	@tools/check_headers $(CC) $(BASE_FLAGS) $(LIBRARY_CFLAGS)
	@tools/check_symbols $(OUT)/libbombus.so include/bombus.h
	@tools/check_lengths
tidy:                                                     ## clang-tidy over everything (slow)
	clang-tidy --quiet $(SOURCES) $(wildcard cli/*.c cli/commands/*.c) -- $(BASE_FLAGS) $(LIBRARY_CFLAGS) -I.
format:                                                   ## clang-format, in place
	clang-format -i $(shell git ls-files '*.c' '*.h')

# ---- fuzzing: clang's libFuzzer with sanitizers; SECONDS=60 ----
fuzz: $(addprefix fuzz-,$(FUZZERS))                       ## every fuzz target for SECONDS; make fuzz-NAME runs one
fuzz-%:
	@$(MAKE) --no-print-directory BUILD=fuzz CC=clang build/fuzz/fuzz/fuzz_$*
	@mkdir -p build/fuzz/corpus/$* fuzz/seeds/$*
	build/fuzz/fuzz/fuzz_$* -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 -artifact_prefix=build/fuzz/ build/fuzz/corpus/$* fuzz/seeds/$*
build/fuzz/fuzz/fuzz_%: build/fuzz/fuzz/fuzz_%.o $(OUT)/libbombus.a
	$(call say,link $@) $(CC) $(ALL_CFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDFLAGS) $(ALL_LIBS)

# ---- what people run ----
demo:                                                     ## set up, build, and write a story with the default model
	@tools/setup build
	@$(MAKE) --no-print-directory -j$(JOBS) all
	$(OUT)/bombus generate --seed 26 "Write a story about a fox"
bench: all                                                ## speed of the default model, beside the machine's read bandwidth
	$(OUT)/bombus bench
parity: $(OUT)/tools/parity_models $(addprefix $(OUT)/tests/test_,tokenizer template sampler quant) ## compare with the reference data; writes docs/parity.md
	@tools/parity $(OUT)

# ---- documents and packages ----
docs: man completions                                     ## man pages and completions, made from the option tables
man: $(OUT)/bombus
	@mkdir -p $(OUT)/man
	@$(RUN) $(OUT)/bombus --man > $(OUT)/man/bombus.1
	@for name in $(COMMANDS); do $(RUN) $(OUT)/bombus --man $$name > $(OUT)/man/bombus-$$name.1 || exit 1; done
completions: $(OUT)/bombus
	@mkdir -p $(OUT)/completions
	@for shell in bash zsh fish; do $(RUN) $(OUT)/bombus --completion $$shell > $(OUT)/completions/bombus.$$shell || exit 1; done
install: all docs                                         ## into PREFIX (default /usr/local), below DESTDIR
	@tools/install $(OUT) $(VERSION) $(SONAME) $(PREFIX)
uninstall:                                                ## what install put there
	@tools/install --uninstall $(VERSION) $(SONAME) $(PREFIX)
deb: all docs                                             ## build/bombus_VERSION_ARCH.deb
	@tools/make_deb $(OUT) $(VERSION) $(SONAME)
clean:                                                    ## remove build/
	rm -rf build
help:                                                     ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22
	@echo '  BUILD=release|debug|asan|tsan  CC=  CFLAGS=  WERROR=1  V=1  CROSS=aarch64-linux-gnu  PREFIX=  DESTDIR='

.PHONY: all lib tests test arm64-tests check check-built check-long lint tidy format fuzz demo bench parity docs man completions install uninstall deb clean help
.SECONDARY:
-include $(shell find build -name '*.d' 2>/dev/null)
