"""An agent speaks to a real service without a worker."""

from tests.support.api import base_url, client, components, model_id, settings

__all__ = ["base_url", "client", "components", "model_id", "settings"]
