"""Where webhooks come from: how each source signs."""
