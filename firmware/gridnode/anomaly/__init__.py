"""Judges readings: what is wrong, how sure, since when.

Here are the rules that act at once, on blocks; rows are the business of `detector`, which `gridnode.detection` feeds.
"""


class Change:
    """An alarm that was raised or cleared."""

    def __init__(self, rule):
        self.signal = rule.signal
        self.kind = rule.kind
        self.raised = rule.alarm
        self.priority = rule.priority
        self.text = rule.text()


class Judge:
    """Verdict on the readings of one meter by its rules."""

    def __init__(self, rules):
        self.rules = rules

    def block(self, reading):
        """Judge one block; returns the alarms that changed."""
        return [Change(rule) for rule in self.rules if rule.judge(reading)]

    @property
    def outside(self):
        """Whether the newest reading breaks a rule, or the alarm of one lasts."""
        for rule in self.rules:
            if rule.grade or rule.alarm:
                return True
        return False


def verdict(pipelines, detection=None):
    """The `anomaly` object of the report: grade 0..1, alarm, priority (1 is most urgent), per-signal detail."""
    grade = 0.0
    priority = None
    signals = {}
    kinds = {}
    for pipeline in pipelines:
        for rule in pipeline.judge.rules:
            if rule.grade:
                signals[rule.signal] = round(rule.grade, 2)
                grade = max(grade, rule.grade)
            if rule.alarm:
                kinds[rule.signal] = rule.kind
                priority = rule.priority if priority is None else min(priority, rule.priority)
    found = {
        "grade": round(grade, 2),
        "alarm": bool(kinds),
        "priority": priority,
        "signals": signals,
        "kinds": kinds,
        "model": "off",
    }
    if detection:
        detection.merge(found)
    return found
