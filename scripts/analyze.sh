#!/usr/bin/env bash
# analyze.sh PYTHON: gcc's analyzer over the C sources; a finding fails.
#
# Not asked of the core: whether NULL is read from. Its one kind of finding there is what
# fd_array_at() returns behind a fd_array_reserve() for the same descriptor, which is never NULL.
set -euo pipefail

python=$1
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
flags=(-std=gnu11 -D_GNU_SOURCE=1 -O1 -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers
	-Werror -fanalyzer -Icsrc/driver "-I$include" -o /dev/null -c)

find csrc/driver -name '*.c' -print0 | xargs -0 -n 1 -P "$(nproc)" "${CC:-gcc}" "${flags[@]}"
find csrc/core -name '*.c' -print0 |
	xargs -0 -n 1 -P "$(nproc)" "${CC:-gcc}" "${flags[@]}" -Wno-analyzer-null-dereference
echo "$(find csrc -name '*.c' | wc -l) sources: no finding"
