"""Who may call this node, and how this node identifies itself to others."""
