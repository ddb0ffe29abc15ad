"""What the chip does between power and prompt."""

# ruff: noqa: I001, BLE001, E402, F401

import sys
from struct import unpack_from

import vfs

import _bus
import _clock

_hello = _bus.transfer(1, 0, 0, 0, None, None)
_clock.start(_hello)

import esp32
import machine
import network
import onewire
import select
import socket
import time

_run_main, machine._cause, esp32.Partition.size = unpack_from("<3i", _hello, 20)
machine._id = _hello[32:38]
_image = _hello[38:].decode()

for _name in ("time", "select", "socket", "machine"):
    sys.modules["u" + _name] = sys.modules[_name]


def _exists(path):
    import os

    try:
        os.stat(path)
    except OSError:
        return False
    return True


def _mount():
    import os

    flash = esp32.Partition("vfs")
    try:
        vfs.mount(vfs.VfsLfs2(flash), "/")
    except OSError:
        first = bytearray(256)
        flash.readblocks(0, first)
        if first.strip(b"\xff"):
            print("The file system is damaged: it is made new.")
        vfs.VfsLfs2.mkfs(flash)
        vfs.mount(vfs.VfsLfs2(flash), "/")
    os.chdir("/")
    if _image:
        vfs.mount(vfs.VfsPosix(_image), "/rom", readonly=True)


def _run(what):
    try:
        what()
    except SystemExit:
        machine.soft_reset()
    except BaseException as err:
        sys.print_exception(err)


def _application():
    if _image and (_exists("/rom/main.mpy") or _exists("/rom/main.py")):
        __import__("main")
    elif _exists("/main.py"):
        execfile("/main.py")


def start():
    _mount()
    sys.path[:] = [".frozen", "/rom", "/lib"]
    for name in ("_boot", "__main__"):
        sys.modules.pop(name, None)
    _bus.transfer(2, 0, 0, 0, None, None)
    if _exists("/boot.py"):
        _run(lambda: execfile("/boot.py"))
    if _run_main:
        _run(_application)
    _clock.leave()
    _bus.transfer(3, 0, 0, 0, None, None)
