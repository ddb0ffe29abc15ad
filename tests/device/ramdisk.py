"""A small littlefs in RAM, and RTC memory, for tests of what a node keeps."""

import gc
import io
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


class Disk:
    """A block device in RAM whose supply fails before operation number `left` of its writes and erases.

    With `torn`, the first half of the write that fails gets through. Like the flash of a node it allocates nothing: a
    collection amid of an operation would close forgotten files under littlefs, and with the heap locked.
    """

    def __init__(self, blocks=64, size=512):
        self.blocks = blocks
        self.size = size
        self._blank = b"\xff" * size
        self._memory = io.BytesIO()
        for _ in range(blocks):
            self._memory.write(self._blank)
        self.supply()

    def image(self):
        """A copy of the content."""
        self._memory.seek(0)
        return self._memory.read()

    def put(self, image):
        """Put a copy back."""
        self._memory.seek(0)
        self._memory.write(image)

    def supply(self, left=-1, torn=False):
        """Switch on; the power stays for `left` operations (-1: for good)."""
        self.left = left
        self.torn = torn
        self.dead = False

    def _fails(self):
        # Errors are returned: an exception would leave files half closed behind.
        if not self.left:
            self.dead = True
        self.left -= 1
        return self.dead

    def readblocks(self, n, buf, off=0):
        if self.dead:
            return -5
        self._memory.seek(n * self.size + off)
        self._memory.readinto(buf)
        return 0

    def writeblocks(self, n, buf, off=0):
        alive = not self.dead
        if self._fails():
            if alive and self.torn:
                self._memory.seek(n * self.size + off)
                self._memory.write(buf, len(buf) // 2)
            return -5
        self._memory.seek(n * self.size + off)
        self._memory.write(buf)
        return 0

    def ioctl(self, op, arg):
        if op == 4:
            return self.blocks
        if op == 5:
            return self.size
        if op == 6:
            if self._fails():
                return -5
            self._memory.seek(arg * self.size)
            self._memory.write(self._blank)
        return 0


def setup():
    gc.collect()
    disk = Disk()
    vfs.VfsLfs2.mkfs(disk)
    vfs.mount(disk, BASE)
    return lambda: vfs.umount(BASE)


class Root(Disk):
    """A disk that is the root of the file system inside of each `with root:`, which is a time with power.

    A failure of the supply ends that time and is no error. Meanwhile no module can be imported.
    """

    def __init__(self, blocks=64, size=512):
        super().__init__(blocks, size)
        vfs.VfsLfs2.mkfs(self)
        self.failed = False  # in the last time with power

    def __enter__(self):
        vfs.umount("/")
        vfs.mount(self, "/")

    def __exit__(self, kind, error, trace):
        vfs.umount("/")
        vfs.mount(vfs.VfsPosix("/"), "/")
        self.failed = self.dead
        self.supply()
        return self.failed and isinstance(error, Exception) and not isinstance(error, AssertionError)

    def cuts(self, action):
        """Repeat `action` from the present content, the power cut at each operation in turn; yields its number.

        Twice: with a clean cut and with one that tears a write. In the last round of each, nothing has failed.
        """
        before = self.image()
        for torn in (False, True):
            n = -1
            self.failed = True
            while self.failed:
                n += 1
                self.put(before)
                self.supply(n, torn)
                with self:
                    action()
                failed = self.failed
                yield n
                self.failed = failed
            assert n, "the action writes nothing"
        self.put(before)
