"""A forest from a file: what is refused, how it decides, and that deciding allocates nothing."""

import binascii
import gc
import micropython
import struct
from array import array

from gridnode.anomaly import features, trees

NAMES = ("v", "i", "p")
FORMAT = 1


def leaf(which, weight):
    return struct.pack("<BB", 128 + which, weight // 4)


def ask(which, value, skip):
    return struct.pack("<BBH", which, skip, value + 32768)


# v <= -10: low; else i <= 100: nothing (sure to 900), else high
TREE = ask(0, -10, 3) + leaf(1, 800) + ask(1, 100, 3) + leaf(0, 900) + leaf(2, 1000)
SMALL = ask(1, 100, 3) + leaf(0, 500) + leaf(2, 700)


def packed(
    *nodes,
    text="few 1\nnothing,low,high\nv,i",
    least=0,
    meaning=7,
    counts=None,
    told=FORMAT,
    more=0,
):
    text = text.encode() if isinstance(text, str) else text
    body = text
    for tree in nodes if counts is None else counts:
        body += struct.pack("<H", len(tree) if counts is None else tree)
    body += b"".join(nodes)
    body = (
        struct.pack(
            "<HHHBB", 16 + len(body) + more, least, len(text), meaning, len(counts or nodes)
        )
        + body
    )
    return struct.pack("<3sBI", b"GNF", told, binascii.crc32(body) & 0xFFFFFFFF) + body


def load(data, room=4096):
    return trees.load(data, NAMES, 7, room)


def refusal(data, room=4096):
    try:
        load(data, room)
    except ValueError as err:
        return str(err)
    raise AssertionError("taken")


def classes(forest, *rows):
    found = []
    for row in rows:
        which = forest.classify(array("h", row))
        found.append((forest.classes[which], forest.certainty))
    return found


def test_decides_at_its_thresholds():
    forest = load(packed(TREE))
    assert forest.name == "few 1" and forest.size == len(packed(TREE))
    assert classes(forest, (-10, 0, 0), (-9, 100, 0), (-9, 101, 0)) == [
        ("low", 800),
        ("nothing", 900),
        ("high", 1000),
    ]
    assert classes(forest, (features.NONE, 500, 0), (32000, -32768, 0)) == [
        ("low", 800),
        ("nothing", 900),
    ]


def test_trees_vote_with_their_weights():
    forest = load(packed(TREE, SMALL))
    assert classes(forest, (0, 0, 0), (0, 101, 0), (-99, 0, 0), (-99, 101, 0)) == [
        ("nothing", 700),
        ("high", 850),
        ("low", 400),
        ("low", 400),
    ]


def test_an_unsure_forest_says_nothing():
    forest = load(packed(TREE, SMALL, least=401))
    assert classes(forest, (-99, 0, 0), (-99, 101, 0), (0, 101, 0)) == [
        ("nothing", 250),
        ("nothing", 0),
        ("high", 850),
    ]


def test_features_are_found_by_name_wherever_they_stand():
    forest = load(packed(TREE, text="x\nnothing,low,high\ni,v"))
    # the row's order stays v, i, p: the tree asks i first, then v
    assert classes(forest, (0, -10, 0), (101, 0, 0)) == [("low", 800), ("high", 1000)]


def test_every_truncation_is_refused():
    data = packed(TREE, SMALL)
    load(data)
    for size in range(len(data)):
        why = refusal(data[:size])
        assert why == (
            "this is no file of a forest"
            if size < 16
            else "%d bytes instead of %d" % (size, len(data))
        )


def test_every_flipped_bit_is_refused():
    data = bytearray(packed(TREE, SMALL))
    for k in range(8 * len(data)):
        data[k >> 3] ^= 1 << (k & 7)
        refusal(data)
        data[k >> 3] ^= 1 << (k & 7)
    load(data)


def test_reasons_are_plain():
    whole = bytearray(packed(TREE))
    whole[30] ^= 1
    for data, why in (
        (b"", "this is no file of a forest"),
        (b"GNG" + packed(TREE)[3:], "this is no file of a forest"),
        (packed(TREE, told=2), "format 2 is not known here, only 1"),
        (
            packed(TREE) + b"x",
            "%d bytes instead of %d" % (len(packed(TREE)) + 1, len(packed(TREE))),
        ),
        (whole, "wrong crc32"),
        (packed(TREE, meaning=8), "made for version 8 of the features, not 7"),
        (packed(TREE, text="x\nnothing,low,high\nv,heat"), "there is no feature heat"),
        (packed(TREE, text="x\nnothing,low,high\n"), "there is no feature "),
        (packed(TREE, text="x\nnothing,low,high"), "the names are not readable"),
        (packed(TREE, text=b"\xff\xfe\n\n"), "the names are not readable"),
        (packed(text="x\nnothing,low,high\nv,i"), "there is no forest in it"),
        (packed(TREE, text="x\nnothing\nv,i"), "there is no forest in it"),
        (packed(TREE, least=1001), "there is no forest in it"),
    ):
        told = refusal(data)
        assert told == why, (told, why)
    assert refusal(packed(TREE), room=50) == "%d bytes are too many, there is room for 50" % len(
        packed(TREE)
    )
    load(packed(TREE), room=len(packed(TREE)))


def test_malformed_trees():
    good = leaf(0, 1)
    for tree in (
        b"",  # no node
        ask(0, 1, 3) + good,  # no right child
        ask(0, 1, 2) + good + good,  # both children the same
        ask(0, 1, 1) + good + good,  # in its own middle
        ask(0, 1, 0) + good + good,  # its own child
        ask(0, 1, 4) + good + good,  # beyond the end
        ask(0, 1, 255) + good + good,
        ask(2, 1, 3) + good + good,  # a feature that it does not name
        ask(0, 1, 3) + good + leaf(3, 1),  # a class that it does not name
        ask(0, 1, 3) + good + leaf(2, 1004),  # more than sure
        ask(0, 1, 3) + good + good + good,  # a node that is nobody's child
        ask(0, 1, 5) + ask(0, 1, 3) + good + good,  # one that is two nodes' child
        ask(0, 1, 4) + ask(0, 1, 3) + good + good,  # within another node
        ask(0, 1, 4) + ask(0, 1, 3) + good + good + good,
        ask(0, 1, 3) + good + ask(0, 1, 3),  # ends in a question
        ask(0, 1, 3) + good + ask(0, 1, 3)[:2],  # or within one
        ask(0, 1, 3) + good + good[:1],  # or within a leaf
    ):
        for k, nodes in enumerate(((tree,), (TREE, tree))):
            told = refusal(packed(*nodes))
            assert told == "tree %d is malformed" % k, (tree, told)
    assert refusal(packed(TREE, counts=[len(TREE), 1])) == "tree 1 is malformed"
    assert refusal(packed(TREE, good, counts=[len(TREE)])) == "there are nodes without a tree"
    assert refusal(packed(TREE, counts=[65535])) == "tree 0 is malformed"
    assert refusal(packed(TREE, counts=[1] * 200, text="x\nnothing,low\nv"))


def _noise(seed):
    """Numbers below 2^15, the same on every VM."""
    while True:
        seed = (seed * 6421 + 3571) & 0x7FFF
        yield seed


def test_random_files_are_refused_or_end():
    noise = _noise(1)
    taken = 0
    row = array("h", (0, 0, 0))
    whole = packed(TREE, SMALL)
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(next(noise) % 4 + 1):
            data[8 + next(noise) % (len(data) - 8)] = next(noise) >> 7
        data[4:8] = struct.pack("<I", binascii.crc32(memoryview(data)[8:]) & 0xFFFFFFFF)
        try:
            forest = load(data)
        except ValueError:
            continue
        taken += 1
        for _ in range(8):
            for k in range(3):
                row[k] = next(noise) - 16384
            assert 0 <= forest.classify(row) < len(forest.classes)
            assert 0 <= forest.certainty <= 1000
    assert taken > 100, taken
    for _ in range(2000):
        data = bytearray(next(noise) >> 7 for _ in range(next(noise) % 80))
        data[:4] = b"GNF\x01"
        try:
            load(data)
        except ValueError:
            continue
        raise AssertionError(data)


def test_classifying_allocates_nothing():
    forest = load(packed(TREE, SMALL, least=300))
    row = array("h", (0, 0, 0))
    micropython.heap_lock()
    try:
        for k in range(50):
            row[0] = k - 20
            row[1] = 300 - 4 * k
            forest.classify(row)
    finally:
        micropython.heap_unlock()


# ------------------------------------------------------------------ features

SIGNALS = (
    "v1",
    "v2",
    "v3",
    "i1",
    "i2",
    "i3",
    "i_n",
    "p1",
    "p2",
    "p3",
    "t_joint",
    "t_ambient",
    "humidity",
)
LIMITS = {"v_nominal": 230, "rating_a": 200, "interval_s": 10}
NAN = float("nan")


def seen(names, limits, *rows):
    """Features of the last row per phase, by name."""
    f = features.Features(names, limits)
    for row in rows:
        f.row(array("f", row))
    return [dict(zip(features.NAMES, at)) for at in f.at]


def row(
    v=(230, 230, 230), i=(100, 100, 100), i_n=0, p=(21850, 21850, 21850), around=(40, 20, 55.5)
):
    return tuple(v) + tuple(i) + (i_n,) + tuple(p) + tuple(around)


def test_values_in_thousandths_of_what_the_place_is_made_for():
    one = seen(SIGNALS, LIMITS, row(), row(v=(241.5, 218.5, 230), i=(150, 100, 50)))[0]
    assert one["v"] == 1050 and one["i"] == 750 and one["p"] in (474, 475), one
    assert one["v_step"] == 50 and one["i_step"] == 250 and one["p_step"] == 0
    assert one["power_factor"] in range(600, 606)
    assert (one["v_other_low"], one["v_other_high"]) == (950, 1000)
    assert (one["i_other_low"], one["i_other_high"]) == (250, 500)
    assert one["v_unbalance"] == 50 and one["i_unbalance"] == 500
    assert (one["temperature"], one["above_air"], one["humidity"], one["missing"]) == (
        400,
        200,
        555,
        0,
    )


def test_the_same_at_other_places():
    def at(v_nominal, rating):
        k, c = v_nominal / 230, rating / 200
        scaled = row(
            [x * k for x in (230, 210, 240)],
            [x * c for x in (5, 120, 180)],
            60 * c,
            [k * c * 20000] * 3,
        )
        return seen(
            SIGNALS, {"v_nominal": v_nominal, "rating_a": rating, "interval_s": 10}, scaled
        )

    usual = at(230, 200)
    for v_nominal, rating in ((120, 16), (277, 1000), (24000, 600)):
        for one, other in zip(usual, at(v_nominal, rating)):
            for name in features.NAMES:
                assert abs(one[name] - other[name]) <= 3, (name, one[name], other[name])


def test_phases_may_be_exchanged():
    v, i, p = (230, 210, 245), (20, 130, 70), (4000, 25000, 15000)
    first = seen(SIGNALS, LIMITS, row(v, i, 30, p))
    turned = seen(SIGNALS, LIMITS, row(v[1:] + v[:1], i[1:] + i[:1], 30, p[1:] + p[:1]))
    assert turned == first[1:] + first[:1]


def test_one_phase_has_no_others():
    (one,) = seen(
        ("voltage", "current", "power", "temperature"), LIMITS, (230, 100, -11500, 31.26)
    )
    assert (one["v"], one["i"], one["p"], one["power_factor"]) == (1000, 500, -250, -500)
    assert one["temperature"] == 312
    for name in (
        "v_other_low",
        "i_other_high",
        "v_unbalance",
        "i_n",
        "neutral_share",
        "above_air",
        "humidity",
    ):
        assert one[name] == features.NONE, name


def test_two_clamps_share_a_voltage():
    first, second = seen(("voltage", "i1", "i2"), LIMITS, (230, 10, 100))
    assert (first["v"], first["i"], first["i_other_low"]) == (1000, 50, 500)
    assert (second["v"], second["i"], second["i_other_high"]) == (1000, 500, 50)
    assert first["p"] == first["power_factor"] == first["v_unbalance"] == features.NONE


def test_missing_values():
    rows = [row(v=(NAN, 230, 230), around=(NAN, 20, NAN))] * 3
    first, second, _ = seen(SIGNALS, LIMITS, *rows)
    assert (
        first["v"]
        == first["power_factor"]
        == first["v_unbalance"]
        == first["v_step"]
        == features.NONE
    )
    assert (second["v"], second["v_other_low"], second["v_other_high"]) == (1000, 1000, 1000)
    assert first["temperature"] == first["above_air"] == first["humidity"] == features.NONE
    assert first["missing"] == second["missing"] == 3 and first["i_unbalance"] == 0
    back = seen(SIGNALS, LIMITS, *(rows + [row()]))[0]
    assert back["missing"] == 0 and back["v"] == 1000 and back["v_step"] == features.NONE
    (one,) = seen(("voltage", "current"), {}, (230, 5))
    assert one["v"] == one["i"] == features.NONE, "a place without ratings"


def test_neutral_against_what_the_phases_leave_for_it():
    # 100, 0, 0 at 120 degrees leave 100; balanced currents leave nothing to compare with
    assert seen(SIGNALS, LIMITS, row(i=(100, 0, 0), i_n=50))[0]["neutral_share"] == 500
    assert (
        seen(SIGNALS, LIMITS, row(i=(100, 100, 100), i_n=50))[0]["neutral_share"] == features.NONE
    )


def test_heat_is_above_the_air():
    for names, air in ((["current", "t_joint", "temperature"], 2), (["current", "temperature"], -1)):
        f = features.Features(names, LIMITS)
        assert f._air == air and f._hot == [1]


def test_heat_follows_slowly():
    f = features.Features(SIGNALS, LIMITS)
    cold, hot = array("f", row(i=(0, 0, 0))), array("f", row(i=(50, 200, 50)))
    f.row(cold)
    heat = features.NAMES.index("heat")
    levels = []
    for _ in range(180 * 4):
        f.row(hot)
        levels.append(f.at[0][heat])
    assert (
        levels == sorted(levels)
        and levels[0] < 10
        and abs(levels[179] - 632) < 10
        and levels[-1] > 970
    )


def test_extremes_stay_within_16_bits():
    inf = float("inf")
    for extreme in (inf, -inf, 1e30, -1e30, 3e38, 1e-40, -0.0):
        for one in seen(SIGNALS, LIMITS, [extreme] * len(SIGNALS), [-extreme] * len(SIGNALS)):
            for name in features.NAMES:
                assert one[name] == features.NONE or -32000 <= one[name] <= 32000
    noise = _noise(5)
    f = features.Features(SIGNALS, LIMITS)
    values = array("f", [0.0] * len(SIGNALS))
    for _ in range(300):
        for k in range(len(values)):
            values[k] = (next(noise) - 16384) * (next(noise) / 16.0)
        f.row(values)


def test_rows_do_not_grow_the_heap():
    f = features.Features(SIGNALS, LIMITS)
    forest = load(packed(TREE))
    values = array("f", row())
    for _ in range(5):
        f.row(values)
    gc.collect()
    before = gc.mem_alloc()
    for k in range(100):
        values[0] = 200 + k
        f.row(values)
        for at in f.at:
            forest.classify(at)
    gc.collect()
    assert gc.mem_alloc() <= before, gc.mem_alloc() - before
