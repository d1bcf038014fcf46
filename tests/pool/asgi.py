"""The site under an ASGI server: HTTP by Django, websockets by Channels."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

django = get_asgi_application()  # before the views, which need Django's apps

from .site import ask, by_async_orm  # noqa: E402


class Asking(AsyncJsonWebsocketConsumer):
    """Answers each number three times: by Channels' helper, by asgiref's and by the ORM."""

    async def receive_json(self, content: Any, **options: Any) -> None:
        number = content["number"]
        await self.send_json(
            [
                await database_sync_to_async(ask)(number),
                await sync_to_async(ask)(number),
                await by_async_orm(number),
            ]
        )


application = ProtocolTypeRouter({"http": django, "websocket": Asking.as_asgi()})
