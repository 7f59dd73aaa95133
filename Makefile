# bombus: `make` builds the library and the command, `make demo` shows them, `make check` tests them, `make help` lists the rest.

BUILD ?= release
PREFIX ?= /usr/local
CC := $(if $(filter default,$(origin CC)),cc,$(CC))
PKG_CONFIG ?= pkg-config
OUT := build/$(BUILD)$(if $(CROSS),-$(CROSS))
MACHINE := $(shell $(CC) -dumpmachine)

WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wdouble-promotion -Wmissing-prototypes -Wvla -Wundef -Wstrict-prototypes \
  $(if $(WERROR),-Werror)
OPTIMIZE_release := -O3 -g1 -DNDEBUG
OPTIMIZE_debug := -O0 -g3
OPTIMIZE_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPTIMIZE_tsan := -O1 -g -fsanitize=thread
LIBRARIES := jansson libpcre2-8 libutf8proc libcurl
# Set-up comes before the build (make demo, make check), so that a missing library is said once, with its install line.
LIBRARY_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(LIBRARIES) 2>/dev/null)
LIBRARY_LIBS := $(shell $(PKG_CONFIG) --libs $(LIBRARIES) 2>/dev/null)
BASE_FLAGS := -std=c17 -D_DEFAULT_SOURCE -D_POSIX_C_SOURCE=200809L -fPIC -fvisibility=hidden -pthread -Iinclude -Isrc -MMD -MP $(WARNINGS) $(OPTIMIZE_$(BUILD))
ALL_CFLAGS = $(BASE_FLAGS) $(LIBRARY_CFLAGS) $(CFLAGS)
ALL_LIBS = $(LIBRARY_LIBS) -lm -pthread $(LDLIBS)

# Kernels: one folder an instruction set, built only for its architecture; chosen at run time (src/backend/cpu/kernels/kernels.c).
KERNEL_LEVELS := reference $(if $(filter x86_64%,$(MACHINE)),avx2 avx512) $(if $(filter aarch64% arm64%,$(MACHINE)),neon)
KERNEL_FLAGS_avx2 := -mavx2 -mfma -mf16c
KERNEL_FLAGS_avx512 := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mprefer-vector-width=512
KERNEL_FLAGS_neon := $(if $(filter aarch64%,$(MACHINE)),-march=armv8.2-a+dotprod+i8mm)

SOURCES := $(filter-out src/backend/cpu/kernels/%,$(wildcard src/*/*.c src/*/*/*.c)) src/backend/cpu/kernels/kernels.c \
  $(foreach level,$(KERNEL_LEVELS),$(wildcard src/backend/cpu/kernels/$(level)/*.c))
SOURCES := $(filter-out src/backend/cuda/%,$(sort $(wildcard $(SOURCES))))
OBJECTS := $(SOURCES:%.c=$(OUT)/%.o)
CLI_OBJECTS := $(patsubst %.c,$(OUT)/%.o,$(wildcard cli/*.c cli/commands/*.c))
TESTS := $(patsubst tests/%.c,$(OUT)/tests/%,$(wildcard tests/test_*.c))

say = @$(if $(V),,echo '  $(1)';)$(if $(V),set -x;)

all: $(OUT)/bombus $(OUT)/libbombus.so $(OUT)/libbombus.a
lib: $(OUT)/libbombus.so $(OUT)/libbombus.a

$(OUT)/src/backend/cpu/kernels/avx2/%.o: KERNEL_FLAGS := $(KERNEL_FLAGS_avx2)
$(OUT)/src/backend/cpu/kernels/avx512/%.o: KERNEL_FLAGS := $(KERNEL_FLAGS_avx512)
$(OUT)/src/backend/cpu/kernels/neon/%.o: KERNEL_FLAGS := $(KERNEL_FLAGS_neon)

$(OUT)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,cc $<) $(CC) $(ALL_CFLAGS) $(KERNEL_FLAGS) -c -o $@ $<
$(OUT)/libbombus.a: $(OBJECTS)
	@rm -f $@
	@$(AR) rcs $@ $^
$(OUT)/libbombus.so: $(OBJECTS)
	$(call say,link $@) $(CC) $(ALL_CFLAGS) -shared -Wl,-soname,libbombus.so.0 -o $@ $^ $(LDFLAGS) $(ALL_LIBS)
$(OUT)/bombus: $(CLI_OBJECTS) $(OUT)/libbombus.a
	$(call say,link $@) $(CC) $(ALL_CFLAGS) -o $@ $^ $(LDFLAGS) $(shell $(PKG_CONFIG) --libs libedit 2>/dev/null) $(ALL_LIBS)
$(OUT)/tests/%: $(OUT)/tests/%.o $(OUT)/libbombus.a
	$(call say,link $@) $(CC) $(ALL_CFLAGS) -o $@ $^ $(LDFLAGS) -lcmocka $(ALL_LIBS)

# make test: every tests/test_*.c; make test-NAME: one.
test: $(TESTS)
	@set -e; for t in $(TESTS); do echo "== $$t"; $$t; done
test-%: $(OUT)/tests/test_%
	$<

clean:
	rm -rf build

.PHONY: all lib test clean
.SECONDARY:
-include $(shell find build -name '*.d' 2>/dev/null)
