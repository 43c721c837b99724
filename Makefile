# `make test` is everything; build servers run just that. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# What the tests run beside cargo, as command:Debian-package.
TOOLS := cc:gcc curl:curl openssl:openssl promtool:prometheus javac:default-jdk-headless go:golang-go \
	python3:python3 tshark:tshark dumpcap:wireshark-common valgrind:valgrind node:nodejs \
	gnutls-cli:gnutls-bin tstclnt:libnss3-tools certutil:libnss3-tools buildah:buildah \
	ip:iproute2 kill:procps mount:mount nft:nftables nsenter:util-linux setpriv:util-linux unshare:util-linux

# sslyze, tlslite-ng and nassl are Python programs in environments of their own (tests/it/python.rs); Debian has that part
# of Python apart.
PYTHON_VENV := python3 -c 'import ensurepip, venv' 2>/dev/null

# The control plane of the end-to-end tests is built with the version of Go that e2e/go.mod names. Go fetches it by
# itself from 1.21 on, and has the variable GOTOOLCHAIN since then; the one of Debian 12 is older.
GO_FETCHES := test -n "$$(GOTOOLCHAIN= go env GOTOOLCHAIN 2>/dev/null)"

# The triple of this machine.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

.PHONY: help test needs static fmt clippy unit doc deny soak fuzz corpus demo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## everything: tools, format, lints, tests, documentation, licences, bans and sources
	@$(MAKE) --no-print-directory needs
	@$(MAKE) --no-print-directory fmt
	@$(MAKE) --no-print-directory clippy
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory doc
	@$(MAKE) --no-print-directory deny
	@echo "make test: all is well"

needs: ## install the tools that the tests run, or say what is missing
	@packages=""; \
	for tool in $(TOOLS); do \
		command -v "$${tool%%:*}" >/dev/null || packages="$$packages $${tool##*:}"; \
	done; \
	$(PYTHON_VENV) || packages="$$packages python3-venv"; \
	if [ -n "$$packages" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing:$$packages"; \
		export DEBIAN_FRONTEND=noninteractive; \
		{ apt-get update -q && apt-get install -q -y --no-install-recommends $$packages; } \
			|| echo "*** apt-get could not install:$$packages"; \
	fi; \
	for tool in $(TOOLS); do \
		command -v "$${tool%%:*}" >/dev/null \
			|| echo "*** MISSING: $${tool%%:*}. Install it (Debian package $${tool##*:}): tests that run it cannot pass."; \
	done; \
	$(PYTHON_VENV) || echo "*** MISSING: venv of python3. Install it (Debian package python3-venv): tests that run sslyze or old clients cannot pass."
	@$(GO_FETCHES) \
		|| echo "*** TOO OLD: go. The end-to-end tests need 1.21 or newer: apt-get install -t bookworm-backports golang-go, or https://go.dev/dl"
	@cargo fmt --version >/dev/null 2>&1 || echo "*** MISSING: rustfmt. Install it: rustup component add rustfmt"
	@cargo clippy --version >/dev/null 2>&1 || echo "*** MISSING: clippy. Install it: rustup component add clippy"

fmt: ## check the format
	cargo fmt --check

clippy: ## lints, warnings as errors
	cargo clippy --locked --all-targets -- -D warnings

static: ## build the static binary: what images hold, and what pods of the end-to-end tests run
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target $(HOST)

unit: static ## unit, integration, end-to-end and documentation tests
	HANDFAST_OPTIMIZED=1 cargo test --locked

doc: ## documentation, warnings as errors
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

deny: ## licences, bans and sources
	@if command -v cargo-deny >/dev/null; then \
		set -x; cargo deny --locked check licenses bans sources; \
	else \
		echo "*** cargo-deny is not installed: the tests over Cargo.lock, cargo metadata and cargo tree have held the"; \
		echo "*** same rules (tests/it/tidy/dependencies.rs). To have both: cargo install --locked cargo-deny"; \
	fi

soak: needs static ## the tests again with their long sizes and durations
	HANDFAST_SOAK=1 HANDFAST_OPTIMIZED=1 cargo test --locked --release -- --include-ignored

# How long each target is fuzzed, in seconds.
FUZZ_TIME := 600
FUZZ_TARGETS := hello driver admission
# Coverage for libFuzzer and AddressSanitizer, as `cargo fuzz` asks for them. A stable compiler has both and shows only
# the first; the variable makes it show the second. Only the binaries that fuzz are built so.
FUZZ_FLAGS := -Zsanitizer=address -Ccodegen-units=1 -Cpasses=sancov-module \
	-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
FUZZ_LIMITS := -timeout=10 -rss_limit_mb=1024 -detect_leaks=1

FUZZ_BIN = target/fuzz/$(HOST)/release

# Builds the binaries, and writes the inputs that they begin with to target/fuzz/seeds.
define fuzz_build
	rm -rf target/fuzz/seeds
	HANDFAST_FUZZ_SEEDS=$(CURDIR)/target/fuzz/seeds cargo test --locked --test it fuzz::seeds
	cp Cargo.lock fuzz/Cargo.lock
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --release --manifest-path fuzz/Cargo.toml \
		--target $(HOST) --target-dir target/fuzz
endef

fuzz: ## look for inputs that break the handshake or the webhook: FUZZ_TIME seconds (600) for each of FUZZ_TARGETS
	$(fuzz_build)
	for target in $(FUZZ_TARGETS); do \
		mkdir -p target/fuzz/found/$$target target/fuzz/findings; \
		$(FUZZ_BIN)/$$target target/fuzz/found/$$target target/fuzz/seeds/$$target fuzz/corpus/$$target \
			-max_total_time=$(FUZZ_TIME) $(FUZZ_LIMITS) -max_len=70000 -print_final_stats=1 \
			-artifact_prefix=target/fuzz/findings/$$target- 2>&1 | tee target/fuzz/$$target.log | grep -v ' \(NEW\|REDUCE\)  '; \
	done

corpus: ## keep of what `make fuzz` found the fewest inputs that reach everything
	$(fuzz_build)
	for target in $(FUZZ_TARGETS); do \
		kept=target/fuzz/kept/$$target; \
		rm -rf $$kept; mkdir -p $$kept; cp target/fuzz/seeds/$$target/* $$kept; \
		$(FUZZ_BIN)/$$target -set_cover_merge=1 -use_counters=0 -max_len=8192 $(FUZZ_LIMITS) $$kept fuzz/corpus/$$target target/fuzz/found/$$target; \
		for seed in target/fuzz/seeds/$$target/*; do rm $$kept/$$(basename $$seed); done; \
		rm -rf fuzz/corpus/$$target; cp -r $$kept fuzz/corpus/$$target; \
		du -sh fuzz/corpus/$$target; \
	done

demo: ## a tour of working and broken hosts on this machine
	cargo run --locked --release -- demo

clean: ## remove what was built
	cargo clean
