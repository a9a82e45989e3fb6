#!/usr/bin/env bash
# tsan.sh VENV [PYTEST_ARGS...]: ThreadSanitizer over the driver's C tests (wake-ups, threads, forks,
# lists), and over the contract tests of threads with both modules compiled for it.
#
# Python itself is not instrumented. ThreadSanitizer sees who holds the GIL all the same, since that is
# told by a mutex of pthread's, which it replaces for the whole process; what the interpreter itself
# reads and writes it does not see.
set -euo pipefail

python=$PWD/$1/bin/python
[ "${1#/}" = "$1" ] || python=$1/bin/python
shift
tree=build/tsan
mkdir -p "$tree"

# ---- the driver's C tests ----
#
# What must run without ThreadSanitizer starts threads in a forked child, which it does not support.

flags=(-std=gnu11 -D_GNU_SOURCE=1 -g -O1 -Wall -Wextra -Werror -fsanitize=thread -Icsrc/driver -Itests/csrc)
mapfile -t sources < <(find csrc/driver -name '*.c')
objects=()
for source in "${sources[@]}"; do
	objects+=("$tree/$(tr / _ <<<"${source%.c}").o")
done
printf '%s\n' "${sources[@]}" | xargs -P "$(nproc)" -I '{}' sh -c \
	'object=$1/$(echo "${2%.c}" | tr / _).o; shift 2; "$@" -o "$object"' - "$tree" '{}' \
	"${CC:-cc}" "${flags[@]}" -c '{}'

# Addresses are not spread at random: older sanitizers do not start otherwise.
run() {
	local status=0
	TSAN_OPTIONS=halt_on_error=1:report_thread_leaks=0 setarch -R "$@" 2>"$tree/log" || status=$?
	case $status in
	0) echo "$*: no race" ;;
	77) echo "$*: $(tail -n 1 "$tree/log")" ;;
	*) cat "$tree/log"; exit "$status" ;;
	esac
}

if [ $# -eq 0 ]; then
	for test in test_driver_life test_driver_streams test_driver_operations test_driver_bulk \
		test_uring_leave test_uring_fork test_uring_life test_uring test_uring_answers test_slots test_watches; do
		"${CC:-cc}" "${flags[@]}" "tests/csrc/$test.c" "${objects[@]}" -luring -lpthread -o "$tree/$test"
		case $test in
		test_driver_*) run "$tree/$test" uring; run "$tree/$test" selector ;;
		test_uring*) run "$tree/$test" uring ;;
		*) run "$tree/$test" ;;
		esac
	done
fi

# ---- the contract tests of threads ----

library=$(readlink -f "$("${CC:-gcc}" -print-file-name=libtsan.so)")
echo "Building the compiled modules (ThreadSanitizer)" >&2
rm -rf "$tree"/{uring_loop,tests,examples,perf,csrc,scripts,deploy} "$tree"/race.*
URING_LOOP_SANITIZE=thread "$python" setup.py --quiet \
	build --build-base "$tree/modules" --build-lib "$tree" --force
for part in tests examples perf csrc scripts deploy pyproject.toml README.md; do
	[ ! -e "$part" ] || cp -R "$part" "$tree"
done
cd "$tree"
# Left out is the call of a file that hangs for ever: its loop gives it up and closes the descriptor,
# which is a race for who does not know that the kernel holds the file until the call ends.
[ $# -gt 0 ] || set -- tests/contract/test_threads.py tests/contract/test_other_threads.py \
	tests/contract/test_executors.py tests/contract/test_files.py tests/contract/test_signals.py \
	tests/contract/test_forks.py tests/contract/test_statistics.py --loop uring --loop selector \
	--deselect tests/contract/test_files.py::test_loop_closed_while_a_call_of_a_file_hangs_goes_on_and_says_what_it_keeps
# What is freed is known to ThreadSanitizer only where malloc does it. Each process writes its races
# into a file: a child's would be lost otherwise.
export PYTHONPATH=$PWD PYTHONMALLOC=malloc
export TSAN_OPTIONS=log_path=$PWD/race:report_thread_leaks=0:die_after_fork=0:exitcode=0
status=0
LD_PRELOAD=$library setarch -R "$python" -m pytest -q -p no:cacheprovider "$@" || status=$?
if compgen -G 'race.*' >/dev/null; then
	cat race.*
	exit 1
fi
[ "$status" -ne 0 ] || echo "contract tests of threads: no race"
exit "$status"
