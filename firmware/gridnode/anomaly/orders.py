"""What a detector does now and then: it begins and ends learning, and obeys an operator. Leaves the heap behind it."""

from micropython import const

from gridnode.anomaly.detector import FROZEN, GUARDED, LEARNING, SUSPECT

_FOUL_PERCENT = const(1)


def train(detector):
    """Begin a training."""
    from gridnode.anomaly.training import Training  # goes once the model is frozen

    detector.training = Training(detector)
    detector.state = LEARNING


def freeze(detector, t=0):
    """End learning; returns "" or why what was learnt cannot be trusted."""
    training = detector.training
    if training is None:
        return detector.reason if detector.state == SUSPECT else ""
    from gridnode.anomaly import learning

    foul = learning.finish(training, detector)
    detector.training = None
    if detector.rules:
        detector.electrical.rest()
    detector.frozen_at = t or detector.now
    detector.state = SUSPECT
    if training.broken * 100 > detector.rows * _FOUL_PERCENT:
        share = training.broken * 1000 // max(detector.rows, 1)
        detector.reason = "%d.%d %% of the rows learnt broke a rule" % (share // 10, share % 10)
    elif foul:
        detector.reason = "what was learnt looks like faults: " + ", ".join(foul)
    else:
        detector.state = FROZEN
        done = min(training.done, 100)
        detector.reason = "" if done > 95 else "%d %% of the rows to learn have come" % done
        if not any(any(signal.series.limits) for signal in detector.signals):
            detector.reason = "%d rows teach no limits: only the rules judge" % detector.rows
        return ""
    return detector.reason


def command(detector, action):
    """See `Detector.command`."""
    if action == "reset":
        detector.reset()
    elif action == "learning":
        if detector.training is None:
            from gridnode.anomaly import learning

            train(detector)
            learning.go_on(detector.training, detector)
            detector.reason = ""
    elif action == "freeze":
        if detector.state == GUARDED:
            detector.state = FROZEN
        return freeze(detector)
    elif action == "guarded":
        if detector.state not in (FROZEN, GUARDED):
            return "only a frozen model can be guarded, this one is " + detector.state
        detector.state = GUARDED
    elif action.startswith("accept "):
        return _accept(detector, action[7:])
    else:
        return "not one of freeze, guarded, learning, reset, accept <signal>"
    return ""


def _accept(detector, name):
    if name not in detector.names:
        return "there is no signal " + name
    if detector.training:
        return "the model still learns"
    detector.signals[detector.names.index(name)].accept()
    return ""


def budget(detector):
    """See `Detector.budget`."""
    used = 0
    for signal in detector.signals:
        used = max(used, signal.series.followed() * 100 // max(signal.series.budget(), 1))
    return used


def attach(detector, data):
    """See `Detector.attach`."""
    from gridnode.anomaly import features, trees

    try:
        detector.forest = trees.load(data, features.NAMES, features.VERSION)
    except ValueError as e:
        return str(e)
    see(detector)
    return ""


def see(detector):
    """Let the forest of a detector see its rows."""
    from gridnode.anomaly.features import Features

    detector.views = Features(detector.names, detector.limits)
