"""What a room of the network raises when it cannot do its work."""


class Fault(Exception):
    """`room` and `code` are stable, `message` is for people."""

    def __init__(self, room, code, message):
        super().__init__(message)
        self.room = room
        self.code = code
        self.message = message
