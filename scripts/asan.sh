#!/usr/bin/env bash
# asan.sh VENV [PYTEST_ARGS...]: the tests, with both modules compiled with AddressSanitizer and
# UndefinedBehaviorSanitizer.
#
# The build and the tests run in build/asan, a copy, so that nothing imports the ordinary modules.
# Python itself is not instrumented: the sanitizers are preloaded, objects come from malloc instead of
# pymalloc (or errors inside its arenas would go unseen), and leaks are not looked for, because
# Python keeps much until the process ends; `make refleak` looks for those.
set -euo pipefail

python=$PWD/$1/bin/python
[ "${1#/}" = "$1" ] || python=$1/bin/python
shift
tree=build/asan

echo "Building the compiled modules (sanitizers)" >&2
mkdir -p "$tree"
rm -rf "$tree"/{uring_loop,tests,examples,perf,csrc,scripts,docs,deploy}
URING_LOOP_SANITIZE=address,undefined "$python" setup.py --quiet \
	build --build-base "$tree/objects" --build-lib "$tree" --force
for part in tests examples perf csrc scripts docs deploy pyproject.toml setup.py Makefile *.md; do
	[ ! -e "$part" ] || cp -R "$part" "$tree"
done

compiler=${CC:-gcc}
preload=
for library in libasan.so libubsan.so; do
	preload+=$(readlink -f "$("$compiler" -print-file-name="$library")")' '
done

cd "$tree"
export PYTHONPATH=$PWD PYTHONMALLOC=malloc
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=1:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
LD_PRELOAD=$preload exec "$python" -m pytest -p no:cacheprovider "$@"
