"""Features of the rows of a stream, or what a forest says of them.

stdin: a line of JSON (`names`, `limits`, `rows`, `forest`: bytes of the file, 0 for none), the forest, then float32
rows. stdout: a line of JSON (`error`; or `features` or `classes`, their names, and `phases`), then per row and phase
the features (int16), or the number of the class and its certainty (int16 each).
"""
# mypy: ignore-errors

import json
import sys
from array import array

from gridnode.anomaly import features, trees

order = json.loads(sys.stdin.readline())
source, sink = sys.stdin.buffer, sys.stdout.buffer
names = order["names"]
rows = features.Features(names, order["limits"])
forest = None
told = {"phases": rows.phases, "features": features.NAMES, "version": features.VERSION}
try:
    if order["forest"]:
        forest = trees.load(source.read(order["forest"]), features.NAMES, features.VERSION)
        told["classes"], told["name"] = forest.classes, forest.name
except ValueError as err:
    told["error"], order["rows"] = str(err), 0
sink.write(json.dumps(told) + "\n")
values = array("f", [0.0] * len(names))
answer = array("h", [0, 0])
for _ in range(order["rows"]):
    source.readinto(values)
    rows.row(values)
    for at in rows.at:
        if forest:
            answer[0] = forest.classify(at)
            answer[1] = forest.certainty
            sink.write(answer)
        else:
            sink.write(at)
