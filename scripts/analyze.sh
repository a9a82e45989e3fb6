#!/usr/bin/env bash
# analyze.sh PYTHON: gcc's analyzer over the C sources, and clang-tidy where it is installed; a
# finding fails.
#
# Not asked of the core by gcc: whether NULL is read from. Its one kind of finding there is what
# fd_array_at() returns behind a fd_array_reserve() for the same descriptor, which is never NULL.
# clang-tidy asks that, too. What is asked of it: .clang-tidy.
set -euo pipefail

python=$1
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
language=(-std=gnu11 -D_GNU_SOURCE=1 -Icsrc/driver "-I$include")
flags=("${language[@]}" -O1 -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers
	-Werror -fanalyzer -o /dev/null -c)
count=$(find csrc -name '*.c' | wc -l)

find csrc/driver -name '*.c' -print0 | xargs -0 -n 1 -P "$(nproc)" "${CC:-gcc}" "${flags[@]}"
find csrc/core -name '*.c' -print0 |
	xargs -0 -n 1 -P "$(nproc)" "${CC:-gcc}" "${flags[@]}" -Wno-analyzer-null-dereference
echo "gcc's analyzer: $count sources, no finding"

if ! command -v clang-tidy >/dev/null; then
	echo "clang-tidy: not installed (on Debian: apt-get install clang-tidy), so not asked"
	exit
fi
# The options of the compiler come last, behind the sources.
find csrc -name '*.c' -print0 | xargs -0 -n 8 -P "$(nproc)" sh -c \
	'options=$1; shift; exec clang-tidy --quiet "$@" -- $options' - "${language[*]}" 2>/dev/null
echo "clang-tidy: $count sources, no finding"
