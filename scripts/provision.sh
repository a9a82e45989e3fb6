#!/usr/bin/env bash
# provision.sh [plain|kernel5|forbidden]: make a bare Debian 12 ready for `make test` and `make bench`.
#
# plain      what it takes to build, test and measure
# kernel5    and Debian 11's 5.10 kernel, as the one that starts
# forbidden  and a kernel that knows kernel.io_uring_disabled, which is set to 2
#
# Run as root: by Vagrant, or by hand in a container, a chroot or a machine. The last two take effect
# with the next start. Running it again changes nothing.
set -euo pipefail

kind=${1:-plain}
case $kind in
	plain | kernel5 | forbidden) ;;
	*) echo "provision: $kind is none of plain, kernel5, forbidden" >&2; exit 2 ;;
esac
[ "$(id -u)" -eq 0 ] || { echo "provision: run it as root" >&2; exit 1; }

export DEBIAN_FRONTEND=noninteractive
architecture=$(dpkg --print-architecture)
install() {
	apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}

# The mirror that the machine itself uses, so that other suites come from there too.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
	sed 's,/*$,,' | grep -m 1 '/debian$' || echo http://deb.debian.org/debian)

# More packages from another suite, and nothing else ever: its priority is that of a last resort.
suite_source() { # SUITE URI
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	echo "deb [signed-by=$keyring] $2 $1 main" >"/etc/apt/sources.list.d/uring_loop-$1.list"
	printf 'Package: *\nPin: release n=%s\nPin-Priority: 50\n' "$1" \
		>"/etc/apt/preferences.d/uring_loop-$1"
}

packages=(debian-archive-keyring ca-certificates python3 python3-venv python3-dev gcc libc6-dev make
	liburing-dev)
# A machine that has them all needs no network.
if ! dpkg-query --show --showformat '${db:Status-Abbrev}\n' "${packages[@]}" 2>/dev/null |
	awk '$1 == "ii" { found++ } END { exit found != '"${#packages[@]}"' }'; then
	apt-get update
	install "${packages[@]}"
fi

# GRUB starts the first kernel of its menu, and that is the newest: name the one that is wanted.
start_kernel() { # VERSION
	local id
	if ! command -v update-grub >/dev/null; then
		echo "provision: no GRUB here: Linux $1 is installed, and has to be started by other means"
		return
	fi
	mkdir -p /etc/default/grub.d
	id=$(blkid -s UUID -o value "$(findmnt -n -o SOURCE /)")
	printf 'GRUB_DEFAULT="gnulinux-advanced-%s>gnulinux-%s-advanced-%s"\n' "$id" "$1" "$id" \
		>/etc/default/grub.d/uring_loop.cfg
	update-grub
}

# The newest of the kernel packages whose version matches.
kernel_package() { # REGULAR-EXPRESSION
	apt-cache search --names-only "^linux-image-$1-$architecture\$" | cut -d ' ' -f 1 |
		sort -V | tail -n 1
}

case $kind in
kernel5)
	suite_source bullseye "$mirror"
	apt-get update
	package=$(kernel_package '5\.10\.0-[0-9]+')
	if [ -z "$package" ]; then
		# Debian moves what it no longer supports.
		suite_source bullseye http://archive.debian.org/debian
		apt-get update
		package=$(kernel_package '5\.10\.0-[0-9]+')
	fi
	install "$package"
	start_kernel "${package#linux-image-}"
	;;
forbidden)
	suite_source bookworm-backports "$mirror"
	apt-get update
	package=$(kernel_package '[0-9.]+\+deb12')
	install "$package"
	start_kernel "${package#linux-image-}"
	echo 'kernel.io_uring_disabled = 2' >/etc/sysctl.d/90-uring_loop.conf
	;;
esac

# In Vagrant's machines a login starts in the shared source, with the virtual environment outside it:
# the host has one of its own, and not every shared folder can hold symbolic links.
if [ -d /vagrant ]; then
	cat >/etc/profile.d/uring_loop.sh <<'END'
if [ "$USER" = vagrant ] && [ -e /vagrant/Makefile ]; then
	cd /vagrant
	export VENV=$HOME/.venv-uring_loop
fi
END
fi
