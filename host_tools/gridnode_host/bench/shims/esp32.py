"""`esp32`: NVS, partitions, temperature, heap figures."""

# ruff: noqa: I001, RET503

import _bus



class Flash:
    """The `vfs` partition as a block device; allocates nothing, for finalisers use it too."""

    def readblocks(self, block, data, offset=0):
        _bus.transfer(10, 0, len(data), block * 4096 + offset, None, data)

    def writeblocks(self, block, data, offset=None):
        if offset is None:
            offset = 0
            for sector in range((len(data) + 4095) // 4096):
                _bus.transfer(12, 0, 0, block + sector, None, None)
        _bus.transfer(11, 0, 0, block * 4096 + offset, data, None)

    def ioctl(self, op, arg):
        if op == 4:
            return Partition.size // 4096
        if op == 5:
            return 4096
        if op == 6:
            _bus.transfer(12, 0, 0, arg, None, None)
        return 0


class Partition(Flash):
    BOOT = 0
    RUNNING = 1
    TYPE_APP = 0
    TYPE_DATA = 1
    size = 0  # of the file system; set at start

    def __init__(self, name, block_size=4096):
        self._name = name if isinstance(name, str) else "factory"

    @staticmethod
    def find(type=1, subtype=255, label=None, block_size=4096):
        names = ("vfs",) if type else ("factory",)
        return [Partition(n) for n in names if label in (None, n)]

    def info(self):
        if self._name == "vfs":
            return (1, 0x81, 0x200000, self.size, "vfs", False)
        return (0, 0, 0x10000, 0x1F0000, self._name, False)

    @staticmethod
    def mark_app_valid_cancel_rollback():
        pass


class NVS:
    def __init__(self, namespace):
        self._space = namespace

    def _key(self, key, kind):
        return "{}\0{}\0{}\0".format(self._space, key, kind).encode()

    def _get(self, key, kind):
        try:
            data = _bus.call(60, out=self._key(key, kind))
        except OSError:
            raise OSError(-4354, "ESP_ERR_NVS_NOT_FOUND")
        return data or b""

    def get_i32(self, key):
        value = int.from_bytes(self._get(key, "i"), "little")
        return value - (value >> 31 << 32)

    def set_i32(self, key, value):
        _bus.call(61, out=self._key(key, "i") + (value & 0xFFFFFFFF).to_bytes(4, "little"))

    def get_blob(self, key, data):
        value = self._get(key, "b")
        if len(value) > len(data):
            raise OSError(-4364, "ESP_ERR_NVS_INVALID_LENGTH")
        data[: len(value)] = value
        return len(value)

    def set_blob(self, key, value):
        _bus.call(61, out=self._key(key, "b") + bytes(value))

    def erase_key(self, key):
        try:
            _bus.call(62, out="{}\0{}\0".format(self._space, key).encode())
        except OSError:
            raise OSError(-4354, "ESP_ERR_NVS_NOT_FOUND")

    def commit(self):
        pass


def mcu_temperature():
    return _bus.call(63) // 100 - 273


def raw_temperature():
    return (_bus.call(63) - 27300) * 9 // 500 + 32
