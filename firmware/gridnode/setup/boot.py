"""Why the node started, and whether it may run."""

from gridnode import health


def examine(machine, retained):
    """The record of this boot. A hard reset that nobody announced was a panic: the chip reports both alike."""
    record = retained.read(health.RECORD)
    unhealthy, announced = 0, ""
    if record:
        unhealthy = record[0]
        announced = record[1:].decode()
    causes = {
        machine.PWRON_RESET: "power_on",
        machine.HARD_RESET: "panic",
        machine.WDT_RESET: "wdt",
        machine.DEEPSLEEP_RESET: "deepsleep",
        machine.SOFT_RESET: "soft",
    }
    cause = causes.get(machine.reset_cause(), "unknown")
    reason = None
    if announced and cause in ("panic", "soft"):
        reason = announced
        if cause == "panic":
            cause = "reset"
    if cause in ("panic", "wdt") or (reason or "").startswith("crash"):
        unhealthy += 1
    else:
        unhealthy = 0
    boot = health.Boot(retained, cause, reason, unhealthy)
    boot.announce("")
    return boot
