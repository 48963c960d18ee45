# Each thing this project does is one command here; `make` alone lists them. `make dev` and `make test` pass
# ARGS='...' on to what they run.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# What scripts/bootstrap found or fetched, for the rest of a recipe line. Where `exec` follows, make's own
# child is the program, so that a signal to make reaches it.
tools := . target/tools/env;
# In CI nothing may rewrite Cargo.lock, and a failure does not stop the run (.config/nextest.toml).
locked := $(if $(CI),--locked)
export NEXTEST_PROFILE ?= $(if $(CI),ci,default)
# Silent towards other hosts, as everything here is.
redocly := REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
	tools/contract/node_modules/.bin/redocly
document := openapi/headcount.json

.PHONY: help
help: ## Lists the commands
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: dev
dev: ## Runs the service on a private Postgres, with the demo page
	@scripts/bootstrap postgres
	@# The dev profile: a clean release build takes half as long again and a demo does not feel it.
	$(tools) exec cargo run -- dev $(ARGS)

.PHONY: test test-client test-browser test-rust
test: $(if $(ARGS),,test-client) test-rust $(if $(ARGS),,test-browser) ## Installs what the tests need and runs all of them; ARGS='some_name' for a few of Rust's

test-client: ## Only those of the browser library
	@scripts/bootstrap client
	$(tools) npm --prefix clients/js test

test-browser: ## Only those in a real browser, with a real service; ARGS='tabs' for a file of them
	@scripts/bootstrap postgres client chromium nginx
	cargo build $(locked) --bin headcount
	$(tools) HEADCOUNT_BIN=$(abspath $(or $(CARGO_TARGET_DIR),target))/debug/headcount \
		npm --prefix clients/js run test:browser -- $(ARGS)

.PHONY: pictures
pictures: ## Takes the pictures of the pages for docs/
	@scripts/bootstrap postgres client chromium
	cargo build $(locked) --bin headcount
	$(tools) HEADCOUNT_BIN=$(abspath $(or $(CARGO_TARGET_DIR),target))/debug/headcount \
		npm --prefix clients/js run pictures

# The example is run by its path, not by `cargo run`: that would hand its CARGO_* variables down to the
# inner cargo, and crates that watch them (ring does) would be built again on every change of command.
test-rust:
	@scripts/bootstrap postgres nextest promtool $(if $(ARGS),,deb faults nginx)
	cargo build $(locked) --example with_postgres
	$(tools) exec $${CARGO_TARGET_DIR:-target}/debug/examples/with_postgres cargo $$TEST_RUNNER $(if $(findstring --test,$(ARGS)),,--tests) $(ARGS)
	$(if $(ARGS),,cargo test --quiet --doc)

.PHONY: client
client: ## Builds the browser library, and src/http/pages/headcount.js, which the service serves
	@scripts/bootstrap client
	$(tools) npm --prefix clients/js run build

.PHONY: lint lint-format lint-clippy lint-docs
lint: lint-format lint-clippy lint-docs ## Checks format, lints and docs; a warning fails
lint-format:
	cargo fmt --check
lint-clippy:
	cargo clippy --all-targets -- -D warnings
lint-docs:
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --document-private-items

.PHONY: contract
contract: target/$(document) ## Checks the OpenAPI document: is it what the code says, is it sound, does it break the last release
	@scripts/bootstrap node
	@diff -u $(document) $< || { echo "$(document) is not what the code says: run make openapi" >&2; exit 1; }
	$(tools) $(redocly) lint --config tools/contract/redocly.yaml $(document)
	$(tools) node --test tools/contract
	$(tools) node tools/contract/breaking.mjs openapi/released.json $(document)

# Some 4000 requests. The seed is printed; SEED repeats one.
.PHONY: fuzz-api
fuzz-api: ## Plays random requests from the OpenAPI document against the service: no 5xx, nothing undocumented
	@scripts/bootstrap postgres schemathesis
	cargo build $(locked)
	$(tools) scripts/fuzz-api $(SEED)

.PHONY: openapi
openapi: target/$(document) ## Writes the OpenAPI document from the code
	cp $< $(document)

# Beside the committed document first, so that a failed run leaves that as it was. Cargo knows when it is out
# of date, make does not: hence phony.
.PHONY: target/$(document)
target/$(document):
	@mkdir -p $(@D)
	cargo run --quiet -- openapi >$@

.PHONY: deny advisories
deny: ## Checks licences, sources and bans of dependencies with cargo-deny, where that is installed
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check licenses sources bans; \
	else echo 'cargo-deny is not installed (cargo install cargo-deny --locked); tests/supply.rs checks the same lists'; fi
advisories: ## Asks for known weaknesses of dependencies; needs cargo-deny and an outside host
	cargo deny check advisories

.PHONY: rights
rights: ## Writes docs/rights.md, who may do what, from the rule that the tests hold the service to
	HEADCOUNT_WRITE_DOCS=1 cargo test $(locked) --test service the_page_about_rights

.PHONY: metrics
metrics: ## Writes the table in docs/metrics.md, what is measured, from the code
	HEADCOUNT_WRITE_DOCS=1 cargo test $(locked) --test service the_page_about_metrics

.PHONY: rules
rules: ## Writes migrations/functions/revision, after a change of the functions
	HEADCOUNT_WRITE_DOCS=1 cargo test $(locked) --test tidy_sql the_revision

.PHONY: sdks test-sdks
sdks: ## Generates clients in TypeScript, Python and Rust from the document, into target/sdks
	@scripts/bootstrap sdks
	$(tools) tools/sdks/generate

test-sdks: sdks ## Type-checks them and uses each against a service
	@scripts/bootstrap postgres
	cargo build $(locked) --bin headcount
	$(tools) tools/sdks/try

# All of it takes about an hour. ARGS='joins' measures the figures whose names have that part; QUICK=1 tries the
# harness itself. The names are in benches/load/figures/mod.rs.
.PHONY: bench
bench: ## Measures speed beside raw limits and peers of the same run; writes target/bench/summary.json
	@scripts/bootstrap postgres $(if $(filter joins callers large sweep size roster storm mixed,$(ARGS)),,peers)
	$(tools) cargo bench $(locked) --bench load -- $(ARGS)
	@echo 'what was measured is in target/bench/summary.json, a picture of it in target/bench/summary.svg'

.PHONY: attack
attack: ## Measures what attackers cost others, against the calm of the same run; writes target/bench/attack.json
	@scripts/bootstrap postgres
	$(tools) cargo bench $(locked) --bench attack

# As root, or some scenarios say that they are skipped. The random seeds are printed; HEADCOUNT_FAULTS_SEED repeats one.
SEEDS ?= 3
.PHONY: faults
faults: ## Breaks everything that docs/faults.md tells of, SEEDS times each; writes target/faults/summary.json
	@scripts/bootstrap postgres nextest faults
	rm -rf target/faults
	$(tools) HEADCOUNT_FAULTS=all HEADCOUNT_FAULTS_SEEDS=$(SEEDS) NEXTEST_PROFILE=faults \
		cargo $$TEST_RUNNER $(locked) --test faults $(ARGS)
	@echo 'what was measured is in target/faults/summary.json'

MINUTES ?= 30
.PHONY: soak
soak: ## One random fault after another for MINUTES, watching memory and descriptors
	@scripts/bootstrap postgres nextest faults
	$(tools) HEADCOUNT_FAULTS_SOAK=$(MINUTES) NEXTEST_PROFILE=soak \
		cargo $$TEST_RUNNER $(locked) --test faults soak

.PHONY: settings
settings: ## Writes docs/settings.md and ops/debian/headcount.env, the settings, from the command line
	HEADCOUNT_WRITE_DOCS=1 cargo test $(locked) --test docs the_page_about_settings
	HEADCOUNT_WRITE_DOCS=1 cargo test $(locked) --test service the_packages_file_of_settings

# One binary for the package: the release profile, with the lines of its backtraces.
.PHONY: deb
deb: ## Makes the Debian package, target/debian/headcount_*.deb
	@scripts/bootstrap deb
	mkdir -p target/man
	cargo run $(locked) --quiet --example man >target/man/headcount.1
	$(tools) cargo deb $(locked)
