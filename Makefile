# make build   the binary, ./moongate
# make test    all tests, race detector on; installs missing Debian packages when it can, names what it skipped, and
#              runs one or two that failed once more by themselves: "unsteady" ones pass, and are defects to be found
# make check   gofmt, vet, staticcheck
# make fuzz    each fuzz target for FUZZTIME
# make bench   the table of moongate and its peers, then the benchmarks of single calls
# make docs    regenerates what is generated

GO       ?= go
PKGS     ?= ./...
FUZZTIME ?= 20s
TIMEOUT  ?= 15m
PACKAGES ?= mail milter
STATIC   := $(GO) tool -modfile=tools/go.mod staticcheck

.PHONY: build test check fuzz bench docs

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o moongate ./cmd/moongate

test:
	@test/install.sh $(PACKAGES)
	@GORACE=atexit_sleep_ms=20 $(GO) test -race -timeout $(TIMEOUT) -json $(PKGS) | $(GO) run ./test/report $(GO) test -race -timeout $(TIMEOUT)

check:
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	if [ -n "$$unformatted" ]; then echo "gofmt -w would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet $(PKGS)
	@if $(STATIC) -version >/dev/null 2>&1; then \
		echo "$(STATIC) $(PKGS)"; $(STATIC) $(PKGS); \
	else echo "staticcheck cannot be had here: not run"; fi

# go test takes one fuzz target of one package at a time.
fuzz:
	@set -e; grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -r -n1 dirname | sort -u | while read -r dir; do \
		for target in $$($(GO) test -list '^Fuzz' $$dir | grep '^Fuzz'); do \
			echo "== $$dir $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$dir </dev/null; \
		done; \
	done

bench:
	@test/install.sh mail milter bench
	$(GO) test -count 1 -timeout 30m -run '^TestTable$$' -v ./bench -args -table
	$(GO) test -run '^$$' -bench . -benchmem $(PKGS)

docs:
	$(GO) generate $(PKGS)
