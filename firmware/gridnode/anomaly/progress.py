"""What a training has gathered so far, so that a restart does not cost days of it; see `model`."""


def facts(training):
    """What is no array of a training, in JSON's types."""
    lessons = training.lessons
    return {
        "of": training.rows,
        "at": [training.taken, training.broken, training.stage, training.part],
        "learners": [[learner.late, learner.rows] for learner in training.learners],
        "lessons": lessons and [lessons.count, [sums.rows if sums else 0 for sums in lessons.sums]],
        "ensemble": [training.ensemble.peak, training.ensemble.weighed],
    }


def restore(training, facts):
    """Put the facts back into a training that has just been made; its arrays come next."""
    training.taken, training.broken, training.stage, training.part = facts["at"]
    training.done = training.taken * 100 // training.rows
    for learner, (late, rows) in zip(training.learners, facts["learners"]):
        learner.late = late
        learner.rows = rows
    if facts["lessons"]:
        training.lessons.count, rows = facts["lessons"]
        for sums, count in zip(training.lessons.sums, rows):
            if sums:
                sums.rows = count
    else:
        training.lessons = None
    training.ensemble.peak, training.ensemble.weighed = facts["ensemble"]
    from gridnode.anomaly import learning

    learning.restored(training)


def arrays(training):
    """The arrays of a training with their type codes."""
    parts = []
    for learner in training.learners:
        parts += [("i", learner.state), ("h", learner.peaks)]
    lessons = training.lessons
    if lessons:
        parts += [("i", lessons.means), ("i", lessons.of), ("B", lessons.seen)]
        for sums in lessons.sums:
            if sums:
                parts.append(("i", sums.words))
    if training.ensemble.counts:
        parts.append(("H", training.ensemble.counts))
    return parts
