"""Listeners that workers open themselves (``--bind-by worker``), found and followed.

A server that binds its own SO_REUSEPORT sockets (granian, nginx, node) shows them in its process
tree; the supervisor takes a duplicate of each by pidfd_getfd(2) and gives it a slot.
"""

from __future__ import annotations

import errno
import socket

from segue.errors import KernelError
from segue.linux import pidfd, proc
from segue.linux.sockopt import cookie
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.instance import HeldListener, Instance, Worker
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.workers.processes import Process, Processes


def discover(instance: Instance, processes: Processes, fronts: list[Front]) -> list[str]:
    """Adopt new listeners of the workers' trees, and close those that no worker has any more.

    Returns sentences for the log.  If the listeners of a serving worker change, because it replaces
    its own processes, its share is computed again.
    """
    said: list[str] = []
    trees = {
        process.worker.id: _inodes(process)
        for process in processes
        if process.worker.stage in {Stage.STARTING, Stage.STANDBY, Stage.SERVING}
    }
    for front in fronts:
        moved = front.find()
        group = front.observer.snapshot(front.bind.address)
        held = front.cookies
        for listener in group.listeners:
            for worker_id, inodes in trees.items():
                if listener.cookie in held or listener.inode not in inodes:
                    continue
                worker = instance.workers[worker_id]
                pid, fd = inodes[listener.inode]
                adopted = _adopt(
                    front, worker, pid, fd, listener.cookie, injected=processes.settings.inject
                )
                if adopted is not None:
                    if moved:
                        moved = False
                        said.append(
                            f"{worker.name} listens at {front.bind.address}, which takes what"
                            f" comes to {front.asked}"
                        )
                    worker.listeners = (*worker.listeners, adopted)
                    _share_anew(instance, worker)
        inode_of = {listener.cookie: listener.inode for listener in group.listeners}
        for worker_id, inodes in trees.items():
            worker = instance.workers[worker_id]
            lost = [
                one
                for one in worker.listeners
                if one.bind == front.number and inode_of.get(one.cookie) not in inodes
            ]
            # The last one stays open: the next worker takes over its queue.
            if lost and len(lost) < len(worker.listeners):
                worker.listeners = tuple(one for one in worker.listeners if one not in lost)
                for one in lost:
                    front.leave(one.slot)
                said.append(
                    f"worker {worker.generation}.{worker.id} closed {len(lost)} listener(s) at"
                    f" {front.bind.address} itself; connections that waited there moved on"
                )
                _share_anew(instance, worker)
    return said


def _share_anew(instance: Instance, worker: Worker) -> None:
    if worker.stage is Stage.SERVING:
        instance.shared = ()


def _inodes(process: Process) -> dict[int, tuple[int, int]]:
    """Socket inode -> (pid, descriptor) over the process's whole tree."""
    return {inode: (pid, fd) for pid in process.tree() for inode, fd in proc.sockets(pid).items()}


def _adopt(
    front: Front, worker: Worker, pid: int, fd: int, wanted: int, *, injected: bool
) -> HeldListener | None:
    try:
        listener = pidfd.duplicate_socket(pid, fd)
    except KernelError as error:
        if error.errno == errno.EPERM:
            worker.fault = f"has a listener that cannot be taken: {error}"
        return None  # otherwise the worker has ended or closed it since the look
    if cookie(listener) != wanted:
        listener.close()  # the descriptor or the pid has been reused
        return None
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
        listener.close()
        advice = (
            "the program of --inject was not asked, or the kernel did not let it set the option"
            if injected
            else "turn it on in the server, add --inject, or let the supervisor bind"
        )
        worker.fault = (
            f"listens at {front.bind.address} without SO_REUSEPORT, which --bind-by worker needs:"
            f" {advice}"
        )
        return None
    return front.adopt(listener)
