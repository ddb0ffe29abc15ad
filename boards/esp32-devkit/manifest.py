# What the image of this board carries. The application is frozen as compiled by `gridnode build --arch xtensawin`;
# umqtt.simple is the one of the MicroPython release. WebREPL, mip and the shell helpers of the stock image stay out.
freeze("$(PORT_DIR)/modules", ("_boot.py", "inisetup.py", "flashbdev.py", "machine.py"))
include("$(MPY_DIR)/extmod/asyncio")
require("ssl")
require("umqtt.simple")
freeze_mpy("../../build/image/xtensawin", "main.mpy")
freeze_mpy("../../build/image/xtensawin", "gridnode")
