"""Totals: integers that never fall, survive restarts, and reject what no load can explain."""

from gridnode import energy, reading, storage
from ramdisk import BASE, Rtc, setup


def ledger(rtc=None, path=BASE + "/energy.bin", channels=1):
    retained = storage.Retained(rtc) if rtc else None
    book = energy.Ledger(channels, 20000, retained, 1, path)
    book.load()
    return book


def block(watts, ms=200):
    x = reading.Reading("main")
    x.at[0]["power"] = watts
    x.ms = ms
    return x


def test_small_power_on_a_large_total_is_not_lost():
    # 100 W for a second is 27.8 mWh: lost in a float32 total beyond 524 kWh.
    end = setup()
    try:
        book = ledger()
        book.total[0] = [10**9 * 20, 0]
        for _ in range(5 * 3600):
            book.account(block(100.0))
    finally:
        end()
    assert book.mwh(0, 0) == 10**9 * 20 + 100 * 1000, book.mwh(0, 0) - 10**9 * 20


def test_import_and_export_apart():
    book = ledger()
    for _ in range(100):
        book.account(block(3600.0, 1000))
        book.account(block(-1800.0, 1000))
    assert book.mwh(0, 0) == 100000 and book.mwh(0, 1) == 50000


def test_chip_counters_and_their_sum():
    book = ledger(channels=4)
    x = reading.Reading("main", 3)
    x.metered = reading.PER_PHASE
    x.ms = 1000
    for k in (1, 2, 3):
        x.energy[2 * k] = 3600000 * k
    x.energy[2 * 3 + 1] = 7200000
    book.account(x)
    assert [book.mwh(k, 0) for k in range(4)] == [6, 1, 2, 3], [book.mwh(k, 0) for k in range(4)]
    assert book.mwh(0, 1) == 2 and book.mwh(3, 1) == 2


def test_implausible_increments_are_rejected():
    book = ledger()
    x = reading.Reading("main")
    x.metered = reading.PER_PHASE
    x.ms = 320
    x.energy[0] = 0xFFFF * 11250000 * 4  # all ones from the bus
    book.account(x)
    x.energy[0] = -5
    book.account(x)
    assert book.mwh(0, 0) == 0 and book.rejected == 2


def test_a_step_of_a_coarse_counter_and_of_an_outage_is_no_fault():
    book = ledger()
    x = reading.Reading("main")
    x.metered = reading.IN_TOTAL
    x.ms = 200
    x.energy[0] = x.energy_step = 36 * 10**9  # 0.01 kWh
    book.account(x)
    assert book.mwh(0, 0) == 10000 and not book.rejected
    x.energy_step = 0
    x.energy[0] = 20000 * 3600 * 10**6  # an hour at the limit
    book.account(x)
    assert book.rejected == 1
    x.energy_ms = 3600000
    book.account(x)
    assert book.mwh(0, 0) == 10000 + 20000000 and book.rejected == 1


def test_a_device_that_counts_in_total_only():
    book = ledger(channels=4)
    x = reading.Reading("main", 3)
    x.metered = reading.IN_TOTAL
    x.ms = 1000
    for k in (1, 2, 3):
        x.at[k]["power"] = 3600.0 * k
    x.energy[0] = 3600000 * 5000
    book.account(x)
    assert [book.mwh(k, 0) for k in range(4)] == [5000, 1000, 2000, 3000], [book.mwh(k, 0) for k in range(4)]


def test_a_reset_is_recorded():
    end = setup()
    try:
        rtc = Rtc()
        book = ledger(rtc)
        book.account(block(3600.0, 1000))
        book.next_seq()
        book.preset({0: 0, 1: 0})
        assert book.mwh(0, 0) == 0 and book.resets == 1
        for again in (ledger(rtc), ledger(Rtc())):
            assert again.mwh(0, 0) == 0 and again.resets == 1 and again.next_seq() > 1
    finally:
        end()


def test_missing_power_and_holes_are_not_guessed():
    book = ledger()
    book.account(block(None, 200))
    book.account(block(1000.0, 60000))
    assert book.mwh(0, 0) == 0 and book.lost_ms == 60200


def test_restart_takes_rtc_and_power_cut_takes_flash():
    end = setup()
    try:
        rtc = Rtc()
        book = ledger(rtc)
        assert book.recovered == "none"
        for _ in range(50):
            book.account(block(3600.0, 1000))
            book.next_seq()
        book.checkpoint()
        for _ in range(50):
            book.account(block(3600.0, 1000))
            book.next_seq()
        again = ledger(rtc)
        assert again.recovered == "rtc" and again.mwh(0, 0) == 100000 and again.seq >= 99, (again.mwh(0, 0), again.seq)
        cut = ledger(Rtc())
        assert cut.recovered == "flash" and cut.mwh(0, 0) == 50000, cut.mwh(0, 0)
        assert cut.next_seq() > 100, "a sequence number may never come twice"
        # A torn checkpoint: the one before it stands.
        # Power fails again before any checkpoint of this run.
        assert ledger(Rtc()).next_seq() > cut.seq
        cut.account(block(3600.0, 1000))
        cut.checkpoint()
        with open(BASE + "/energy.bin", "r+b") as f:
            f.write(b"\0\0")
        assert ledger(Rtc()).mwh(0, 0) == 50000
    finally:
        end()


def test_accounting_does_not_grow():
    import gc

    book = ledger(Rtc())
    x = block(230.5)
    for _ in range(20):
        book.account(x)
    gc.collect()
    before = gc.mem_alloc()
    for _ in range(200):
        book.account(x)
    gc.collect()
    assert gc.mem_alloc() <= before + 64, gc.mem_alloc() - before
