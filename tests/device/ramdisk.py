"""A small littlefs in RAM, and RTC memory, for tests of what a node keeps."""

import gc
import vfs

BASE = "/ram"


class Rtc:
    """RTC memory as the chip has it: whole bytes in, whole bytes out."""

    def __init__(self):
        self.data = b""

    def memory(self, data=None):
        if data is not None:
            self.data = bytes(data)
        return self.data


def setup():

    gc.collect()

    class Ram:
        def __init__(self):
            self.data = bytearray(b"\xff" * 32768)

        def readblocks(self, n, buf, off=0):
            at = n * 512 + off
            buf[:] = self.data[at : at + len(buf)]

        def writeblocks(self, n, buf, off=0):
            at = n * 512 + off
            self.data[at : at + len(buf)] = buf

        def ioctl(self, op, arg):
            return {4: 64, 5: 512, 6: 0}.get(op, 0)

    disk = Ram()
    vfs.VfsLfs2.mkfs(disk)
    vfs.mount(disk, BASE)
    return lambda: vfs.umount(BASE)
