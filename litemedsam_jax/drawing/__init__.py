"""Images of results: `overlay` draws, `page` lays out, `orientation` turns upright."""
