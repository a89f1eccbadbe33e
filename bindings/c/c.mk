# The C side of the Makefile: header, library, examples. Included by the Makefile at the top, whose
# `help` lists the targets below by their comments.

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DESTDIR ?=

CARGO ?= cargo
C_TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
C_VERSION := $(shell sed -n '/^\[workspace.package\]/,/^\[package\]/s/^version = "\(.*\)"/\1/p' Cargo.toml)
C_ABI := $(shell sed -n 's/^const ABI_VERSION: &str = "\(.*\)";/\1/p' build.rs)
C_WARNINGS := -Wall -Wextra -Wpedantic -Werror
C_EXAMPLES := $(patsubst c_examples/%.c,$(C_TARGET_DIR)/c_examples/%,$(wildcard c_examples/*.c))
KVSTORE := $(addprefix $(C_TARGET_DIR)/c_examples/kvstore/,server node client)
TRACKER := $(addprefix $(C_TARGET_DIR)/c_examples/tracker/,mainServer server client)

# Another version of cbindgen writes another text. The unoptimised build takes a fraction of the
# time to make and makes the header in less than a second.
CBINDGEN_VERSION := 0.29.4
CBINDGEN := $(C_TARGET_DIR)/tools/cbindgen-$(CBINDGEN_VERSION)/bin/cbindgen

.PHONY: header header-check lib examples install uninstall check-c

$(CBINDGEN):
	$(CARGO) install cbindgen --version $(CBINDGEN_VERSION) --locked --debug --quiet \
		--root $(C_TARGET_DIR)/tools/cbindgen-$(CBINDGEN_VERSION)

header: $(CBINDGEN) ## Generate include/ringkv.h from src/ffi
	$(CBINDGEN) --quiet --config cbindgen.toml --output include/ringkv.h src/ffi/mod.rs

header-check: $(CBINDGEN) ## Fail if include/ringkv.h is not what src/ffi says
	@$(CBINDGEN) --quiet --config cbindgen.toml --output $(C_TARGET_DIR)/ringkv.h src/ffi/mod.rs
	@diff -u include/ringkv.h $(C_TARGET_DIR)/ringkv.h \
		|| { echo 'include/ringkv.h is stale: run "make header"' >&2; exit 1; }

# The libraries do not need what only the command line uses. Shared and static library are one run
# of the compiler, which also tells what a static link needs.
lib: ## Build libringkv.so and libringkv.a (release)
	@mkdir -p $(C_TARGET_DIR)
	@$(CARGO) rustc --release --lib --no-default-features --crate-type cdylib,staticlib \
		-- --print native-static-libs=$(abspath $(C_TARGET_DIR))/native-static-libs
	@ln -sf libringkv.so $(C_TARGET_DIR)/release/libringkv.so.$(C_ABI)

$(C_TARGET_DIR)/c_examples/%: c_examples/%.c include/ringkv.h | lib
	$(compile-c)

$(C_TARGET_DIR)/c_examples/kvstore/%: $(addprefix c_examples/kvstore/,%.c kvstore.c kvstore.h) \
		include/ringkv.h | lib
	$(compile-c)

$(C_TARGET_DIR)/c_examples/tracker/%: \
		$(addprefix c_examples/tracker/,%.c tracker.c table.c tracker.h table.h) \
		include/ringkv.h | lib
	$(compile-c)

define compile-c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_POSIX_C_SOURCE=200809L -O2 $(C_WARNINGS) $(CFLAGS) -Iinclude \
		$(filter %.c,$^) -o $@ -pthread -L$(C_TARGET_DIR)/release -lringkv \
		-Wl,-rpath,$(abspath $(C_TARGET_DIR))/release $(LDFLAGS)
endef

examples: $(C_EXAMPLES) $(KVSTORE) $(TRACKER) ## Build the C programs of c_examples/

install: lib ## Install library, header and pkg-config file (PREFIX=, LIBDIR=, INCLUDEDIR=, DESTDIR=)
	install -d "$(DESTDIR)$(LIBDIR)/pkgconfig" "$(DESTDIR)$(INCLUDEDIR)"
	install -m 755 $(C_TARGET_DIR)/release/libringkv.so "$(DESTDIR)$(LIBDIR)/libringkv.so.$(C_VERSION)"
	ln -sf libringkv.so.$(C_VERSION) "$(DESTDIR)$(LIBDIR)/libringkv.so.$(C_ABI)"
	ln -sf libringkv.so.$(C_ABI) "$(DESTDIR)$(LIBDIR)/libringkv.so"
	install -m 644 $(C_TARGET_DIR)/release/libringkv.a "$(DESTDIR)$(LIBDIR)/libringkv.a"
	install -m 644 include/ringkv.h "$(DESTDIR)$(INCLUDEDIR)/ringkv.h"
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
		-e 's|@VERSION@|$(C_VERSION)|' \
		-e "s|@LIBS_PRIVATE@|$$(cat $(C_TARGET_DIR)/native-static-libs)|" \
		bindings/c/ringkv.pc.in > "$(DESTDIR)$(LIBDIR)/pkgconfig/ringkv.pc"

uninstall: ## Remove what install put there
	cd "$(DESTDIR)$(LIBDIR)" && rm -f libringkv.so.$(C_VERSION) libringkv.so.$(C_ABI) libringkv.so \
		libringkv.a pkgconfig/ringkv.pc
	rm -f "$(DESTDIR)$(INCLUDEDIR)/ringkv.h"

check-c: header-check ## Test the C interface: header, exports, layout, programs, installed files
	$(CARGO) test --test c_api
	bindings/c/check-install.sh "$(MAKE)" "$(C_TARGET_DIR)"
