"""The command `work`: a worker process that one can run, stop, and kill."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Final

from prompt_studio.command import DONE, NOT_DONE, Answer, Commands, add_database
from prompt_studio.config import (
    ADVISORY_LOCKS_VARIABLE,
    LEASE_SECONDS_MAX,
    TRANSACTION_POOLER_VARIABLE,
    Settings,
)
from prompt_studio.database import PromptStudioDatabase
from prompt_studio.errors import DatabaseError, InputError
from prompt_studio.job_manager import CONCURRENCY_MAX, GRACE_SECONDS, POLL_SECONDS, SETTLE_SECONDS, JobManager
from prompt_studio.metrics import Metrics
from prompt_studio.running.handlers import Handler, Handlers
from prompt_studio.stop_signals import REPEAT_SECONDS, StopSignals
from prompt_studio.worker_log import JSON, TEXT, log_to_standard_error

_log: Final = logging.getLogger("prompt_studio.worker")

CLIENT: Final = "work"
PORT_MAX: Final = 65_535
_DIGITS: Final = re.compile(r"[0-9]{1,6}", re.ASCII)

_EPILOG: Final = f"""
The registry is a prompt_studio.Handlers, or a dict from job types to functions; its module is looked for in the current
directory first. SIGTERM or SIGINT stops: no more jobs are acquired, handlers run on for the grace time while their
leases are kept, then they are asked to end and have a time to settle, and their jobs are released. A second signal ends
the grace time, and a third the wait for a database that does not answer; one within {REPEAT_SECONDS:g} s of the one
before is the same one. What does not end by then is left: the process ends, and others take its jobs over when their
leases have ended, as they do when it is killed. The exit code is 0 after a stop, and 1 if it could not start, met
trouble, or had to leave a job to its lease. On Postgres {ADVISORY_LOCKS_VARIABLE}=0 in the environment does without
advisory locks, and {TRANSACTION_POOLER_VARIABLE}=1 works behind a proxy that pools transactions.
"""


def add_to(commands: Commands) -> None:
    """Teach the program this command."""
    command = commands.add_parser(
        "work",
        help="run jobs until stopped",
        description="Acquire jobs and run them with the handlers of a registry, until stopped by SIGTERM or SIGINT.",
        epilog=_EPILOG,
    )
    add_database(command)
    command.add_argument("--create", action="store_true", help="initialise the database if it is missing or empty")
    command.add_argument("--handlers", required=True, metavar="MODULE:REGISTRY", help="what runs the jobs")
    command.add_argument(
        "--concurrency", type=_whole(1, CONCURRENCY_MAX), default=3, metavar="N", help="jobs at once (%(default)s)"
    )
    command.add_argument(
        "--lease-seconds",
        type=_whole(1, LEASE_SECONDS_MAX),
        metavar="N",
        help="the length of a lease, where a handler has none of its own (TLDW_PS_JOB_LEASE_SECONDS, or 60)",
    )
    command.add_argument(
        "--grace-seconds",
        type=float,
        default=GRACE_SECONDS,
        metavar="N",
        help="how long a stop lets handlers run on (%(default)g)",
    )
    command.add_argument(
        "--settle-seconds",
        type=float,
        default=SETTLE_SECONDS,
        metavar="N",
        help="how long it then waits for those that it has asked to end (%(default)g)",
    )
    command.add_argument(
        "--poll-seconds",
        type=float,
        default=POLL_SECONDS,
        metavar="N",
        help="the longest time between two looks for a job (%(default)g)",
    )
    command.add_argument("--metrics-port", type=_whole(0, PORT_MAX), metavar="N", help="tell Prometheus there; 0: any")
    command.add_argument("--metrics-address", metavar="ADDRESS", help="of this machine; without it every one")
    command.add_argument("--worker-id", metavar="NAME", help="who acquires; made up if not given")
    command.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    command.add_argument("--log-format", default=TEXT, choices=(TEXT, JSON))
    command.set_defaults(run=answer)


def answer(asked: Namespace) -> Answer:
    """Run the worker; how it ended."""
    log_to_standard_error(asked.log_level, asked.log_format)
    working = False
    try:
        handlers = handlers_of(asked.handlers)
        settings = Settings.from_environment(os.environ)
        if asked.lease_seconds is not None:
            settings = replace(settings, lease_seconds=asked.lease_seconds)
        with PromptStudioDatabase(asked.database, CLIENT, settings=settings, create=asked.create) as database:
            manager = JobManager(
                database,
                worker_id=asked.worker_id,
                poll_seconds=asked.poll_seconds,
                grace_seconds=asked.grace_seconds,
                settle_seconds=asked.settle_seconds,
                metrics=_metrics(asked.metrics_port, asked.metrics_address, database),
            )
            manager.register_handlers(_without_interrupts(handlers))
            signals = StopSignals(manager, grace_seconds=asked.grace_seconds, settle_seconds=asked.settle_seconds)
            working = True
            with closing(signals):
                asyncio.run(worked(manager, asked.concurrency, signals))
    except (DatabaseError, InputError) as error:
        return Answer(f"{'stopped working' if working else 'not started'}: {error}", NOT_DONE)
    return Answer("stopped in order", DONE)


def handlers_of(named: str) -> Handlers:
    """The handlers that `module:registry` names.

    Raises:
        InputError: there are none.
    """
    module_name, _, name = named.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), name]):
        raise InputError(f"--handlers must be MODULE:REGISTRY, such as tasks:handlers, not {named!r}")
    module = _imported(module_name)
    try:
        found = getattr(module, name)
    except AttributeError as error:
        raise InputError(f"--handlers {named}: {error}: name its registry") from error
    handlers = _registry(named, found)
    if not handlers:
        raise InputError(f"--handlers {named}: it has no handler for any type of job: register one")
    return handlers


def _without_interrupts(handlers: Handlers) -> Handlers:
    """The same ones, of which a KeyboardInterrupt is an error like others.

    SIGINT is heard otherwise and raises none, so theirs is not the Ctrl-C by which it would end the event loop.
    """
    guarded = Handlers()
    for job_type, one in handlers.items():
        handler = _without_interrupt(one.handler) if one.is_async else one.handler
        guarded.register(job_type, handler, lease_seconds=one.lease_seconds)
    return guarded


def _without_interrupt(handler: Handler) -> Handler:
    @wraps(handler)  # also for what it takes
    async def guarded(*arguments: object) -> object:
        try:
            return await handler(*arguments)
        except KeyboardInterrupt as error:
            raise RuntimeError("the handler raised KeyboardInterrupt") from error

    return guarded


def _imported(module_name: str) -> ModuleType:
    """The module; what goes wrong in it is told with its traceback.

    Raises:
        InputError: it is not found, or cannot be imported.
    """
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise InputError(
                f"--handlers {module_name}: {error}: run it in the module's directory, or set PYTHONPATH"
            ) from error
        raise _broken(module_name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(module_name, error) from error


def _broken(module_name: str, error: BaseException) -> InputError:
    _log.error("the module %s cannot be imported", module_name, exc_info=error)
    return InputError(f"--handlers {module_name}: its import ended with {type(error).__name__}: see above")


def _registry(named: str, found: object) -> Handlers:
    if isinstance(found, Handlers):
        return found
    if not isinstance(found, Mapping):
        raise InputError(
            f"--handlers {named}: it must be a prompt_studio.Handlers, or a dict, not a {type(found).__name__}"
        )
    handlers = Handlers()
    for job_type, handler in found.items():
        handlers.register(job_type, handler)
    return handlers


def _metrics(port: int | None, address: str | None, database: PromptStudioDatabase) -> Metrics:
    if port is None:
        return Metrics()
    try:
        # Here, so that who needs no metrics needs no prometheus_client.
        from prompt_studio.prometheus_metrics import PrometheusMetrics  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise InputError(
            "--metrics-port needs prometheus_client: install the extra, prompt-studio-core[metrics]"
        ) from error
    metrics = PrometheusMetrics()
    metrics.watch_queue(database)
    try:
        served = metrics.serve(port) if address is None else metrics.serve(port, address)
    except OSError as error:
        named = f"--metrics-port {port}" + (f" of --metrics-address {address}" if address is not None else "")
        raise InputError(f"{named} cannot be had: {error}: name another one") from error
    _log.info("metrics on port %s", served, extra={"metrics_port": served})
    return metrics


async def worked(manager: JobManager, concurrency: int, signals: StopSignals) -> None:
    """Work until stopped by a signal; a process that must leave a job to its lease is ended."""
    working = asyncio.ensure_future(manager.start_processing(concurrency))
    await asyncio.sleep(0)  # it has begun, so that a stop finds it
    signals.listen()
    _log.info("working", extra={"worker_id": manager.worker_id, "process_id": os.getpid()})
    try:
        in_order = await working
    except BaseException as error:
        signals.expect_end(error)
        raise
    signals.expect_end()
    if not in_order:
        # A handler that does not end would keep the loop, and with it the process, for ever.
        _log.error("stopped, and left a job to its lease", extra={"worker_id": manager.worker_id})
        logging.shutdown()
        os._exit(NOT_DONE)


def _whole(low: int, high: int) -> Callable[[str], int]:
    """Reads a whole number in a range."""

    def read(text: str) -> int:
        number = int(text) if _DIGITS.fullmatch(text) else low - 1
        if not low <= number <= high:
            raise ArgumentTypeError(f"must be a whole number from {low} to {high}, not {text!r}")
        return number

    return read
