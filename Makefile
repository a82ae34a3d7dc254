# make run      boot examples/vm.yaml (or VM=FILE), with all that it needs; RUN_FLAGS go to virt-launcher
# make test     everything that CI checks
# make help     the other targets

VM ?= examples/vm.yaml
TARGET := $(or $(CARGO_TARGET_DIR),target)
RUN_FLAGS ?=
FUZZ_SECONDS ?= 30
MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

# Network namespaces, and packages inside a directory, are root's; compiling is not.
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := $(CURDIR)/.ci/runner $(SUDO)
# Plain lines, as a log keeps them.
ifneq ($(CI),)
export CARGO_TERM_PROGRESS_WHEN := never
endif

# The guest that a manifest's image is made from.
GUESTS = mini $(if $(shell grep -El 'ferrovirt/debian|fedora-with-test-tooling' '$(VM)' 2>/dev/null),debian)

# The client that Debian leaves out of its busybox: netbind's tests ask by it.
UDHCPC6 = $(TARGET)/tmp/busybox-udhcpc6

# A cluster's nodes, and its pod network: bridge or ptp.
NODES ?= 1
CNI ?= bridge
CLUSTER = $(SUDO) e2e/out/cluster/bin/cluster
# What its registry serves; a layout may come later.
LAYOUTS = $(addprefix --images e2e/out/,cluster/images images ferrovirt)

.PHONY: help setup setup-run setup-cluster build guests udhcpc6 images run cluster cluster-build cluster-down cluster-shell e2e test lint fuzz bench soak deny clean

help:
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: setup-cluster ## install what packages.txt lists and is missing
	@.ci/setup $(MSRV) '$(SUDO)'

setup-run: ## of these, what building and running a VM take
	@.ci/setup $(MSRV) '$(SUDO)' Cluster

setup-cluster: setup-run ## and what a cluster takes
	@.ci/setup $(MSRV) '$(SUDO)' Tests

build: setup-run ## the binaries, optimised
	@cargo build --release --locked --workspace --bins

guests: setup-run ## the guests that tests and examples boot
	@$(SUDO) e2e/guests/build

udhcpc6: $(UDHCPC6) ## the client of netbind's tests that Debian does not build

$(UDHCPC6): netbind/tests/clients_v6/busybox | setup
	@$< $@

run: build ## boot VM
	@$(SUDO) e2e/guests/build $(GUESTS)
	@exec $(SUDO) $(TARGET)/release/virt-launcher run --images e2e/out/images $(RUN_FLAGS) '$(VM)'

cluster: cluster-build ## a Kubernetes cluster of NODES nodes on this machine
	@$(CLUSTER) up --nodes $(NODES) --cni $(CNI) $(LAYOUTS)
	@e2e/cluster/kubectl get nodes,pods -A

cluster-build: setup-cluster
	@e2e/cluster/build

images: build cluster-build ## the images that `kubectl apply -k deploy` names, for that cluster
	@e2e/images release

cluster-down: ## stop it
	@! test -x e2e/out/cluster/bin/cluster || $(CLUSTER) down

e2e: setup guests cluster-build ## the tests on a cluster: KUBECONFIG's, or one that they make
	@cargo build --locked --workspace --bins
	@e2e/images dev
	@cargo test --locked -p e2e --test cluster

cluster-shell: ## a shell in its network, with kubectl
	@$(CLUSTER) exec env PATH="$(CURDIR)/e2e/out/cluster/bin:$$PATH" $${SHELL:-bash}

lint: setup
	@echo '== cargo fmt'
	@cargo fmt --all --check
	@cargo fmt --manifest-path fuzz/Cargo.toml --check
	@echo '== cargo clippy'
	@cargo clippy --locked --workspace --all-targets -- -D warnings

test: setup ## format, lints, all tests, and a little fuzzing
	@$(MAKE) --no-print-directory --jobs 3 --output-sync guests udhcpc6 cluster-build lint
	@echo '== go'
	@e2e/cluster/build check
	@echo '== cargo build'
	@cargo build --locked --workspace --bins
	@e2e/images dev
	@echo '== cargo test'
	@cargo test --locked --workspace
	@$(MAKE) --no-print-directory fuzz

fuzz: setup ## try inputs on each parser for FUZZ_SECONDS, 30 unless set; 600 for the long run
	@echo '== fuzz'
	@fuzz/run $(FUZZ_SECONDS)

bench: setup guests images ## measure what docs/benchmarks.md promises, and write it; takes 35 minutes
	@cargo bench --locked -p netbind --bench answer
	@cargo bench --locked -p netbind --bench wire >$(TARGET)/wire.json
	@cargo bench --locked -p netbind --bench forward >$(TARGET)/forward.json
	@cargo bench --locked -p e2e --bench promises

soak: setup guests udhcpc6 images ## the tests that take long
	@cargo test --release --locked -p netbind -p e2e -- --ignored --show-output

deny: ## licences and advisories of all dependencies; needs cargo-deny
	@cargo deny --version >/dev/null 2>&1 || { echo 'make deny: first run: cargo install --locked cargo-deny' >&2; exit 1; }
	@cargo deny check

clean: cluster-down ## all that was built, the guests too
	@cargo clean
	@$(SUDO) rm -rf e2e/out
