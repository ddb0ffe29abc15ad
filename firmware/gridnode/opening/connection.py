"""The way on line up to the subscriptions."""

from asyncio import sleep_ms
from micropython import const

from gridnode import clock, rooms

_STEP_MS = const(20)


async def connect(connection):
    """See gridnode.session. Raises Fault."""
    connection.enter("wifi")
    await connection.network.connect()
    sntp = connection.sntp
    if sntp and (not clock.valid() or sntp.due()):
        connection.enter("clock")
        await connection.ask_time()
    connection.enter("tls")
    rooms.forget()
    session = connection.session
    session.begin()
    rooms.forget()  # umqtt, if it was needed, goes before TLS wants large blocks
    await connection.link.open(connection.host, connection.port, connection.context)
    session.step()
    while not session.connected:
        await sleep_ms(_STEP_MS)  # between two blocks of a clamp: no pause that is not needed
        session.step()
    if connection.subscriptions and not session.present:
        connection.enter("subscribe")
        session.subscribe(connection.subscriptions)
        while not session.subscribed:
            await sleep_ms(_STEP_MS)
            connection.step()
