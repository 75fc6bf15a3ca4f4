"""Messages <-> tokens and loss mask, for the model at hand."""

from posttrain.chat.render import ChatRenderer, renderer
from posttrain.chat.show import preview

__all__ = ["ChatRenderer", "preview", "renderer"]
