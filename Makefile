# The front door for developers; CI comes in by it, too (.ci/run).

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
BINARY = $(or $(CARGO_TARGET_DIR),target)/$(shell rustc -vV | sed -n 's/^host: //p')/release/stockade

.PHONY: build check advisories test test-escape-vm test-engines bench demo install

build: ## the release binary, static: target/TRIPLE/release/stockade
	$(CARGO) build --release

check: ## formatting, lints, and where cargo-deny is installed licences and sources of all crates
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check bans licenses sources; \
	else echo "cargo-deny is not installed: licences and sources are not checked (cargo install --locked cargo-deny)"; fi

advisories: ## known holes in the crates that ship; from the network
	$(CARGO) deny check advisories

test: ## the whole suite, natively and in the test machine
	tests/run

test-escape-vm: ## the whole escape corpus on Linux 6.1, as root and as an ordinary user, each under strict and oci (STOCKADE_ESCAPE=whole: all)
	tests/run --escape-vm

test-engines: ## Podman, Docker, containerd, buildah and umoci with stockade below them; as root (in the test machine: tests/engines/run --vm)
	tests/engines/run

bench: ## launches beside crun, runc and bubblewrap
	$(CARGO) bench --bench launch

demo: build ## a command of this machine in a throwaway container
	$(BINARY) sandbox -- sh -c 'id; hostname; ps ax; ls /; grep -E "^(Cap|NoNew|Seccomp:)" /proc/self/status'

install: build ## the binary, man pages, completions, and the policies and profiles to read and to start from
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/stockade
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/stockade/policy profiles/policy/*.json
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/stockade/apparmor profiles/apparmor/*
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/stockade/seccomp profiles/seccomp/*
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man1 man/*.1
	install -D -m 0644 completions/stockade.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/stockade
	install -D -m 0644 completions/_stockade $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_stockade
	install -D -m 0644 completions/stockade.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/stockade.fish
