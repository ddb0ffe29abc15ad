"""Recorded data through the node's own detector, inside a MicroPython VM on this computer."""

from gridnode_host.replay.judge import Judgement, cost, judge, scores

__all__ = ["Judgement", "cost", "judge", "scores"]
