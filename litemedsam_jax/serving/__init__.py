"""The page of `litemedsam annotate`, and the server on this machine that it talks to."""
