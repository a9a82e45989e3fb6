"""Other kernels: Debian's packages, fetched by apt and unpacked, never installed.

apt runs with lists and settings of its own, so nothing of the machine's changes.
Packages are checked with Debian's keys. What was fetched is kept in
~/.cache/uring_loop/kernels; remove a folder there to get a newer kernel.
"""

import os
import pathlib
import re
import shutil
import subprocess
from dataclasses import dataclass

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
CACHE /= "uring_loop/kernels"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# Name -> (suites, regular expression of the package). "-uml": user-mode Linux, a process that needs
# no virtual machine; its 5.10.46 is from before the io_uring of 5.15 was brought to 5.10.162.
KERNELS = {
    "5.10-uml": (["bullseye"], r"user-mode-linux"),
    "6.1-uml": (["bookworm"], r"user-mode-linux"),
    "5.10": (["bullseye", "bullseye-security"], r"linux-image-5\.10\.0-\d+-amd64"),
    "6.1": (["bookworm", "bookworm-security"], r"linux-image-6\.1\.0-\d+-amd64"),
    "6.12": (["trixie", "trixie-security"], r"linux-image-6\.12\.[\d.]+\+deb13-amd64"),
    "newest": (["sid"], r"linux-image-[\d.]+(\+deb\d+)?-amd64"),
}


class FetchError(Exception):
    """Why there is no such kernel here."""


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel."""

    name: str
    folder: pathlib.Path

    @property
    def is_uml(self):
        return self.name.endswith("-uml")

    @property
    def image(self):
        pattern = "**/linux.uml" if self.is_uml else "**/vmlinuz*"
        return next(self.folder.glob(pattern))

    @property
    def version(self):
        return next(self.folder.glob("**/modules/*")).name

    def modules(self, *names):
        """Paths of these modules and of what they need, in the order of loading."""
        paths = []
        for name in names:
            output = subprocess.run(
                ["modprobe", "-d", self.folder, "-S", self.version, "--show-depends", name],
                capture_output=True,
                text=True,
            )
            if output.returncode != 0:
                raise FetchError(f"{self.name} has no module {name}: {output.stderr.strip()}")
            # "insmod PATH" or "builtin NAME"
            words = [line.split() for line in output.stdout.splitlines()]
            paths += [line[1] for line in words if line[0] == "insmod" and line[1] not in paths]
        return [pathlib.Path(path) for path in paths]


def fetch(name):
    """The kernel, from the cache or from a Debian mirror."""
    if name not in KERNELS:
        raise FetchError(f"no kernel {name!r}; there are: {', '.join(KERNELS)}")
    folder = CACHE / name
    if not folder.is_dir():
        new = CACHE / f"{name}.{os.getpid()}"
        try:
            _download(name, new)
            new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return Kernel(name, folder)


def _download(name, folder):
    if shutil.which("apt-get") is None:
        raise FetchError("install apt: kernels are fetched from a Debian mirror")
    suites, pattern = KERNELS[name]
    apt = folder / "apt"
    for part in ("lists/partial", "archives/partial"):
        (apt / part).mkdir(parents=True)
    (apt / "status").touch()
    sources = [
        f"deb [signed-by={KEYRING}] {_mirror(suite)} {suite} main\n"
        for suite in suites
        if _mirror(suite)
    ]
    (apt / "sources.list").write_text("".join(sources))
    (apt / "conf").write_text(
        f"""
        #clear APT::Update;
        Dir::Etc {{ SourceList "{apt}/sources.list"; SourceParts "/dev/null"; }};
        Dir::State "{apt}"; Dir::State::Status "{apt}/status"; Dir::Cache "{apt}";
        APT::Architecture "amd64"; APT::Architectures {{ "amd64"; }};
        APT::Sandbox::User "root"; Acquire::Languages "none"; Acquire::Check-Valid-Until "false";
        """
    )
    _apt(apt, "apt-get", "update")
    names = _apt(apt, "apt-cache", "pkgnames").split()
    found = sorted((n for n in names if re.fullmatch(pattern, n)), key=_version_key)
    if not found:
        raise FetchError(f"no package {pattern} in {', '.join(suites)}")
    wanted = [found[-1]]
    # Since 7.x a kernel comes in parts.
    release = found[-1].removeprefix("linux-image-")
    wanted += [f"linux-{part}-{release}" for part in ("base", "binary", "modules")]
    _apt(apt, "apt-get", "download", *(n for n in wanted if n in names), cwd=folder)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
        package.unlink()
    shutil.rmtree(apt)
    # modprobe looks in lib/modules; packages have them in two other places as well.
    for other in ("usr/lib/modules", "usr/lib/uml/modules"):
        if (folder / other).is_dir() and not (folder / "lib/modules").exists():
            (folder / "lib").mkdir(exist_ok=True)
            (folder / "lib/modules").symlink_to(f"../{other}")
    release = next(folder.glob("**/modules/*")).name
    subprocess.run(["depmod", "-b", folder, release], check=True)


def _mirror(suite):
    """The machine's own mirror of Debian, or of its security updates."""
    output = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    end = "/debian-security" if suite.endswith("-security") else "/debian"
    for uri in output.stdout.split():
        if uri.rstrip("/").endswith(end):
            return uri
    return "" if end != "/debian" else "http://deb.debian.org/debian"


def _apt(folder, *command, cwd=None):
    command = [command[0], "-qq", "-c", folder / "conf", *command[1:]]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise FetchError(f"{command[0]} failed: {done.stderr.strip()}")
    return done.stdout


def _version_key(name):
    return [int(number) for number in re.findall(r"\d+", name)]
