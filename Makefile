# One entry for everything. `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin
LOCKED := .venv/.locked
INSTALLED := .venv/.installed
LOCKED_DEPLOY := .venv/.locked-deploy
# Byte code is kept: without it each of the two processes compiles everything again, 4 s.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
PARALLEL := -n 2 --dist worksteal
ALONE := tests/benchmarks tests/proof

.DEFAULT_GOAL := help
IMAGE ?= voltstream
SBOM ?= dist/sbom.json
.PHONY: help install run test test-unit test-servers test-proofs unit check check-deploy check-deploy-slow faults format bench servers \
	servers-stop lock clean wheel sbom image image-push release-version deploy rollback smoke

help:  ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | tr -s '$$' | awk -F'|' '{ printf "make %-14s %s\n", $$1, $$2 }'

install: $(INSTALLED)  ## make .venv with exactly what requirements.lock says

run: install  ## everything in one process with a simulated fleet (ARGS="--stations 50 --for 30s")
	@$(BIN)/voltstream up $(ARGS)

test: install  ## all tests, on real servers; or those that ARGS says (ARGS="tests/kit -k settings")
	@$(BIN)/python -m deploy.servers install || test "$$CI" != true
ifeq ($(strip $(ARGS)),)
	@failed=0; for part in unit servers proofs; do $(MAKE) --no-print-directory test-$$part || failed=1; done; exit $$failed
else
	@$(PYTEST) $(ARGS)
endif

test-unit: install  ## of these tests: those that start nothing
	@$(PYTEST) -m unit $(PARALLEL)

test-servers: install  ## those of each part, on real servers
	@$(BIN)/python -m deploy.servers install || test "$$CI" != true
	@$(PYTEST) -m server -n 2 --dist loadfile $(ALONE:%=--ignore=%)

test-proofs: install  ## those of the whole platform: real data, crashes, and the benchmarks in small
	@$(BIN)/python -m deploy.servers install || test "$$CI" != true
	@$(PYTEST) -m "not unit and not deploy and not slow" -n 2 --dist loadfile $(ALONE)

unit: install  ## the tests that start no server and no process, on fewer examples, within 20 s
	@$(PYTEST) -m unit $(PARALLEL) --hypothesis-profile=quick --ignore=tests/proof $(ARGS)

check: install  ## lint, format, types, import contracts
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --check
	@$(BIN)/mypy --no-error-summary .
	@$(BIN)/lint-imports --no-logo

check-deploy: install $(LOCKED_DEPLOY)  ## charts, gateways, dashboards, rules: whatever is deployed, by the tools that run it
	@$(BIN)/python -m deploy.servers install || test "$$CI" != true
	@$(PYTEST) -m deploy tests/deploy $(ARGS)

check-deploy-slow: check-deploy  ## what takes many minutes and large downloads: an identity provider, builds by Go
	@$(PYTEST) -m slow tests $(ARGS)

faults: install  ## the crash proof at length (ARGS="--faults 1000 --seed 1"), as root
	@$(BIN)/python -m deploy.servers install
	@$(BIN)/python -m tests.proof.crashes $(ARGS)

format: install  ## put the code in the one format
	@$(BIN)/ruff check --quiet --fix --exit-zero
	@$(BIN)/ruff format --quiet

bench: install  ## the benchmark table (STAGE=kernels for one stage)
	@$(BIN)/python -m deploy.servers install || true
	@$(BIN)/python -m benchmarks $(STAGE)

servers: install  ## start private RabbitMQ, Kafka, PostgreSQL, Redis, MongoDB: eval "$$(make -s servers)"
	@$(BIN)/python -m deploy.servers install
	@$(BIN)/python -m deploy.servers up

servers-stop: install  ## stop them and remove their data
	@$(BIN)/python -m deploy.servers down

lock: install  ## renew requirements.lock from pyproject.toml
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/python -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' -o requirements.lock pyproject.toml
	@$(BIN)/python -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --group deploy --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' -c requirements.lock -o deploy/requirements.lock
	@$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --extra chat --extra lake --extra validation --group build \
		--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' -c requirements.lock -o deploy/image.lock pyproject.toml

wheel: install  ## dist/voltstream-….whl
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

sbom: install $(LOCKED_DEPLOY)  ## dist/sbom.json: the packages of the image, as CycloneDX
	@mkdir -p $(dir $(SBOM))
	@$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --validate --output-reproducible -o $(SBOM) deploy/image.lock

image:  ## the image IMAGE=voltstream, by Docker
	@docker build -f deploy/Dockerfile -t $(IMAGE) .

image-push:  ## the image into a registry (IMAGE=…:1.2.3), with provenance and what it consists of; its digest in dist/image.digest
	@mkdir -p dist
	@docker buildx inspect voltstream >/dev/null 2>&1 || docker buildx create --name voltstream >/dev/null
	@docker buildx build --builder voltstream -f deploy/Dockerfile -t $(IMAGE) --provenance mode=max --sbom true --push \
		--metadata-file dist/image.json .
	@$(PYTHON) -c 'import json; print(json.load(open("dist/image.json"))["containerimage.digest"])' > dist/image.digest

release-version: install  ## whether the tag TAG=v1.2.3 is this version
	@$(BIN)/python -c 'import sys, voltstream; own = "v" + voltstream.__version__; own == sys.argv[1] or \
		sys.exit(f"the tag is {sys.argv[1]}, and pyproject.toml has {own}: change its version, run python -m deploy.helm")' '$(TAG)'

deploy:  ## by Helm: ENVIRONMENT=staging or prod, REPOSITORY=… DIGEST=sha256:… HOST=…; a release that does not start is taken back
	@helm upgrade --install voltstream deploy/helm/voltstream -n core-services -f deploy/helm/voltstream/values-$(ENVIRONMENT).yaml \
		--set global.image.repository=$(REPOSITORY) --set global.image.digest=$(DIGEST) --set global.ingress.host=$(HOST) \
		--atomic --timeout 20m

rollback:  ## the release before, by Helm: versions work side by side (docs/adr/0029)
	@helm rollback voltstream -n core-services --wait --timeout 20m

smoke: install  ## whether a platform works as its users see it: HOST=…, tokens as python -m deploy.smoke -h says
	@$(BIN)/python -m deploy.smoke https://$(HOST) $(ARGS)

clean:  ## remove what can be made again; .data and .servers stay
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(LOCKED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("voltstream needs Python 3.11 or newer, \
	$(PYTHON) is %d.%d: name a newer one, make install PYTHON=python3.12" % sys.version_info[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo '$(PYTHON) cannot make virtual environments: apt-get install python3-venv' >&2; exit 1; }
	@echo 'Making .venv: about a minute' >&2
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

$(LOCKED_DEPLOY): deploy/requirements.lock $(LOCKED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements.lock
	@touch $@

# A new room must become importable for the `voltstream` command, so each room's __init__ counts.
$(INSTALLED): $(LOCKED) pyproject.toml $(wildcard */__init__.py)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip check --disable-pip-version-check > .venv/.check || { cat .venv/.check >&2; exit 1; }
	@touch $@
