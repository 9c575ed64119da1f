"""The subcommands, one file each: its arguments, and what it calls."""
