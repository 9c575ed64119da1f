"""What is edited on the page: layers of a label map, their history and its journal."""
