#!/usr/bin/env bash
# tsan.sh: the driver's C tests under ThreadSanitizer: wake-ups, threads, forks, lists.
#
# Python itself would have to be instrumented for more: an interpreter that is not hides who holds the
# GIL from ThreadSanitizer, and every access in the core would be a race. What must run without it
# starts threads in a forked child, which ThreadSanitizer does not support.
set -euo pipefail

tree=build/tsan
mkdir -p "$tree"
flags=(-std=gnu11 -D_GNU_SOURCE=1 -g -O1 -Wall -Wextra -Werror -fsanitize=thread -Icsrc/driver -Itests/csrc)
mapfile -t sources < <(find csrc/driver -name '*.c')
objects=()
for source in "${sources[@]}"; do
	objects+=("$tree/$(tr / _ <<<"${source%.c}").o")
	"${CC:-cc}" "${flags[@]}" -c "$source" -o "${objects[-1]}"
done

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

for test in test_driver_life test_driver_streams test_driver_operations test_driver_bulk \
	test_uring_leave test_uring_fork test_uring_life test_uring test_slots test_watches; do
	"${CC:-cc}" "${flags[@]}" "tests/csrc/$test.c" "${objects[@]}" -luring -lpthread -o "$tree/$test"
	case $test in
	test_driver_*) run "$tree/$test" uring; run "$tree/$test" selector ;;
	test_uring*) run "$tree/$test" uring ;;
	*) run "$tree/$test" ;;
	esac
done
