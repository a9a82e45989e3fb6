#!/usr/bin/env bash
# coverage.sh VENV [PYTEST_ARGS...]: which lines of C and Python the tests run; the figures at the end.
#
# Built in build/coverage, a copy; the driver's C tests are compiled with counters, too, and children
# are counted with their parents. What ends by a signal tells nothing of itself. Tests that take
# memory away run apart, for C's lines only, with each allocation once: Python's counting needs what
# they take. So does one of CPython's in which its own 3.11 hangs when it is traced: a thread that
# finds a signal for the main one as a function begins looks again for ever. What gives its user away
# cannot write its counters, and is left out.
# The lines that were not run: build/coverage/missing-c.txt and build/coverage/missing.txt.
set -euo pipefail

python=$PWD/$1/bin/python
[ "${1#/}" = "$1" ] || python=$1/bin/python
shift
tree=$PWD/build/coverage

echo "Building the compiled modules (coverage)" >&2
mkdir -p "$tree"
rm -rf "$tree"/{uring_loop,tests,examples,perf,csrc,scripts,docs,deploy,objects,programs} "$tree"/.coverage*
cc -shared -fPIC -DPRELOADED scripts/counted_exit.c -o "$tree/counted_exit.so"
cc -c -fPIC scripts/counted_exit.c -o "$tree/counted_exit.o"
CFLAGS="--coverage -O0" LDFLAGS="--coverage $tree/counted_exit.o" URING_LOOP_SYMBOLS=1 "$python" setup.py --quiet \
	build --build-base "$tree/objects" --build-lib "$tree" --force
for part in .ci .github tests examples perf csrc scripts docs deploy pyproject.toml setup.py Makefile \
	MANIFEST.in LICENSE Vagrantfile *.md; do
	[ ! -e "$part" ] || cp -R "$part" "$tree"
done
cat >"$tree/coverage.ini" <<-END
	[run]
	source_dirs = $tree/uring_loop
	branch = true
	parallel = true
	data_file = $tree/.coverage
	patch = subprocess, _exit
END

cd "$tree"
untraced=(
	tests/shortage
	"tests/conformance/test_conformance.py::test_cpythons_own_tests_pass[uring-test_events]"
	"tests/conformance/test_conformance.py::test_cpythons_own_tests_pass[selector-test_events]"
	tests/sim/test_sim_no_memory.py
	tests/contract/test_interrupts.py::test_allocation_that_fails_anywhere_in_a_run_leaves_a_thread_that_can_run_loops
)
homeless=(
	tests/contract/test_file_kinds.py::test_process_that_may_have_no_more_threads_is_told_so_and_loses_nothing
)
# A sanitized program of C need not find its runtime before the library.
export ASAN_OPTIONS=verify_asan_link_order=0
export PYTHONPATH=$tree C_TESTS_CFLAGS="--coverage -Wl,--wrap=_exit $tree/counted_exit.o"
read -ra workers < <(scripts/workers.sh "$python"; echo)
common=(-q -p no:cacheprovider "${workers[@]}")
status=0
if [ $# -eq 0 ]; then
	set -- tests --ignore tests/kernels "${untraced[@]/#/--deselect=}" "${homeless[@]/#/--deselect=}"
	TEST_SHORTAGE=all LD_PRELOAD=$tree/counted_exit.so "$python" -m pytest "${common[@]}" --dist=load \
		"${untraced[@]}" || status=$?
fi
LD_PRELOAD=$tree/counted_exit.so "$python" -m coverage run --rcfile=coverage.ini -m pytest \
	"${common[@]}" --basetemp="$tree/programs" "$@" || status=$?
"$python" -m coverage combine --rcfile=coverage.ini --quiet
"$python" -m coverage report --rcfile=coverage.ini --show-missing >missing.txt || true
"$python" scripts/covered_c.py objects programs >missing-c.txt
grep -v '^ ' missing-c.txt
echo "Python (lines and branches): $(tail -n 1 missing.txt | awk '{print $NF}')"
exit "$status"
