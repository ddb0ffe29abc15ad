"""Register addresses, reset values and units of the ADE7953 (data sheet Rev. B, pages 60 to 67).

Registers of 24 bits have a second address for access with 32: here they go by the latter.
"""

from __future__ import annotations

SAGCYC, DISNOLOAD, LCYCMODE = 0x000, 0x001, 0x004
PGA_V, PGA_IA, PGA_IB = 0x007, 0x008, 0x009
WRITE_PROTECT = 0x040
LAST_OP, UNLOCK = 0x0FD, 0x0FE
VERSION, EX_REF = 0x702, 0x800
ZXTOUT, LINECYC, CONFIG, CF1DEN, CF2DEN, CFMODE = 0x100, 0x101, 0x102, 0x103, 0x104, 0x107
PHCALA, PHCALB = 0x108, 0x109
PFA, PFB, ANGLE_A, ANGLE_B, PERIOD = 0x10A, 0x10B, 0x10C, 0x10D, 0x10E
ALT_OUTPUT, OPTIMUM, LAST_ADD = 0x110, 0x120, 0x1FE
LAST_RWDATA = {0x0FF: 1, 0x1FF: 2, 0x2FF: 3, 0x3FF: 4}  # address -> bytes

SAGLVL, ACCMODE = 0x300, 0x301
AP_NOLOAD, VAR_NOLOAD, VA_NOLOAD = 0x303, 0x304, 0x305
AVA, BVA, AWATT, BWATT, AVAR, BVAR, IA, IB, V = range(0x310, 0x319)
IRMSA, IRMSB, VRMS = 0x31A, 0x31B, 0x31C
AENERGYA, AENERGYB, RENERGYA, RENERGYB, APENERGYA, APENERGYB = range(0x31E, 0x324)
OVLVL, OILVL = 0x324, 0x325
VPEAK, RSTVPEAK, IAPEAK, RSTIAPEAK, IBPEAK, RSTIBPEAK = range(0x326, 0x32C)
IRQENA, IRQSTATA, RSTIRQSTATA, IRQENB, IRQSTATB, RSTIRQSTATB = range(0x32C, 0x332)
CRC = 0x37F
AIGAIN, AVGAIN, AWGAIN, AVARGAIN, AVAGAIN = range(0x380, 0x385)
AIRMSOS, VRMSOS, AWATTOS, AVAROS, AVAOS = 0x386, 0x388, 0x389, 0x38A, 0x38B
BIGAIN, BVGAIN = 0x38C, 0x38D  # B's gains and offsets lie 12 above A's

# Bits of IRQSTATA; of those for one current, the ones of channel B are in IRQSTATB.
AEHF, AEOF, AP_NOLOAD_BIT, APSIGN = 0, 3, 6, 9  # active; + 1 reactive, + 2 apparent
ZXTO_I, ZXI, OI = 11, 12, 13
ZXTO, ZXV, OV, WSMP, CYCEND, SAG, RESET, CRC_CHANGED = range(14, 22)

RESET_VALUES = {
    SAGCYC: 0,
    DISNOLOAD: 0,
    LCYCMODE: 0x40,
    PGA_V: 0,
    PGA_IA: 0,
    PGA_IB: 0,
    WRITE_PROTECT: 0,
    EX_REF: 0,
    ZXTOUT: 0xFFFF,
    LINECYC: 0,
    CONFIG: 0x8004,
    CF1DEN: 0x003F,
    CF2DEN: 0x003F,
    CFMODE: 0x0300,
    PHCALA: 0,
    PHCALB: 0,
    ALT_OUTPUT: 0,
    OPTIMUM: 0,
    SAGLVL: 0,
    ACCMODE: 0,
    AP_NOLOAD: 0x00E419,
    VAR_NOLOAD: 0x00E419,
    VA_NOLOAD: 0,
    OVLVL: 0xFFFFFF,
    OILVL: 0xFFFFFF,
    IRQENA: 1 << RESET,
    IRQENB: 0,
    **dict.fromkeys(range(AIGAIN, 0x398), 0),
    **dict.fromkeys((*range(AIGAIN, AVAGAIN + 1), *range(BIGAIN, 0x391)), 0x400000),
}
"""What can be written."""

READ_ONLY = frozenset(
    {VERSION, LAST_OP, LAST_ADD, CRC, *LAST_RWDATA, *range(PFA, PERIOD + 1)}
    | {*range(AVA, APENERGYB + 1)} - {0x319, 0x31D}
    | {*range(VPEAK, IRQENA), IRQSTATA, RSTIRQSTATA, IRQSTATB, RSTIRQSTATB}
)

# Sign-extended where read with 32 bits; of the others the top byte is zero.
SIGNED = frozenset({*range(AVA, V + 1), *range(AENERGYA, APENERGYB + 1)}) | frozenset(
    address
    for address in range(AIGAIN, 0x398)
    if RESET_VALUES[address] == 0
)

# What the checksum covers (data sheet, table 12), in this order.
CHECKED = (
    *(LCYCMODE, PGA_V, PGA_IA, PGA_IB, WRITE_PROTECT, CONFIG, CF1DEN, CF2DEN, CFMODE),
    *(PHCALA, PHCALB, ALT_OUTPUT, ACCMODE, IRQENA, IRQENB),
    *range(AIGAIN, 0x398),
)
RESET_CRC = 0x48739163

UPDATE_HZ = 3.58e6 / 512  # 6.99 kHz
COUNTER_HZ = 223_750.0  # of period and angle
ZXTOUT_HZ = 3.58e6 / 256
PHCAL_S = 1.117e-6
FULL_SCALE_MV = 500.0  # peak, at a gain of 1
RMS_FULL_SCALE = 9_032_007
POWER_FULL_SCALE = 4_862_401
WAVE_FULL_SCALE = 6_500_000
ENERGY_HZ = 206_900.0  # counts at full scale
UNITY = 0x400000
PGA = (1.0, 2.0, 4.0, 8.0, 16.0, 22.0)
SETTLE_S = 0.2
PERIOD_SETTLE_S = 0.04
START_S = 0.066  # 26 ms for the supply and 40 ms for the circuits
ZERO_CROSSING_FLOOR = 1 / 1250  # of full scale: below, a signal has no zero crossings


def width(address: int) -> int:
    """Bytes of a register by its address; 0 where there is none."""
    return {0: 1, 1: 2, 2: 3, 3: 4, 7: 1, 8: 1}.get(address >> 8, 0)


def canonical(address: int) -> int:
    """The one address under which a register is kept."""
    return address + 0x100 if address >> 8 == 2 else address


def signed24(value: int) -> int:
    """24 bits as two's complement."""
    return value - 0x1000000 if value & 0x800000 else value


def phase_steps(value: int) -> int:
    """A PHCAL register: sign and magnitude, + delays the current."""
    magnitude = min(value & 0x1FF, 383)
    return -magnitude if value & 0x200 else magnitude


def checksum(changed: list[int]) -> int:
    """CRC of the configuration; `changed` is, per register of CHECKED, what differs from reset.

    A CRC is linear: registers that are as after a reset, the reserved ones included, leave the
    data sheet's value alone. In which order and at which width the chip takes the registers is
    not published to the last bit, so other values than that after a reset are this model's own.
    """
    crc = 0
    for value in changed:
        for bit in range(32):
            feedback = (crc >> 31 ^ value >> bit) & 1
            crc = (crc << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if feedback else 0)
    return crc ^ RESET_CRC
