#!/usr/bin/env bash
# bootstrap.sh VENV GROUP...: make a machine ready to build and run uring_loop.
#
# Installs the system packages that are missing (apt-get; elsewhere it names them), makes the virtual
# environment VENV, and installs the requirements of the GROUPs (extras of pyproject.toml) into it.
# Of a GROUP with a question mark (apps?) what has no wheel for this Python is left out; exit status
# 75 says that some could not be fetched.
# What is there already is left alone. PYTHON selects the interpreter; without it the environment that
# exists is kept, or python3 makes one.
set -euo pipefail

venv=$1
shift

say() { printf '%s\n' "$*" >&2; }
die() { say "bootstrap: $*"; exit 1; }

# Runs a command in silence; what it said is shown only when it fails.
quietly() {
	local log status=0
	log=$(mktemp)
	"$@" >"$log" 2>&1 </dev/null || status=$?
	[ "$status" -eq 0 ] || cat "$log" >&2
	rm -f "$log"
	return "$status"
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

install_packages() {
	if ! command -v apt-get >/dev/null; then
		die "missing on this system: $* (Debian's names; on Fedora gcc python3-devel liburing-devel," \
			"on Arch gcc python liburing, on Alpine build-base python3-dev liburing-dev)"
	fi
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || die "as root, run: apt-get install $*"
		# With nobody at the keyboard sudo must not wait for a password.
		if [ -t 0 ]; then sudo -v; else sudo -n true 2>/dev/null; fi ||
			die "as root, run: apt-get install $*"
	fi
	say "Installing system packages: $*"
	local install=(env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends
		-o DPkg::Lock::Timeout=300 "$@")
	# python3-venv brings ca-certificates, whose first installation rewrites the bundle: certificates
	# that were put there by hand, a company's proxy for one, must survive it.
	local bundle=/etc/ssl/certs/ca-certificates.crt kept=
	if [ -e "$bundle" ] && [ ! -e /usr/sbin/update-ca-certificates ]; then
		kept=$(cat "$bundle")
	fi
	# The package lists may be missing or stale; they are fetched only then.
	if ! as_root "${install[@]}" >/dev/null 2>&1 </dev/null; then
		quietly as_root apt-get update || die "apt-get update failed"
		quietly as_root "${install[@]}" || die "could not install: $*"
	fi
	[ -z "$kept" ] || as_root tee -a "$bundle" >/dev/null <<<"$kept"
}

suits() {
	"$1" -c 'import sys
sys.exit(sys.version_info < (3, 11) or sys.implementation.name != "cpython")' >/dev/null 2>&1
}

find_python() {
	local candidate
	for candidate in python3 python3.1{5..1}; do
		# A name may be a version manager's shim that leads nowhere: only running it tells.
		if suits "$candidate"; then
			printf '%s\n' "$candidate"
			return
		fi
	done
	return 1
}

choose_python() {
	if [ -n "${PYTHON:-}" ]; then
		suits "$PYTHON" || die "PYTHON=$PYTHON is not a CPython 3.11 or later that runs"
		python=$PYTHON
	elif suits "$venv/bin/python"; then
		python=$venv/bin/python
	elif ! python=$(find_python); then
		install_packages python3
		python=$(find_python) || die "no CPython 3.11 or later here; name one with PYTHON=..."
	fi
	# The interpreter itself, not the shim that starts it.
	python=$("$python" -c 'import sys; print(sys.executable)')
}

ask_python() { "$python" -c "$1"; }

compiles() { printf '%s\n' "$1" | $compiler -x c -fsyntax-only - >/dev/null 2>&1; }

install_missing_packages() {
	local missing=() header version
	compiler=${CC:-$(ask_python 'import sysconfig; print(sysconfig.get_config_var("CC") or "cc")')}
	header=$(ask_python 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
	version=$(ask_python 'import sys; print("python%d.%d" % sys.version_info[:2])')

	compiles '#include <stdlib.h>' || missing+=(gcc libc6-dev)
	compiles '#include <liburing.h>' || missing+=(liburing-dev)
	[ -e "$header" ] || missing+=("$version-dev")
	if ! suits "$venv/bin/python" && ! ask_python 'import ensurepip, venv' 2>/dev/null; then
		missing+=("$version-venv")
	fi
	[ "${#missing[@]}" -eq 0 ] || install_packages "${missing[@]}"

	# A Python from elsewhere gets nothing from the system's packages.
	[ -e "$header" ] || die "$python has no $header; install its headers or name another with PYTHON=..."
}

base_of() { "$1" -c 'import sys; print(sys.base_prefix, sys.version)'; }

make_environment() {
	if suits "$venv/bin/python" && [ "$(base_of "$venv/bin/python")" = "$(base_of "$python")" ] &&
		"$venv/bin/python" -c 'import pip' 2>/dev/null; then
		return
	fi
	if [ -e "$venv" ]; then
		[ -e "$venv/pyvenv.cfg" ] || die "$venv is in the way and is no virtual environment"
		# Not with the interpreter that it may hold itself.
		python=$(ask_python 'import os, sys; print(os.path.realpath(sys.executable))')
		rm -rf "$venv"
	fi
	say "Making the virtual environment $venv"
	if ask_python 'import ensurepip' 2>/dev/null; then
		quietly "$python" -m venv "$venv"
	elif ask_python 'import virtualenv' 2>/dev/null; then
		quietly "$python" -m virtualenv "$venv"
	else
		die "$python has neither ensurepip nor virtualenv; name another with PYTHON=..."
	fi || die "could not make $venv with $python"
}

# The requirements of this build system, of the package, and of the groups, from pyproject.toml.
requirements() {
	"$venv/bin/python" - "$@" <<-'END'
		import sys
		import tomllib

		with open("pyproject.toml", "rb") as file:
		    settings = tomllib.load(file)
		project = settings["project"]
		wanted = settings["build-system"]["requires"] + project["dependencies"]
		for group in sys.argv[1:]:
		    wanted += project["optional-dependencies"][group]
		print("\n".join(dict.fromkeys(wanted)))
	END
}

pip_install() { "$venv/bin/python" -m pip install --disable-pip-version-check "$@"; }

install_requirements() {
	local wanted
	mapfile -t wanted < <(requirements "$@")
	say "Installing Python packages into $venv ($*)"
	quietly pip_install "${wanted[@]}" || die "pip could not install: ${wanted[*]}"
}

# Of blockbuster's one requirement, which is pure Python, nobody has made a wheel.
pip_install_wheels() { pip_install --only-binary :all: --no-binary forbiddenfruit "$@"; }

# Whether pip's words in this file are that there is no such wheel, and not that it could not ask.
has_no_wheel() {
	grep -q 'No matching distribution found' "$1" &&
		! grep -Eq 'Retrying|Connection|Could not fetch URL|timed out|HTTP error' "$1"
}

# All at once, or else one by one, so that a missing one costs only itself. What is not to be had now
# may be later: EX_TEMPFAIL, and whoever stamps this does not.
install_optional() {
	local wanted package missing=()
	mapfile -t wanted < <(requirements "$@")
	say "Installing Python packages into $venv ($*, as far as there are wheels)"
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	pip_install_wheels "${wanted[@]}" >"$log" 2>&1 </dev/null && return
	for package in "${wanted[@]}"; do
		pip_install_wheels "$package" >"$log" 2>&1 </dev/null && continue
		if has_no_wheel "$log"; then
			missing+=("$package")
			continue
		fi
		cat "$log" >&2
		say "bootstrap: pip could not install $package, for the reason above; the tests of what is" \
			"missing are skipped, and the next run tries again"
		exit 75
	done
	[ "${#missing[@]}" -eq 0 ] ||
		say "bootstrap: no wheel for this Python, so their tests are skipped: ${missing[*]}"
}

choose_python
install_missing_packages
make_environment
needed=() optional=()
for group; do
	case $group in
	*\?) optional+=("${group%?}") ;;
	*) needed+=("$group") ;;
	esac
done
[ "${#needed[@]}" -eq 0 ] || install_requirements "${needed[@]}"
[ "${#optional[@]}" -eq 0 ] || install_optional "${optional[@]}"
