# The project's commands. `make test` and `make demo` need Linux, python3 (3.11 or later) and make;
# each sets up the rest by itself, once: system packages, a virtual environment, the build.
#
#   make demo       a real server under load, on io_uring beside asyncio on epoll
#   make test       the tests                          PYTEST_ARGS="-k streams -x"
#   make bench      the benchmarks, with pyperf        BENCH_ARGS=...
#   make asan       the tests, compiled with AddressSanitizer and UndefinedBehaviorSanitizer
#   make fuzz       new random programs on three loops, and on the fake driver      SECONDS=600
#   make soak       everything at once on both drivers, every byte compared         SECONDS=600
#   make mutants    breaks the code line by line: do the tests see it?              MUTANTS=name
#   make tsan       the tests of threads, wake-ups and forks, in C and Python, with ThreadSanitizer
#   make pydebug    the contract and sim tests on a debug build of CPython
#   make analyze    gcc's analyzer and clang-tidy over the C sources
#   make coverage   which lines of C and Python the tests run
#   make refleak    the tests again and again, watching for leaks
#   make kernels    the tests under other kernels, from 5.10 on      KERNELS="5.10-uml 6.12"
#   make neighbours  aiohttp's, anyio's and Tornado's own tests    NEIGHBOURS="--project anyio"
#   make masks      the contract tests without each kernel feature, and on a tiny ring   MASKS=tiny
#   make wheels     the source distribution and a wheel for each of PYTHONS
#   make arm64      the driver's C tests, compiled for arm64, in emulation
#   make lint       clang-format, ruff, mypy, stubtest and pyright
#   make docs       the site of docs/ in build/docs             BUILDER=linkcheck asks other sites, too
#   make build      only the build
#   make help       this text
#   make clean      removes what was built; `make distclean` the environment too
#
# PYTHON=python3.13 selects the interpreter, VENV=.venv-3.13 the environment's place,
# DEBUG=1 compiles with assertions.

VENV ?= .venv
PYTHON ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
DEMO_ARGS ?=
KERNELS ?=
MASKS ?=
NEIGHBOURS ?=
PYTHONS ?=
BUILDER ?= html
SECONDS ?=
MUTANTS ?=
DEBUG ?=

run := $(VENV)/bin/python
mode := $(if $(DEBUG),debug,release)
sources := $(wildcard csrc/*.h csrc/*/*.[ch] csrc/*/*/*.[ch] csrc/*/*.py)

# A stamp is named after what it was made with, so that another choice makes it again.
ready := $(VENV)/.ready-$(subst /,_,$(PYTHON))
built := $(VENV)/.built-$(mode)

export URING_LOOP_WERROR := 1
export URING_LOOP_SYMBOLS := 1
export URING_LOOP_DEBUG := $(DEBUG)
export PYTHON
# Compiled Python is kept: the tests start interpreters by the hundred.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: build help demo test bench asan fuzz soak mutants tsan pydebug analyze \
	coverage refleak kernels neighbours masks wheels arm64 lint docs clean distclean
SHELL := bash
.SHELLFLAGS := -o pipefail -c

.DELETE_ON_ERROR:

build: $(built)

# The head of this file.
help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

$(ready): pyproject.toml scripts/bootstrap.sh
	@scripts/bootstrap.sh $(VENV) test
	@rm -f $(VENV)/.ready-*
	@touch $@

$(VENV)/.group-%: $(ready)
	@scripts/bootstrap.sh $(VENV) $*
	@touch $@

# Real programs to test with, what builds the site, and what runs tests side by side, as far as there
# are wheels of them.
$(VENV)/.apps: $(ready)
	@scripts/bootstrap.sh $(VENV) 'apps?' 'docs?' 'workers?' && touch $@ || test $$? -eq 75

$(built): $(ready) setup.py $(sources)
	@scripts/build.sh $(VENV) $(mode)
	@touch $@

demo: $(built)
	@$(run) perf/demo.py $(DEMO_ARGS)

# PYTEST_ARGS="-n 0" runs all in one process; so does --pdb.
test: $(built) $(VENV)/.apps
	@$(run) -m pytest $$(scripts/workers.sh $(run)) $(PYTEST_ARGS)

bench: $(built) $(VENV)/.group-bench
	@$(run) perf/compare.py $(BENCH_ARGS)

asan: $(ready)
	@scripts/asan.sh $(VENV) $(PYTEST_ARGS)

fuzz: $(built)
	@$(run) tests/fuzz/machines.py --seconds $(or $(SECONDS),60)
	@$(run) tests/fuzz/fuzzer.py --seconds $(or $(SECONDS),60)

soak: $(built)
	@$(run) tests/soak/run.py --seconds $(or $(SECONDS),60)

mutants: $(built)
	@$(run) scripts/mutants.py $(MUTANTS)

tsan: $(ready)
	@scripts/tsan.sh $(VENV) $(PYTEST_ARGS)

pydebug:
	@scripts/pydebug.sh $(PYTEST_ARGS)

analyze: $(ready)
	@scripts/analyze.sh $(run)

coverage: $(ready) $(VENV)/.apps $(VENV)/.group-coverage
	@scripts/coverage.sh $(VENV) $(PYTEST_ARGS)

refleak: $(built)
	@PYTHONPATH=scripts $(run) -m pytest -p refleak $(or $(PYTEST_ARGS),--loop selector --loop uring)

kernels: $(built)
	@$(run) tests/kernels/run.py $(KERNELS)

neighbours: $(built) $(VENV)/.apps
	@$(run) tests/conformance/neighbours.py $(NEIGHBOURS)

masks: $(built)
	@$(run) scripts/masks.py $(MASKS) -- $(PYTEST_ARGS)

# What is given to others keeps no symbols.
wheels: export URING_LOOP_SYMBOLS :=
wheels:
	@scripts/wheels.sh $(PYTHONS)

arm64:
	@scripts/arm64.sh

# Where tables stand as their authors have set them, clang-format would have its own way.
unformatted := $(addprefix csrc/core/,base/py.c base/py.h cached_files.c callbacks/schedule.c \
	descriptors/sockets.c loop.h transports/datagram_receive.c transports/stream_read.c \
	tls/ciphertext.h tls/openssl.c tls/openssl.h tls/records.h transports/transport.h transports/transport_read.h) \
	$(addprefix csrc/driver/,binding.c ring/kernels.c ring/setup.c ring/streams.c ring/trial.c \
	ring/turn.c ring/verbs.c ring/watches.c selector/calls.c selector/doubts.c \
	selector/requests.c selector/turn.c)

# pyright asks the first python of the PATH where packages are.
checked := PATH=$(abspath $(VENV)/bin):$$PATH PYTHONPATH=$(CURDIR)

lint: $(built) $(VENV)/.group-lint $(VENV)/.apps
	@$(VENV)/bin/clang-format --dry-run -Werror \
		$(filter-out $(unformatted),$(shell find csrc -name '*.[ch]'))
	@$(run) -m ruff check .
	@$(run) -m mypy --python-version 3.11
	@$(run) -m mypy
	@$(run) -m mypy.stubtest uring_loop --concise --mypy-config-file pyproject.toml \
		--allowlist tests/stubtest.txt
	@$(checked) $(run) -m pyright
	@$(checked) $(run) -m pyright --verifytypes uring_loop --ignoreexternal | tail -n 4

# Each warning is an error: a link that leads nowhere is one.
docs: $(built) $(VENV)/.group-docs
	@$(run) -m sphinx --fail-on-warning --keep-going --quiet -b $(BUILDER) docs build/docs
	@echo "build/docs/index.html"

clean:
	rm -rf build dist *.egg-info uring_loop/*.so $(VENV)/.built-* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path '*/.venv*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
