"""The virtual node: a board on a serial port, with a MicroPython VM as its processor."""

from __future__ import annotations

import logging
import os
import queue
import selectors
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from gridnode_host import build
from gridnode_host.bench import vm as processor
from gridnode_host.bench.board import EPOCH_2000, Board, Cause
from gridnode_host.bench.bus import FLAG_CLOCK, FLAG_INTERRUPT, Answer, BusServer, NoReply, Op
from gridnode_host.bench.clock import RigClock
from gridnode_host.bench.flash import SECTOR, NorFlash
from gridnode_host.bench.network import Network
from gridnode_host.bench.peripherals import Buses, Converter, Pins
from gridnode_host.bench.serial_port import SerialPort
from gridnode_host.bench.wiring import Wiring

HEAP_KB = 128

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
_LOW = (1 << 30) - 1

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
        self._image = image
        folder.mkdir(parents=True, exist_ok=True)
        self.flash = NorFlash(folder / "flash.bin")
        self.flash.on_cut = lambda: self._post(self._power_fails)
        self.board = Board(name, folder / "nvs.json", clock, lambda: wiring.temperature())
        self.board.on_clock_set = self._lead_clock
        self._serial = SerialPort(self._line)
        self.port = self._serial.port
        """Path of the serial port."""
        self._listeners: list[Callable[[str], None]] = []
        self._clock_file = (
            folder / "clock" if processor.follows_clock(self.micropython) else None
        )
        self._clock_lock = threading.Lock()
        self._clock_led_at = 0.0
        self._powered = False
        self._vm: processor.Vm | None = None
        self._bus: BusServer | None = None
        self._generation = -1
        self._started_at = 0.0
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
            self._serial.close()
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
        self.power_cycle()

    @property
    def alive(self) -> bool:
        """Whether the processor runs."""
        vm = self._vm
        return vm is not None and vm.process.poll() is None

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
        return bytes(self._serial.tail)

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
        serial = self._serial
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
                self._commands.get()()
            self._tend()

    def _patience(self) -> float | None:
        """Return the seconds until something is due without an event."""
        waits = [left for left in (self.board.wdt_left_s(),) if left is not None]
        if self._due:
            waits.append(self._due[0] - time.monotonic())
        if self._vm and self._clock_file and self.clock.rate != 1:
            waits.append(_CLOCK_PERIOD_S)
        if self._serial.interrupt or self._serial.host_wants or self._serial.tend():
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
        if self._serial.tend() and self._serial.interrupt:
            self._signal_if_busy(now)
        if self._vm and self._clock_file and self.clock.rate != 1:
            if now - self._clock_led_at > _CLOCK_PERIOD_S:
                self._lead_clock()

    def _signal_if_busy(self, now: float) -> None:
        """A program that never looks at the bus gets the Ctrl-C as a signal."""
        waited = now - self._serial.interrupted_at
        bus = self._bus
        if waited < _FALLBACK_S or bus is None or self._vm is None:
            return
        if now - bus.last_request < _QUIET_S and waited < 4 * _FALLBACK_S:
            return  # not in the middle of a transaction if that can be avoided
        self._serial.interrupt = False
        try:
            os.kill(self._vm.process.pid, 2)
        except ProcessLookupError:
            pass

    def _power_comes(self) -> None:
        if not self._powered:
            self._powered = True
            self._crashes = 0
            self._boot(Cause.POWER_ON)

    def _power_fails(self) -> None:
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

    def _halt(self) -> int:
        """End the VM; return its exit code."""
        vm, bus = self._vm, self._bus
        self._vm = self._bus = None
        code = 0
        if vm:
            code = vm.kill()
            self._serial.detach()
        if bus:
            bus.close()
        return code

    def _boot(self, cause: Cause) -> None:
        if cause == Cause.SOFT:
            self._say("MPY: soft reboot")
        else:
            self._serial.raw = False
            number, text = _ROM[cause]
            self._say("ets Jul 29 2019 12:21:46\r\n")
            self._say(f"rst:0x{number:x} ({text}),boot:0x13 (SPI_FAST_FLASH_BOOT)")
        self.board.reset(cause)
        self._lead_clock()
        self._generation = -1
        self._started_at = time.monotonic()
        vm = processor.start(self.micropython, self.heap_kb, self._clock_file)
        self._vm = vm
        self._serial.attach(vm.terminal)
        self._bus = BusServer(
            vm.bus, self._handlers(vm), self._flags, lambda: self._post(lambda: self._ended(vm)), self.name
        )

    def _ended(self, vm: processor.Vm) -> None:
        """The VM has ended by itself: an exit is a soft reset, anything else a panic."""
        if self._vm is not vm:
            return
        try:
            code = vm.process.wait(2)
        except Exception:  # noqa: BLE001
            code = -1  # it has closed the bus and lives on: end it
        self._halt()
        if code == 0 or (code > 0 and b"FATAL:" not in self._serial.tail[-200:]):
            self._restart(Cause.SOFT)
            return
        quick = time.monotonic() - self._started_at < 2
        self._crashes = self._crashes + 1 if quick else 0
        log.warning("%s: the VM has crashed (%d)", self.name, code)
        self._say(f"Guru Meditation Error: the processor has stopped ({code}).")
        self._restart(Cause.HARD, min(5.0, 0.1 * 2**self._crashes) if self._crashes else 0.0)

    def _say(self, line: str) -> None:
        self._serial.say(line.encode() + b"\r\n")

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

    # the bus's thread

    def _handlers(self, vm: processor.Vm) -> dict[int, Callable[..., Answer]]:
        converter = Converter(self.wiring, self.clock)
        pins = Pins(self.wiring)
        handlers: dict[int, Any] = {
            Op.HELLO: lambda *_: self._hello(vm, converter),
            Op.READY: lambda *_: self._do(self._serial.ready),
            Op.DONE: lambda *_: self._do(self._serial.enter_repl),
            Op.TICK: lambda *_: 0,
            Op.CLOCK: lambda *_: self._rate(),
            Op.RESET: lambda kind, ms, _c, _d: self._reset_by_program(vm, Cause(kind), ms),
            Op.FLASH_READ: lambda _a, n, at, _d: self.flash.read(at, n),
            Op.FLASH_WRITE: lambda _a, _b, at, data: self.flash.program(at, data),
            Op.FLASH_ERASE: lambda _a, _b, sector, _d: self.flash.erase(sector),
        }
        for part in (
            self.board,
            converter,
            pins,
            Buses(self.wiring, self.clock, pins),
            Network(self.wiring, self.clock),
        ):
            handlers.update(part.handlers())
        return handlers

    def _flags(self, op: int) -> int:
        flags = 0
        if self._generation != self.clock.generation:
            flags |= FLAG_CLOCK
        if self._serial.interrupt and op >= Op.TICK and not Op.FLASH_READ <= op <= Op.FLASH_ERASE:
            self._serial.interrupt = False
            flags |= FLAG_INTERRUPT
        return flags

    def _hello(self, vm: processor.Vm, converter: Converter) -> bytes:
        processor.forget_shared_memory(vm.process.pid)
        mono_ns = time.monotonic_ns()
        tick = mono_ns // 1000
        rig_ns = self.clock.rig_at(tick * 1000)
        converter.anchor(tick & _LOW, rig_ns)
        since_2000, rest_ns = divmod(self.board.node_ns(rig_ns) - EPOCH_2000 * 10**9, 10**9)
        conversion_ns = round(self.wiring.conversion_us * 1000)
        rate = self.clock.rate
        greeting = struct.pack(
            "<5i", tick & _LOW, rate, since_2000, rest_ns // 1000, conversion_ns
        )
        greeting += struct.pack(
            "<3i", not self._serial.raw, self.board.cause, self.flash.size // SECTOR * SECTOR
        )
        return greeting + self.board.mac + str(self._image.resolve() if self._image else "").encode()

    def _rate(self) -> bytes:
        self._generation = self.clock.generation
        newest = self.clock.newest
        start = max(newest.mono_ns, time.monotonic_ns())
        return struct.pack("<2i", start // 1000 & _LOW, newest.rate)

    def _reset_by_program(self, vm: processor.Vm, cause: Cause, ms: int) -> Answer:
        delay_s = ms / 1000 / self.clock.rate

        def restart() -> None:
            if self._vm is vm:
                self._restart(cause, delay_s)

        self._post(restart)
        raise NoReply
