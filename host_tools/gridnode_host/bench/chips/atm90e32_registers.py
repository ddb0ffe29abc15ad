"""Register addresses, reset values and units of the ATM90E32AS (Atmel-46003 data sheet)."""

from __future__ import annotations

METER_EN = 0x00
CHANNEL_MAP_I = 0x01
CHANNEL_MAP_U = 0x02
SAG_PEAK_CFG = 0x05
OV_TH = 0x06
SAG_TH = 0x08
PHASE_LOSS_TH = 0x09
IN_WARN_TH = 0x0A
OI_TH = 0x0B
FREQ_LO_TH = 0x0C
FREQ_HI_TH = 0x0D
PL_CONST_H = 0x31
PL_CONST_L = 0x32
MMODE0 = 0x33
MMODE1 = 0x34
P_START_TH = 0x35  # then Q, S
P_PHASE_TH = 0x38  # then Q, S
P_OFFSET = 0x41  # A; every second address, Q_OFFSET in between
Q_OFFSET = 0x42
PQ_GAIN = 0x47  # A; every second address, PHI in between
PHI = 0x48
P_OFFSET_F = 0x51
P_GAIN_F = 0x54
U_GAIN = 0x61  # A; every fourth address, then I gain, U offset, I offset
I_GAIN = 0x62
U_OFFSET = 0x63
I_OFFSET = 0x64
CONFIG_END = 0x70  # of what CfgRegAccEn protects and the CRC covers

SOFT_RESET = 0x70
EMM_STATE0, EMM_STATE1 = 0x71, 0x72
EMM_INT_STATE0, EMM_INT_STATE1 = 0x73, 0x74
EMM_INT_EN0, EMM_INT_EN1 = 0x75, 0x76
LAST_SPI_DATA = 0x78
CRC_ERR_STATUS = 0x79
CRC_DIGEST = 0x7A
CFG_REG_ACC_EN = 0x7F

ENERGY_FIRST, ENERGY_LAST = 0x80, 0xAF  # read-clear
MEASURED_FIRST, MEASURED_LAST = 0xB0, 0xFF

RESET_KEY = 0x789A
ACCESS_KEY = 0x55AA
DIGEST_KEY = 0xAA55

RESET_VALUES = {
    CHANNEL_MAP_I: 0x0210,
    CHANNEL_MAP_U: 0x0654,
    SAG_PEAK_CFG: 0x143F,
    OV_TH: 0xC000,
    0x07: 0x0001,
    SAG_TH: 0x1000,
    PHASE_LOSS_TH: 0x0400,
    IN_WARN_TH: 0xFFFF,
    OI_TH: 0xC000,
    FREQ_LO_TH: 0x1324,
    FREQ_HI_TH: 0x13EC,
    0x22: 5000,
    0x23: 25,
    PL_CONST_H: 0x0861,
    PL_CONST_L: 0xC468,
    MMODE0: 0x0087,
    **{U_GAIN + 4 * phase: 0x8000 for phase in range(3)},
    **{I_GAIN + 4 * phase: 0x8000 for phase in range(3)},
}

SAMPLE_HZ = 8000.0
FULL_SCALE_MV = 720.0  # rms of a sine at the converter's limits
WINDOW_CYCLES = 16
POWER_LSB = 0.00032  # W, var, VA
PHI_STEP_S = 1.0 / 2.048e6
RESET_BUSY_S = 0.005
POWER_ON_BUSY_S = 0.016


def signed(value: int) -> int:
    """A 16-bit register as two's complement."""
    return value - 0x10000 if value & 0x8000 else value


def crc16(words: list[int]) -> int:
    """CRC-16 (x^16 + x^12 + x^5 + 1) over register values, high byte first."""
    crc = 0xFFFF
    for word in words:
        for byte in (word >> 8, word & 0xFF):
            crc ^= byte << 8
            for _ in range(8):
                crc = (crc << 1) ^ (0x1021 if crc & 0x8000 else 0)
            crc &= 0xFFFF
    return crc
