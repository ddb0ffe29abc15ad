# Board definition for MicroPython 1.29: make -C ports/esp32 BOARD_DIR=<this folder>
include(boards/mpconfigboard_esp32_common.cmake)
set(MICROPY_FROZEN_MANIFEST ${MICROPY_BOARD_DIR}/manifest.py)
