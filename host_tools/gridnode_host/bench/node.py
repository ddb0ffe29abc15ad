"""The virtual node: a board on a serial port, with a MicroPython VM as its processor."""

from __future__ import annotations

import logging
import os
import queue
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from gridnode_host import build
from gridnode_host.bench import vm as processor
from gridnode_host.bench.board import Board, Cause
from gridnode_host.bench.clock import RigClock
from gridnode_host.bench.flash import NorFlash
from gridnode_host.bench.run import Run
from gridnode_host.bench.serial_port import SerialPort
from gridnode_host.bench.wiring import Wiring

HEAP_KB = 96
"""Heap of the application in K words: the chip's budget for it, code included, since the VM like a
stock image keeps imported code on the heap. Counted in words because objects are twice as large
in a 64-bit VM (code 1.5 times). What the shims take is added: on the chip they are not Python."""

CHIP_KB = 160
"""All the heap of an ESP32, for a node with its detector: the 150 KB that it starts with (TLS has its 35 KB
beside them), and the 9 KB by which a VM's table of names grows at the 1261st: 306 of them are the shims',
which the chip has in its ROM."""

_ROM = {
    Cause.POWER_ON: (0x1, "POWERON_RESET"),
    Cause.HARD: (0xC, "SW_CPU_RESET"),
    Cause.WDT: (0xC, "SW_CPU_RESET"),
    Cause.DEEPSLEEP: (0x5, "DEEPSLEEP_RESET"),
}
_COMMAND_TIMEOUT_S = 20
_FALLBACK_S = 0.25
"""A Ctrl-C that the VM has not taken over the bus after this time becomes a signal."""
_QUIET_S = 0.02
_CLOCK_PERIOD_S = 0.05

log = logging.getLogger(__name__)


class VirtualNode:
    """An ESP32 with a flash, a serial port and what is wired to it.

    ``folder`` keeps what survives the loss of power (flash image, NVS). Without ``image`` the node
    runs ``/main.py`` of its file system, as a stock MicroPython does. All methods are thread-safe.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        image: Path | None,
        wiring: Wiring,
        clock: RigClock,
        micropython: str | None = None,
        heap_kb: int | None = None,
    ) -> None:
        self.name = name
        self.wiring = wiring
        self.clock = clock
        self.micropython = micropython or build.micropython()
        self.heap_kb = heap_kb or HEAP_KB
        self.image = image
        folder.mkdir(parents=True, exist_ok=True)
        self.flash = NorFlash(folder / "flash.bin")
        self.flash.on_cut = lambda: self._post(self._power_fails)
        self.board = Board(name, folder / "nvs.json", clock, wiring)
        self.board.on_clock_set = self._lead_clock
        self.serial = SerialPort(self._line)
        self.port = self.serial.port
        """Path of the serial port."""
        self._listeners: list[Callable[[str], None]] = []
        self._clock_file = folder / "clock" if processor.follows_clock(self.micropython) else None
        self._clock_lock = threading.Lock()
        self._clock_led_at = 0.0
        self._powered = False
        self._current: Run | None = None
        self._crashes = 0
        self._due: tuple[float, Cause] | None = None
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        self._thread: threading.Thread | None = None
        self._stopping = False

    # the bench's side

    def start(self) -> None:
        """Plug the node in: the serial port is served and the power comes on."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name=f"{self.name}-node", daemon=True
            )
            self._thread.start()
        self.power_on()

    def stop(self) -> None:
        """Cut the power and release everything; only what lies in the folder remains."""
        if self._thread is not None:
            self._do(self._power_fails)
            self._stopping = True
            self._post(lambda: None)
            self._thread.join(_COMMAND_TIMEOUT_S)
            self._thread = None
        if self._wake_r >= 0:
            self.serial.close()
            self.flash.close()
            os.close(self._wake_r)
            os.close(self._wake_w)
            self._wake_r = self._wake_w = -1
            if self._clock_file:
                self._clock_file.unlink(missing_ok=True)

    def __enter__(self) -> VirtualNode:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def power_on(self) -> None:
        """Switch the power on, if it is off."""
        self._do(self._power_comes)

    def power_off(self) -> None:
        """Cut the power."""
        self._do(self._power_fails)

    def power_cycle(self, off_s: float = 0.0) -> None:
        """Cut the power for rig seconds."""
        self.power_off()
        self.clock.sleep(off_s)
        self.power_on()

    def reset(self) -> None:
        """Pull EN low for a moment. The chip reports this as power-on, and so do we."""
        self._do(self._stops)
        self.power_on()

    @property
    def alive(self) -> bool:
        """Whether the processor runs."""
        run = self._current
        return run is not None and run.vm.process.poll() is None

    @property
    def powered(self) -> bool:
        """Whether the power is on."""
        return self._powered

    @property
    def reset_cause(self) -> str:
        """Why the node last started: power_on, hard, wdt, deepsleep or soft."""
        return self.board.cause.name.lower()

    @property
    def console(self) -> bytes:
        """The newest output on the serial port, 64 KB at most."""
        return bytes(self.serial.tail)

    def on_line(self, callback: Callable[[str], None]) -> None:
        """Call back with each line on the console, from the node's own thread."""
        self._listeners.append(callback)

    # the supervisor's thread

    def _do(self, action: Callable[[], None]) -> None:
        """Run an action in the supervisor's thread and wait for it."""
        if self._thread is None:
            return
        if threading.current_thread() is self._thread:
            action()
            return
        done: Future[None] = Future()

        def run() -> None:
            try:
                action()
            except BaseException as err:  # noqa: BLE001 - it is raised in the caller's thread
                done.set_exception(err)
            else:
                done.set_result(None)

        self._post(run)
        done.result(_COMMAND_TIMEOUT_S)

    def _post(self, action: Callable[[], None]) -> None:
        self._commands.put(action)
        try:
            os.write(self._wake_w, b"!")
        except OSError:
            pass  # it is awake already, or has ended

    def _run(self) -> None:
        serial = self.serial
        while not self._stopping:
            with selectors.DefaultSelector() as selector:
                selector.register(self._wake_r, selectors.EVENT_READ)
                both = selectors.EVENT_READ | selectors.EVENT_WRITE
                wants = both if serial.host_wants else selectors.EVENT_READ
                selector.register(serial.master, wants)
                if serial.inner is not None:
                    wants = both if serial.vm_wants else selectors.EVENT_READ
                    selector.register(serial.inner, wants)
                inner = serial.inner
                ready = selector.select(self._patience())
            for key, events in ready:
                if key.fd == self._wake_r:
                    os.read(self._wake_r, 4096)
                elif key.fd == serial.master:
                    if events & selectors.EVENT_READ:
                        serial.read_host()
                    if events & selectors.EVENT_WRITE:
                        serial.write_host()
                elif key.fd == inner:
                    if events & selectors.EVENT_READ:
                        serial.read_vm()
                    if events & selectors.EVENT_WRITE:
                        serial.write_vm()
            while not self._commands.empty():
                self._obey(self._commands.get())
            self._obey(self._tend)

    def _obey(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            log.exception("%s: the supervisor goes on", self.name)

    def _patience(self) -> float | None:
        """Return the seconds until something is due without an event."""
        waits = [left for left in (self.board.wdt_left_s(),) if left is not None]
        if self._due:
            waits.append(self._due[0] - time.monotonic())
        if self._current and self._clock_file and self.clock.rate != 1:
            waits.append(_CLOCK_PERIOD_S)
        if self.serial.interrupt or self.serial.host_wants or self.serial.tend():
            waits.append(0.01)
        waits.append(0.25)  # a change of the rate moves what is due
        return max(0.0, min(waits))

    def _tend(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._due and now >= self._due[0]:
            cause = self._due[1]
            self._due = None
            self._boot(cause)
        left = self.board.wdt_left_s()
        if left is not None and left <= 0:
            self._say("Task watchdog got triggered.")
            self._restart(Cause.WDT)
        if self.serial.tend() and self.serial.interrupt:
            self._signal_if_busy(now)
        leading = self._current and self._clock_file and self.clock.rate != 1
        if leading and now - self._clock_led_at > _CLOCK_PERIOD_S:
            self._lead_clock()

    def _signal_if_busy(self, now: float) -> None:
        """A program that never looks at the bus gets the Ctrl-C as a signal."""
        waited = now - self.serial.interrupted_at
        run = self._current
        if waited < _FALLBACK_S or run is None:
            return
        if now - run.bus.last_request < _QUIET_S and waited < 4 * _FALLBACK_S:
            return  # not in the middle of a transaction if that can be avoided
        self.serial.interrupt = False
        try:
            os.kill(run.vm.process.pid, signal.SIGINT)
        except ProcessLookupError:
            pass

    def _power_comes(self) -> None:
        if not self._powered:
            self._powered = True
            self._crashes = 0
            self.wiring.power(True)
            self._boot(Cause.POWER_ON)

    def _power_fails(self) -> None:
        self._stops()
        self.wiring.power(False)

    def _stops(self) -> None:
        self._powered = False
        self._due = None
        self._halt()
        self.board.reset(Cause.POWER_ON)

    def _restart(self, cause: Cause, delay_s: float = 0.0) -> None:
        if not self._powered:
            return
        self._halt()
        if delay_s > 0:
            self._due = (time.monotonic() + delay_s, cause)
        else:
            self._boot(cause)

    def _halt(self) -> None:
        run, self._current = self._current, None
        if run:
            run.halt()

    def _boot(self, cause: Cause) -> None:
        if cause == Cause.SOFT:
            self._say("MPY: soft reboot")
        else:
            self.serial.raw = False
            number, text = _ROM[cause]
            self._say("ets Jul 29 2019 12:21:46\r\n")
            self._say(f"rst:0x{number:x} ({text}),boot:0x13 (SPI_FAST_FLASH_BOOT)")
        self.board.reset(cause)
        self._lead_clock()
        vm = processor.start(self.micropython, self.heap_kb, self._clock_file)
        self.serial.attach(vm.terminal)
        self._current = Run(self, vm)

    def _vm_ended(self, run: Run) -> None:
        """The VM has ended by itself: an exit is a soft reset, anything else a panic."""
        if self._current is not run:
            return
        try:
            code = run.vm.process.wait(2)
        except subprocess.TimeoutExpired:
            code = -1  # it has closed the bus and lives on: end it
        self._halt()
        if code == 0 or (code > 0 and b"FATAL:" not in self.serial.tail[-200:]):
            self._restart(Cause.SOFT)
            return
        quick = time.monotonic() - run.started_at < 2
        self._crashes = self._crashes + 1 if quick else 0
        log.warning("%s: the VM has crashed (%d)", self.name, code)
        self._say(f"Guru Meditation Error: the processor has stopped ({code}).")
        self._restart(Cause.HARD, min(5.0, 0.1 * 2**self._crashes) if self._crashes else 0.0)

    def _say(self, line: str) -> None:
        self.serial.say(line.encode() + b"\r\n")

    def _line(self, line: str) -> None:
        for listener in self._listeners:
            try:
                listener(line)
            except Exception:
                log.exception("%s: a listener has failed", self.name)

    def _lead_clock(self) -> None:
        """Write where the VM's C library finds how far the node's time is from real time."""
        if self._clock_file is None:
            return
        with self._clock_lock:
            self._clock_led_at = time.monotonic()
            ahead = self.board.node_ns(self.clock.now_ns()) - time.time_ns()
            new = self._clock_file.with_suffix(".new")
            new.write_text(f"{ahead / 1e9:+.6f}")
            new.replace(self._clock_file)

    # called from the bus's thread

    def post(self, run: Run, action: Callable[[], None]) -> None:
        """Have an action done in the supervisor's thread, while the run lasts."""

        def act() -> None:
            if self._current is run:
                action()

        self._post(act)

    def ended(self, run: Run) -> None:
        """The VM has closed the bus."""
        self._post(lambda: self._vm_ended(run))

    def reset_by_program(self, run: Run, cause: Cause, delay_s: float) -> None:
        """The program asks for a reset, some rig seconds later when it sleeps deeply."""
        self.post(run, lambda: self._restart(cause, delay_s / self.clock.rate))
