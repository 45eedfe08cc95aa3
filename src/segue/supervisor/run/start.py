"""How ``segue run`` begins: alone, in place of a supervisor that died, or as its own successor."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Collection
from functools import partial

from segue.address import Address
from segue.engine.duplicate import duplicate, supervised
from segue.engine.select import EngineChoice
from segue.errors import KernelError, NotSupported, SegueError, UsageError
from segue.group import Listener
from segue.linux import openat, prctl, proc, sysctl
from segue.observe.snapshot import Observer, Part
from segue.supervisor.control.history import read
from segue.supervisor.control.incumbent import renewal
from segue.supervisor.control.log import Log
from segue.supervisor.control.output_file import redirect
from segue.supervisor.control.paths import Paths
from segue.supervisor.lifecycle.giving_way import AUTO, OFF
from segue.supervisor.lifecycle.instance import Instance
from segue.supervisor.lifecycle.stages import Phase
from segue.supervisor.rescue.balancing import refuse_uncounted
from segue.supervisor.run import activation as activations
from segue.supervisor.run import exporting, storing, unrecorded
from segue.supervisor.run.activation import Activation
from segue.supervisor.run.handover import Handover, handed_over
from segue.supervisor.run.occupied import wait_for_ports
from segue.supervisor.run.record import Record
from segue.supervisor.run.resume import resume, start_again
from segue.supervisor.run.runner import Runner
from segue.supervisor.run.service import Asked, Service
from segue.supervisor.run.takeover import anyone_alive, take_over
from segue.supervisor.run.upgrade import become
from segue.supervisor.settings import Settings
from segue.supervisor.source import Source
from segue.supervisor.workers import holding, injection, variables
from segue.supervisor.workers.carrying import refuse_impossible
from segue.supervisor.workers.identity import Identity
from segue.supervisor.workers.injection import Injection, directory_of, forget
from segue.supervisor.workers.place import Place, program
from segue.supervisor.workers.processes import rights_of
from segue.supervisor.workers.spawn import raise_file_limit
from segue.supervisor.workers.survey import describe
from segue.supervisor.world import World

_V6ONLY = "net.ipv6.bindv6only"


def check(settings: Settings, source: Source) -> None:
    """Whatever of the settings can be checked without listening and starting.

    Raises StartRefused for a directory or variables that are gone, UsageError for a program that is
    not there, for a user or group that does not exist or may not be taken on, for a policy or an
    object that cannot be used; VerifierError for one that the kernel refuses; NotSupported for
    ``inject``, ``carry``, ``carry_crash`` and ``keep_idle`` where the kernel cannot, and for
    ``balance`` by an object that does not count.
    Where a running supervisor asks (``upgrade``), what it would hand over is read as well:
    SegueError when that cannot be.
    """
    handed = handed_over()
    if handed is not None:
        Handover.from_json(handed)
    if settings.inject:
        injection.check()
    Paths.of(settings.instance_name)
    Identity.of(settings.user, settings.group)
    rights_of(settings)
    env = variables.given(settings)
    place = Place.of(settings, source.start)
    name = settings.command[0]
    if not program(name, env.get("PATH", os.environ.get("PATH")), place.resolved()):
        raise UsageError(f"there is no program {name!r} to run; check the spelling and PATH")
    if settings.program_choice:
        settings.program_choice.check()
    refuse_uncounted(settings)
    refuse_impossible(settings.carry)
    holding.refuse_impossible(settings)
    exporting.refuse_impossible(settings)


def log_of(settings: Settings) -> Log:
    """Where the lines of this instance go, in the form that is asked for."""
    return Log(settings.output, settings.log_time, settings.log_format, settings.instance_name)


def serve(asked: Asked, world: World | None = None) -> int:
    """Run an instance until it is stopped; the exit code.

    Raises StartRefused for a directory or variables that are gone, SegueError when the name or an
    address is taken, NotSupported for ``balance`` by an object that does not count, KernelError
    when an address cannot be listened at.
    """
    _fill_standard_descriptors()
    world = world or World()
    _keep_names(asked.source)
    paths = Paths.of(asked.settings.instance_name)
    log = log_of(asked.settings)
    if asked.source.file:
        log.say(f"settings are read from {asked.source.file}")
    # Workers' orphans come to us, so that none is left when a worker is said to be gone.
    prctl.set_child_subreaper()
    handed = handed_over()
    if handed is not None:
        try:
            runner = resume(Handover.from_json(handed), asked, paths, log, world)
        except Exception as error:  # noqa: BLE001  whatever it is, the workers serve on
            start_again(handed, error, log)
        runner.service.reopen_output()
    else:
        runner = _begin(asked, paths, log, world)
    service = runner.service
    try:
        output = service.settings.output_file
        if handed is None and output:
            # What was refused so far is for whoever started this, at a terminal most often.
            farewell = partial(service.say, f"from here on into {output}")
            redirect(output, service.processes.users, farewell)
        if service.settings.inject:
            _open_injection(service, paths)
        _open_groups(service)
        if handed is None:
            runner.open()
        # What was made until now stays: no round is to pay for searching it for garbage.
        gc.freeze()
        service.loop.run(runner)
        while service.upgrade is not None:
            runner.exporting.end()
            become(service, service.upgrade)
            service.loop.run(runner)  # the kernel refused new code
        runner.end()
        service.waiting.close()
        paths.remove()
        _end_injection(service)
    except BaseException:
        if service.instance.phase is Phase.STARTING:
            # Nobody is served yet; later the workers go on, and a next supervisor takes over.
            for process in service.processes:
                process.kill()
            _end_injection(service)
        raise
    finally:
        runner.close()
    return service.exit_code


def _keep_names(source: Source) -> None:
    """What is started later goes by the names of now, wherever this process is by then."""
    os.environ["PWD"] = source.start
    if os.environ.get("SEGUE_DIRECTORY"):
        os.environ["SEGUE_DIRECTORY"] = os.path.abspath(os.environ["SEGUE_DIRECTORY"])


def _begin(asked: Asked, paths: Paths, log: Log, world: World) -> Runner:
    """Alone, or in place of a supervisor that died."""
    refuse_uncounted(asked.settings)
    refuse_impossible(asked.settings.carry)
    holding.refuse_impossible(asked.settings)
    exporting.refuse_impossible(asked.settings)
    lock = paths.lock()
    activation = activations.take(asked.settings, os.environ, os.getpid())
    left = _left(asked.settings, paths, world)
    if left.record is not None:
        runner = take_over(left.record, asked, paths, lock, log, world, left.said)
        activations.adopt(runner.service, activation)
    else:
        for text in left.said:
            log.say(text)
        runner = _fresh(asked, paths, lock, log, world, activation)
    storing.keep(runner.service)
    runner.service.processes.files = raise_file_limit()
    return runner


def _left(settings: Settings, paths: Paths, world: World) -> unrecorded.Found:
    """What a predecessor has left: by its record, else by its workers."""
    plain = paths.read_record()
    if plain is not None and anyone_alive(plain):
        return unrecorded.Found(Record.from_json(plain, paths.record))
    with world.observer() as observer:
        return unrecorded.find(settings, paths, observer, world.now())


def _open_injection(service: Service, paths: Paths) -> None:
    ports = [bind.address.port for bind in service.settings.binds]
    known = str((paths.read_record() or {}).get("cgroup", ""))
    path = directory_of(paths.base, ports, known)
    if known and known != path:
        forget(known)
    service.processes.injection = Injection.open(path, ports)


def _open_groups(service: Service) -> None:
    """Choose by which means newcomers give way, and say what is not the usual."""
    settings, groups = service.settings, service.processes.weights.groups
    if not settings.gentle_start:
        return
    groups.open(settings.cgroup, injects=settings.inject)
    assert groups.means is not None
    if groups.means.group or settings.cgroup not in {AUTO, OFF}:
        service.say(f"new workers leave processors to those that serve, {groups.means}")


def _end_injection(service: Service) -> None:
    if service.processes.injection is not None:
        try:
            service.processes.injection.remove()
        except KernelError as error:
            service.warn(str(error))


def _fill_standard_descriptors() -> None:
    """Where 0, 1 or 2 was closed, /dev/null: else the next file opened would be printed into."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _fresh(
    asked: Asked, paths: Paths, lock: int, log: Log, world: World, activation: Activation
) -> Runner:
    settings = asked.settings
    with world.observer() as observer:
        activations.refuse_elsewhere(observer, activation, settings.binds)
        refuse_strangers(observer, settings, activation.cookies)
    choice = _choose(settings, world)
    instance = Instance(size=settings.workers, begun=world.now())
    service = Service(
        settings, paths, lock, log, choice, world, instance, asked.source, asked.reread
    )
    runner = Runner(service)
    service.chronicle.adopt(read(paths), instance)
    try:
        service.processes.check(service.processes.place)
        if settings.beside:
            _defer_to_incumbents(service)
        activations.adopt(service, activation)
        if settings.bind_by == "supervisor":
            wait_for_ports(service, runner.performer.starts.open_first)
    except BaseException:
        runner.close()
        raise
    introduce(service)
    return runner


def _choose(settings: Settings, world: World) -> EngineChoice:
    try:
        return world.choose(settings.wanted_engine)
    except NotSupported as error:
        if not settings.counting or settings.engine == "migrate":
            raise
        needs = f"the engine migrate, which needs {error.needs}"
        raise NotSupported(settings.counting, needs, error.has) from None


def _like_ours(listener: Listener) -> bool:
    """The supervisor opens listeners in its group: not on one interface unless that was asked."""
    return bool(listener.interface) == bool(listener.address.zone)


def _defer_to_incumbents(service: Service) -> None:
    """Else the kernel's hash would give connections to listeners of workers that start still."""
    for front in service.fronts:
        if front.find():
            service.say(
                f"{front.asked} is served at {front.bind.address}, which takes what comes to it:"
                " this instance listens there too"
            )
        group = service.observer.snapshot(front.bind.address, Part.OWNERS)
        beside = [one for one in group.listeners if _like_ours(one)]
        if beside:
            front.v6only = beside[0].v6only
        with contextlib.ExitStack() as held:
            try:
                taken = [
                    held.enter_context(one) for one in map(duplicate, beside) if one is not None
                ]
            except NotSupported as error:
                service.warn(f"connections may wait until the first worker is ready: {error}")
            else:
                front.defer_to(taken, backlog=service.settings.backlog)


def introduce(service: Service) -> None:
    """Say once what is run, where, by which engine, and why that one."""
    addresses = ", ".join(str(bind.address) for bind in service.settings.binds)
    said = f"{service.instance.size} worker(s) at {addresses}"
    service.chronicle.note("start", f"start of the instance: {said}", by=_starter())
    service.say(f"{service.paths.name}: {said}")
    backlog, cap = service.settings.backlog, sysctl.somaxconn()
    if backlog > cap:
        service.warn(
            f"a listener holds {cap} waiting connections, and not {backlog} (--backlog):"
            f" net.core.somaxconn is {cap}; sysctl -w net.core.somaxconn={backlog} changes that"
        )
    service.say(f"engine {service.choice.engine}: {'; '.join(service.choice.reasons)}")
    if service.settings.program_choice:
        service.say(f"{service.settings.program_choice} selects")


def _starter() -> str:
    return f"{openat.user(os.geteuid())}: {proc.describe([os.getppid()])}"


def refuse_strangers(
    observer: Observer, settings: Settings, ours: Collection[int] = frozenset()
) -> None:
    """Raise SegueError when somebody listens at one of our addresses already.

    ``ours`` are the cookies of listeners that were handed to us.

    The kernel would let two of one user's programs share it, and each would get half of the
    other's connections without a word, which ``beside`` asks for.  One at the wildcard of the same
    port, or at a host of ours, would be shadowed or shadow us, if the kernel let both be.
    """
    for bind in settings.binds:
        served, v6only = observer.serving(bind.address), settings.v6only(bind.address)
        others = _beside(observer, bind.address, v6only=v6only)
        for where in dict.fromkeys((served, bind.address, *others)):
            for listener in observer.snapshot(where, Part.OWNERS).listeners:
                if listener.cookie in ours:
                    continue
                if os.getpid() in listener.owners:
                    raise SegueError(f"{bind.address} is in use by segue itself: {inherited()}")
                advice = "stop it first, or choose another --bind"
                if supervised(listener):
                    advice = f"{renewal(listener)} renews it"
                elif where == served and settings.beside:
                    if settings.bind_by == "worker" or _like_ours(listener):
                        continue
                    advice = (
                        "it is bound to an interface, and so is in another group than a listener of"
                        " the supervisor's: add --bind-by worker"
                    )
                elif where == served:
                    advice += "; a successor of it starts with --beside"
                if where.family != bind.address.family and "::" in {where.host, bind.address.host}:
                    advice = f"one at [::] gets what comes by IPv4 too; {advice}"
                raise SegueError(
                    f"{bind.address} is in use: {where} belongs to {describe(listener)}; {advice}"
                )


def inherited() -> str:
    """Why a listener that this process has was not handed to it, and what to do."""
    named = os.environ.get("LISTEN_PID", "")
    if "LISTEN_FDS" in os.environ and named.isdecimal():
        return (
            f"a service manager handed over the listener to pid {named[:20]} (LISTEN_PID), and"
            f" segue is pid {os.getpid()}: let the service manager start segue itself, or by exec"
        )
    return "it has inherited a listener, and LISTEN_FDS and LISTEN_PID do not say so: close it"


def _beside(observer: Observer, address: Address, *, v6only: bool | None) -> list[Address]:
    """Other addresses that are listened at and would share connections with this one.

    A listener at [::] gets those of IPv4 too, unless the settings or the system say otherwise.
    """
    found = observer.overlapping(address)
    if address.host == "::" and not (sysctl.read(_V6ONLY) == "1" if v6only is None else v6only):
        every = Address("0.0.0.0", address.port)
        found += [every, *observer.overlapping(every)]
    return found
