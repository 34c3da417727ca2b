# Everything that a developer runs. Each target sets up what it needs, below .local/ and target/ only.
.DEFAULT_GOAL := help
.PHONY: help demo test test-deep mutants fuzz local down build bench simulate lint deny sbom k8s-assets setup clean

PYTHON ?= python3
LOCAL_AWS = PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 .local/venv/bin/python

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## the whole story on this machine: a drill poisons a pool, a group moves to Spot
	@$(LOCAL_AWS) tests/demo.py

test: setup ## unit and property tests, lint, end-to-end on local AWS
	@$(LOCAL_AWS) -m local_aws test

# Each campaign adds a line to $(TALLY): its histories, and how many of them broke a promise. What was not played is no evidence.
TALLY = $(CURDIR)/target/histories
SUM = {played += $$1; failed += $$2} END {printf "%d histories of the real code, %d failed\n", played, failed; exit played < 100000}

test-deep: ## a million histories of the rules, in worlds that are not atomic; at least 100,000 of the real code, counted
	@HISTORIES=1000000 cargo test --quiet --locked -p spot-domain no_history_breaks
	@mkdir -p target && rm -f $(TALLY) && touch $(TALLY)
	@HISTORIES=10000 CAMPAIGN=full HISTORIES_TO=$(TALLY) cargo test --quiet --locked --no-fail-fast -p spot-world; status=$$?; \
		awk '$(SUM)' $(TALLY) || status=1; exit $$status

mutants: setup ## take one safety check out after another, and see a test notice it: make mutants ARGS="--only gate-fails-open"
	@$(LOCAL_AWS) tests/world/mutants.py $(ARGS)

fuzz: ## change samples of outside data until a parser breaks: make fuzz SECONDS=600 TARGET=listing
	@FUZZ_SECONDS=$(or $(SECONDS),60) cargo test --quiet --locked --workspace --test fuzz -- $(TARGET)
	@FUZZ_SECONDS=$(or $(SECONDS),60) cargo test --quiet --locked --workspace --lib -- fuzz::$(TARGET)

local: setup ## start local AWS with the stack deployed and leave it running
	@$(LOCAL_AWS) -m local_aws up

down: setup ## stop what `make local` started
	@$(LOCAL_AWS) -m local_aws down

build: setup ## build the Lambdas for local AWS
	@$(LOCAL_AWS) -m local_aws build

bench: setup ## measure cold start, memory, sizes, AWS calls, drains
	@$(LOCAL_AWS) -m local_aws bench

simulate: ## what poison costs and saves: make simulate ARGS="--instances 400 --accounts 3"
	@cargo run --quiet --locked --bin simulate -- --out target/simulation.svg $(ARGS)

lint: setup ## lint the Python (ruff, mypy) and the templates, and scan those (checkov)
	@$(LOCAL_AWS) -m local_aws lint

deny: setup ## check the crates: licences, sources, bans, advisories (compiles cargo-deny once)
	@$(LOCAL_AWS) -m local_aws deny

sbom: setup ## list what is in each Lambda (CycloneDX): make sbom ARGS="--architecture x86_64"
	@$(LOCAL_AWS) -m local_aws sbom $(ARGS)

k8s-assets: setup ## provide Kubernetes' control plane for the tests: built once with Go, or KUBEBUILDER_ASSETS
	@$(LOCAL_AWS) -m local_aws k8s-assets

setup: ## install the Python tools into .local/
	@$(PYTHON) tests/local_aws/install.py

clean: down ## stop local AWS and remove .local/ and target/
	@rm -rf .local target
