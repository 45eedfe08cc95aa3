"""A kernel in QEMU: started over the root file system with the project, watched, and ended.

The virtual machine has two serial lines: on the first is the console, on the second come the
results, a line each.  Everything else that it writes is forgotten with it.
"""

from __future__ import annotations

import contextlib
import json
import lzma
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.kernels import root
from bench.kernels.fetch import Fetched
from bench.kernels.host import call, tell

_MEMORY_MIB = 2048
_KVM_SECONDS = 20.0  # a kernel that boots at all says so within three
# What no test needs and takes room.
_SKIPPED = ("drivers/gpu", "drivers/infiniband", "drivers/scsi", "sound")
_TROUBLE = ("Kernel panic", "BUG:", "WARNING:", "Oops", "soft lockup")

_FIRST = """#!/bin/busybox sh
busybox() { /bin/busybox "$@"; }
busybox mount -t proc proc /proc
busybox mount -t devtmpfs dev /dev
if [ -e /trial ]; then
    echo up >/dev/ttyS1
    busybox sleep 1
    busybox poweroff -f
fi
busybox modprobe -a virtio_pci virtio_blk ext4 2>/dev/null  # some are built in
for try in 1 2 3 4 5 6 7 8 9 10; do
    busybox mount -t ext4 /dev/vda /new && break
    busybox sleep 0.3
done
for each in /job /lib/modules; do
    busybox mkdir -p /new$each
    busybox mount -t tmpfs tmpfs /new$each
    busybox cp -a $each/. /new$each
done
busybox umount /proc
busybox mount --move /dev /new/dev
exec /bin/busybox switch_root /new /bin/bash /job/second
"""

_SECOND = """export PATH=/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for each in /tmp /run; do mount -t tmpfs tmpfs $each; done
mkdir -p /dev/pts /dev/shm /run/netns
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
ip link set lo up
modprobe tun  # its device is made by the module alone
ulimit -n 65536
stty -F /dev/ttyS1 raw
rm -rf /segue/*
tar -C /segue -xf /job/project.tar
cd /segue
bash /job/command </dev/null >/dev/ttyS1 2>/dev/ttyS0
sync
echo o >/proc/sysrq-trigger
sleep 60
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a virtual machine said until it ended."""

    lines: tuple[str, ...]
    console: str
    seconds: float

    @property
    def results(self) -> list[dict[str, Any]]:
        """The lines that are JSON."""
        found = []
        for line in self.lines:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [one for one in found if isinstance(one, dict)]

    @property
    def trouble(self) -> list[str]:
        """What the kernel complained of on its console."""
        lines = self.console.splitlines()
        return [line.strip() for line in lines if any(word in line for word in _TROUBLE)]


@dataclass(slots=True)
class Machine:
    """Boots one kernel, as often as asked."""

    kernel: Fetched
    root: Path
    accelerator: str = "auto"
    _release: str = field(init=False)
    _vmlinuz: Path = field(init=False)

    def __post_init__(self) -> None:
        trees = [
            *self.kernel.tree.glob("usr/lib/modules/*"),
            *self.kernel.tree.glob("lib/modules/*"),
        ]
        modules = trees[0]
        self._release = modules.name
        boot = self.kernel.tree / "boot" / f"vmlinuz-{self._release}"
        self._vmlinuz = boot if boot.exists() else modules / "vmlinuz"
        archive = self.kernel.tree / "modules.cpio"
        if not archive.exists():
            with _directory() as tree:
                _unpack(modules, tree / "lib" / "modules" / self._release)
                call(["depmod", "-b", str(tree), self._release])
                _pack(tree, archive)

    def run(self, command: str, limit: float, hear: Callable[[str], None]) -> Ran:
        """Boot, run the command in the project's directory as root, and power off.

        What it prints is ``lines``, each of which ``hear`` is given at once; its standard error is
        on the console.  After ``limit`` seconds the machine is stopped.
        """
        if self.accelerator == "auto":
            self.accelerator = "kvm" if self._kvm_works() else "tcg"
        with _directory() as work:
            tree = work / "tree"
            for name in ("bin", "proc", "dev", "new", "job"):
                (tree / name).mkdir(parents=True)
            busybox = shutil.which("busybox")
            assert busybox
            shutil.copy(busybox, tree / "bin")
            (tree / "init").write_text(_FIRST)
            (tree / "init").chmod(0o755)
            (tree / "job" / "second").write_text(_SECOND)
            (tree / "job" / "command").write_text(command)
            root.project(tree / "job" / "project.tar")
            _pack(tree, work / "own.cpio")
            with open(work / "initrd", "wb") as initrd:
                for part in (self.kernel.tree / "modules.cpio", work / "own.cpio"):
                    with open(part, "rb") as file:
                        shutil.copyfileobj(file, initrd)
            disk = f"file={self.root},format=raw,if=virtio,snapshot=on,cache=unsafe"
            return self._boot(work, ["-drive", disk], self.accelerator, limit, hear)

    def _kvm_works(self) -> bool:
        """Whether this kernel boots under KVM here; under a hypervisor below us it may not."""
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            return False
        with _directory() as work:
            tree = work / "tree"
            for name in ("bin", "proc", "dev"):
                (tree / name).mkdir(parents=True)
            shutil.copy(shutil.which("busybox") or "", tree / "bin")
            (tree / "init").write_text(_FIRST)
            (tree / "init").chmod(0o755)
            (tree / "trial").touch()
            _pack(tree, work / "initrd")
            ran = self._boot(work, [], "kvm", _KVM_SECONDS, lambda _: None)
        works = "up" in ran.lines
        tell(f"KVM {'boots' if works else 'does not boot'} {self._release} here")
        return works

    def _boot(
        self,
        work: Path,
        more: list[str],
        accelerator: str,
        limit: float,
        hear: Callable[[str], None],
    ) -> Ran:
        # QEMU's own code generator is not to be trusted with two processors (a guest's panic in
        # text patching was seen), so one thread runs one.
        how = "tcg,thread=single" if accelerator == "tcg" else accelerator
        processor = "max" if accelerator == "tcg" else "host"
        argv = [
            *("nice", "-n", "10", "qemu-system-x86_64", "-accel", how, "-cpu", processor),
            *("-smp", "1", "-m", str(_MEMORY_MIB), "-nodefaults", "-no-user-config"),
            *("-display", "none", "-no-reboot", "-nic", "none"),
            *("-serial", f"file:{work}/console", "-serial", f"file:{work}/results"),
            *("-kernel", str(self._vmlinuz), "-initrd", f"{work}/initrd"),
            *("-append", "console=ttyS0 quiet panic=-1 mitigations=off"),
            *more,
        ]
        begun = time.monotonic()
        with open(work / "qemu", "wb") as said:
            machine = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
            )
        heard, ended = 0, False
        try:
            while not ended and time.monotonic() < begun + limit:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    machine.wait(0.5)
                    ended = True
                lines = _whole_lines(work / "results")
                for line in lines[heard:]:
                    hear(line)
                heard = len(lines)
        finally:
            machine.kill()
            machine.wait()
        if machine.returncode > 0 and accelerator != "kvm":
            why = _read(work / "qemu").strip()
            raise RuntimeError(f"QEMU ended with {machine.returncode}: {why[-500:]}")
        seconds = round(time.monotonic() - begun, 1)
        return Ran(tuple(lines), _read(work / "console"), seconds)


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="segue-kernel-") as name:
        yield Path(name)


def _whole_lines(path: Path) -> list[str]:
    """Those whose end is there."""
    return _read(path).split("\n")[:-1]


def _read(path: Path) -> str:
    return path.read_text(errors="replace").replace("\r\n", "\n") if path.exists() else ""


def _unpack(modules: Path, to: Path) -> None:
    """A copy that every loader can read: the first one, busybox, knows no compression."""
    for path in modules.rglob("*"):
        name = path.relative_to(modules)
        if path.is_symlink() or not path.is_file() or path.name == "vmlinuz":
            continue
        if any(str(name).startswith(f"kernel/{skipped}") for skipped in _SKIPPED):
            continue
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".xz":
            target.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
        else:
            shutil.copy(path, target)


def _pack(tree: Path, archive: Path) -> None:
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    with open(archive, "wb") as file:
        subprocess.run(
            ["cpio", "--create", "--quiet", "--format=newc"],
            cwd=tree,
            input=f"{names}\n".encode(),
            stdout=file,
            check=True,
        )
