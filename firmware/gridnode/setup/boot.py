"""Why the node started, and whether it may run."""

import machine
import time

from gridnode import health, storage

HOLD = "hold"  # reason of a reset after which the application does not start


def reset(reason):
    """Reset the node; the next start tells why."""
    retained = storage.Retained(machine.RTC())
    record = retained.read(health.RECORD)
    health.announce(retained, record[0] if record else 0, reason)
    machine.reset()


def held():
    """Whether the host wants this start without the application: all of the heap, and of the VM's table of names."""
    retained = storage.Retained(machine.RTC())
    record = retained.read(health.RECORD)
    if not record or record[1:].decode() != HOLD:
        return False
    health.announce(retained, record[0], "")
    machine.WDT(timeout=600000).feed()  # to the first call of the host
    health.say("held")
    return True


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


def tell(machine, boot):
    """Say it on the console; after too many unhealthy boots, wait for a technician first."""
    health.say("boot", firmware=health.VERSION, cause=boot.cause, reason=boot.reason)
    if boot.safe_mode:
        action = "wait 5 min for a technician, then try again"
        health.say("safe_mode", unhealthy_boots=boot.unhealthy, action=action)
        machine.WDT(timeout=600000).feed()
        time.sleep(300)
