"""Statistics of one signal: each test answers to its fault alone, and an alarm ends with its cause."""

from array import array

from gridnode.anomaly import statistics as st
from gridnode.anomaly.statistics import Series
from made_rows import Rows

PAIRS = {st.SEASON: "season", st.SLOW: "slow", st.LONG: "long", st.JUMP: "jump", st.STEP: "step"}


def name(test):
    if test in (st.WANDER, st.BUSY, st.QUIET):
        return {st.WANDER: "wander", st.BUSY: "busy", st.QUIET: "quiet"}[test]
    return PAIRS[test & ~1] + ("-" if test & 1 else "+")


LIMITS = {"season": 128, "slow": 112, "long": 96, "jump": 96, "step": 250, "wander": 100, "busy": 120, "quiet": 300}


class Watched:
    """A frozen series around 1000: usual distance and change 12 steps, limits as of a quiet training."""

    def __init__(self, limits=None):
        self.series = Series(5, 40)
        s = self.series.state
        s[st.MEAN] = 1000
        s[st.DEV] = s[st.DELTA] = 12 * 16
        limits = LIMITS if limits is None else limits
        for test in range(st.TESTS):
            self.series.limits[test] = limits.get(name(test).rstrip("+-"), 0)
        self._noise = Rows([])
        self.hold = st.FREE
        self.run([0] * 80)

    def run(self, offsets, noise=30):
        """Rows off the level by so much; [(row, test)] of those beyond their limit, which are held as an alarm."""
        found = []
        for k in range(len(offsets)):
            self.series.take(1000 + offsets[k] + self._noise.noise(noise), k // 10 % 48, 128, self.hold)
            ratio = self.series.judge()
            if ratio >= st.ONE:
                found.append((k, name(self.series.why)))
                jump = self.series.why in (st.JUMP, st.JUMP + 1)
                self.hold = st.JUMPED if jump else st.ALARM
            elif ratio < 205:
                self.hold = st.FREE
        return found


def seen(found):
    return {test for _, test in found}


def test_nothing_is_seen_in_what_is_usual():
    for _ in range(10):
        assert Watched().run([0] * 300) == []


def test_one_row_that_jumps_is_a_step():
    for size, sign in ((600, "+"), (-600, "-")):
        watched = Watched()
        found = watched.run([0] * 20 + [size] + [0] * 100)
        assert found and {row for row, _ in found} <= {20, 21, 22}, found
        assert seen(found) <= {"step" + sign, "season" + sign}, found


def test_a_step_that_stays_is_held_until_it_returns():
    watched = Watched()
    found = watched.run([0] * 10 + [700] * 60 + [0] * 100)
    rows = [row for row, _ in found]
    assert rows[0] == 10 and rows[:58] == list(range(10, 68)), rows
    assert max(rows) <= 76, rows
    watched = Watched({"step": 250})
    found = watched.run([0] * 10 + [700] * 30 + [0] * 30)
    assert {row for row, _ in found} == set(range(10, 40)), found


def test_a_slow_drift_is_no_step():
    found = Watched().run([k * 2 for k in range(200)])
    assert found and seen(found) <= {"long+", "slow+", "jump+", "season+"}, seen(found)
    found = Watched().run([-k * 2 for k in range(200)])
    assert found and seen(found) <= {"long-", "slow-", "jump-", "season-"}, seen(found)


def test_a_small_level_shift_is_seen_by_the_means():
    watched = Watched({"season": 128, "slow": 112, "long": 96, "step": 250})
    found = watched.run([80] * 200, noise=8)
    assert found and seen(found) == {"long+"}, seen(found)
    watched.run([0] * 20)
    assert watched.run([0] * 60) == []


def test_weather_is_no_jump():
    watched = Watched({"jump": 96})
    assert watched.run([k // 3 for k in range(1200)]) == []
    assert seen(watched.run([400 + 250] * 60)) == {"jump+"}


def test_a_base_follows_at_once_when_a_jump_has_halved():
    watched = Watched({"jump": 96})
    assert watched.run([400] * 10)
    found = watched.run([150] * 200)
    assert not found or found[-1][0] < 20, found


def test_noise_is_busy_and_ends_with_it():
    watched = Watched({"busy": 120, "quiet": 300})
    found = watched.run([0] * 40, noise=150)
    assert seen(found) == {"busy"}, found
    after = watched.run([0] * 60)
    assert all(row <= 12 for row, _ in after), after
    assert watched.run([300] * 60 + [300 - 40 * k for k in range(60)], noise=12) == [], "what goes one way is none"


def test_standing_still_is_quiet():
    watched = Watched()
    found = watched.run([0] * 80, noise=0)
    assert seen(found) == {"quiet"} and found[0][0] > 8, found
    assert all(row <= 4 for row, _ in watched.run([0] * 60))


def test_a_swing_around_the_level_wanders():
    watched = Watched({"wander": 100, "slow": 112, "long": 96})
    swing = [(180 if k % 24 < 12 else -180) for k in range(240)]
    found = watched.run(swing)
    assert "wander" in seen(found) and not seen(found) & {"long+", "long-"}, seen(found)
    assert not [row for row, _ in watched.run([0] * 80) if row > 10]


def test_an_alarm_ends_with_its_cause():
    for offset in (150, -150, 300, 1000, -4000, 20000):
        watched = Watched()
        assert watched.run([offset] * 100)
        after = watched.run([0] * 200)
        assert not after or after[-1][0] <= 10, (offset, after)
        assert watched.run([0] * 100) == []


def test_a_fault_that_returns_is_seen_again():
    watched = Watched()
    for _ in range(4):
        assert len(watched.run([400] * 40)) > 36
        watched.run([0] * 30)


def test_no_limit_no_alarm():
    watched = Watched({})
    assert watched.run([0, 5000, -9000, 30000] * 20) == []


def test_far_values_keep_to_their_bits():
    watched = Watched()
    for offset in (31000, -32000, 31000, -32000):
        watched.series.take(1000 + offset if offset > 0 else offset, 0, 0, st.FREE)
        for k in range(st.TESTS):
            assert abs(watched.series.tests[k]) <= (31999 if k == st.BUSY else 16000)
        assert max(watched.series.state) < 1 << 28


def test_accept_makes_the_level_ordinary():
    for offset in (300, -300, 3000):
        watched = Watched()
        assert watched.run([offset] * 60)
        watched.series.accept()
        watched.hold = st.FREE
        found = watched.run([offset] * 300)
        assert found == [], (offset, found)
        assert watched.run([0] * 30)


def test_a_guarded_level_follows_within_its_budget():
    watched = Watched({"slow": 112})
    s = watched.series
    for _ in range(400):
        watched.run([60])
        s.follow(100)
    assert s.state[st.SHIFT] > 0 and s.state[st.SHIFT] <= s.budget()
    moved = s.state[st.SHIFT]
    assert moved <= 400 * (s.state[st.DEV] * 48 // 100)
    for _ in range(4000):
        watched.run([500])
        s.follow(100)
    assert s.followed() <= s.budget() == 12 * 16 * 240
    # what was accepted does not count
    s.accept()
    assert s.followed() == 0
    for _ in range(400):
        watched.run([560])
        s.follow(100)
    assert 0 < s.followed() <= s.budget()


def test_a_profile_holds_between_its_bins():
    s = Series(5, 40)
    s.state[st.FORM] = st.PROFILE
    s.state[st.DEV] = 160
    for k in range(st.BINS):
        s.bins[k] = 1000 + 100 * min(k, 48 - k)
        s.bins[st.BINS + k] = 160
        s.visits[k] = 4
    for at in range(st.BINS):
        for off in (0, 40, -40):
            assert st.off_profile(s.bins, s.visits, s.bins[at] + off, at) == 0 or at in (0, 24)
        assert st.off_profile(s.bins, s.visits, s.bins[at] + 400, at) > 300
        assert st.off_profile(s.bins, s.visits, s.bins[at] - 400, at) < -300
    # a neighbour that was never visited says nothing
    s.visits[11] = s.visits[13] = 0
    assert st.off_profile(s.bins, s.visits, s.bins[12] + 40, 12) == 40


def test_gaps_are_no_steps():
    for forget in ("forget", "rest"):
        watched = Watched({"step": 250, "busy": 120})
        getattr(watched.series, forget)()
        assert watched.run([900] * 20) == [], forget
        assert watched.run([0]) == [(0, "step-")]


def test_hours_that_are_missing_are_no_jump():
    watched = Watched({"jump": 96, "long": 96})
    watched.series.rest()
    assert watched.run([120] * 20) == [] and not watched.series.state[st.MEAN] != 1000
    watched = Watched({"jump": 96})
    assert watched.run([300] * 30)
    watched.series.rest()
    assert watched.run([300] * 60) == []


def test_helpers():
    assert [st.agree(*pair) for pair in ((3, 5), (-3, -5), (3, -5), (0, 5), (5, 3))] == [3, -3, 0, 0, 3]
    for trio in ((1, 2, 3), (3, 1, 2), (2, 3, 1), (2, 2, 9), (-5, 2, 2)):
        assert st.median(*trio) == 2
    assert array("h", [st.MISSING])[0] == -32768
