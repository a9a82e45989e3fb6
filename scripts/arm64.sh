#!/usr/bin/env bash
# arm64.sh: the driver and its C tests, compiled for arm64 and run under qemu's emulation of a program.
#
# Needs Debian's gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user-static, and the network for
# liburing's arm64 package, which is unpacked into build/arm64 and not installed. The emulation has no
# io_uring: what runs is the epoll driver; the ring is compiled, and its tests say that there is none.
set -euo pipefail

compiler=aarch64-linux-gnu-gcc
for program in $compiler qemu-aarch64-static; do
	command -v $program >/dev/null || {
		echo "arm64: $program is missing: apt-get install gcc-aarch64-linux-gnu" \
			"libc6-dev-arm64-cross qemu-user-static" >&2
		exit 1
	}
done

tree=$PWD/build/arm64
mkdir -p "$tree"/{lists/partial,cache/archives/partial,objects}
if [ ! -e "$tree/usr/include/liburing.h" ]; then
	# apt's lists for another architecture, kept apart from the machine's own.
	apt=(-o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State::lists="$tree/lists"
		-o Dir::Cache="$tree/cache" -o APT::Sandbox::User=root)
	apt-get "${apt[@]}" update >/dev/null
	(cd "$tree" && apt-get "${apt[@]}" download liburing-dev >/dev/null)
	dpkg -x "$tree"/liburing-dev_*_arm64.deb "$tree"
fi

flags=(-std=gnu11 -D_GNU_SOURCE=1 -g -O2 -Wall -Wextra -Werror -Icsrc/driver -Itests/csrc
	-I"$tree/usr/include")
shared=()
for source in csrc/driver/*.c csrc/driver/*/*.c; do
	object=${source#csrc/driver/}
	shared+=("$tree/objects/${object//\//_}.o")
	$compiler "${flags[@]}" -c "$source" -o "${shared[-1]}"
done

failed=0
for source in tests/csrc/test_*.c; do
	name=$(basename "$source" .c)
	object=$tree/objects/$name.o
	$compiler "${flags[@]}" -c "$source" -o "$object"
	# What a test replaces, to answer for the kernel.
	mapfile -t wrapped < <("${compiler%gcc}nm" "$object" | sed -n 's/.* T __wrap_/-Wl,--wrap=/p')
	$compiler "${flags[@]}" -static "$object" "${shared[@]}" "${wrapped[@]}" \
		"$tree/usr/lib/aarch64-linux-gnu/liburing.a" -lpthread -o "$tree/$name" 2>"$tree/$name.log" ||
		{ cat "$tree/$name.log"; exit 1; }
	driver=()
	case $name in
	test_driver_*) driver=(selector) ;;
	test_uring*) driver=(uring) ;;
	esac
	status=0
	qemu-aarch64-static "$tree/$name" "${driver[@]}" >"$tree/$name.log" 2>&1 || status=$?
	case $status in
	0) echo "$name: passed" ;;
	77) echo "$name: $(tail -n 1 "$tree/$name.log")" ;;
	*) echo "$name: FAILED with status $status"; cat "$tree/$name.log"; failed=1 ;;
	esac
done
exit $failed
