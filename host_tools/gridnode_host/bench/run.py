"""One run of a node's processor, from a reset to the next: what the VM asks and gets."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from gridnode_host.bench.board import EPOCH_2000, Board, Cause
from gridnode_host.bench.bus import (
    FLAG_CLOCK,
    FLAG_INTERRUPT,
    Answer,
    BusServer,
    Handler,
    NoReply,
    Op,
)
from gridnode_host.bench.clock import RigClock, SteppedClock, monotonic_ns
from gridnode_host.bench.flash import NorFlash
from gridnode_host.bench.network import Network
from gridnode_host.bench.one_wire import OneWireBus
from gridnode_host.bench.peripherals import Buses, Converter, Pins
from gridnode_host.bench.serial_port import SerialPort
from gridnode_host.bench.uarts import Uarts
from gridnode_host.bench.vm import Vm, forget_shared_memory
from gridnode_host.bench.wiring import Wiring

_LOW = (1 << 30) - 1
"""Node ticks travel with the bits that every VM's small integers have."""


class Owner(Protocol):
    """What a run needs of its node; the methods are called from the bus's thread."""

    name: str
    wiring: Wiring
    clock: RigClock
    flash: NorFlash
    board: Board
    serial: SerialPort
    image: Path | None

    def post(self, run: Run, action: Callable[[], None]) -> None:
        """Have an action done in the supervisor's thread, while the run lasts."""

    def ended(self, run: Run) -> None:
        """The VM has closed the bus."""

    def reset_by_program(self, run: Run, cause: Cause, delay_s: float) -> None:
        """The program asks for a reset, some rig seconds later when it sleeps deeply."""


class Run:
    """A VM with its bus. It gets fresh peripherals, as the chip does by a reset."""

    def __init__(self, owner: Owner, vm: Vm) -> None:
        self.vm = vm
        self.started_at = time.monotonic()
        self._owner = owner
        self._converter = Converter(owner.wiring, owner.clock)
        self._generation = -1
        self._stepped = owner.clock if isinstance(owner.clock, SteppedClock) else None
        self._tick = 0
        self.bus = BusServer(
            vm.bus,
            self._handlers(),
            self._flags,
            lambda: owner.ended(self),
            owner.name,
            self._passed,
        )

    def halt(self) -> None:
        """End the VM at once, pass on what it has printed, and end the bus."""
        self.vm.kill()
        self._owner.serial.detach()
        self.bus.close()

    def _handlers(self) -> Mapping[int, Handler]:
        owner = self._owner
        flash, serial = owner.flash, owner.serial
        pins = Pins(owner.wiring)
        handlers: dict[int, Handler] = {
            Op.HELLO: self._hello,
            Op.READY: lambda *_: self._answer_after(serial.ready),
            Op.DONE: lambda *_: self._answer_after(serial.enter_repl),
            Op.TICK: lambda *_: 0,
            Op.CLOCK: self._rate,
            Op.RESET: self._reset,
            Op.FLASH_READ: lambda _a, n, address, _d: flash.read(address, n),
            Op.FLASH_WRITE: lambda _a, _b, address, data: flash.program(address, data),
            Op.FLASH_ERASE: lambda _a, _b, sector, _d: flash.erase(sector),
        }
        parts = (
            owner.board,
            self._converter,
            pins,
            Buses(owner.wiring, pins),
            Uarts(owner.wiring, owner.clock),
            OneWireBus(owner.wiring),
            Network(owner.wiring, owner.clock),
        )
        for part in parts:
            handlers.update(part.handlers())
        return handlers

    def _answer_after(self, action: Callable[[], None]) -> Answer:
        def act() -> None:
            action()
            self.bus.answer()

        self._owner.post(self, act)
        raise NoReply

    def _passed(self, tick: int) -> None:
        """Follow a node that steps the clock; its ticks start at 0."""
        if self._stepped and tick != self._tick:
            self._stepped.step((tick - self._tick) & _LOW)
            self._tick = tick

    def _flags(self, op: int) -> int:
        flags = 0
        if self._generation != self._owner.clock.generation:
            flags |= FLAG_CLOCK
        serial = self._owner.serial
        # not within a file system operation or the start: they are not made to be left
        if serial.interrupt and op >= Op.TICK and not Op.FLASH_READ <= op <= Op.FLASH_ERASE:
            serial.interrupt = False
            flags |= FLAG_INTERRUPT
        return flags

    def _hello(self, _a: int, _b: int, _c: int, _data: bytes) -> Answer:
        owner = self._owner
        forget_shared_memory(self.vm.process.pid)
        tick = 0 if self._stepped else monotonic_ns() // 1000  # the VM's ticks are this clock
        rig_ns = owner.clock.rig_at(tick * 1000)
        self._converter.anchor(tick & _LOW, rig_ns)
        seconds, rest_ns = divmod(owner.board.node_ns(rig_ns) - EPOCH_2000 * 10**9, 10**9)
        conversion_ns = round(owner.wiring.conversion_us * 1000)
        greeting = struct.pack(
            "<2iI5i",
            tick & _LOW,
            0 if self._stepped else owner.clock.rate,
            seconds & 0xFFFFFFFF,
            rest_ns // 1000,
            conversion_ns,
            not owner.serial.raw,  # main.py does not run while the host is in the raw REPL
            owner.board.cause,
            owner.flash.size,
        )
        image = str(owner.image.resolve()) if owner.image else ""
        return greeting + owner.board.mac + image.encode()

    def _rate(self, _a: int, _b: int, _c: int, _data: bytes) -> Answer:
        clock = self._owner.clock
        self._generation = clock.generation
        newest = clock.newest
        start = max(newest.mono_ns, monotonic_ns())
        return struct.pack("<2i", start // 1000 & _LOW, newest.rate)

    def _reset(self, kind: int, ms: int, _c: int, _data: bytes) -> Answer:
        self._owner.reset_by_program(self, Cause(kind), ms / 1000)
        raise NoReply
